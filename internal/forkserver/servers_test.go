package forkserver_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"forkproof/internal/forkserver"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
)

var system = proc.New("/proc")

func snapshot(t testing.TB) []forkserver.Process {
	t.Helper()
	processes, err := forkserver.Snapshot(system)
	if err != nil {
		t.Fatal(err)
	}
	return processes
}

// find returns the server with the given master among all that Find sees.
func find(processes []forkserver.Process, master int) (forkserver.Server, bool) {
	for _, s := range forkserver.Find(system, processes) {
		if s.Master.ID.PID == master {
			return s, true
		}
	}
	return forkserver.Server{}, false
}

func workers(s forkserver.Server) []int {
	var pids []int
	for _, w := range s.Workers {
		pids = append(pids, w.ID.PID)
	}
	slices.Sort(pids)
	return pids
}

// TestServers sees that each real server is recognised with all its workers,
// from the list of all processes and from the PID of each of its own.
func TestServers(t *testing.T) {
	tests := []struct {
		name  string
		start func(testing.TB, *testbed.Root, testbed.Site) *testbed.Server
		site  testbed.Site
		kind  string
		want  string   // Name
		title []string // of some worker each
	}{
		{"gunicorn sync", testbed.Gunicorn, testbed.Site{}, forkserver.Gunicorn, "gunicorn (sync workers)", []string{"worker"}},
		{"gunicorn gthread", testbed.Gunicorn, testbed.Site{Flags: []string{"--threads", "4"}}, forkserver.Gunicorn, "gunicorn (gthread workers)", nil},
		{"gunicorn gevent", testbed.Gunicorn, testbed.Site{Flags: []string{"-kgevent"}}, forkserver.Gunicorn, "gunicorn (gevent workers)", nil},
		{"gunicorn by environment", testbed.Gunicorn, testbed.Site{Env: []string{"GUNICORN_CMD_ARGS=-k gevent"}}, forkserver.Gunicorn, "gunicorn (gevent workers)", nil},
		{"gunicorn uvicorn", testbed.Gunicorn, testbed.Site{App: "asgi", Flags: []string{"--worker-class", "uvicorn.workers.UvicornWorker"}}, forkserver.Gunicorn, "gunicorn (uvicorn workers)", nil},
		{"uwsgi", testbed.UWSGI, testbed.Site{}, forkserver.UWSGI, "uWSGI", []string{"worker"}},
		{"uwsgi named", testbed.UWSGI, testbed.Site{Flags: []string{"--auto-procname", "--mule"}}, forkserver.UWSGI, "uWSGI", []string{"worker 1", "worker 2", "mule 1"}},
		{"celery", testbed.Celery, testbed.Site{}, forkserver.Celery, "Celery (prefork pool)", nil},
		{"php-fpm", testbed.PHPFPM, testbed.Site{}, forkserver.PHPFPM, "php-fpm", nil},
		{"puma", testbed.Puma, testbed.Site{}, forkserver.Puma, "Puma (cluster mode)", []string{"worker 0", "worker 1"}},
		{"puma of one worker", testbed.Puma, testbed.Site{Workers: 1}, forkserver.Puma, "Puma (cluster mode)", []string{"worker 0"}},
		{"unicorn", testbed.Unicorn, testbed.Site{}, forkserver.Unicorn, "Unicorn", []string{"worker[0]", "worker[1]"}},
		{"postgresql", testbed.PostgreSQL, testbed.Site{}, forkserver.PostgreSQL, "PostgreSQL", []string{"checkpointer", "autovacuum launcher"}},
		{"apache", testbed.Apache, testbed.Site{}, forkserver.Apache, "Apache (prefork MPM)", []string{"worker"}},
		{"nginx", testbed.Nginx, testbed.Site{}, forkserver.Nginx, "nginx", []string{"worker"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := tt.start(t, testbed.Open(t, "bookworm"), tt.site)
			server.AwaitWorkers(t)
			// Titles come a moment after the fork.
			var s forkserver.Server
			var processes []forkserver.Process
			testbed.Await(t, "the server to be recognised", func() bool {
				processes = snapshot(t)
				var ok bool
				s, ok = find(processes, server.Master())
				return ok && slices.Equal(workers(s), testbed.Children(server.Master())) && s.Name == tt.want && hasTitles(s, tt.title)
			})
			if s.Kind != tt.kind || s.Template.ID != s.Master.ID || s.Master.Title != "master" {
				t.Errorf("kind %q, template %v of master %v called %q", s.Kind, s.Template.ID, s.Master.ID, s.Master.Title)
			}
			for _, w := range s.Workers {
				got, role, ok := forkserver.Of(system, processes, w.ID.PID)
				if !ok || role != forkserver.Worker || got.Master.ID != s.Master.ID {
					t.Errorf("worker %d: %v of %v, %v", w.ID.PID, role, got.Master.ID, ok)
				}
				if from := s.ForkedFrom(w); from.ID != s.Master.ID {
					t.Errorf("worker %d was forked from %v", w.ID.PID, from.ID)
				}
			}
			if got, role, ok := forkserver.Of(system, processes, server.Master()); !ok || role != forkserver.Master || got.Kind != tt.kind {
				t.Errorf("master: %v of a %v, %v", role, got.Kind, ok)
			}
		})
	}
}

