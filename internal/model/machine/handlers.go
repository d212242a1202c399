package machine

// The list of fork handlers, and the walks over it: one for each ListKind.

// size of the list.
func (m *maker) size(s []byte) int { return int(s[lengthByte]) }

// at is the entry at an index.
func (m *maker) at(s []byte, i int) []byte {
	o := m.list + entrySize*i
	return s[o : o+entrySize : o+entrySize]
}

// entry is the entry of a number; nil if it is not on the list.
func (m *maker) entry(s []byte, id int) []byte {
	for i := range m.size(s) {
		if e := m.at(s, i); int(e[1]) == id {
			return e
		}
	}
	return nil
}

func (m *maker) register(s []byte, h uint8) {
	n := m.size(s)
	if n == m.capacity || s[countByte] == MaxRegistrations {
		s[faultByte] |= byte(Overflow)
		return
	}
	e := m.at(s, n)
	e[0], e[1], e[2] = h, s[countByte], 1
	if m.p.List == Cursor {
		anchor := s[anchorByte]
		e[entryBefore], e[entryBehind] = 0, anchor
		if anchor > 0 {
			m.at(s, int(anchor)-1)[entryBefore] = e[1] + 1
		}
		s[anchorByte] = e[1] + 1
	}
	s[lengthByte]++
	s[countByte]++
}

// of reports whether an entry belongs to a library.
func (m *maker) of(e []byte, library uint8) bool {
	return m.p.Handlers[e[0]].Library == int(library)
}

// unregister takes the entries of a library away and moves those behind them up.
func (m *maker) unregister(s []byte, library uint8) {
	to := 0
	n := m.size(s)
	for i := range n {
		e := m.at(s, i)
		if m.of(e, library) {
			continue
		}
		copy(m.at(s, to), e)
		to++
	}
	for i := to; i < n; i++ {
		clear(m.at(s, i))
	}
	s[lengthByte] = byte(to)
}

// retire takes the entries of a library out of sight and counts its own use of them
// down; false if there are none.
func (m *maker) retire(s []byte, library uint8) bool {
	any := false
	for i := range m.size(s) {
		if e := m.at(s, i); m.of(e, library) && e[2]&retired == 0 {
			e[2] = e[2] - 1 | retired
			any = true
		}
	}
	return any
}

// inUse reports whether a fork uses a retired entry of a library.
func (m *maker) inUse(s []byte, library uint8) bool {
	for i := range m.size(s) {
		if e := m.at(s, i); m.of(e, library) && e[2]&^retired > 0 {
			return true
		}
	}
	return false
}

func get16(b []byte) uint16    { return uint16(b[0]) | uint16(b[1])<<8 }
func set16(b []byte, v uint16) { b[0], b[1] = byte(v), byte(v>>8) }

// walk goes to the next handler of a fork and returns its number; false when the
// phase is over.
func (m *maker) walk(s []byte, t int, in *Instr) (int, bool) {
	o := m.frameOf[t] + int(in.B)*frameSize
	f := s[o : o+frameSize : o+frameSize]
	first, phase := in.Op == FirstHandler, Phase(in.C)
	var id int
	switch m.p.List {
	case Counted:
		id = m.counted(s, f, first, phase)
	case Indexed:
		id = m.indexed(s, f, first, phase)
	case Numbered:
		id = m.numbered(s, f, first, phase)
	case Linked:
		id = m.linked(s, f, first, phase)
	default:
		id = m.cursor(s, f, first, phase)
	}
	if s[crashByte] != 0 {
		return 0, false
	}
	if id < 0 {
		m.over(s, f, phase)
		return 0, false
	}
	f[frameCurrent] = byte(id + 1)
	m.note(s, f, id, phase)
	return id, true
}

// note keeps account of which handlers ran.
func (m *maker) note(s, f []byte, id int, phase Phase) {
	bit := uint16(1) << id
	has := m.p.Handlers[m.entry(s, id)[0]].Has
	if phase == Prepare {
		if get16(f[framePrepared:])&bit != 0 && has[Prepare] {
			s[faultByte] |= byte(Twice)
		}
		set16(f[framePrepared:], get16(f[framePrepared:])|bit)
		return
	}
	if get16(f[frameRan:])&bit != 0 && has[phase] {
		s[faultByte] |= byte(Twice)
	}
	if get16(f[framePrepared:])&bit == 0 && has[Prepare] && has[phase] {
		s[faultByte] |= byte(Unprepared)
	}
	set16(f[frameRan:], get16(f[frameRan:])|bit)
}

