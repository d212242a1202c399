package machine

// A state is a row of bytes, whose first are
//
//	0  role (children of children: 0 is the master), and the mode above it
//	1  faults so far
//	2  crash, 1 and up
//	3  length of the list of handlers
//	4  registrations so far
//	5  anchor of a Cursor list: number of the entry and 1
//
// Then come, each where layout says: two bytes of place for each thread; a byte for
// each lock (owner in the low half, times taken again in the high one), semaphore
// and library; entries of the list; frames of forks under way.
const (
	roleByte     = 0
	faultByte    = 1
	crashByte    = 2
	lengthByte   = 3
	countByte    = 4
	anchorByte   = 5
	threadsStart = 6
)

// Owners of a lock beside threads, which are their number and 1.
const (
	nobody   = 0
	vanished = 14 // a thread that fork did not copy
	former   = 15 // the forking thread, by the number that it had in the parent
)

// closing is what stands for a library that is about to be unloaded, in place of how
// often it is open: its code is there still.
const closing = 0x80

// Fault is something that went wrong though the process went on. They add up along
// a path.
type Fault uint8

// Faults.
const (
	// Twice: a handler ran twice in one phase of one fork.
	Twice Fault = 1 << iota
	// Skipped: a handler that ran before the fork did not after it.
	Skipped
	// Unprepared: a handler ran after the fork that did not before it.
	Unprepared
	// Refused: a lock was not let go, since the thread is not its owner.
	Refused
	// Torn: a lock was not taken, as the process believes that it has one thread, and
	// what it guards is as a thread left it that fork did not copy.
	Torn
	// Overflow: more registrations, or a lock taken again more often, than a state
	// has room for. What follows was not explored as it would be.
	Overflow
)

// bytes of one entry of the list: handler, number, count of users and whether it
// was retired. In a Cursor list, which nothing is taken off, the third is the entry
// before it and the fourth that behind it, as number and 1.
const (
	entrySize   = 4
	retired     = 0x80
	entryBefore = 2
	entryBehind = 3
)

// bytes of one frame.
const (
	frameSize     = 7
	framePrepared = 0 // two bytes: registrations whose prepare handler ran
	frameRan      = 2 // two bytes: whose handler ran after the fork
	framePos      = 4
	frameBound    = 5
	frameCurrent  = 6 // number of the entry that runs, and 1
)

// layout says where things are in a state.
type layout struct {
	locks, semaphores, libraries, list, frames int
	capacity                                   int   // entries of the list
	frameOf                                    []int // of each thread, its first
	stride                                     int   // bytes of a state, whole words
}

func (p *Program) layout() layout {
	var l layout
	l.locks = threadsStart + 2*len(p.Threads)
	l.semaphores = l.locks + len(p.Locks)
	l.libraries = l.semaphores + len(p.Semaphores)
	l.list = l.libraries + len(p.Libraries)
	l.capacity = len(p.Registered)
	for _, in := range p.Code {
		if in.Op == Register {
			l.capacity = MaxRegistrations
		}
	}
	l.frames = l.list + entrySize*l.capacity
	end := l.frames
	for _, n := range p.Frames {
		l.frameOf = append(l.frameOf, end)
		end += n * frameSize
	}
	l.stride = (end + 7) &^ 7
	return l
}

// start writes the first state.
func (m *maker) start(s []byte) {
	p := m.p
	setMode(s, p.Start)
	for t, th := range p.Threads {
		m.setPlace(s, t, th.Start)
	}
	for i, loaded := range p.Loaded {
		if loaded {
			s[m.libraries+i] = 1
		}
	}
	for _, h := range p.Registered {
		m.register(s, h)
	}
	for t := range p.Threads {
		m.settle(s, t)
	}
}

// maker makes states of states.
type maker struct {
	p *Program
	layout
	code []Instr
}

func (m *maker) place(s []byte, t int) uint16 {
	i := threadsStart + 2*t
	return uint16(s[i]) | uint16(s[i+1])<<8
}

func (m *maker) setPlace(s []byte, t int, pc uint16) {
	i := threadsStart + 2*t
	s[i], s[i+1] = byte(pc), byte(pc>>8)
}

func role(s []byte) int  { return int(s[roleByte] & 7) }
func mode(s []byte) Mode { return Mode(s[roleByte] >> 3) }

func setMode(s []byte, m Mode) { s[roleByte] = s[roleByte]&7 | byte(m)<<3 }

// enabled reports whether a thread can take its next step.
func (m *maker) enabled(s []byte, t int, in *Instr) bool {
	switch in.Op {
	case End, Gone, Never:
		return false
	case Lock:
		k := &m.p.Locks[in.A]
		owner := int(s[m.locks+int(in.A)] & 15)
		return owner == nobody || owner == t+1 && (k.Recursive || k.Checked) || k.Elided && mode(s) == Plain
	case Await:
		return s[m.semaphores+int(in.A)] > 0
	case Join:
		pc := m.place(s, int(in.A))
		return pc == ended || pc == gone && !m.p.JoinHangs
	case AwaitUnused:
		return in.To != 0 || !m.inUse(s, in.A)
	}
	return true
}

