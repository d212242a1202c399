package replay

import (
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/model/scenario"
)

// Outcome is what a run came to, in a form that two can be compared in: for each
// process, first the scenario's own, how it ended and which calls each thread began;
// the last of a thread that has not come back from it is marked.
type Outcome string

// ProcessOutcome is one process of an outcome.
type ProcessOutcome struct {
	// Path is empty for the first process, then the numbers of the forks that lead
	// to it, such as ".1.2".
	Path    string
	End     End
	Threads map[int]ThreadOutcome
}

// ThreadOutcome is one thread of an outcome.
type ThreadOutcome struct {
	Began []scenario.Pos
	// Blocked: it has not come back from the last one, and never will.
	Blocked bool
}

// Compose makes an outcome of its processes. Silent is how many children hang that
// have not come to a call of their own: nothing tells them apart.
func Compose(processes []ProcessOutcome, silent int) Outcome {
	slices.SortFunc(processes, func(a, b ProcessOutcome) int { return strings.Compare(a.Path, b.Path) })
	var b strings.Builder
	for _, p := range processes {
		fmt.Fprintf(&b, "process%s %s", p.Path, p.End)
		// Calls of a crashed process or one that ended under its threads are told
		// as far as they were begun.
		for n := range scenario.MaxThreads {
			t, ok := p.Threads[n]
			if !ok || len(t.Began) == 0 && !t.Blocked {
				continue
			}
			fmt.Fprintf(&b, "; thread %d:", n)
			for _, pos := range t.Began {
				fmt.Fprintf(&b, " %d:%d", pos.Line, pos.Column)
			}
			if t.Blocked {
				b.WriteString(" blocked")
			}
		}
		b.WriteByte('\n')
	}
	if silent > 0 {
		fmt.Fprintf(&b, "%d silent\n", silent)
	}
	return Outcome(b.String())
}

// Outcome of a run.
func (r *Result) Outcome() Outcome {
	var all []ProcessOutcome
	paths := make([]string, len(r.Processes))
	for i, p := range r.Processes {
		if p.Parent >= 0 {
			paths[i] = fmt.Sprintf("%s.%d", paths[p.Parent], p.Fork)
		}
		o := ProcessOutcome{Path: paths[i], End: p.End, Threads: make(map[int]ThreadOutcome)}
		for n, t := range p.Threads {
			o.Threads[n] = ThreadOutcome{Began: t.Began, Blocked: p.End == Stuck && !t.Ended}
		}
		all = append(all, o)
	}
	return Compose(all, r.Silent)
}

// Says tells a result in words: for each process its end and where it hangs.
func (r *Result) Says(s *scenario.Scenario) string {
	names := calls(s)
	var out []string
	for i, p := range r.Processes {
		who := "master"
		if i > 0 {
			who = "child"
		}
		says := who + " " + string(p.End)
		if p.End == Stuck {
			var in []string
			for n := range scenario.MaxThreads {
				if t := p.Threads[n]; t != nil && !t.Ended {
					// The innermost call: that of the child's fork was the parent's.
					at := "fork"
					if k := len(t.In); k > 0 {
						at = names[t.In[k-1]]
					}
					in = append(in, at)
				}
			}
			says += " in " + strings.Join(in, " and ")
		}
		out = append(out, says)
	}
	if r.Silent > 0 {
		out = append(out, "child stuck in fork")
	}
	return strings.Join(out, ", ")
}

// calls are the calls of a scenario, as they are written, by where they stand.
func calls(s *scenario.Scenario) map[scenario.Pos]string {
	names := make(map[scenario.Pos]string)
	for c := range Calls(s) {
		names[c.Pos] = strings.TrimSpace(string(c.Verb) + " " + c.Arg)
	}
	return names
}
