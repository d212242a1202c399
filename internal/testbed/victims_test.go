package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

const sample = 4 // workers per server: enough to see a rate, few enough for two processors

func TestThreadStartedAfterFork(t *testing.T) {
	for _, name := range []string{"lock_module", "rlock_module", "queue_module"} {
		server := Gunicorn(t, Open(t, "bookworm"), Site{App: name, Hooks: "post_fork", Env: []string{"VICTIM=post_fork"}})
		for _, pid := range server.AwaitServing(t, "/touch") {
			Await(t, "the worker's own thread", func() bool { return len(Threads(pid)) == 2 })
		}
	}
}

func TestHangOnFirstRequest(t *testing.T) {
	Each(t, func(t *testing.T, root *Root) {
		server := Gunicorn(t, root, Site{App: "lock_module", Workers: 1})
		server.AwaitServing(t, "/")
		server.Ask(t, "/touch")
		server.AwaitHung(t, 1)
	})
}

func TestErrorLog(t *testing.T) {
	Each(t, func(t *testing.T, root *Root) {
		t.Run("fifo", func(t *testing.T) { GunicornLogging(t, root, sample).AwaitHung(t, sample) })
		t.Run("file", func(t *testing.T) {
			work := t.TempDir()
			const workers = 12
			server := Gunicorn(t, root, Site{App: "errorlog", Workers: workers, Work: work,
				Flags: []string{"--error-logfile", filepath.Join(work, "error.txt")}})
			hung := server.AwaitHung(t, 1)
			t.Logf("%d of %d workers hang", len(hung), workers)
		})
		t.Run("free", func(t *testing.T) {
			work := t.TempDir()
			Gunicorn(t, root, Site{App: "errorlog", Work: work, Env: []string{"VICTIM=free"},
				Flags: []string{"--error-logfile", filepath.Join(work, "error.txt")}}).AwaitServing(t, "/touch")
		})
	})
}

// TestUWSGI sees that workers of uWSGI hang for want of the interpreter's lock,
// and that they do not with the fork hooks of 2.0.21.
func TestUWSGI(t *testing.T) {
	root := Open(t, "bookworm")
	site := Site{App: "gil_busy", Workers: 8, Flags: []string{"--enable-threads"}}
	server := UWSGI(t, root, site)
	t.Logf("%d of 8 workers hang", len(server.AwaitTimedFutex(t, 1)))

	site.Flags = append(site.Flags, "--py-call-uwsgi-fork-hooks")
	UWSGI(t, root, site).AwaitServing(t, "/")
}

func TestCeleryHang(t *testing.T) {
	root := Open(t, "bookworm")
	Celery(t, root, Site{App: "celery_lock"}).AwaitHung(t, 2)
}

func TestHealthyZoo(t *testing.T) {
	program := Build(t, "healthy.c")
	tests := []struct {
		kind  string
		futex bool // every thread of it is in a futex
		wake  syscall.Signal
	}{
		{"accept", false, 0}, {"poll", false, 0}, {"poll-timeout", false, 0}, {"select", false, 0}, {"epoll", false, 0},
		{"pause", false, 0}, {"sigwait", false, 0}, {"read", false, 0}, {"waitpid", false, 0}, {"futex-timeout", true, 0},
		{"sem-signal", true, syscall.SIGUSR1}, {"clone-vm", true, syscall.SIGUSR2}, {"shared-futex", true, syscall.SIGUSR2},
		{"shared-mutex", true, syscall.SIGUSR2}, {"mixed", false, 0}, {"sleeper", false, 0}, {"cycle-timed", true, 0}, {"survivor", false, 0},
	}
	for _, root := range []*Root{Host(t), Open(t, "bookworm")} {
		for _, tt := range tests {
			t.Run(root.Name+" "+tt.kind, func(t *testing.T) {
				p := root.Start(t, Cmd{Args: []string{program, tt.kind}})
				pid := p.AwaitPID(t, "ready", "pid")
				if tt.futex {
					AwaitFutex(t, pid)
				} else {
					AwaitBlocked(t, pid)
				}
				if tt.wake == 0 {
					return
				}
				waker := pid
				if tt.wake == syscall.SIGUSR2 {
					waker = p.AwaitPID(t, "ready", "other")
				}
				if err := syscall.Kill(waker, tt.wake); err != nil {
					t.Fatal(err)
				}
				p.AwaitLine(t, "woken")
			})
		}
		for _, kind := range []string{"busy", "vfork", "timed-loop"} {
			t.Run(root.Name+" "+kind, func(t *testing.T) {
				p := root.Start(t, Cmd{Args: []string{program, kind}})
				state := map[string]string{"busy": "R", "vfork": "D", "timed-loop": "S"}[kind]
				AwaitState(t, p.AwaitPID(t, "ready", "pid"), state)
			})
		}
	}
}

