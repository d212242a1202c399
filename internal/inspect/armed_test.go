package inspect

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"forkproof/internal/finding"
)

func TestArmed(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "armed")
	if out, err := exec.Command("gcc", "-O1", "-pthread", "-o", bin, "testdata/armed.c").CombinedOutput(); err != nil {
		t.Fatalf("compile the victim (gcc is needed): %v\n%s", err, out)
	}
	for name, tc := range map[string]struct {
		arg    string
		proven bool
		left   []string
	}{
		"nobody waits":      {"", false, []string{"pthread_mutex", "pthread_rwlock"}},
		"one is waited for": {"wait", true, []string{"pthread_rwlock"}},
	} {
		t.Run(name, func(t *testing.T) {
			pid := victim(t, bin, tc.arg)
			await(t, "the victim to sleep", func() bool { return asleep(pid) })
			doc := inspectPID(t, pid)
			if got := len(proofs(doc)) == 1; got != tc.proven {
				t.Errorf("proofs: %+v", proofs(doc))
			}
			var left []string
			for _, f := range doc.Findings {
				if f.Rule != finding.OrphanedLock {
					continue
				}
				left = append(left, f.Lock.Kind)
				if o := f.Lock.Owner; o == nil || o.Name != "refresher" || !o.Alive || len(o.Native) == 0 {
					t.Errorf("%s was left by %+v, want the refresher", f.Lock.Where, o)
				}
			}
			slices.Sort(left)
			if !slices.Equal(left, tc.left) {
				t.Errorf("left locked: %v, want %v", left, tc.left)
			}
			want := "armed"
			if tc.proven {
				want = "deadlocked"
			}
			if v := doc.Targets[0].Verdict; v != want {
				t.Errorf("verdict %q, want %q", v, want)
			}
		})
	}
}

// Threads that are born and die while they are looked at must never make a lock's
// owner seem to be gone.
func TestChurn(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "churn")
	if out, err := exec.Command("gcc", "-O1", "-pthread", "-o", bin, "testdata/churn.c").CombinedOutput(); err != nil {
		t.Fatalf("compile the victim (gcc is needed): %v\n%s", err, out)
	}
	pid := victim(t, bin, "")
	for range 200 {
		for _, f := range inspectPID(t, pid).Findings {
			if f.Severity > finding.Info {
				t.Fatalf("a false finding: %+v", f)
			}
		}
	}
}