// do takes the step of a thread, which is enabled. For Clone child says which of
// the two processes is meant.
func (m *maker) do(s []byte, t int, in *Instr, child bool) {
	next := in.Next
	switch in.Op {
	case Pass:
	case Lock:
		m.lock(s, t, in.A)
	case Unlock:
		m.unlock(s, t, in.A)
	case Reset:
		s[m.locks+int(in.A)] = nobody
	case Post:
		if i := m.semaphores + int(in.A); s[i] < 255 {
			s[i]++
		} else {
			s[faultByte] |= byte(Overflow)
		}
	case Await:
		s[m.semaphores+int(in.A)]--
	case Clone:
		if child {
			next = in.To
			m.clone(s, t)
		}
	case Exit:
		for i := range m.p.Threads {
			m.setPlace(s, i, ended)
		}
		return
	case Crash:
		m.crash(s, int(in.A))
		return
	case Register:
		m.register(s, in.A)
	case Unregister:
		m.unregister(s, in.A)
	case Retire:
		if !m.retire(s, in.A) {
			next = in.To
		}
	case AwaitUnused:
		if in.To != 0 && m.inUse(s, in.A) {
			next = in.To
			break
		}
		m.unregister(s, in.A)
	case Open:
		i := m.libraries + int(in.A)
		switch s[i] {
		case 0:
		case closing: // it is there again, and nothing is run
			s[i] = 1
			next = in.To
		default:
			s[i]++
			next = in.To
		}
	case Loaded:
		s[m.libraries+int(in.A)] = 1
	case Close:
		i := m.libraries + int(in.A)
		switch busy := m.closes(s); {
		case s[i] == 0 || s[i] == closing: // it is not open
			next = in.To
		case s[i] > 1:
			s[i]--
			next = in.To
		default:
			s[i] = closing
			if busy {
				next = in.To
			}
		}
	case Unload:
		s[m.libraries+int(in.A)] = 0
	case Present:
		if s[m.libraries+int(in.A)] == 0 {
			m.crash(s, CrashUnloaded)
			return
		}
	case FirstHandler, NextHandler:
		id, ok := m.walk(s, t, in)
		if s[crashByte] != 0 {
			return
		}
		if !ok {
			next = in.To
			break
		}
		h := m.entry(s, id)[0]
		if lib := m.p.Handlers[h].Library; lib >= 0 && s[m.libraries+lib] == 0 {
			m.crash(s, CrashUnloaded)
			return
		}
		next = m.p.Tables[in.A][h]
	}
	m.setPlace(s, t, next)
	m.settle(s, t)
}

// closes reports whether the loader is about to unload a library: a dlclose within
// another leaves the rest to that one, and so does one in the child of a process that
// was about to.
func (m *maker) closes(s []byte) bool {
	for i := range m.p.Libraries {
		if s[m.libraries+i] == closing {
			return true
		}
	}
	return false
}

// settle does the silent steps that a thread stands before.
func (m *maker) settle(s []byte, t int) {
	for {
		pc := m.place(s, t)
		in := &m.code[pc]
		if in.Op < firstSilent {
			return
		}
		next := in.Next
		if in.Op == IfOwner && int(s[m.locks+int(in.A)]&15) == t+1 {
			next = in.To
		}
		m.setPlace(s, t, next)
	}
}

func (m *maker) lock(s []byte, t int, l uint8) {
	i := m.locks + int(l)
	k := &m.p.Locks[l]
	if k.Elided && mode(s) != Real {
		if mode(s) == Plain {
			if s[i]&15 == vanished {
				s[faultByte] |= byte(Torn)
			}
			return
		}
		setMode(s, Plain)
	}
	switch {
	case s[i]&15 == nobody:
		s[i] = byte(t + 1)
	case k.Recursive && s[i]>>4 == 15:
		s[faultByte] |= byte(Overflow)
	case k.Recursive:
		s[i] += 1 << 4
	}
}

func (m *maker) unlock(s []byte, t int, l uint8) {
	i := m.locks + int(l)
	k := &m.p.Locks[l]
	own := int(s[i]&15) == t+1
	switch {
	case k.Refuses && !own:
		s[faultByte] |= byte(Refused)
	case own && s[i]>>4 > 0:
		s[i] -= 1 << 4
	case k.Elided && !own: // it looks at the lock and sees that it is free, or not its own
	default:
		s[i] = nobody
	}
}

// clone makes the state of the child: the forking thread alone, with all of the
// memory as it is.
func (m *maker) clone(s []byte, t int) {
	if role(s) == MaxRoles {
		s[faultByte] |= byte(Overflow)
	} else {
		s[roleByte]++
	}
	if mode(s) == Real {
		setMode(s, m.p.InChild)
	}
	for i := range m.p.Threads {
		if i == t {
			continue
		}
		m.setPlace(s, i, gone)
		f := m.frameOf[i]
		clear(s[f : f+m.p.Frames[i]*frameSize])
	}
	for i := range m.p.Locks {
		b := &s[m.locks+i]
		switch owner := *b & 15; {
		case owner == nobody || owner == vanished || owner == former:
		case int(owner) != t+1:
			*b = vanished
		case m.p.Locks[i].ByNumber:
			*b = *b&0xf0 | former
		}
	}
}

// Crashes that the machine knows by itself; a program's own come after them.
const (
	CrashUnloaded = iota // code of a library that is not loaded any more
	CrashIndex           // an entry of the list beyond its end
	CrashFreed           // an entry of the list that was freed
	FirstCrash
)

// crash ends the process. Nothing of it but the reason matters any more.
func (m *maker) crash(s []byte, why int) {
	r, f := s[roleByte]&7, s[faultByte]
	clear(s)
	s[roleByte], s[faultByte], s[crashByte] = r, f, byte(why+1)
}
