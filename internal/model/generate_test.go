package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// generator makes small scenarios that Read would take.
type generator struct {
	*rand.Rand
	s *scenario.Scenario
}

func generate(seed uint64) *scenario.Scenario {
	g := generator{rand.New(rand.NewPCG(seed, 0)), &scenario.Scenario{Name: fmt.Sprintf("generated-%d", seed), Arenas: 1}}
	s := g.s
	s.Arenas = 1 + g.IntN(2)
	kinds := []scenario.Kind{scenario.Normal, scenario.Normal, scenario.Recursive, scenario.Errorcheck}
	for i := range 1 + g.IntN(2) {
		s.Locks = append(s.Locks, scenario.Lock{Name: fmt.Sprintf("l%d", i), Kind: kinds[g.IntN(len(kinds))]})
	}
	s.Semaphores = []string{"sem"}
	if g.IntN(2) == 0 {
		lib := scenario.Library{Name: "lib", Loaded: g.IntN(3) > 0}
		if g.IntN(3) == 0 {
			lib.Load = g.calls(1, 0) // while there is no library that it could load
		}
		s.Libraries = []scenario.Library{lib}
	}
	for i := range g.IntN(3) {
		s.Handlers = append(s.Handlers, scenario.Handler{Name: fmt.Sprintf("h%d", i)})
	}
	for i := range s.Handlers {
		h := &s.Handlers[i]
		if len(s.Libraries) > 0 && g.IntN(2) == 0 {
			h.Library = "lib"
		}
		h.Prepare, h.Parent, h.Child = g.calls(g.IntN(3), 0), g.calls(g.IntN(2), 0), g.calls(g.IntN(3), 0)
		if g.IntN(4) > 0 {
			s.Atfork = append(s.Atfork, h.Name)
		}
	}
	i := g.IntN(len(s.Atfork) + 1)
	s.Atfork = append(s.Atfork[:i:i], append([]string{scenario.Malloc}, s.Atfork[i:]...)...)
	threads := 1 + g.IntN(3)
	for i := range threads {
		s.Threads = append(s.Threads, scenario.Thread{Name: fmt.Sprintf("t%d", i)})
	}
	for i := range threads {
		depth := 0
		if i == 0 || g.IntN(4) == 0 {
			depth = 1
		}
		s.Threads[i].Body = g.calls(1+g.IntN(3), depth)
	}
	return s
}

// calls makes a body; depth is how many forks may stand in it, one in another.
func (g generator) calls(n, depth int) []scenario.Call {
	var out []scenario.Call
	for range n {
		out = append(out, g.call(depth))
	}
	return out
}

func (g generator) call(depth int) scenario.Call {
	lock := func(v scenario.Verb) scenario.Call {
		return scenario.Call{Verb: v, Arg: g.s.Locks[g.IntN(len(g.s.Locks))].Name}
	}
	if depth > 0 && g.IntN(2) == 0 {
		return scenario.Call{Verb: scenario.ForkVerb, Body: g.calls(g.IntN(3), depth-1)}
	}
	switch n := g.IntN(20); {
	case n < 4:
		return lock(scenario.LockVerb)
	case n < 7:
		return lock(scenario.UnlockVerb)
	case n == 7:
		return lock(scenario.InitVerb)
	case n < 10 && len(g.s.Libraries) > 0:
		return scenario.Call{Verb: []scenario.Verb{scenario.DlopenVerb, scenario.DlcloseVerb, scenario.DlcloseVerb}[g.IntN(3)], Arg: "lib"}
	case n < 12 && len(g.s.Handlers) > 0:
		return scenario.Call{Verb: scenario.AtforkVerb, Arg: g.s.Handlers[g.IntN(len(g.s.Handlers))].Name}
	case n == 12 && len(g.s.Threads) > 0:
		return scenario.Call{Verb: scenario.JoinVerb, Arg: g.s.Threads[g.IntN(len(g.s.Threads))].Name}
	case n == 13:
		return scenario.Call{Verb: []scenario.Verb{scenario.PostVerb, scenario.AwaitVerb}[g.IntN(2)], Arg: "sem"}
	case n == 14 && depth == 0 && len(g.s.Threads) == 0:
		return scenario.Call{Verb: scenario.ForkVerb} // in a handler
	}
	return scenario.Call{Verb: []scenario.Verb{scenario.MallocVerb, scenario.MallocVerb, scenario.PrintfVerb, scenario.FflushVerb, scenario.WriteVerb, scenario.SetenvVerb, scenario.ReallocVerb, scenario.ExitVerb}[g.IntN(8)]}
}

// TestReductionOnGeneratedScenarios: of thousands, each on one of the libcs.
func TestReductionOnGeneratedScenarios(t *testing.T) {
	n := uint64(4000)
	if testing.Short() {
		n = 300
	}
	all := libc.All()
	full, reduced, explored, faults := 0, 0, 0, make(map[Kind]int)
	for seed := range n {
		s := generate(seed)
		l := all[seed%uint64(len(all))]
		f, r := same(t, s, &l)
		full, reduced = full+f, reduced+r
		if f > 0 {
			explored++
		}
		result, err := Run(t.Context(), s, &l, Options{Memory: 2 << 20})
		if err != nil && !errors.Is(err, machine.ErrMemory) && !errors.Is(err, ErrRoom) && !errors.Is(err, ErrSize) {
			t.Fatalf("%s on %s: %v", s.Name, l.Name, err)
		}
		if result == nil {
			continue
		}
		for _, found := range result.Findings {
			faults[found.Kind]++
		}
	}
	t.Logf("%d scenarios, %d states, %d with reduction; %v", explored, full, reduced, faults)
	if explored < int(n)*7/10 { // others have a call that was not read, or too many states
		t.Errorf("only %d of %d scenarios were explored", explored, n)
	}
	for _, k := range order {
		if faults[k] == 0 && k != HandlerSkipped && k != HandlerTwice { // those take more than chance
			t.Errorf("no scenario shows %s: the generator misses it", k)
		}
	}
}
