package inspect

import (
	"os/exec"
	"path/filepath"
	"testing"

	"forkproof/internal/finding"
)

func buildSpin(t *testing.T, flags ...string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "spin")
	args := append(flags, "-O1", "-pthread", "-o", bin, "testdata/spin.cc", "-labsl_base", "-labsl_spinlock_wait")
	if out, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile the victim (g++ and libabsl-dev are needed): %v\n%s", err, out)
	}
	return bin
}

// A spin lock whose waiters end up in a futex is a lock like others.
func TestSpinLockInFutex(t *testing.T) {
	pid := victim(t, buildSpin(t), "")
	await(t, "the victim to sleep", func() bool { return asleep(pid) })
	got := proofs(inspectPID(t, pid))
	if len(got) != 1 || got[0].Rule != finding.DeadlockNobodyLeft || got[0].Lock.Where != "spin`g_spin" {
		t.Errorf("got %+v, want a proof about g_spin", got)
	}
}

func TestSpin(t *testing.T) {
	bin := buildSpin(t, "-DTIMED")
	stuck := victim(t, bin, "")
	var found finding.Finding
	// A look may come upon the thread just while it runs.
	await(t, "the spinning thread to be found", func() bool {
		for _, f := range inspectPID(t, stuck).Findings {
			if f.Confidence == finding.Proven {
				t.Fatalf("a spin was called proven: %+v", f)
			}
			if f.Rule == finding.SuspectedSpin {
				found = f
			}
		}
		return found.Rule != ""
	})
	if found.Lock.Where != "abseil's spin lock" || len(found.Lock.Suspects) != 1 || found.Lock.Suspects[0].Name != "refresher" {
		t.Errorf("lock %q, suspects %+v; want abseil's and the refresher", found.Lock.Where, found.Lock.Suspects)
	}
	free := victim(t, bin, "free")
	await(t, "the victim to sleep", func() bool { return asleep(free) })
	for range 3 {
		for _, f := range inspectPID(t, free).Findings {
			if f.Severity > finding.Info {
				t.Fatalf("a false finding: %+v", f)
			}
		}
	}
}
