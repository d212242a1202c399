package inherit_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/inherit"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
)

// look observes the server of a master.
func look(t *testing.T, master int) inherit.Observation {
	t.Helper()
	fs := proc.New("/proc")
	all, err := forkserver.Snapshot(fs)
	if err != nil {
		t.Fatal(err)
	}
	s, role, ok := forkserver.Of(fs, all, master)
	if !ok || role != forkserver.Master {
		t.Fatalf("process %d is no master: %s, %t", master, role, ok)
	}
	o, err := inherit.Observe(fs, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range o.Notes {
		t.Errorf("could not be read: %s", n)
	}
	return o
}

func text(all []finding.Finding) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s %s %s: %s (%d, %v)\n", f.Severity, f.Confidence, f.Rule, f.Title, f.PID, f.Others)
		for _, e := range f.Evidence {
			fmt.Fprintf(&b, "    %s\n", e)
		}
	}
	return b.String()
}

// database starts PostgreSQL at its usual port and returns what the victim wants
// to know of it.
func database(t *testing.T, root *testbed.Root) (db *testbed.Server, env []string) {
	t.Helper()
	db = testbed.PostgreSQL(t, root, testbed.Site{Port: 5432})
	return db, []string{"VICTIM_TCP=" + db.Addr, "VICTIM_UNIX=" + filepath.Join(db.Work, ".s.PGSQL.5432"), "VICTIM_LISTEN=" + filepath.Join(db.Work, "own.sock")}
}

// site is a gunicorn that serves the victim, in the folder of the database, whose
// UNIX socket lies there.
func site(db *testbed.Server, mode string, env []string) testbed.Site {
	return testbed.Site{App: "inherited", Workers: 2, Hooks: "inherited", Work: db.Work, Env: append(env, "VICTIM="+mode)}
}

func awaitReady(t *testing.T, s *testbed.Server) {
	t.Helper()
	testbed.Await(t, "the workers to have opened their own", func() bool { return strings.Count(s.Output(), "worker ready\n") >= 2 })
}

// expected is one finding about a server with a master and two workers.
type expected struct {
	rule     finding.Rule
	severity finding.Severity
	title    string // a regular expression
	evidence string // the same
	master   bool   // the master is among the processes
}

func (want expected) check(t *testing.T, all []finding.Finding, master int, workers []int) {
	t.Helper()
	title, evidence := regexp.MustCompile(want.title), regexp.MustCompile(want.evidence)
	var found *finding.Finding
	for i := range all {
		if all[i].Rule == want.rule && title.MatchString(all[i].Title) {
			if found != nil {
				t.Errorf("said twice: %s", all[i].Title)
			}
			found = &all[i]
		}
	}
	if found == nil {
		t.Errorf("no %s %q", want.rule, want.title)
		return
	}
	if found.Severity != want.severity || found.Confidence != finding.Observed {
		t.Errorf("%s %s, want %s observed: %s", found.Severity, found.Confidence, want.severity, found.Title)
	}
	if !evidence.MatchString(strings.Join(found.Evidence, "\n")) {
		t.Errorf("%q: evidence %q lacks %q", found.Title, found.Evidence, want.evidence)
	}
	if len(found.Remedy) == 0 || len(found.Sources) == 0 || found.Why == "" {
		t.Errorf("%q: no reason, remedy or source: %+v", found.Title, found)
	}
	pids := append([]int{found.PID}, found.Others...)
	slices.Sort(pids)
	need := slices.Clone(workers)
	if want.master {
		need = append(need, master)
	}
	slices.Sort(need)
	if !slices.Equal(pids, need) {
		t.Errorf("%q: processes %v, want %v", found.Title, pids, need)
	}
}

// TestInherited demands each finding about a preloaded application that opens
// everything in the master, and no other.
func TestInherited(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	db, env := database(t, root)
	server := testbed.Gunicorn(t, root, site(db, "held", env))
	awaitReady(t, server)
	workers := server.AwaitWorkers(t)
	want := []expected{
		{finding.SharedConnection, finding.Warning, `^3 processes share a connection to PostgreSQL at ` + regexp.QuoteMeta(db.Addr) + `$`, `told by the port 5432 alone(.|\n)*socket \d+ \(tcp, 127\.[0-9.]+:\d+ to ` + regexp.QuoteMeta(db.Addr) + `\) is descriptor \d+ of master`, true},
		{finding.SharedConnection, finding.Warning, `^3 processes share a connection to PostgreSQL at /.*/\.s\.PGSQL\.5432$`, `\(unix, to /`, true},
		{finding.SharedEventQueue, finding.Warning, `^2 processes share and use an epoll queue$`, `one open eventpoll: descriptor`, true},
		{finding.SharedEventQueue, finding.Warning, `^2 processes share and use an eventfd$`, `one open eventfd: descriptor`, true},
		{finding.SharedEventQueue, finding.Warning, `^2 processes share and use a timerfd$`, `one open timerfd: descriptor`, true},
		{finding.SharedEventQueue, finding.Warning, `^2 processes share and use an inotify queue$`, `one open inotify: descriptor`, true},
		{finding.SharedEventQueue, finding.Warning, `^2 processes share and use an io_uring$`, `one open io_uring: descriptor`, true},
		{finding.SharedFileOffset, finding.Warning, `^3 processes share the position in /.*/rw$`, `opened for reading and writing, not for appending, stands at byte 24`, true},
		{finding.SharedFileOffset, finding.Info, `^3 processes share the position in /.*/wo$`, `opened for writing, not for appending, stands at byte 24`, true},
		{finding.VanishedThread, finding.Info, `^1 thread of master \d+ is missing in its workers$`, `thread \d+ "refresher" of process \d+ started`, true},
	}
	if refused := regexp.MustCompile(`(?m)^refused (\w+) (\d+)$`).FindAllStringSubmatch(server.Output(), -1); refused != nil {
		for _, r := range refused {
			t.Logf("this kernel refuses %s with errno %s: not tried", r[1], r[2])
			want = slices.DeleteFunc(want, func(e expected) bool {
				return e.rule == finding.SharedEventQueue && strings.Contains(e.evidence, r[1])
			})
		}
		if len(refused) > 1 || refused[0][1] != "io_uring" {
			t.Errorf("only an io_uring may be refused")
		}
	}
	var all []finding.Finding
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("said was:\n%s", text(all))
		}
	})
	// Threads of the workers are on their way to the queues: at first only one of
	// them waits there.
	alone := regexp.MustCompile(`worker \d+ uses `)
	testbed.Await(t, "the workers to wait on each queue", func() bool {
		all = inherit.Judge(look(t, server.Master()))
		return len(all) >= len(want) && !alone.MatchString(text(all))
	})
	for _, w := range want {
		w.check(t, all, server.Master(), workers)
	}
	if len(all) != len(want) {
		t.Errorf("%d findings, want %d", len(all), len(want))
	}
}

