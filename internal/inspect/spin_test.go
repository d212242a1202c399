package inspect

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
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

// suspectedSpins waits until the process is suspected to spin and returns what
// is said of it. It fails if more than that is said: nothing of it is proven.
func suspectedSpins(t *testing.T, pid int) []finding.Finding {
	t.Helper()
	var found []finding.Finding
	// On a busy machine a sample may miss the thread.
	await(t, "the spinning thread to be found", func() bool {
		found = nil
		for _, f := range inspectPID(t, pid).Findings {
			if f.Confidence == finding.Proven {
				t.Fatalf("a spin was called proven: %+v", f)
			}
			if f.Rule == finding.SuspectedSpin {
				found = append(found, f)
			}
		}
		return len(found) > 0
	})
	return found
}

// computing reports whether a process has had some processor time of late.
func computing(pid int) func() bool {
	fs := proc.New("/proc")
	was, _ := fs.RunTime(pid, pid)
	return func() bool {
		now, err := fs.RunTime(pid, pid)
		return err == nil && now > was+50e6
	}
}

// TestSpinningMatrices has OpenBLAS wait for the parts of threads that the fork
// did not copy.
func TestSpinningMatrices(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		server := testbed.Gunicorn(t, root, testbed.Site{
			App: "openblas", Hooks: "touch", Workers: 1, Env: []string{"OMP_NUM_THREADS=4", "VICTIM_PRODUCT=matrices"},
		})
		pid := server.AwaitWorkers(t)[0]
		await(t, "the worker to compute", computing(pid))
		f := suspectedSpins(t, pid)[0]
		if f.Lock.Kind != "openmp-barrier" || !strings.Contains(f.Lock.Where, "OpenBLAS") {
			t.Errorf("lock %s %q", f.Lock.Kind, f.Lock.Where)
		}
		t.Log(f.Title, f.Evidence)
	})
}

// TestSpinningOpenMP has libgomp itself spin at its barrier.
func TestSpinningOpenMP(t *testing.T) {
	program := testbed.Build(t, "omp.c", "-fopenmp")
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		p := root.Start(t, testbed.Cmd{Args: []string{program, "stuck"}, Env: []string{"OMP_NUM_THREADS=2", "OMP_WAIT_POLICY=active"}})
		pid := p.AwaitPID(t, "ready", "child")
		f := suspectedSpins(t, pid)[0]
		if f.Lock.Kind != "openmp-barrier" || !strings.Contains(f.Lock.Where, "OpenMP") {
			t.Errorf("lock %s %q", f.Lock.Kind, f.Lock.Where)
		}
	})
}

// TestSpinLocks has pthread spin locks, whose waiters never sleep.
func TestSpinLocks(t *testing.T) {
	glibc, musl := testbed.Build(t, "lockzoo.c"), testbed.BuildMusl(t, "lockzoo.c")
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for libc, bin := range map[string]string{"glibc": glibc, "musl": musl} {
			for mode, threads := range map[string]int{"stuck": 1, "beside": 1, "crowd": 4} {
				t.Run(libc+" "+mode, func(t *testing.T) {
					child := root.Start(t, testbed.Cmd{Args: []string{bin, "spin", mode}}).AwaitPID(t, "ready", "child")
					// With more threads than processors not all may be sampled at once.
					found := make(map[int]finding.Finding)
					await(t, "all spinning threads", func() bool {
						for _, f := range suspectedSpins(t, child) {
							found[f.TID] = f
						}
						return len(found) == threads
					})
					for _, f := range found {
						if f.Lock.Kind != "spin-lock" || f.Lock.Where != "lockzoo`g_lock, a pthread spin lock" {
							t.Errorf("lock %s %q", f.Lock.Kind, f.Lock.Where)
						}
					}
				})
			}
			free := root.Start(t, testbed.Cmd{Args: []string{bin, "spin", "free"}}).AwaitPID(t, "ready", "child")
			testbed.AwaitBlocked(t, free)
			notSpinning(t, free)
		}
	})
}

// TestBusyIsNotSpinning inspects processes that compute, also in the functions
// that others spin in: none of them is suspected, each has a native stack.
func TestBusyIsNotSpinning(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "busy")
	if out, err := exec.Command("gcc", "-O2", "-fopenmp", "-pthread", "-o", bin, "testdata/busy.c").CombinedOutput(); err != nil {
		t.Fatalf("compile the victim (gcc with OpenMP is needed): %v\n%s", err, out)
	}
	for _, how := range []string{"spinlock", "contended", "openmp", "sleep"} {
		t.Run(how, func(t *testing.T) {
			pid := victim(t, bin, how)
			if how != "sleep" {
				await(t, "the victim to compute", computing(pid))
			}
			notSpinning(t, pid)
		})
	}
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		works := map[string][]string{
			"numpy alone":  {"VICTIM_WORK=numpy", "OMP_NUM_THREADS=1"},
			"numpy a team": {"VICTIM_WORK=numpy", "OMP_NUM_THREADS=4"},
		}
		if root.Name == "bookworm" {
			works["loop"], works["hash"] = []string{"VICTIM_WORK=loop"}, []string{"VICTIM_WORK=hash"}
		}
		for name, env := range works {
			t.Run(name, func(t *testing.T) {
				server := testbed.Gunicorn(t, root, testbed.Site{App: "busy", Hooks: "touch", Workers: 1, Env: env})
				pid := server.AwaitWorkers(t)[0]
				await(t, "the worker to compute", computing(pid))
				notSpinning(t, pid)
			})
		}
	})
}

// TestRunningStack has the native and the Python stack of a worker that
// computes, in each other's right place, and stops nothing where that is
// forbidden.
func TestRunningStack(t *testing.T) {
	server := testbed.Gunicorn(t, testbed.Open(t, "bookworm"), testbed.Site{App: "busy", Hooks: "touch", Workers: 1, Env: []string{"VICTIM_WORK=loop"}})
	pid := server.AwaitWorkers(t)[0]
	await(t, "the worker to compute", computing(pid))
	var thread finding.Thread
	await(t, "a stack of the running worker", func() bool {
		doc := inspectPID(t, pid)
		thread = doc.Targets[0].Threads[0]
		if len(thread.Native) > 0 && !slices.ContainsFunc(doc.Notes, func(n string) bool { return strings.Contains(n, "was stopped to read the stack") }) {
			t.Errorf("a thread was stopped, and the notes do not say so: %q", doc.Notes)
		}
		return thread.State == "running" && len(thread.Native) > 0
	})
	if outer := thread.Native[len(thread.Native)-1]; outer.Function != "_start" {
		t.Errorf("the outermost frame is %+v", outer)
	}
	if len(thread.Python) == 0 || thread.Python[0].Function != "loop" || thread.Python[0].Native < 0 {
		t.Errorf("the Python stack is %+v", thread.Python)
	}
	doc, err := Run(t.Context(), Request{PIDs: []int{pid}, NoStop: true})
	if err != nil {
		t.Fatal(err)
	}
	thread = doc.Targets[0].Threads[0]
	if len(thread.Native) > 0 && thread.State == "running" {
		t.Errorf("a native stack of a running thread that was not to be stopped: %+v", thread.Native)
	}
	if len(thread.Python) == 0 {
		t.Error("no Python stack, which needs no stop")
	}
}

func notSpinning(t *testing.T, pid int) {
	t.Helper()
	for range 10 {
		for _, f := range inspectPID(t, pid).Findings {
			if f.Severity > finding.Info {
				t.Fatalf("%s %s of a busy process: %s; %q", f.Confidence, f.Rule, f.Title, f.Evidence)
			}
		}
	}
}
