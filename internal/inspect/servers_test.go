package inspect

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

// says logs the findings of a document if the test has failed.
func says(t *testing.T, doc *finding.Document) {
	t.Helper()
	if !t.Failed() {
		return
	}
	for _, target := range doc.Targets {
		t.Logf("%s %d: %s %v", target.Role, target.PID, target.Verdict, target.Notes)
	}
	for _, f := range doc.Findings {
		t.Logf("%s %s: %s", f.Confidence, f.Rule, f.Title)
	}
}

// TestErrorLog proves the hang of gunicorn's workers in the lock of the error
// log's buffer, which a thread of the master held while it wrote.
func TestErrorLog(t *testing.T) {
	want := expected{finding.DeadlockOwnerGone, finding.Proven, "python-buffered", "logging", "logger", finding.Recorded, "emit"}
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		t.Run("fifo", func(t *testing.T) {
			server := testbed.GunicornLogging(t, root, 2)
			hung := server.AwaitHung(t, 2)
			doc := inspectPID(t, server.Master())
			for _, pid := range hung {
				want.check(t, doc, pid)
			}
			says(t, doc)
		})
		t.Run("file", func(t *testing.T) {
			work := t.TempDir()
			server := testbed.Gunicorn(t, root, testbed.Site{App: "errorlog", Workers: 12, Work: work,
				Flags: []string{"--error-logfile", filepath.Join(work, "error.txt")}})
			hung := server.AwaitHung(t, 1)
			doc := inspectPID(t, server.Master())
			t.Logf("%d of 12 workers hang", len(hung))
			for _, pid := range hung {
				want.check(t, doc, pid)
			}
			says(t, doc)
		})
	})
}

// TestUWSGI proves that workers of uWSGI wait for an interpreter's lock that
// nobody holds. Whether a fork leaves it locked is a matter of chance: the thread
// that computes must have got the lock that uWSGI gives back just before, which
// it does for most forks on a quiet machine and for few on a busy one.
// TestHealthyServers has the settings that save all workers.
func TestUWSGI(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	site := testbed.Site{App: "gil_busy", Workers: 8, Flags: []string{"--enable-threads"}}
	want := expected{finding.DeadlockGILGone, finding.Proven, "gil", "GIL", "computer", finding.Recorded, ""}
	var server *testbed.Server
	testbed.Await(t, "a fork that leaves the interpreter's lock locked", func() bool {
		server = testbed.UWSGI(t, root, site)
		for range 10 {
			if len(proofs(inspectPID(t, server.Master()))) > 0 {
				return true
			}
		}
		server.Kill()
		return false
	})
	hung := server.AwaitTimedFutex(t, 1)
	var doc *finding.Document
	// A look may find one of them awake.
	testbed.Await(t, "a look at all of them while they sleep", func() bool {
		doc = inspectPID(t, server.Master())
		return len(proofs(doc)) >= len(hung)
	})
	t.Logf("%d of 8 workers hang", len(hung))
	for _, pid := range hung {
		want.check(t, doc, pid)
	}
	says(t, doc)
}

// TestCelery proves the hang of a pool's processes at their start.
func TestCelery(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	server := testbed.Celery(t, root, testbed.Site{App: "celery_lock"})
	hung := server.AwaitHung(t, 2)
	doc := inspectPID(t, server.Master())
	want := expected{finding.DeadlockNobodyLeft, finding.Proven, "python-lock", "celery_lock.LOCK", "refresher", finding.HoldsNow, "touch"}
	for _, pid := range hung {
		want.check(t, doc, pid)
	}
	says(t, doc)
}

