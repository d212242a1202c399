package inspect

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/testbed"
)

// wellSaid fails the test if a document accuses anybody.
func wellSaid(t *testing.T, doc *finding.Document) {
	t.Helper()
	for _, f := range doc.Findings {
		if f.Severity > finding.Info || f.Confidence == finding.Proven {
			t.Errorf("%s %s of a healthy process: %s\n%s", f.Confidence, f.Rule, f.Title, strings.Join(f.Evidence, "\n"))
		}
	}
	for _, target := range doc.Targets {
		if target.Verdict != "healthy" && target.Verdict != "busy" {
			t.Errorf("%s %d is called %s", target.Role, target.PID, target.Verdict)
		}
	}
}

// load asks for something again and again, from several sides at once, until
// stop is called, which returns how often there was an answer.
func load(ask func() error) (answers *atomic.Int64, stop func()) {
	answers = new(atomic.Int64)
	done := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if ask() == nil {
					answers.Add(1)
				}
			}
		})
	}
	return answers, func() { close(done); all.Wait() }
}

// TestHealthyServers inspects all kinds of servers while they are idle and while
// they serve: who they are is told, and nothing is wrong.
func TestHealthyServers(t *testing.T) {
	const inspections, requests = 10, 200
	web := func(t *testing.T, s *testbed.Server) func() error {
		s.AwaitServing(t, "/")
		return func() error {
			_, err := s.Get(t, "/", time.Second)
			return err
		}
	}
	busy := testbed.Site{App: "gil_busy"}
	for _, tt := range []struct {
		name  string
		start func(testing.TB, *testbed.Root, testbed.Site) *testbed.Server
		site  testbed.Site
		flags string
		kind  string
		ask   func(*testing.T, *testbed.Server) func() error
	}{
		{"gunicorn sync", testbed.Gunicorn, testbed.Site{}, "", forkserver.Gunicorn, web},
		{"gunicorn gthread", testbed.Gunicorn, testbed.Site{}, "--threads 4", forkserver.Gunicorn, web},
		{"gunicorn gevent", testbed.Gunicorn, testbed.Site{}, "--worker-class gevent", forkserver.Gunicorn, web},
		{"gunicorn uvicorn", testbed.Gunicorn, testbed.Site{App: "asgi"}, "--worker-class uvicorn.workers.UvicornWorker", forkserver.Gunicorn, web},
		// Its thread logs all the time in the worker too.
		{"gunicorn lazy", testbed.Gunicorn, testbed.Site{App: "errorlog", NoPreload: true}, "--error-logfile /dev/null", forkserver.Gunicorn, web},
		{"uwsgi", testbed.UWSGI, testbed.Site{}, "", forkserver.UWSGI, web},
		{"uwsgi threads", testbed.UWSGI, testbed.Site{}, "--threads 4", forkserver.UWSGI, web},
		{"uwsgi fork hooks", testbed.UWSGI, busy, "--enable-threads --py-call-uwsgi-fork-hooks", forkserver.UWSGI, web},
		{"uwsgi lazy", testbed.UWSGI, testbed.Site{App: "gil_busy", NoPreload: true}, "--enable-threads", forkserver.UWSGI, web},
		{"php-fpm", testbed.PHPFPM, testbed.Site{}, "", forkserver.PHPFPM, askPHP},
		{"puma", testbed.Puma, testbed.Site{App: "mutex"}, "", forkserver.Puma, web},
		{"unicorn", testbed.Unicorn, testbed.Site{App: "mutex"}, "", forkserver.Unicorn, web},
		{"apache", testbed.Apache, testbed.Site{}, "", forkserver.Apache, web},
		{"nginx", testbed.Nginx, testbed.Site{}, "", forkserver.Nginx, web},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.site.Flags = strings.Fields(tt.flags)
			server := tt.start(t, testbed.Open(t, "bookworm"), tt.site)
			ask := tt.ask(t, server)
			recognised(t, server, tt.kind)
			answers, stop := load(ask)
			defer stop()
			for n := 0; n < inspections || answers.Load() < requests && server.Alive(); n++ {
				wellSaid(t, inspectPID(t, server.Master()))
			}
			t.Logf("%d answers", answers.Load())
		})
	}
}