// TestNotInherited wants silence of the same application where each worker opens
// everything itself.
func TestNotInherited(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	db, env := database(t, root)
	server := testbed.Gunicorn(t, root, site(db, "post_fork", env))
	awaitReady(t, server)
	for range 3 {
		o := look(t, server.Master())
		if all := inherit.Judge(o); len(all) > 0 {
			t.Fatalf("findings where nothing is shared:\n%s", text(all))
		}
		// The test must be able to fail: the workers do have these things.
		for _, p := range o.Processes[1:] {
			seen := make(map[string]int)
			for _, fd := range p.FDs {
				seen[fd.Link]++
			}
			if seen["anon_inode:[eventpoll]"] == 0 || seen["anon_inode:[timerfd]"] == 0 {
				t.Errorf("worker %d has no queues: %v", p.ID.PID, p.FDs)
			}
		}
	}
}

// TestRestartedThread: a thread that its master stops before each fork was lost
// by no worker, though it is there at every other time.
func TestRestartedThread(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	server := testbed.Gunicorn(t, root, testbed.Site{App: "inherited", Workers: 2, Hooks: "inherited", Env: []string{"VICTIM=restart"}})
	awaitReady(t, server)
	before := restarted(t, server, nil)
	if all := inherit.Judge(look(t, server.Master())); len(all) > 0 {
		t.Errorf("findings about a thread that is stopped at each fork:\n%s", text(all))
	}
	// A new worker, from a master that has run for a while.
	kill(t, server.AwaitWorkers(t)[0])
	server.AwaitWorkers(t)
	restarted(t, server, before)
	if all := inherit.Judge(look(t, server.Master())); len(all) > 0 {
		t.Errorf("findings after a worker was forked anew:\n%s", text(all))
	}
}

// restarted waits until the master has one thread besides its first, and another
// one than before, and returns its threads.
func restarted(t *testing.T, s *testbed.Server, before []int) []int {
	t.Helper()
	var now []int
	testbed.Await(t, "the thread to be back", func() bool {
		now = testbed.Threads(s.Master())
		return len(now) == 2 && !slices.Equal(now, before)
	})
	return now
}

// kill ends a worker, which its master replaces.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testbed.AwaitGone(t, pid)
}

// TestControlThread: since 25.2 gunicorn has a thread for its control socket,
// which it stops before each fork (gunicorn, CHANGES of 25.2.0); before 25.1 it
// has none. Its workers lost no thread in any release.
func TestControlThread(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		server := testbed.Gunicorn(t, root, testbed.Site{Workers: 3})
		server.AwaitServing(t, "/")
		if root.Name == "forky" {
			testbed.Await(t, "the thread of the control socket", func() bool { return len(testbed.Threads(server.Master())) > 1 })
		}
		for range 2 {
			threads := testbed.Threads(server.Master())
			if all := inherit.Judge(look(t, server.Master())); len(all) > 0 {
				t.Errorf("findings about a healthy gunicorn:\n%s", text(all))
			}
			kill(t, server.Workers()[0])
			server.AwaitWorkers(t)
			if root.Name == "forky" {
				restarted(t, server, threads)
			}
		}
	})
}

// TestHealthyServers wants no warning about servers that are as their authors
// made them: what they share is by design.
func TestHealthyServers(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	for name, start := range map[string]func(testing.TB, *testbed.Root, testbed.Site) *testbed.Server{
		"uwsgi": testbed.UWSGI, "celery": testbed.Celery, "php-fpm": testbed.PHPFPM, "puma": testbed.Puma, "unicorn": testbed.Unicorn,
		"postgresql": testbed.PostgreSQL, "apache": testbed.Apache, "nginx": testbed.Nginx,
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, root, testbed.Site{})
			if server.Addr != "" {
				server.AwaitAccept(t)
			}
			o := look(t, server.Master())
			if len(o.Processes) < 2 {
				t.Fatalf("%d processes", len(o.Processes))
			}
			for _, f := range inherit.Judge(o) {
				if f.Severity > finding.Info {
					t.Errorf("%s", text([]finding.Finding{f}))
				}
			}
		})
	}
}
