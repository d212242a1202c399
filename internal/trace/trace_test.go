package trace

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
)

func TestMain(m *testing.M) {
	Reenter()
	os.Exit(m.Run())
}

// run traces while during is called, once everything is being followed.
func run(t testing.TB, req Request, during func()) *finding.Document {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), testbed.Patience)
	defer cancel()
	ready := make(chan struct{})
	req.Ready = func() { close(ready) }
	type result struct {
		doc *finding.Document
		err error
	}
	done := make(chan result, 1)
	go func() {
		doc, err := Run(ctx, req)
		done <- result{doc, err}
	}()
	select {
	case <-ready:
		during()
	case r := <-done:
		done <- r
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	if ctx.Err() != nil {
		t.Fatalf("the trace did not end; it saw %+v", r.doc.Forks)
	}
	return r.doc
}

// untraced reports that nobody traces a process and that it does not stand still.
func untraced(t testing.TB, pid int) {
	t.Helper()
	fs := proc.New("/proc")
	st, err := fs.Status(pid)
	if err != nil || st.TracerPID != 0 || st.State == 't' || st.State == 'T' {
		t.Errorf("process %d is in state %c, traced by %d: %v", pid, st.State, st.TracerPID, err)
	}
}

func rules(doc *finding.Document) (out []string) {
	for _, f := range doc.Findings {
		out = append(out, string(f.Rule))
	}
	return out
}

// TestGunicorn asks a gunicorn that runs for one more worker, and sees what its
// refresher thread held at that fork.
func TestGunicorn(t *testing.T) {
	for _, release := range []string{"bookworm", "forky"} {
		for _, mode := range []string{"held", "free"} {
			t.Run(release+"/"+mode, func(t *testing.T) {
				root := testbed.Open(t, release)
				s := testbed.Gunicorn(t, root, testbed.Site{App: "lock_module", Workers: 1, Env: []string{"VICTIM=" + mode}})
				s.AwaitWorkers(t)
				doc := run(t, Request{PIDs: []int{s.Master()}, Forks: 1, MaxStop: 500 * time.Millisecond}, func() {
					if err := syscall.Kill(s.Master(), syscall.SIGTTIN); err != nil {
						t.Error(err)
					}
				})
				if len(doc.Forks) != 1 {
					t.Fatalf("%d places: %+v", len(doc.Forks), doc.Forks)
				}
				f := doc.Forks[0]
				if f.Count != 1 || f.Executed != 0 || f.Call != "fork" || len(f.Children) != 1 {
					t.Errorf("%+v", f)
				}
				if !slices.ContainsFunc(f.Python, func(p finding.PythonFrame) bool {
					return strings.HasSuffix(p.Function, "spawn_worker") && strings.HasSuffix(p.File, "gunicorn/arbiter.py")
				}) {
					t.Errorf("the fork's Python stack is %+v", f.Python)
				}
				if len(f.Native) < 5 {
					t.Errorf("its native stack is %+v", f.Native)
				}
				if len(f.Threads) != 1 || f.Threads[0].Name != "refresher" || f.Threads[0].Moved || f.Threads[0].Python[0].Function != "refresh" {
					t.Errorf("other threads: %+v", f.Threads)
				}
				want := []string{"fork-with-threads"}
				if mode == "held" {
					want = []string{"orphaned-lock", "fork-with-threads"}
				}
				if got := rules(doc); !slices.Equal(got, want) {
					t.Errorf("findings %v, want %v", got, want)
				}
				i := slices.IndexFunc(f.Locks, func(l finding.HeldLock) bool { return strings.HasPrefix(l.Where, "lock_module.LOCK") })
				switch {
				case (i >= 0) != (mode == "held"):
					t.Errorf("locks %+v", f.Locks)
				case i >= 0:
					l := f.Locks[i]
					if l.Owner == nil || l.Owner.TID != f.Threads[0].TID || l.Owner.Basis != finding.HeldThen || l.Survivor || l.Reset {
						t.Errorf("lock %+v, owner %+v", l, l.Owner)
					}
				}
				if len(f.LeftOut) > 0 {
					t.Errorf("left out: %v", f.LeftOut)
				}
				untraced(t, s.Master())
				untraced(t, f.Children[0])
				s.AwaitServing(t, "/")
			})
		}
	}
}

