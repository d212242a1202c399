package inspect

import (
	"path/filepath"
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
// nobody holds, and clears those that the fork hooks or lazy loading save.
func TestUWSGI(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	site := testbed.Site{App: "gil_busy", Workers: 4, Flags: []string{"--enable-threads"}}
	want := expected{finding.DeadlockGILGone, finding.Proven, "gil", "GIL", "computer", finding.Recorded, ""}
	t.Run("hung", func(t *testing.T) {
		server := testbed.UWSGI(t, root, site)
		hung := server.AwaitTimedFutex(t, 1)
		doc := inspectPID(t, server.Master())
		t.Logf("%d of 4 workers hang", len(hung))
		for _, pid := range hung {
			want.check(t, doc, pid)
		}
		says(t, doc)
	})
}

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

func TestHangOnFirstRequest(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		server := testbed.Gunicorn(t, root, testbed.Site{App: "lock_module", Workers: 1})
		server.AwaitServing(t, "/")
		server.Ask(t, "/touch")
		hung := server.AwaitHung(t, 1)
		doc := inspectPID(t, server.Master())
		hangs["lock_module"].check(t, doc, hung[0])
		says(t, doc)
	})
}