func hasTitles(s forkserver.Server, titles []string) bool {
	for _, title := range titles {
		if !slices.ContainsFunc(s.Workers, func(w forkserver.Process) bool { return w.Title == title }) {
			return false
		}
	}
	return true
}

// TestPumaForkWorker sees that workers which worker 0 forked belong to the same
// server, and are known to be copies of worker 0.
func TestPumaForkWorker(t *testing.T) {
	server := testbed.Open(t, "bookworm").Start(t, testbed.Cmd{Args: []string{
		"puma", "--bind", "tcp://" + testbed.Address(t), "--workers", "3", "--fork-worker=0", testbed.Victim(t, "ruby/healthy.ru"),
	}})
	var s forkserver.Server
	testbed.Await(t, "three workers", func() bool {
		s, _ = find(snapshot(t), server.PID)
		return len(s.Workers) == 3 && hasTitles(s, []string{"worker 0", "worker 1", "worker 2"})
	})
	if s.Name != "Puma (cluster mode, fork_worker)" {
		t.Errorf("name %q", s.Name)
	}
	for _, w := range s.Workers {
		want := "worker 0"
		if w.Title == "worker 0" {
			want = "master"
		}
		if from := s.ForkedFrom(w); from.Title != want || from.ID.PID != w.PPID {
			t.Errorf("%s was forked from %s %d, want %s %d", w.Title, from.Title, from.ID.PID, want, w.PPID)
		}
		if got, role, ok := forkserver.Of(system, snapshot(t), w.ID.PID); !ok || role != forkserver.Worker || got.Master.ID != s.Master.ID {
			t.Errorf("%s: %v of %v, %v", w.Title, role, got.Master.ID, ok)
		}
	}
	if s.Template.Title != "worker 0" {
		t.Errorf("template is %q", s.Template.Title)
	}
}

// TestGunicornStartedByOthers sees that gunicorn is known where nothing on the
// command line names it, and that a new master which the old one started
// (SIGUSR2) is a server of its own and no worker.
func TestGunicornStartedByOthers(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	t.Run("module", func(t *testing.T) {
		p := root.Start(t, testbed.Cmd{Args: []string{"python3", "-m", "gunicorn", "-b", testbed.Address(t), "--pythonpath", testbed.Victim(t, "python"), "healthy:app"}})
		awaitKind(t, p.PID, forkserver.Gunicorn, 1)
	})
	t.Run("program", func(t *testing.T) {
		p := script(t, root, "embedded.py", testbed.Address(t))
		s := awaitKind(t, p.PID, forkserver.Gunicorn, 2)
		if strings.Contains(s.Master.Command(), "gunicorn") {
			t.Fatalf("the command line tells: %s", s.Master.Command())
		}
	})
	t.Run("two masters", func(t *testing.T) {
		server := testbed.Gunicorn(t, root, testbed.Site{})
		server.AwaitServing(t, "/")
		server.Signal(t, syscall.SIGUSR2)
		var second forkserver.Server
		testbed.Await(t, "a second master with workers", func() bool {
			for _, s := range forkserver.Find(system, snapshot(t)) {
				if s.Master.PPID == server.Master() && s.Kind == forkserver.Gunicorn && len(s.Workers) == 2 {
					second = s
				}
			}
			return second.Kind != ""
		})
		first := awaitKind(t, server.Master(), forkserver.Gunicorn, 2)
		if slices.Contains(workers(first), second.Master.ID.PID) {
			t.Errorf("the second master %d is one of the workers %v of the first", second.Master.ID.PID, workers(first))
		}
		if _, role, ok := forkserver.Of(system, snapshot(t), second.Master.ID.PID); !ok || role != forkserver.Master {
			t.Errorf("the second master is a %v, %v", role, ok)
		}
	})
}

func awaitKind(t *testing.T, master int, kind string, n int) (s forkserver.Server) {
	t.Helper()
	testbed.Await(t, "a server "+kind, func() bool {
		s, _ = find(snapshot(t), master)
		return s.Kind == kind && len(s.Workers) == n
	})
	return s
}

// script starts a script of testdata within a root, or on the host.
func script(t testing.TB, root *testbed.Root, name string, args ...string) *testbed.Proc {
	t.Helper()
	path := scriptPath(t, name)
	return root.Start(t, testbed.Cmd{Args: append([]string{"/usr/bin/python3", path}, args...), Work: filepath.Dir(path)})
}

// scriptPath copies a script of testdata to a folder that a root can see, too.
func scriptPath(t testing.TB, name string) string {
	t.Helper()
	code, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, code, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
