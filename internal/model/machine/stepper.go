package machine

import "slices"

// Stepper takes single steps of a program, for whoever chooses them.
type Stepper struct{ m *maker }

// NewStepper returns the stepper of a program; an error if it cannot be explored.
func NewStepper(p *Program) (*Stepper, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	p.straighten()
	p.touching()
	return &Stepper{&maker{p: p, layout: p.layout(), code: p.Code}}, nil
}

// Start returns the first state.
func (s *Stepper) Start() []byte {
	state := make([]byte, s.m.stride)
	s.m.start(state)
	return state
}

// Place is the instruction that a thread stands before.
func (s *Stepper) Place(state []byte, thread int) uint16 { return s.m.place(state, thread) }

// Can reports whether a thread can take its next step.
func (s *Stepper) Can(state []byte, thread int) bool {
	return s.m.enabled(state, thread, &s.m.code[s.m.place(state, thread)])
}

// Step takes it, within the state given. For Clone child says which of the two
// processes the state is then.
func (s *Stepper) Step(state []byte, thread int, child bool) {
	s.m.do(state, thread, &s.m.code[s.m.place(state, thread)], child)
}

// Sleep makes a thread sleep for ever.
func (s *Stepper) Sleep(state []byte, thread int) { s.m.setPlace(state, thread, asleep) }

// Ended reports whether a thread has come to its end.
func (s *Stepper) Ended(state []byte, thread int) bool { return s.m.place(state, thread) == ended }

// Crash is what ended the process, as in Program.Crashes or one of the Crash
// constants; -1: it did not crash.
func (s *Stepper) Crash(state []byte) int { return int(state[crashByte]) - 1 }

// Faults that happened on the way.
func (s *Stepper) Faults(state []byte) Fault { return Fault(state[faultByte]) }

// Holds lists the locks that a thread has.
func (s *Stepper) Holds(state []byte, thread int) []int {
	var all []int
	for i := range s.m.p.Locks {
		if int(state[s.m.locks+i]&15) == thread+1 {
			all = append(all, i)
		}
	}
	return slices.Clip(all)
}