func TestStoppedAndTraced(t *testing.T) {
	p := Host(t).Start(t, Cmd{Args: []string{Build(t, "lockzoo.c"), "normal", "stuck"}})
	child := p.AwaitPID(t, "ready", "child")
	AwaitFutex(t, child)
	if err := syscall.Kill(child, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	AwaitState(t, child, "T")
	Traced(t, child)
	AwaitState(t, child, "t")
}

func TestCycleAndAtfork(t *testing.T) {
	Each(t, func(t *testing.T, root *Root) {
		for _, n := range []int{2, 3, 16} {
			p := root.Start(t, Cmd{Args: []string{Build(t, "cycle.c"), strconv.Itoa(n)}})
			if tids := AwaitFutex(t, p.AwaitPID(t, "ready", "pid")); len(tids) != n {
				t.Errorf("%d threads, want %d", len(tids), n)
			}
		}
		for _, mode := range []string{"prepare", "join"} {
			p := root.Start(t, Cmd{Args: []string{Build(t, "atfork.c"), mode}})
			p.AwaitFields(t, "ready")
			Await(t, "fork to hang", func() bool {
				_, err := stillThread(p.PID, p.PID, func(call string) bool { return call == sysFutex })
				return err == nil
			})
			if children := Children(p.PID); len(children) > 0 {
				t.Errorf("children %v of a fork that hangs", children)
			}
		}
	})
}

func TestOMP(t *testing.T) {
	program := Build(t, "omp.c", "-fopenmp")
	Each(t, func(t *testing.T, root *Root) {
		p := root.Start(t, Cmd{Args: []string{program, "stuck"}, Env: []string{"OMP_NUM_THREADS=4"}})
		AwaitFutex(t, p.AwaitPID(t, "ready", "child"))
	})
}

// TestOtherRuntimes starts the healthy programs of other runtimes; a machine
// that has not the runtime is not set up.
func TestOtherRuntimes(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *Proc{
		"go signal": func(t testing.TB) *Proc { return GoWaiter(t, "signal") },
		"go http":   func(t testing.TB) *Proc { return GoWaiter(t, "http") },
		"node":      Node,
		"java":      Java,
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			p.AwaitLine(t, "ready")
			if !p.Alive() || len(Threads(p.PID)) < 2 {
				t.Errorf("alive %v, threads %v", p.Alive(), Threads(p.PID))
			}
		})
	}
}

// TestNothingLeft sees that a test binary which is killed leaves nothing
// running, as it cannot clean up itself.
func TestNothingLeft(t *testing.T) {
	if os.Getenv("TESTBED_DIE") != "" {
		server := Gunicorn(t, Open(t, "bookworm"), Site{})
		fmt.Println("started", server.Master(), server.Workers()[0])
		select {}
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNothingLeft$", "-test.v")
	cmd.Env = append(os.Environ(), "TESTBED_DIE=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var master, worker int
	for master == 0 {
		var word string
		if _, err := fmt.Fscan(out, &word); err != nil {
			t.Fatalf("no server was started: %v", err)
		}
		if word == "started" {
			if _, err := fmt.Fscan(out, &master, &worker); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as wanted
	AwaitGone(t, master)
	AwaitGone(t, worker)
}
