package replay

import (
	"slices"
	"testing"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/scenario"
)

// shrink makes a run that model and libc disagree about as small as it can while
// they still do.
func shrink(t testing.TB, on real, l *libc.Libc, run Run) Run {
	t.Helper()
	for {
		candidates := smaller(run)
		var sound []Run
		var predicted [][]Outcome
		for _, c := range candidates {
			if outcomes, err := Predict(c, l); err == nil {
				sound = append(sound, c)
				predicted = append(predicted, outcomes)
			}
		}
		next := slices.IndexFunc(on.play(t, sound), func() func(*Result) bool {
			i := -1
			return func(r *Result) bool {
				i++
				return !slices.Contains(predicted[i], r.Outcome())
			}
		}())
		if next < 0 {
			return run
		}
		run = sound[next]
	}
}

// smaller lists what a run can be without one thing.
func smaller(run Run) []Run {
	var all []Run
	with := func(change func(*Run)) {
		r := clone(run)
		change(&r)
		all = append(all, r)
	}
	for i := range run.Scenario.Threads[1:] {
		with(func(r *Run) {
			s := r.Scenario
			s.Threads = slices.Delete(s.Threads, i+1, i+2)
			s.Arenas = max(1, s.Arenas-1)
			r.Turns = slices.DeleteFunc(r.Turns, func(n int) bool { return n == i+1 })
			for k, n := range r.Turns {
				if n > i+1 {
					r.Turns[k]--
				}
			}
		})
	}
	if n := len(run.Turns); n > 0 {
		with(func(r *Run) { r.Turns = nil })
	}
	for i := range run.Scenario.Atfork {
		with(func(r *Run) { r.Scenario.Atfork = slices.Delete(r.Scenario.Atfork, i, i+1) })
	}
	for c := range Calls(run.Scenario) {
		with(func(r *Run) { without(r.Scenario, c.Pos) })
	}
	for pos, stops := range run.Within {
		if stops {
			with(func(r *Run) { delete(r.Within, pos) })
		}
	}
	for i := range run.Turns {
		with(func(r *Run) { r.Turns = slices.Delete(r.Turns, i, i+1) })
	}
	return all
}

// without removes the call at a place.
func without(s *scenario.Scenario, pos scenario.Pos) {
	var from func([]scenario.Call) []scenario.Call
	from = func(calls []scenario.Call) []scenario.Call {
		calls = slices.DeleteFunc(calls, func(c scenario.Call) bool { return c.Pos == pos })
		for i := range calls {
			calls[i].Body = from(calls[i].Body)
		}
		return calls
	}
	for _, b := range bodies(s) {
		*b = from(*b)
		if len(*b) == 0 {
			*b = nil // a handler without calls is none
		}
	}
}

// clone copies all of a run that smaller changes.
func clone(run Run) Run {
	within := make(map[scenario.Pos]bool)
	for pos, stops := range run.Within {
		within[pos] = stops
	}
	s := *run.Scenario
	s.Threads = slices.Clone(s.Threads)
	s.Functions = slices.Clone(s.Functions)
	s.Libraries = slices.Clone(s.Libraries)
	s.Handlers = slices.Clone(s.Handlers)
	s.Atfork = slices.Clone(s.Atfork)
	for _, b := range bodies(&s) {
		*b = deep(*b)
	}
	return Run{Name: run.Name, Scenario: &s, Within: within, Turns: slices.Clone(run.Turns)}
}

func deep(calls []scenario.Call) []scenario.Call {
	calls = slices.Clone(calls)
	for i := range calls {
		calls[i].Body = deep(calls[i].Body)
	}
	return calls
}
