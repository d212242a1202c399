package replay

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"forkproof/internal/model/scenario"
)

// generator makes scenarios by chance, always the same for the same seed.
type generator struct {
	*rand.Rand
	s    *scenario.Scenario
	run  Run
	line int
	// forks is how many more forks there may be, in threads or handlers, beside those
	// that each first thread has.
	forks int
}

// generate makes the run of a seed.
func generate(seed uint64) Run {
	g := generator{Rand: rand.New(rand.NewPCG(seed, 6)), forks: 1, s: &scenario.Scenario{Name: fmt.Sprintf("seed-%d", seed)}}
	s := g.s
	threads := 1 + g.pick(1, 5, 3)
	s.Arenas = min(threads, scenario.MaxArenas)
	g.run = Run{Name: s.Name, Scenario: s, Within: make(map[scenario.Pos]bool)}
	for i := range g.IntN(4) {
		kind := []scenario.Kind{scenario.Normal, scenario.Normal, scenario.Recursive, scenario.Errorcheck}[g.IntN(4)]
		s.Locks = append(s.Locks, scenario.Lock{Name: fmt.Sprintf("x%d", i), Kind: kind})
	}
	for i := range g.IntN(3) {
		s.Streams = append(s.Streams, fmt.Sprintf("s%d", i))
	}
	for i := range g.IntN(3) {
		s.Libraries = append(s.Libraries, scenario.Library{Name: fmt.Sprintf("l%d", i), Loaded: g.IntN(3) > 0})
	}
	handlers := g.IntN(5)
	// Their names first, since bodies can register any of them.
	for i := range handlers {
		h := scenario.Handler{Name: fmt.Sprintf("h%d", i)}
		if n := g.IntN(3 + len(s.Libraries)); n < len(s.Libraries) && s.Libraries[n].Loaded {
			h.Library = s.Libraries[n].Name
		}
		s.Handlers = append(s.Handlers, h)
	}
	for i := range s.Handlers {
		g.handler(&s.Handlers[i])
		if g.IntN(4) > 0 {
			s.Atfork = append(s.Atfork, s.Handlers[i].Name)
		}
	}
	for i := range threads {
		t := scenario.Thread{Name: fmt.Sprintf("t%d", i)}
		t.Body = g.body(1+g.IntN(4), true)
		if i == 0 || g.IntN(4) == 0 {
			t.Body = slices.Insert(t.Body, g.IntN(len(t.Body)+1), g.fork())
		}
		s.Threads = append(s.Threads, t)
	}
	for range g.IntN(24) {
		g.run.Turns = append(g.run.Turns, g.IntN(threads))
	}
	return g.run
}

// pick returns an index with the chance that its weight has.
func (g *generator) pick(weights ...int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := g.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	panic("unreachable")
}

// handler gives a handler bodies: often a lock around the fork, as handlers are
// meant to be.
func (g *generator) handler(h *scenario.Handler) {
	var lock *scenario.Lock
	if len(g.s.Locks) > 0 && g.IntN(2) == 0 {
		lock = &g.s.Locks[g.IntN(len(g.s.Locks))]
	}
	around := func(verb scenario.Verb, body []scenario.Call) []scenario.Call {
		if lock == nil {
			return body
		}
		return slices.Insert(body, g.IntN(len(body)+1), g.call(verb, lock.Name))
	}
	h.Prepare = around(scenario.LockVerb, g.body(g.pick(4, 3, 1), false))
	h.Parent = around(scenario.UnlockVerb, g.body(g.pick(4, 3, 1), false))
	release := scenario.UnlockVerb
	if g.IntN(4) == 0 {
		release = scenario.InitVerb
	}
	h.Child = around(release, g.body(g.pick(4, 3, 1), false))
	// An empty body would not be seen to run.
	for _, b := range []*[]scenario.Call{&h.Prepare, &h.Parent, &h.Child} {
		if len(*b) == 0 {
			*b = nil
		}
	}
}

// call is one call at a place of its own.
func (g *generator) call(verb scenario.Verb, arg string) scenario.Call {
	g.line++
	return scenario.Call{Verb: verb, Arg: arg, Pos: scenario.Pos{Line: g.line, Column: 1}}
}

