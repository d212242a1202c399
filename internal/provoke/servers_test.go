package provoke_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/provoke"
	"forkproof/internal/testbed"
)

// rare finds one of the victims whose lock a fork seldom meets.
func rare(t *testing.T, all []testbed.Rare, name string) testbed.Rare {
	t.Helper()
	for _, r := range all {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no rare victim %s", name)
	return testbed.Rare{}
}

// TestGunicorn provokes preloaded applications with a thread that takes a lock now
// and then; each worker takes it once, when it has booted.
func TestGunicorn(t *testing.T) {
	for _, tt := range []struct {
		release, app, lock string
		want               finding.ProvokedOutcome
	}{
		{"bookworm", "lock", "rare_lock.LOCK", finding.ProvokedDeadlock},
		{"forky", "lock", "rare_lock.LOCK", finding.ProvokedDeadlock},
		{"bookworm", "logging", "logging.getLogger('victim').handlers[0].stream.buffer", finding.ProvokedDeadlock},
		{"bookworm", "ctypes_mutex", "librare.so`g_table_lock", finding.ProvokedDeadlock},
	} {
		t.Run(tt.release+"/"+tt.app, func(t *testing.T) {
			s := testbed.Gunicorn(t, testbed.Open(t, tt.release), rare(t, testbed.RareAlone(t), tt.app).Site())
			r := run(t, provoke.Request{PID: s.Master(), Only: regexp.MustCompile("^" + regexp.QuoteMeta(tt.lock))})
			l := only(t, r)
			expect(t, r, l, tt.want)
			if len(l.Python) == 0 && tt.app != "ctypes_mutex" {
				t.Error("the Python stack is missing")
			}
			unharmed(t, s.Proc)
		})
	}
}

// TestHealthyTwins: the same applications with fork handlers that take the lock and
// give it back, and without a thread before the fork.
func TestHealthyTwins(t *testing.T) {
	for _, tt := range []struct{ release, app, lock string }{
		{"bookworm", "lock", "rare_lock.LOCK"},
		{"bookworm", "ctypes_mutex", "librare.so`g_table_lock"},
		{"forky", "lock", "rare_lock.LOCK"},
	} {
		t.Run(tt.release+"/"+tt.app, func(t *testing.T) {
			s := testbed.Gunicorn(t, testbed.Open(t, tt.release), rare(t, testbed.RareAlone(t), tt.app).Healthy().Site())
			r := run(t, provoke.Request{PID: s.Master(), Only: regexp.MustCompile("^" + regexp.QuoteMeta(tt.lock))})
			expect(t, r, only(t, r), finding.ProvokedGuarded)
			clean(t, r)
		})
	}
	t.Run("bookworm/no thread", func(t *testing.T) {
		lock := rare(t, testbed.RareAlone(t), "lock")
		lock.Twin = "post_fork"
		s := testbed.Gunicorn(t, testbed.Open(t, "bookworm"), lock.Healthy().Site())
		r := run(t, provoke.Request{PID: s.Master(), Check: "curl -fsS -m 5 http://" + s.Addr + "/touch"})
		if n := len(r.Document.Provoked.Locks); n > 0 {
			t.Errorf("%d locks of other threads, where there are none:\n%s", n, table(r))
		}
		clean(t, r)
	})
}

// clean checks that nothing bad was found.
func clean(t *testing.T, r *provoke.Result) {
	t.Helper()
	if len(r.Document.Findings) > 0 || r.Document.Provoked.Plain.Outcome != finding.ProvokedHealthy {
		t.Errorf("findings where all is well: %+v\n%s", r.Document.Findings, table(r))
	}
}

// TestCheck: the check is answered by the new worker, whatever others there are.
func TestCheck(t *testing.T) {
	site := rare(t, testbed.RareAlone(t), "lock").Site()
	site.Hooks, site.Workers = "", 3
	s := testbed.Gunicorn(t, testbed.Open(t, "bookworm"), site)
	s.AwaitServing(t, "/")
	before := len(s.Workers())
	r := run(t, provoke.Request{PID: s.Master(), Check: "curl -fsS -m 5 http://" + s.Addr + "/touch", Only: regexp.MustCompile("^rare_lock.LOCK")})
	expect(t, r, only(t, r), finding.ProvokedDeadlock)
	unharmed(t, s.Proc)
	// The server has the number of workers that it had, and they answer.
	testbed.Await(t, "the former number of workers", func() bool { return len(s.Workers()) == before })
	for range 2 * before {
		if _, err := s.Get(t, "/", testbed.Patience); err != nil {
			t.Errorf("the server does not answer any more: %v", err)
		}
	}
}

// TestClients provokes what real libraries hold: numpy's OpenBLAS, gRPC, and
// psycopg2's pool on a PostgreSQL.
func TestClients(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	all := testbed.RareSites(t, root)
	t.Run("psycopg2", func(t *testing.T) {
		site := rare(t, all, "psycopg2").Site()
		site.Env = append(site.Env, "VICTIM_KEPT=0")
		r := run(t, provoke.Request{PID: testbed.Gunicorn(t, root, site).Master(), Only: regexp.MustCompile(`POOL\._lock`)})
		expect(t, r, only(t, r), finding.ProvokedDeadlock)
	})
	t.Run("psycopg2 twin", func(t *testing.T) {
		s := testbed.Gunicorn(t, root, rare(t, all, "psycopg2").Healthy().Site())
		clean(t, run(t, provoke.Request{PID: s.Master()}))
	})
	t.Run("grpc twin", func(t *testing.T) {
		s := testbed.Gunicorn(t, root, rare(t, all, "grpc").Healthy().Site())
		clean(t, run(t, provoke.Request{PID: s.Master()}))
	})
	// A worker that is forked from a master with a channel cannot call: at any moment.
	t.Run("grpc", func(t *testing.T) {
		site := rare(t, all, "grpc").Site()
		// So it is by gRPC's own default.
		site.Hooks, site.Env = "", slices.DeleteFunc(slices.Clone(site.Env), func(s string) bool { return strings.HasPrefix(s, "GRPC_ENABLE_FORK_SUPPORT=") })
		s := testbed.Gunicorn(t, root, site)
		s.AwaitServing(t, "/")
		r, err := try(t, provoke.Request{PID: s.Master(), Check: "curl -fsS -m 5 http://" + s.Addr + "/touch"})
		if err != nil && !strings.Contains(err.Error(), "before any fork") {
			t.Fatal(err)
		}
		if err == nil && len(r.Document.Findings) == 0 {
			t.Errorf("nothing was found:\n%s", table(r))
		}
	})
	// OpenMP's team is the forking thread's own, and each fork hangs.
	t.Run("openblas with OpenMP", func(t *testing.T) {
		site := testbed.Site{App: "openblas", Hooks: "touch", Env: []string{"OMP_NUM_THREADS=4"}}
		r := run(t, provoke.Request{PID: testbed.Gunicorn(t, root, site).Master()})
		if o := r.Document.Provoked.Plain.Outcome; o != finding.ProvokedDeadlock {
			t.Errorf("a fork without help is %q:\n%s", o, table(r))
		}
	})
}

// TestCelery provokes a prefork pool on a real broker: the master replaces a child
// that ended.
func TestCelery(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	s := testbed.Celery(t, root, testbed.RareCelery(testbed.Redis(t, root)))
	s.AwaitLine(t, `.* ready\.`)
	r := run(t, provoke.Request{PID: s.Master(), Only: regexp.MustCompile(`^rare_lock\.LOCK`)})
	expect(t, r, only(t, r), finding.ProvokedDeadlock)
	unharmed(t, s.Proc)
}
