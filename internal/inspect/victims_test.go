package inspect

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

// expected is what must be said of each worker of a hanging application.
type expected struct {
	rule       finding.Rule
	confidence finding.Confidence
	kind       string
	where      string // contained in the lock's name
	owner      string // name of the thread that left the lock; empty: it cannot be known
	basis      finding.Basis
	python     string // the end of the name of a function of Python in the worker
}

var hangs = map[string]expected{
	"lock_module":        {finding.DeadlockNobodyLeft, finding.Proven, "python-lock", "lock_module.LOCK", "refresher", finding.HoldsNow, "touch"},
	"acquire_module":     {finding.DeadlockNobodyLeft, finding.Proven, "python-lock", "acquire_module.LOCK", "refresher", finding.HoldsNow, "touch"},
	"rlock_module":       {finding.DeadlockOwnerGone, finding.Proven, "python-rlock", "rlock_module.LOCK", "refresher", finding.Recorded, "touch"},
	"queue_module":       {finding.DeadlockNobodyLeft, finding.Proven, "python-lock", "queue_module.QUEUE.mutex", "refresher", finding.HoldsNow, "put"},
	"executor":           {finding.DeadlockNobodyLeft, finding.Observed, "python-lock", "", "", "", "wait"},
	"import_lock":        {finding.DeadlockOwnerGone, finding.Proven, "python-import", "import_slow", "loader", finding.Recorded, "touch"},
	"ctypes_mutex":       {finding.DeadlockOwnerGone, finding.Proven, "pthread_mutex", "libforkvictim.so`", "refresher", finding.Recorded, "touch"},
	"native_mutex":       {finding.DeadlockOwnerGone, finding.Proven, "pthread_mutex", "libforkvictim.so`", "", finding.Recorded, "touch"},
	"std_mutex":          {finding.DeadlockOwnerGone, finding.Proven, "pthread_mutex", "libforkvictim_cpp.so`", "refresher", finding.Recorded, "touch"},
	"openblas":           {finding.DeadlockNobodyLeft, finding.Proven, "openmp-barrier", "", "", "", "touch"},
	"getaddrinfo_resolv": {finding.DeadlockNobodyLeft, finding.Proven, "libc-internal", "glibc's resolver configuration lock (lock in resolv_conf.c), from getaddrinfo", "", "", "look_up"},
	"setlocale_slow":     {finding.DeadlockOwnerGone, finding.Proven, "pthread_rwlock", "glibc's locale lock (__libc_setlocale_lock), from setlocale", "locale", finding.Recorded, "touch"},
	"tz_slow":            {finding.DeadlockNobodyLeft, finding.Proven, "libc-internal", "glibc's time zone lock (tzset_lock), from localtime_r", "", "", ""},
}

// TestHangingSites proves the hang of every worker of real servers on four
// releases, and says of each lock what can be known.
func TestHangingSites(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for _, v := range testbed.HangingSites(t) {
			want, ok := hangs[v.Name]
			if !ok {
				t.Errorf("nothing is expected of %s", v.Name)
			}
			t.Run(v.Name, func(t *testing.T) {
				v.Site.Workers = 2
				server := testbed.Gunicorn(t, root, v.Site)
				hung := server.AwaitHung(t, 2)
				doc := inspectPID(t, server.Master())
				for _, pid := range hung {
					want.check(t, doc, pid)
				}
				if t.Failed() {
					for _, f := range doc.Findings {
						t.Logf("%s %s: %s", f.Confidence, f.Rule, f.Title)
					}
				}
			})
		}
	})
}

func (want expected) check(t *testing.T, doc *finding.Document, pid int) {
	t.Helper()
	var critical []finding.Finding
	for _, f := range doc.Findings {
		if f.PID == pid && f.Severity == finding.Critical {
			critical = append(critical, f)
		}
	}
	if len(critical) != 1 {
		t.Errorf("%d critical findings for worker %d, want 1", len(critical), pid)
		return
	}
	f := critical[0]
	if f.Rule != want.rule || f.Confidence != want.confidence {
		t.Errorf("%s %s, want %s %s", f.Confidence, f.Rule, want.confidence, want.rule)
	}
	if f.Lock.Kind != want.kind || !strings.Contains(f.Lock.Where, want.where) {
		t.Errorf("lock %s %q, want %s %q", f.Lock.Kind, f.Lock.Where, want.kind, want.where)
	}
	if o := f.Lock.Owner; want.owner != "" {
		if o == nil {
			t.Errorf("no owner, want %s", want.owner)
		} else if o.Name != want.owner || o.Basis != want.basis || !o.Alive || len(o.Native)+len(o.Python) == 0 {
			t.Errorf("owner %q, %s, alive %v, %d frames; want %s, %s, alive, with its stack", o.Name, o.Basis, o.Alive, len(o.Native), want.owner, want.basis)
		}
	}
	for _, target := range doc.Targets {
		if target.PID != pid || want.python == "" {
			continue
		}
		py := target.Threads[0].Python
		if !slices.ContainsFunc(py, func(f finding.PythonFrame) bool { return strings.HasSuffix(f.Function, want.python) }) {
			t.Errorf("the worker is in %+v, want %s", py[:min(3, len(py))], want.python)
		}
	}
}

// TestHealthySites inspects the same servers without the reason to hang, while
// they serve: there is nothing to report.
func TestHealthySites(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for _, v := range testbed.HangingSites(t) {
			t.Run(v.Name, func(t *testing.T) {
				v.Site.Env = append(v.Site.Env, "VICTIM=free")
				server := testbed.Gunicorn(t, root, v.Site)
				server.AwaitServing(t, "/touch")
				for range 3 {
					for _, f := range inspectPID(t, server.Master()).Findings {
						if f.Severity > finding.Info {
							t.Errorf("%s %s of a healthy server: %s", f.Confidence, f.Rule, f.Title)
						}
					}
				}
			})
		}
	})
}

// TestLockAsSignal looks at a healthy program whose only thread waits for a lock
// that is held, until a signal handler written in Python releases it: the state
// of a deadlock, so it is reported, but it is not one, so it is not proven.
func TestLockAsSignal(t *testing.T) {
	for _, root := range append([]*testbed.Root{testbed.Host(t)}, testbed.Open(t, "bullseye"), testbed.Open(t, "trixie"), testbed.Open(t, "forky")) {
		t.Run(root.Name, func(t *testing.T) {
			p := testbed.Python(t, root, "signal_lock.py")
			pid := p.AwaitPID(t, "ready", "pid")
			testbed.AwaitFutex(t, pid)
			doc := inspectPID(t, pid)
			if got := proofs(doc); len(got) > 0 {
				t.Errorf("a false proof: %s", got[0].Title)
			}
			if len(doc.Findings) != 1 || doc.Findings[0].Rule != finding.DeadlockNobodyLeft || doc.Findings[0].Severity != finding.Warning {
				t.Errorf("findings %+v, want that nothing but a signal can wake it", doc.Findings)
			}
			p.Signal(t, syscall.SIGUSR1)
			p.AwaitLine(t, "woken")
		})
	}
}
