package testbed

import (
	"net"
	"runtime"
	"slices"
	"strconv"
	"testing"
)

// Rare is an application of which a fork hangs the worker only if it meets a
// lock that a thread takes now and then, for as long as real code does.
type Rare struct {
	// Name is that of the case, and of the subtest for it.
	Name string
	// App is the module of victims/python, for gunicorn and for rare_forks.py.
	App string
	// Env is what it needs in its environment.
	Env []string
	// Twin is the value of VICTIM that makes it its own healthy twin.
	Twin string
}

// Site is the application for gunicorn: each worker does its work at boot, so
// that a hang needs no request.
func (r Rare) Site() Site { return Site{App: r.App, Hooks: "rare", Env: r.Env} }

// Healthy is the twin, for Site, Forks and whatever else takes a Rare.
func (r Rare) Healthy() Rare {
	r.Env = append(slices.Clone(r.Env), "VICTIM="+r.Twin)
	return r
}

// Forks is a program without a server that forks n times with the application
// loaded, see victims/python/rare_forks.py.
func (r Rare) Forks(t testing.TB, n int) Cmd {
	return Cmd{Args: []string{"/usr/bin/python3", Victim(t, "python/rare_forks.py"), r.App, strconv.Itoa(n)}, Env: r.Env}
}

// RareSites are the rare applications. What they need beside themselves,
// PostgreSQL, is started; of the roots, only bookworm has it all.
func RareSites(t testing.TB, root *Root) []Rare {
	t.Helper()
	postgres := PostgreSQL(t, root, Site{})
	return append(RareAlone(t),
		Rare{"grpc", "rare_grpc", nil, "post_fork"},
		Rare{"psycopg2", "rare_psycopg2", []string{"VICTIM_DSN=" + dsn(t, postgres.Addr)}, "post_fork"})
}

// RareAlone are those of RareSites that need nothing but Python and numpy, which
// every root has, but for the flavour of OpenBLAS with threads of its own, which
// is in bookworm.
func RareAlone(t testing.TB) []Rare {
	t.Helper()
	return []Rare{
		{"lock", "rare_lock", nil, "handlers"},
		{"logging", "rare_logging", nil, "handlers"},
		{"ctypes_mutex", "rare_mutex", []string{"VICTIM_LIB=" + Build(t, "librare.c")}, "handlers"},
		{"openblas_pthread", "rare_openblas", []string{"OPENBLAS_NUM_THREADS=2", "LD_LIBRARY_PATH=/usr/lib/" + triplet() + "/openblas-pthread"}, "handlers"},
		{"openblas_openmp", "rare_openblas", []string{"OMP_NUM_THREADS=2"}, "handlers"},
	}
}

// RareLocks are the names that victims/c/rarelocks.c takes: a lock of a program,
// and the locks of the C library itself.
func RareLocks() []string {
	return []string{"mutex", "malloc", "stdio", "env", "tz", "random", "nss", "resolver", "loader", "locale", "syslog"}
}

// Redis starts a Redis server that keeps nothing; of the roots, bookworm has it (7.0).
// Its URL is what Celery takes as a broker.
func Redis(t testing.TB, root *Root) (url string) {
	t.Helper()
	s := &Server{Addr: Address(t)}
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	s.Proc = root.Start(t, Cmd{Args: []string{"redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--protected-mode", "no"}})
	s.AwaitAccept(t)
	return "redis://" + s.Addr + "/0"
}

// RareCelery is the site of a Celery whose master has the thread of rare_lock;
// broker is a URL of [Redis]. With --max-tasks-per-child 1 it forks for each task.
func RareCelery(broker string) Site {
	return Site{App: "rare_celery", Env: []string{"VICTIM_BROKER=" + broker}, Flags: []string{"--max-tasks-per-child", "1"}}
}

func dsn(t testing.TB, addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	return "host=" + host + " port=" + port + " user=postgres dbname=postgres"
}

// triplet is the name that Debian gives this processor's folders of libraries.
func triplet() string {
	return map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
}
