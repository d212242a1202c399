package machine

// Ending is a state without a next step.
type Ending struct {
	x      *Exploration
	state  []byte
	number int
}

// Role is 0 for the process that was there first, 1 for a child of it, and so on.
func (e *Ending) Role() int { return role(e.state) }

// Plain reports whether the process takes no elided locks any more.
func (e *Ending) Plain() bool { return mode(e.state) == Plain }

// Faults that happened on the way.
func (e *Ending) Faults() Fault { return Fault(e.state[faultByte]) }

// Crash is what ended the process, as in Program.Crashes or one of the Crash
// constants; -1: it did not crash.
func (e *Ending) Crash() int { return int(e.state[crashByte]) - 1 }

// Key is the state itself, to compare it by.
func (e *Ending) Key() string { return string(e.state) }

// Blocked is a thread that cannot go on.
type Blocked struct {
	Thread int
	Place  uint16 // of the instruction that it cannot take
	Instr  Instr
}

// Blocked are the threads that stand still for ever; none if the process ended.
func (e *Ending) Blocked() []Blocked {
	var all []Blocked
	for t := range e.x.m.p.Threads {
		pc := e.x.m.place(e.state, t)
		if in := e.x.m.code[pc]; in.Op != End && in.Op != Gone {
			all = append(all, Blocked{t, pc, in})
		}
	}
	return all
}

// Owner of a lock at the end: a thread from 0, or one of the constants.
func (e *Ending) Owner(lock int) int {
	switch o := int(e.state[e.x.m.locks+lock] & 15); o {
	case nobody:
		return Nobody
	case vanished:
		return Vanished
	case former:
		return Former
	default:
		return o - 1
	}
}

// Ended reports whether a thread has come to its end.
func (e *Ending) Ended(thread int) bool { return e.x.m.place(e.state, thread) == ended }

// Owners that are no thread of the process.
const (
	Nobody   = -1
	Vanished = -2 // a thread of the parent that fork did not copy
	Former   = -3 // the forking thread, by the number that it had in the parent
)

// Step is one step on the way to an ending.
type Step struct {
	Thread int
	Place  uint16
	Role   int // of the process that takes it
	// Child: it is fork's system call, and the path goes on in the child.
	Child bool
}

// Distance is how many steps the ending is from the start.
func (e *Ending) Distance() int {
	n := 0
	for i := e.number; i != 0; i = e.x.st.parent(i) {
		n++
	}
	return n
}

// Path is the way to the ending, one of the shortest.
func (e *Ending) Path() []Step {
	st, m := e.x.st, e.x.m
	var numbers []int
	for i := e.number; ; i = st.parent(i) {
		numbers = append(numbers, i)
		if i == 0 {
			break
		}
	}
	var path []Step
	next := make([]byte, m.stride)
	for k := len(numbers) - 1; k > 0; k-- {
		path = append(path, m.between(st.state(numbers[k]), st.state(numbers[k-1]), next))
	}
	return path
}

// between finds the step that leads from one state to another.
func (m *maker) between(from, to, next []byte) Step {
	for t := range m.p.Threads {
		pc := m.place(from, t)
		in := &m.code[pc]
		if !m.enabled(from, t, in) {
			continue
		}
		for _, child := range []bool{false, true} {
			if child && in.Op != Clone {
				break
			}
			copy(next, from)
			m.do(next, t, in, child)
			if string(next) == string(to) {
				return Step{t, pc, role(from), child}
			}
		}
	}
	panic("a state was reached that no step leads to") // the store would be broken
}

// Gone reports whether fork did not copy a thread into the process.
func (e *Ending) Gone(thread int) bool { return e.x.m.place(e.state, thread) == gone }

// Forking reports whether a thread has run handlers of a fork that is not over.
func (e *Ending) Forking(thread int) bool {
	m := e.x.m
	for i := range m.p.Frames[thread] {
		f := m.frameOf[thread] + i*frameSize
		if get16(e.state[f+framePrepared:]) != 0 {
			return true
		}
	}
	return false
}
