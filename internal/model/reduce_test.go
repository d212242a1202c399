package model

import (
	"errors"
	"testing"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// ends explores a program and returns the endings that it can come to.
// Nil if they are too many for a test.
func ends(t *testing.T, p *machine.Program, full bool) (*machine.Exploration, map[string]int) {
	t.Helper()
	keys := make(map[string]int)
	x, err := machine.Explore(t.Context(), p, machine.Options{Full: full, Memory: 2 << 20, Ends: func(e *machine.Ending) {
		keys[e.Key()] = e.Distance()
	}})
	if errors.Is(err, machine.ErrMemory) {
		return nil, nil
	} else if err != nil {
		t.Fatal(err)
	}
	return x, keys
}

// same sees that the reduction leaves out no ending and makes no way to one longer.
func same(t *testing.T, s *scenario.Scenario, l *libc.Libc) (full, reduced int) {
	t.Helper()
	p, err := Compile(s, l)
	var unread *Unread
	if errors.As(err, &unread) || errors.Is(err, ErrSize) {
		return 0, 0
	} else if err != nil {
		t.Fatalf("%s on %s: %v", s.Name, l.Name, err)
	}
	fx, fk := ends(t, p, true)
	if fx == nil {
		return 0, 0
	}
	rx, rk := ends(t, p, false)
	for k, n := range fk {
		if m, ok := rk[k]; !ok {
			t.Fatalf("%s on %s: the reduction leaves out an ending: %d of %d are left", s.Name, l.Name, len(rk), len(fk))
		} else if m != n {
			t.Fatalf("%s on %s: an ending is %d steps away, %d with reduction", s.Name, l.Name, n, m)
		}
	}
	if len(rk) != len(fk) {
		t.Fatalf("%s on %s: %d endings with reduction, %d without", s.Name, l.Name, len(rk), len(fk))
	}
	if rx.States > fx.States {
		t.Fatalf("%s on %s: %d states with reduction, %d without", s.Name, l.Name, rx.States, fx.States)
	}
	return fx.States, rx.States
}

// TestReductionKeepsEveryEnding: of all shipped scenarios on all libcs.
func TestReductionKeepsEveryEnding(t *testing.T) {
	all, err := scenario.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	full, reduced := 0, 0
	for _, s := range all {
		for _, l := range libc.All() {
			f, r := same(t, s, &l)
			full, reduced = full+f, reduced+r
		}
	}
	t.Logf("%d states, %d with reduction", full, reduced)
	if reduced >= full {
		t.Errorf("nothing was reduced: %d states", full)
	}
}