// recognised checks that the whole server is told by its master, nobody else, and
// that all is well.
func recognised(t *testing.T, server *testbed.Server, kind string) {
	t.Helper()
	var doc *finding.Document
	var want []int
	testbed.Await(t, "nobody to come or go", func() bool {
		want = server.Workers()
		doc = inspectPID(t, server.Master())
		return slices.Equal(server.Workers(), want)
	})
	wellSaid(t, doc)
	var workers []int
	for i, target := range doc.Targets {
		role := "worker"
		if i == 0 {
			role = "master"
		} else {
			workers = append(workers, target.PID)
		}
		if target.Server != kind || target.Role != role || role == "worker" && target.Parent != server.Master() {
			t.Errorf("target %d is %s %s of %d, want %s %s of %d", target.PID, target.Server, target.Role, target.Parent, kind, role, server.Master())
		}
	}
	slices.Sort(workers)
	if doc.Targets[0].PID != server.Master() || !slices.Equal(workers, want) {
		t.Errorf("master %d and workers %v, want %d and %v", doc.Targets[0].PID, workers, server.Master(), want)
	}
}

// askPHP asks php-fpm over FastCGI for a status page.
func askPHP(t *testing.T, s *testbed.Server) func() error {
	s.AwaitAccept(t)
	record := func(kind byte, body string) string {
		return string([]byte{1, kind, 0, 1, byte(len(body) >> 8), byte(len(body)), 0, 0}) + body
	}
	params := ""
	for _, kv := range [][2]string{{"SCRIPT_FILENAME", "/ping"}, {"SCRIPT_NAME", "/ping"}, {"REQUEST_METHOD", "GET"}} {
		params += string([]byte{byte(len(kv[0])), byte(len(kv[1]))}) + kv[0] + kv[1]
	}
	request := record(1, "\x00\x01\x00\x00\x00\x00\x00\x00") + record(4, params) + record(4, "") + record(5, "")
	return func() error {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte(request)); err != nil {
			return err
		}
		var answer [8]byte
		if n, err := conn.Read(answer[:]); err != nil || n == 0 {
			return fmt.Errorf("%d bytes: %w", n, err)
		}
		return nil
	}
}

// TestHealthyCelery inspects a pool of Celery while it waits and while it works.
func TestHealthyCelery(t *testing.T) {
	server := testbed.Celery(t, testbed.Open(t, "bookworm"), testbed.Site{})
	server.AwaitLine(t, ".*ready.*")
	recognised(t, server, forkserver.Celery)
	const tasks = 200
	server.Exec(t, "env", "VICTIM_BROKER="+server.Work, "PYTHONPATH="+testbed.Victim(t, "python"), "python3", "-c",
		fmt.Sprintf("import celery_healthy as c\nfor n in range(%d): c.app.send_task('celery.accumulate', args=(n,))", tasks))
	testbed.Await(t, "the tasks to be done", func() bool {
		wellSaid(t, inspectPID(t, server.Master()))
		return strings.Count(server.Output(), "succeeded in") == tasks
	})
}

// TestHealthyPostgreSQL inspects sessions that are idle, idle in a transaction,
// that wait for a row which the other has locked, and that work.
func TestHealthyPostgreSQL(t *testing.T) {
	server := testbed.PostgreSQL(t, testbed.Open(t, "bookworm"), testbed.Site{})
	host, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) []string {
		return append([]string{"/usr/lib/postgresql/15/bin/" + program, "-h", host, "-p", port, "-U", "postgres"}, args...)
	}
	query := func(sql string) string { return strings.TrimSpace(server.Exec(t, run("psql", "-Atqc", sql)...)) }
	query("create table t (n int); insert into t values (1)")
	for _, s := range []struct{ sql, state string }{
		{"", "state = 'idle'"},
		{"begin; update t set n = 2;", "state = 'idle in transaction'"},
		{"update t set n = 3;", "wait_event_type = 'Lock'"},
	} {
		server.Root.Start(t, testbed.Cmd{Args: append([]string{"sh", "-c", `(echo "$0"; exec sleep infinity) | "$@"`, s.sql}, run("psql", "-q")...)})
		testbed.Await(t, "a session with "+s.state, func() bool {
			return query("select count(*) from pg_stat_activity where backend_type = 'client backend' and "+s.state) == "1"
		})
	}
	for range 3 {
		recognised(t, server, forkserver.PostgreSQL)
	}
	query("create function f() returns int language sql as 'select 1'")
	script := server.Work + "/script.sql"
	if err := os.WriteFile(script, []byte("select f();\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bench := server.Root.Start(t, testbed.Cmd{Work: server.Work, Args: run("pgbench", "-n", "-f", script, "-c", "4", "-T", "3600", "-P", "1", "postgres")})
	bench.AwaitLine(t, "progress: .*")
	for range 10 {
		wellSaid(t, inspectPID(t, server.Master()))
	}
	if !bench.Alive() {
		t.Errorf("nobody worked meanwhile: %s", bench.Output())
	}
}

// TestOtherRuntimes inspects healthy programs that wait in futexes a lot: of Go,
// Java, Node and Python.
func TestOtherRuntimes(t *testing.T) {
	python := func(kind string, root *testbed.Root) func(testing.TB) *testbed.Proc {
		return func(t testing.TB) *testbed.Proc { return testbed.Python(t, root, "waiting.py", kind) }
	}
	programs := map[string]func(testing.TB) *testbed.Proc{
		"go signal": func(t testing.TB) *testbed.Proc { return testbed.GoWaiter(t, "signal") },
		"go http":   func(t testing.TB) *testbed.Proc { return testbed.GoWaiter(t, "http") },
		"node":      testbed.Node,
		"java":      testbed.Java,
	}
	for _, release := range testbed.Releases() {
		for _, kind := range []string{"pool", "pool-busy", "threads", "asyncio"} {
			programs[release+" python "+kind] = python(kind, testbed.Open(t, release))
		}
	}
	for name, start := range programs {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			p.AwaitLine(t, "ready.*")
			if strings.Contains(name, "python") && !strings.HasSuffix(name, "busy") {
				testbed.AwaitBlocked(t, p.PID)
			}
			for range 3 {
				wellSaid(t, inspectPID(t, p.PID))
			}
			switch name {
			case "go signal":
				p.Signal(t, syscall.SIGUSR1)
				p.AwaitLine(t, "woken")
			}
			if strings.HasSuffix(name, "threads") {
				p.Signal(t, syscall.SIGTERM)
				p.AwaitLine(t, "stopped")
			}
		})
	}
}

