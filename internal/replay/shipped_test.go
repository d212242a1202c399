package replay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"forkproof/internal/model"
	"forkproof/internal/model/scenario"
)

// unreached are scenarios whose hang needs a thread to be where it cannot be stopped:
// the call makes no system call and calls nothing back while it has the lock.
var unreached = map[string]string{
	"setenv":    "setenv has the environment's lock and waits for an arena that fork has",
	"exit-list": "atexit has the lock of the exit functions",
}

// The shipped scenarios, on each libc: what the model finds is replayed and comes
// about, and what it does not find does not come about in any of many orders.
func TestShipped(t *testing.T) {
	const orders = 12
	all, err := scenario.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, libc := range reals {
		t.Run(libc.model, func(t *testing.T) {
			l := libc.find(t)
			var runs []Run
			replayed := 0
			for _, s := range all {
				if _, _, err := encode(Run{Name: s.Name, Scenario: s}); err != nil {
					t.Logf("not run: %v", err)
					continue
				}
				found, err := model.Run(t.Context(), s, l, model.Options{})
				if err != nil || found.Unread != nil {
					t.Fatalf("%s: %v %v", s.Name, err, found.Unread)
				}
				for _, where := range []model.Where{model.Master, model.Child} {
					bad := slices.ContainsFunc(found.Findings, func(f model.Finding) bool {
						return f.Where == where && slices.Contains([]model.Kind{model.Deadlock, model.SelfDeadlock, model.Orphaned, model.Crashed}, f.Kind)
					})
					run, err := Search(s, l, where == model.Child)
					switch {
					case err == nil && bad:
						run.Name = fmt.Sprintf("%s-%s", s.Name, where)
						runs = append(runs, run)
						replayed++
					case err == nil:
						t.Errorf("%s: turns %v hang or crash the %s, which the explorer does not find", s.Name, run.Turns, where)
					case !errors.Is(err, ErrNone):
						t.Errorf("%s: %v", s.Name, err)
					case bad && unreached[s.Name] == "":
						t.Errorf("%s: the explorer finds that the %s can hang or crash, and no order of turns leads there", s.Name, where)
					}
				}
				random := rand.New(rand.NewPCG(1, 6))
				for i := range orders {
					r := Run{Name: fmt.Sprintf("%s-%d", s.Name, i), Scenario: s, Within: make(map[scenario.Pos]bool)}
					for c := range Calls(s) {
						r.Within[c.Pos] = HasStop(*c) && random.IntN(2) == 0
					}
					for range random.IntN(20) {
						r.Turns = append(r.Turns, random.IntN(len(s.Threads)))
					}
					runs = append(runs, r)
				}
			}
			for i, result := range libc.play(t, runs) {
				outcomes, err := Predict(runs[i], l)
				if errors.Is(err, ErrTorn) {
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", runs[i].Name, err)
				}
				if !slices.Contains(outcomes, result.Outcome()) {
					t.Errorf("%s", disagreement(runs[i], result, outcomes))
				}
			}
			t.Logf("%d runs, %d of them replay what the explorer found", len(runs), replayed)
		})
	}
}