// over ends a phase. After the fork that is the end of the frame as well.
func (m *maker) over(s, f []byte, phase Phase) {
	if phase == Prepare {
		f[framePos], f[frameCurrent] = 0, 0
		return
	}
	missing := get16(f[framePrepared:]) &^ get16(f[frameRan:])
	for i := range m.size(s) {
		e := m.at(s, i)
		if missing&(1<<e[1]) != 0 && e[2]&retired == 0 && m.p.Handlers[e[0]].Has[phase] {
			s[faultByte] |= byte(Skipped)
		}
	}
	clear(f)
}

// before is the newest entry in sight that is older than a number; -1: none.
func (m *maker) before(s []byte, id int) int {
	for i := m.size(s) - 1; i >= 0; i-- {
		if e := m.at(s, i); int(e[1]) < id && e[2]&retired == 0 {
			return int(e[1])
		}
	}
	return -1
}

// behind is the oldest entry in sight that is newer than a number; -1: none.
func (m *maker) behind(s []byte, id int) int {
	for i := range m.size(s) {
		if e := m.at(s, i); int(e[1]) > id && e[2]&retired == 0 {
			return int(e[1])
		}
	}
	return -1
}

// counted: before the fork each entry is counted as used; after it those are run
// and counted back, whatever the list looks like by then.
func (m *maker) counted(s, f []byte, first bool, phase Phase) int {
	current := int(f[frameCurrent]) - 1
	if phase == Prepare {
		if first {
			current = MaxRegistrations
		}
		id := m.before(s, current)
		if id >= 0 {
			m.entry(s, id)[2]++
		}
		return id
	}
	if !first {
		e := m.entry(s, current)
		if phase == Parent {
			e[2]--
		} else {
			e[2] = e[2]&retired | 1 // the child forgets other forks, and a dlclose under way
		}
	}
	for id := current + 1; id < MaxRegistrations; id++ {
		if get16(f[framePrepared:])&(1<<id) != 0 {
			return id
		}
	}
	return -1
}

// indexed walks by index, up to the length that the list had when the walk began.
func (m *maker) indexed(s, f []byte, first bool, phase Phase) int {
	if phase == Prepare {
		if first {
			f[framePos] = byte(m.size(s))
		} else {
			f[framePos]--
		}
		if f[framePos] == 0 {
			return -1
		}
		return m.numberAt(s, int(f[framePos])-1)
	}
	if first {
		f[framePos], f[frameBound] = 0, byte(m.size(s))
	} else {
		f[framePos]++
	}
	if f[framePos] >= f[frameBound] {
		return -1
	}
	return m.numberAt(s, int(f[framePos]))
}

// numberAt is the number of the entry at an index, which the list checks.
func (m *maker) numberAt(s []byte, i int) int {
	if i >= m.size(s) {
		m.crash(s, CrashIndex)
		return -1
	}
	return int(m.at(s, i)[1])
}

// numbered finds its place again by the number of the entry that ran last: before
// the fork from where it was, which may lie beyond the end by now.
func (m *maker) numbered(s, f []byte, first bool, phase Phase) int {
	current := int(f[frameCurrent]) - 1
	if phase == Prepare {
		if first {
			f[frameBound], f[framePos] = s[countByte], byte(m.size(s))
		} else {
			f[framePos]--
			for f[framePos] > 0 {
				id := m.numberAt(s, int(f[framePos])-1)
				if id < current || s[crashByte] != 0 {
					break
				}
				f[framePos]--
			}
			if s[crashByte] != 0 {
				return -1
			}
		}
		if f[framePos] == 0 {
			return -1
		}
		return m.numberAt(s, int(f[framePos])-1)
	}
	id := m.behind(s, current)
	if first {
		id = m.behind(s, -1)
	}
	if id >= int(f[frameBound]) {
		return -1 // registered after the fork began
	}
	return id
}

// linked goes from entry to entry, so that one which is freed while it runs leads
// nowhere.
func (m *maker) linked(s, f []byte, first bool, phase Phase) int {
	current := int(f[frameCurrent]) - 1
	if !first && m.entry(s, current) == nil {
		m.crash(s, CrashFreed)
		return -1
	}
	if phase == Prepare {
		if first {
			current = MaxRegistrations
		}
		return m.before(s, current)
	}
	return m.behind(s, current)
}

// cursor goes from the newest to the oldest before the fork and back after it. The
// anchor follows behind: it is where the next registration is linked in.
func (m *maker) cursor(s, f []byte, first bool, phase Phase) int {
	at := int(s[anchorByte])
	if !first {
		s[anchorByte] = f[frameCurrent]
		e := m.at(s, int(f[frameCurrent])-1)
		at = int(e[entryBehind])
		if phase != Prepare {
			at = int(e[entryBefore])
		}
	}
	return at - 1
}