// TestLaunched follows a script that forks in several ways.
func TestLaunched(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "forks.py")
	if err := os.WriteFile(script, []byte(`
import os, subprocess, threading
lock = threading.Lock()
lock.acquire()
go = threading.Event()
def holds():
    mine = threading.RLock()
    global named
    named = mine
    with mine:
        go.set()
        threading.Event().wait()
threading.Thread(target=holds, name="holder", daemon=True).start()
go.wait()
def worker():
    if os.fork() == 0:
        os._exit(7)
    os.wait()
for _ in range(3):
    worker()
subprocess.run(["/bin/true"], preexec_fn=lambda: None)
subprocess.run(["/bin/true"])
os._exit(5)
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var lines []Fork
	doc := run(t, Request{Command: []string{python, script}, MaxStop: time.Second, Each: func(f Fork) { lines = append(lines, f) }}, func() {})
	site := func(function string) *finding.ForkSite {
		for i := range doc.Forks {
			f := &doc.Forks[i]
			if len(f.Python) > 0 && f.Python[0].Function == function && f.Call == "fork" {
				return f
			}
		}
		t.Fatalf("no fork by %s: %+v", function, doc.Forks)
		return nil
	}
	w := site("worker")
	if w.Count != 3 || w.Executed != 0 || len(w.Threads) != 1 || w.Threads[0].Name != "holder" {
		t.Errorf("worker: %+v", w)
	}
	i := slices.IndexFunc(w.Locks, func(l finding.HeldLock) bool { return strings.HasPrefix(l.Where, "__main__.named") })
	if i < 0 || w.Locks[i].Forks != 3 || w.Locks[i].Owner == nil || w.Locks[i].Owner.Name != "holder" || w.Locks[i].Owner.Basis != finding.Recorded {
		t.Errorf("locks at worker: %+v", w.Locks)
	}
	if len(w.Calls) == 0 || w.Calls[len(w.Calls)-1] != "exit_group" {
		t.Errorf("calls of a worker: %v", w.Calls)
	}
	e := site("Popen._execute_child")
	if e.Count != 1 || e.AtOnce != 1 || len(e.Programs) != 1 || filepath.Base(e.Programs[0]) != "true" || e.Calls[len(e.Calls)-1] != "execve" {
		t.Errorf("subprocess: %+v", e)
	}
	for _, f := range doc.Findings {
		if f.PID == e.Children[0] {
			t.Errorf("a child that executes a program at once has a finding: %s", f.Title)
		}
	}
	if got := rules(doc); !slices.Equal(got, []string{"orphaned-lock", "fork-with-threads"}) {
		t.Errorf("findings %v", got)
	}
	root := slices.IndexFunc(doc.Targets, func(t finding.Target) bool { return slices.Contains(t.Notes, "it ended with status 5") })
	if root < 0 {
		t.Errorf("targets %+v", doc.Targets)
	}
	if len(lines) < 6 {
		t.Errorf("%d lines for 5 forks, of which 2 executed a program", len(lines))
	}
}

// TestRecordedOwner has a mutex of C held at the fork, and fork handlers.
func TestRecordedOwner(t *testing.T) {
	for _, kind := range []string{"mutex", "handler"} {
		testbed.Each(t, func(t *testing.T, root *testbed.Root) {
			p := root.Start(t, testbed.Cmd{Args: []string{testbed.Build(t, "forks_on_signal.c"), kind}})
			p.AwaitLine(t, "ready .*")
			holder := p.AwaitPID(t, "ready", "holder")
			doc := run(t, Request{PIDs: []int{p.PID}, Forks: 1, MaxStop: time.Second, Handlers: true}, func() {
				if err := syscall.Kill(p.PID, syscall.SIGUSR1); err != nil {
					t.Error(err)
				}
			})
			f := doc.Forks[0]
			if len(f.Threads) != 1 || f.Threads[0].TID != holder || f.Threads[0].Moved {
				t.Errorf("threads %+v", f.Threads)
			}
			if kind == "mutex" {
				if len(f.Locks) != 1 || f.Locks[0].Owner == nil || f.Locks[0].Owner.TID != holder || !strings.HasSuffix(f.Locks[0].Where, "`g_lock") {
					t.Errorf("locks %+v", f.Locks)
				}
				return
			}
			if len(f.Locks) != 0 {
				t.Errorf("locks %+v", f.Locks)
			}
			var got []string
			for _, h := range f.Handlers {
				got = append(got, fmt.Sprintf("%s %s %s %s", filepath.Base(h.Library), h.Prepare, h.Parent, h.Child))
			}
			for _, h := range f.Handlers {
				if h.Child == "after_in_child" && !slices.Contains(h.ChildCalls, "renew") || h.Child == "after_in_child" && !slices.Contains(h.ChildCalls, "getppid") {
					t.Errorf("%s called %q", h.Child, h.ChildCalls)
				}
			}
			// The child goes on by itself when it was followed.
			testbed.AwaitState(t, f.Children[0], "S")
			want := []string{"forks_on_signal before_fork after_in_parent after_in_child", "forks_on_signal   after_in_child"}
			for _, w := range want {
				if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, strings.TrimPrefix(w, "forks_on_signal")) }) {
					t.Errorf("handlers %q, want %q", got, want)
				}
			}
		})
	}
}

// TestTree: a worker that ran before the trace began forks.
func TestTree(t *testing.T) {
	const script = `import os, signal
pid = os.fork()
if not pid:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    print("worker pid=%d" % os.getpid(), flush=True)
    while True:
        signal.sigwait([signal.SIGUSR1])
        if not os.fork():
            os._exit(0)
        os.wait()
os.wait()`
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{"python3", "-c", script}})
	worker := p.AwaitPID(t, "worker", "pid")
	doc := run(t, Request{PIDs: []int{p.PID}, Forks: 1}, func() {
		if err := syscall.Kill(worker, syscall.SIGUSR1); err != nil {
			t.Error(err)
		}
	})
	if len(doc.Forks) != 1 || doc.Forks[0].PID != worker {
		t.Errorf("forks %+v, want one by %d", doc.Forks, worker)
	}
}

// TestErrors: what cannot be traced is said.
func TestErrors(t *testing.T) {
	p := testbed.Python(t, testbed.Host(t), "waiting.py", "threads")
	testbed.Traced(t, p.PID)
	if _, err := Run(t.Context(), Request{PIDs: []int{p.PID}}); err == nil || !strings.Contains(err.Error(), "another process traces it") {
		t.Errorf("a process that is traced: %v", err)
	}
	if _, err := Run(t.Context(), Request{PIDs: []int{1 << 22}}); !proc.IsGone(err) {
		t.Errorf("a process that is not there: %v", err)
	}
	if _, err := Run(t.Context(), Request{}); err == nil {
		t.Error("nothing to trace is no error")
	}
}
