package replay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/scenario"
)

// find is the model of a libc.
func (r real) find(t testing.TB) *libc.Libc {
	t.Helper()
	l, err := libc.Find(r.model)
	if err != nil {
		t.Fatal(err)
	}
	return &l
}

// generated is how many scenarios are generated for each libc.
const generated = 600

// The model and the libcs agree on generated scenarios.
func TestGenerated(t *testing.T) {
	var runs []Run
	for seed := range generated {
		runs = append(runs, generate(uint64(seed)))
	}
	for _, libc := range reals {
		t.Run(libc.model, func(t *testing.T) {
			l := libc.find(t)
			results := libc.play(t, runs)
			single, bad, torn := 0, 0, 0
			for i, run := range runs {
				outcomes, err := Predict(run, l)
				if errors.Is(err, ErrTorn) {
					torn++
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", run.Name, err)
				}
				if len(outcomes) == 1 {
					single++
				}
				if slices.Contains(outcomes, results[i].Outcome()) {
					continue
				}
				bad++
				if bad > 3 {
					continue
				}
				small := shrink(t, libc, l, run)
				if outcomes, err = Predict(small, l); err != nil {
					t.Fatal(err)
				}
				t.Errorf("%s", disagreement(small, libc.play(t, []Run{small})[0], outcomes))
			}
			t.Logf("%d scenarios, %d with one outcome by their turns, %d that the model refuses, %d disagreements", len(runs), single, torn, bad)
			// A generator that makes little of use would agree with anything.
			if len(runs)-torn < 500 {
				t.Errorf("only %d scenarios were compared", len(runs)-torn)
			}
		})
	}
}

// disagreement tells what differs.
func disagreement(run Run, real *Result, model []Outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s", run.Name, show(run))
	fmt.Fprintf(&b, "real: %s\n%s", real.Says(run.Scenario), real.Outcome())
	for _, o := range model {
		fmt.Fprintf(&b, "model:\n%s", o)
	}
	return b.String()
}

// show writes a run out, each call with the line of its place.
func show(r Run) string {
	var b strings.Builder
	s := r.Scenario
	var body func([]scenario.Call) string
	body = func(calls []scenario.Call) string {
		var out []string
		for _, c := range calls {
			text := fmt.Sprintf("%d:%s", c.Pos.Line, c.Verb)
			if c.Arg != "" {
				text += " " + c.Arg
			}
			if r.Within[c.Pos] {
				text += "!"
			}
			if len(c.Body) > 0 {
				text += " " + body(c.Body)
			}
			out = append(out, text)
		}
		return "[" + strings.Join(out, ", ") + "]"
	}
	fmt.Fprintf(&b, "arenas %d, locks %v, streams %v, atfork %v, turns %v\n", s.Arenas, s.Locks, s.Streams, s.Atfork, r.Turns)
	for _, l := range s.Libraries {
		fmt.Fprintf(&b, "library %s loaded %v\n", l.Name, l.Loaded)
	}
	for _, h := range s.Handlers {
		fmt.Fprintf(&b, "handler %s of %q: prepare %s parent %s child %s\n", h.Name, h.Library, body(h.Prepare), body(h.Parent), body(h.Child))
	}
	for _, th := range s.Threads {
		fmt.Fprintf(&b, "thread %s: %s\n", th.Name, body(th.Body))
	}
	return b.String()
}