// TestHangOnFirstRequest sees the lock of a healthy worker armed, and then, when
// a request has come that wants it, the worker hung.
func TestHangOnFirstRequest(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		server := testbed.Gunicorn(t, root, testbed.Site{App: "lock_module", Workers: 1})
		worker := server.AwaitServing(t, "/")[0]
		doc := inspectPID(t, worker)
		// After it comes that a thread of the master is not in the worker.
		if len(doc.Findings) != 2 || doc.Findings[0].Rule != finding.OrphanedLock || doc.Targets[0].Verdict != "armed" {
			t.Fatalf("%s with %+v, want one armed lock", doc.Targets[0].Verdict, doc.Findings)
		}
		if l := doc.Findings[0].Lock; l.Where != "lock_module.LOCK" || l.Owner == nil || l.Owner.Name != "refresher" || l.Owner.Basis != finding.HoldsNow {
			t.Errorf("left locked: %+v by %+v, want lock_module.LOCK by the refresher", l, l.Owner)
		}
		server.Ask(t, "/touch")
		server.AwaitHung(t, 1)
		doc = inspectPID(t, server.Master())
		hangs["lock_module"].check(t, doc, worker)
		if len(doc.Targets) != 2 || len(proofs(doc)) != 1 {
			t.Fatalf("%d targets, %d proofs", len(doc.Targets), len(proofs(doc)))
		}
		isAt(t, doc.Targets[1].Threads[0].Python, "touch", "lock_module.py", "with LOCK:")
		isAt(t, proofs(doc)[0].Lock.Owner.Python, "refresh", "held.py", "time.sleep(3600)")
		says(t, doc)
	})
}

// isAt checks the innermost Python frame: it executes the first line of a victim
// that has the text.
func isAt(t *testing.T, frames []finding.PythonFrame, function, file, text string) {
	t.Helper()
	source, err := os.ReadFile(testbed.Victim(t, "python/"+file))
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(source), text)
	line := strings.Count(before, "\n") + 1
	if !ok || len(frames) == 0 || frames[0].Function != function || !strings.HasSuffix(frames[0].File, file) || frames[0].Line != line {
		t.Errorf("the thread is at %+v, want %s at %s:%d", frames, function, file, line)
	}
}

// TestOpenMP proves the hang of a program whose team of threads was not copied.
func TestOpenMP(t *testing.T) {
	program := testbed.Build(t, "omp.c", "-fopenmp")
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		p := root.Start(t, testbed.Cmd{Args: []string{program, "stuck"}, Env: []string{"OMP_NUM_THREADS=4"}})
		child := p.AwaitPID(t, "ready", "child")
		testbed.AwaitFutex(t, child)
		doc := inspectPID(t, p.PID)
		expected{finding.DeadlockNobodyLeft, finding.Proven, "openmp-barrier", "", "", "", ""}.check(t, doc, child)
		says(t, doc)
	})
}

// TestCycles proves rings of any size, once each.
func TestCycles(t *testing.T) {
	program := testbed.Build(t, "cycle.c")
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for _, n := range []string{"2", "3", "16"} {
			p := root.Start(t, testbed.Cmd{Args: []string{program, n}})
			pid := p.AwaitPID(t, "ready", "pid")
			testbed.AwaitFutex(t, pid)
			doc := inspectPID(t, pid)
			expected{finding.DeadlockCycle, finding.Proven, "pthread_mutex", "cycle`g_ring", "cycle", finding.Recorded, ""}.check(t, doc, pid)
			if len(doc.Findings) != 1 {
				t.Errorf("a ring of %s: %d findings", n, len(doc.Findings))
			}
			says(t, doc)
		}
	})
}

// TestStoppedAndTraced proves nothing of a hung process while it is stopped or
// traced, since neither sleeps in its system call, and proves the hang again
// afterwards; that a lock was left locked is told all the time.
func TestStoppedAndTraced(t *testing.T) {
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{testbed.Build(t, "lockzoo.c"), "normal", "stuck"}})
	child := p.AwaitPID(t, "ready", "child")
	testbed.AwaitFutex(t, child)
	is := func(verdict string) {
		t.Helper()
		doc := inspectPID(t, child)
		if got := doc.Targets[0].Verdict; got != verdict || (len(proofs(doc)) > 0) != (verdict == "deadlocked") {
			t.Errorf("verdict %s with %d proofs, want %s", got, len(proofs(doc)), verdict)
		}
		says(t, doc)
	}
	is("deadlocked")
	if err := syscall.Kill(child, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testbed.AwaitState(t, child, "T")
	is("armed")
	gdb := testbed.Traced(t, child)
	testbed.AwaitState(t, child, "t")
	is("armed")
	gdb.Kill()
	if err := syscall.Kill(child, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testbed.AwaitFutex(t, child)
	is("deadlocked")
}
