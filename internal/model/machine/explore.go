package machine

import (
	"context"
	"errors"
)

// Options of an exploration.
type Options struct {
	// Full turns the reduction off: every interleaving, even of steps that have
	// nothing to do with each other.
	Full bool
	// Memory is how many bytes states may take; 0: DefaultMemory.
	Memory int
	// Ends is called with every state in which a process has come to its end, or
	// cannot go on, in the order of their distance from the start. It must not keep
	// it.
	Ends func(*Ending)
}

// DefaultMemory is how much memory an exploration may take if nothing else is said.
const DefaultMemory = 512 << 20

// ErrMemory says that the bound was reached before all states were seen.
var ErrMemory = errors.New("the memory bound was reached before all states were explored")

// Exploration is what was seen.
type Exploration struct {
	States, Steps int // states; steps from one to another, also to known ones
	Ends          int // states without a next step
	Bytes         int // of memory that states took
	// Complete says that nothing was left out for want of room.
	Complete bool

	m  *maker
	st *store
}

// Explore goes through all states that a program can come to, nearest first.
// ErrMemory comes with what was seen so far.
func Explore(ctx context.Context, p *Program, opt Options) (*Exploration, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	p = p.linked()
	m := &maker{p: p, layout: p.layout(), code: p.Code}
	limit := opt.Memory
	if limit == 0 {
		limit = DefaultMemory
	}
	x := &Exploration{m: m, st: newStore(m.stride, limit)}
	var future []uint64
	if !opt.Full {
		future = p.futures()
	}
	e := explorer{x: x, m: m, st: x.st, future: future, next: make([]byte, m.stride), ends: opt.Ends}
	first := make([]byte, m.stride)
	m.start(first)
	if _, full := e.st.add(first, 0); full {
		return x, ErrMemory
	}
	err := e.all(ctx)
	x.States, x.Bytes, x.Complete = x.st.n, x.st.bytes(), err == nil
	return x, err
}

type explorer struct {
	x      *Exploration
	m      *maker
	st     *store
	future []uint64 // nil: no reduction
	next   []byte
	ends   func(*Ending)
}

func (e *explorer) all(ctx context.Context) error {
	threads := len(e.m.p.Threads)
	instrs := make([]*Instr, threads)
	for i := 0; i < e.st.n; i++ {
		if i&0xffff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		s := e.st.state(i)
		can := 0 // threads that have a next step, by bit
		for t := range threads {
			pc := e.m.place(s, t)
			in := &e.m.code[pc]
			instrs[t] = in
			if e.m.enabled(s, t, in) {
				can |= 1 << t
			}
		}
		if can == 0 {
			e.x.Ends++
			if e.ends != nil {
				e.ends(&Ending{x: e.x, state: s, number: i})
			}
			continue
		}
		if e.future != nil && can&(can-1) != 0 {
			can &= e.persistent(s, can, instrs)
		}
		for t := range threads {
			if can&(1<<t) == 0 {
				continue
			}
			in := instrs[t]
			if err := e.step(s, i, t, in, false); err != nil {
				return err
			}
			if in.Op == Clone {
				if err := e.step(s, i, t, in, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (e *explorer) step(s []byte, from, t int, in *Instr, child bool) error {
	copy(e.next, s)
	e.m.do(e.next, t, in, child)
	e.x.Steps++
	if _, full := e.st.add(e.next, uint32(from)); full {
		return ErrMemory
	}
	return nil
}

// persistent chooses threads whose next steps are enough: nothing that any other
// thread may ever do has to do with them, so whichever way the others go, these
// steps can be taken first. The choice never leaves out an end (P. Godefroid,
// Partial-Order Methods for the Verification of Concurrent Systems, chapter 4), and
// since programs have no endless loops nothing is put off for ever.
func (e *explorer) persistent(s []byte, can int, instrs []*Instr) int {
	threads := len(instrs)
	var futures [MaxThreads]uint64
	for t := range threads {
		futures[t] = e.future[e.m.place(s, t)]
	}
	best, size := can, threads+1
	for t := range threads {
		if can&(1<<t) == 0 {
			continue
		}
		set := 1 << t
		touched := instrs[t].Touches
		for grew := true; grew; {
			grew = false
			for u := range threads {
				if set&(1<<u) == 0 && futures[u]&touched != 0 {
					set |= 1 << u
					touched |= instrs[u].Touches
					grew = true
				}
			}
		}
		n := 0
		for u := range threads {
			if set&can&(1<<u) != 0 {
				n++
			}
		}
		if n < size {
			best, size = set, n
		}
		if n == 1 {
			break
		}
	}
	return best
}