// TestHealthyZoo inspects processes that look deadlocked to the hasty.
func TestHealthyZoo(t *testing.T) {
	program := testbed.Build(t, "healthy.c")
	futex, call := testbed.AwaitFutex, testbed.AwaitBlocked
	state := func(s string) func(testing.TB, int) []int {
		return func(t testing.TB, pid int) []int { testbed.AwaitState(t, pid, s); return nil }
	}
	for _, root := range []*testbed.Root{testbed.Host(t), testbed.Open(t, "bookworm")} {
		for _, tt := range []struct {
			kind  string
			await func(testing.TB, int) []int
			wake  syscall.Signal // to the process, or, if it is SIGUSR2, to the other one
		}{
			{"accept", call, 0}, {"poll", call, 0}, {"poll-timeout", call, 0}, {"select", call, 0}, {"epoll", call, 0},
			{"pause", call, 0}, {"sigwait", call, 0}, {"read", call, 0}, {"waitpid", call, 0}, {"futex-timeout", futex, 0},
			{"sem-signal", futex, syscall.SIGUSR1}, {"clone-vm", futex, syscall.SIGUSR2}, {"shared-futex", futex, syscall.SIGUSR2},
			{"shared-mutex", futex, syscall.SIGUSR2}, {"mixed", call, 0}, {"sleeper", call, 0}, {"cycle-timed", futex, 0}, {"survivor", call, 0},
			{"busy", state("R"), 0}, {"vfork", state("D"), 0}, {"timed-loop", state("S"), 0},
		} {
			t.Run(root.Name+" "+tt.kind, func(t *testing.T) {
				p := root.Start(t, testbed.Cmd{Args: []string{program, tt.kind}})
				pid := p.AwaitPID(t, "ready", "pid")
				tt.await(t, pid)
				for range 3 {
					wellSaid(t, inspectPID(t, pid))
					wellSaid(t, inspectPID(t, p.PID))
				}
				// It was right not to accuse it: it wakes up.
				switch tt.wake {
				case 0:
					return
				case syscall.SIGUSR2:
					pid = p.AwaitPID(t, "ready", "other")
				}
				if err := syscall.Kill(pid, tt.wake); err != nil {
					t.Fatal(err)
				}
				p.AwaitLine(t, "woken")
			})
		}
	}
}

// TestHostileMemory finds no lock left behind in memory that is full of what looks
// like one: thread ids as large as a busy machine's and as small as a container's.
func TestHostileMemory(t *testing.T) {
	for _, root := range []*testbed.Root{testbed.Host(t), testbed.Open(t, "bookworm")} {
		t.Run(root.Name, func(t *testing.T) {
			p := testbed.Python(t, root, "hostile.py", "16")
			child := p.AwaitPID(t, "ready", "child")
			testbed.AwaitBlocked(t, child)
			for range 3 {
				doc := inspectPID(t, child)
				wellSaid(t, doc)
				if notes := doc.Targets[0].Notes; len(notes) > 0 {
					t.Errorf("notes %q", notes)
				}
			}
		})
	}
}