// body makes n calls, or a few more where some belong together. Calls of the
// threads themselves can stop within.
func (g *generator) body(n int, stops bool) []scenario.Call {
	var body []scenario.Call
	for range n {
		body = append(body, g.some()...)
	}
	for _, c := range body {
		// A library that is there is not opened once more.
		there := slices.ContainsFunc(g.s.Libraries, func(l scenario.Library) bool { return c.Verb == scenario.DlopenVerb && l.Name == c.Arg && l.Loaded })
		if stops && HasStop(c) && !there && g.IntN(2) == 0 {
			g.run.Within[c.Pos] = true
		}
	}
	return body
}

// some makes a call, or two with others between them.
func (g *generator) some() []scenario.Call {
	s := g.s
	between := func(first, last scenario.Verb, arg string) []scenario.Call {
		out := []scenario.Call{g.call(first, arg)}
		for range g.IntN(3) {
			out = append(out, g.simple())
		}
		return append(out, g.call(last, arg))
	}
	switch g.IntN(9) {
	case 0, 1:
		if len(s.Locks) > 0 {
			return between(scenario.LockVerb, scenario.UnlockVerb, s.Locks[g.IntN(len(s.Locks))].Name)
		}
	case 2:
		if len(s.Streams) > 0 {
			return between(scenario.FlockfileVerb, scenario.FunlockVerb, s.Streams[g.IntN(len(s.Streams))])
		}
	case 3:
		if len(s.Handlers) > 0 && g.IntN(2) == 0 {
			return []scenario.Call{g.call(scenario.AtforkVerb, s.Handlers[g.IntN(len(s.Handlers))].Name)}
		}
	case 4, 5:
		if len(s.Libraries) > 0 {
			l := s.Libraries[g.IntN(len(s.Libraries))]
			if l.Loaded && g.IntN(3) > 0 {
				return []scenario.Call{g.call(scenario.DlcloseVerb, l.Name)}
			}
			return []scenario.Call{g.call(scenario.DlopenVerb, l.Name)}
		}
	case 6:
		if g.forks > 0 && g.IntN(3) == 0 {
			g.forks--
			return []scenario.Call{g.fork()}
		}
	}
	return []scenario.Call{g.simple()}
}

// simple makes a call that belongs to no other.
func (g *generator) simple() scenario.Call {
	streams := append([]string{""}, g.s.Streams...)
	switch g.pick(6, 4, 2, 4, 4, 2, 2, 1, 1, 1, 1) {
	case 0:
		return g.call(scenario.MallocVerb, "")
	case 1:
		return g.call(scenario.FreeVerb, "")
	case 2:
		return g.call(scenario.ReallocVerb, "")
	case 3:
		return g.call(scenario.PrintfVerb, "")
	case 4:
		return g.call(scenario.FflushVerb, streams[g.IntN(len(streams))])
	case 5:
		if len(g.s.Streams) > 0 {
			return g.call(scenario.GetlineVerb, g.s.Streams[g.IntN(len(g.s.Streams))])
		}
		return g.call(scenario.PrintfVerb, "")
	case 6:
		return g.call(scenario.IterateVerb, "")
	case 7:
		return g.call(scenario.LocaltimeVerb, "")
	case 8:
		return g.call(scenario.RandomVerb, "")
	case 9:
		return g.call(scenario.SetenvVerb, "")
	default:
		return g.call(scenario.WriteVerb, "")
	}
}

// fork makes a fork and what its child does.
func (g *generator) fork() scenario.Call {
	c := g.call(scenario.ForkVerb, "")
	c.Body = g.body(g.IntN(3), false)
	if len(g.s.Locks) > 0 && g.IntN(3) == 0 {
		c.Body = append(c.Body, g.call(scenario.LockVerb, g.s.Locks[g.IntN(len(g.s.Locks))].Name))
	}
	if g.IntN(6) == 0 {
		c.Body = append(c.Body, g.call(scenario.ExitVerb, ""))
	}
	return c
}
