package machine

import (
	"context"
	"errors"
	"testing"
)

// takers is a program of threads that each take the locks of their list in order,
// let them go again and end.
func takers(locks int, lists ...[]uint8) *Program {
	p := &Program{Code: []Instr{{Op: End}, {Op: Gone}, {Op: Never}}, Says: make([]Note, 3), Frames: make([]int, len(lists))}
	for range locks {
		p.Locks = append(p.Locks, LockKind{})
	}
	emit := func(op Op, a uint8) {
		p.Code = append(p.Code, Instr{Op: op, A: a, Next: uint16(len(p.Code) + 1)})
		p.Says = append(p.Says, Note{})
	}
	for _, list := range lists {
		p.Threads = append(p.Threads, Thread{Start: uint16(len(p.Code))})
		for _, l := range list {
			emit(Lock, l)
		}
		for _, l := range list {
			emit(Unlock, l)
		}
		emit(Jump, 0)
		p.Code[len(p.Code)-1].Next = 0
	}
	return p
}

func count(t *testing.T, p *Program, full bool) (x *Exploration, deadlocks, shortest int) {
	t.Helper()
	x, err := Explore(t.Context(), p, Options{Full: full, Ends: func(e *Ending) {
		if len(e.Blocked()) == 0 {
			return
		}
		deadlocks++
		if e.Distance() != len(e.Path()) {
			t.Errorf("%d steps away, by a path of %d", e.Distance(), len(e.Path()))
		}
		if n := e.Distance(); shortest == 0 || n < shortest {
			shortest = n
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return x, deadlocks, shortest
}

// TestCounts against what can be counted by hand.
func TestCounts(t *testing.T) {
	for _, tt := range []struct {
		name                        string
		p                           *Program
		states, deadlocks, shortest int
	}{
		{"one thread, one lock", takers(1, []uint8{0}), 3, 0, 0},
		{"two threads, two locks of their own", takers(2, []uint8{0}, []uint8{1}), 9, 0, 0},
		{"two threads, one lock", takers(1, []uint8{0}, []uint8{0}), 8, 0, 0}, // 3 times 3, without both in it
		{"two locks in two orders", takers(2, []uint8{0, 1}, []uint8{1, 0}), 17, 1, 2},
		{"a lock taken twice", takers(1, []uint8{0, 0}), 2, 1, 1},
		{"three philosophers", takers(3, []uint8{0, 1}, []uint8{1, 2}, []uint8{2, 0}), 0, 1, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, deadlocks, shortest := count(t, tt.p, true)
			if tt.states != 0 && x.States != tt.states || deadlocks != tt.deadlocks || shortest != tt.shortest {
				t.Errorf("%d states, %d deadlocks, the nearest after %d steps; want %d, %d, %d", x.States, deadlocks, shortest, tt.states, tt.deadlocks, tt.shortest)
			}
			r, deadlocks, shortest := count(t, tt.p, false)
			if r.States > x.States || deadlocks != tt.deadlocks || shortest != tt.shortest {
				t.Errorf("reduced: %d states of %d, %d deadlocks, the nearest after %d steps", r.States, x.States, deadlocks, shortest)
			}
		})
	}
	// Threads that have nothing to do with one another go one after the other.
	p := takers(4, []uint8{0}, []uint8{1}, []uint8{2}, []uint8{3})
	full, _, _ := count(t, p, true)
	reduced, _, _ := count(t, p, false)
	if full.States != 81 || reduced.States != 9 {
		t.Errorf("%d states, %d with reduction; want 81 and 9", full.States, reduced.States)
	}
}

// TestExploreLeavesTheProgram as it was, so that it can be run again.
func TestExploreLeavesTheProgram(t *testing.T) {
	p := takers(2, []uint8{0, 1}, []uint8{1, 0})
	a, _, _ := count(t, p, true)
	b, _, _ := count(t, p, true)
	if a.States != b.States || a.Steps != b.Steps {
		t.Errorf("%d states and %d steps, then %d and %d", a.States, a.Steps, b.States, b.Steps)
	}
}

func TestExploreRefusesAndStops(t *testing.T) {
	if _, err := Explore(t.Context(), &Program{}, Options{}); err == nil {
		t.Error("a program without its fixed places was run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if x, err := Explore(ctx, takers(1, []uint8{0}), Options{}); !errors.Is(err, context.Canceled) || x.Complete {
		t.Errorf("it was not to begin: %v", err)
	}
	x, err := Explore(t.Context(), takers(2, []uint8{0, 1}, []uint8{1, 0}), Options{Memory: 1})
	if !errors.Is(err, ErrMemory) || x.Complete {
		t.Errorf("one byte was enough: %v", err)
	}
}
