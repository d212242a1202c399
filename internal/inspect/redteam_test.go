package inspect

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
)

// doubted fails the test if anything is proven or worse than want of a process that
// is healthy.
func doubted(t *testing.T, pid int, want finding.Severity) {
	t.Helper()
	for range 3 {
		for _, f := range inspectPID(t, pid).Findings {
			if f.PID == pid && (f.Confidence == finding.Proven || f.Severity > want) {
				t.Errorf("%s %s %s of a healthy process: %s\n%s", f.Confidence, f.Severity, f.Rule, f.Title, strings.Join(f.Evidence, "\n"))
			}
		}
	}
}

// TestRedTeam inspects programs that wait for a lock as the hung do, and wakes
// them by what the lock does not show. Nothing is proven of any of them.
func TestRedTeam(t *testing.T) {
	program := testbed.Build(t, "redteam.c", "-lrt")
	for _, root := range []*testbed.Root{testbed.Host(t), testbed.Open(t, "trixie")} {
		for _, tt := range []struct {
			kind  string
			wake  syscall.Signal
			worst finding.Severity
			futex int // how many threads sleep in a futex
		}{
			{"mutex-signal", syscall.SIGUSR2, finding.Warning, 1},
			{"alarm-relock", syscall.SIGALRM, finding.Warning, 1},
			{"alarm-cycle", syscall.SIGALRM, finding.Warning, 2},
			{"alarm-orphan", syscall.SIGALRM, finding.Critical, 1}, // the lock is lost, though the wait is limited
			{"timer-relock", syscall.SIGUSR1, finding.Warning, 1},
			{"handler-relock", syscall.SIGUSR1, finding.Warning, 1},
			{"pi-orphan", syscall.SIGUSR2, finding.Warning, 1},
			{"own-list", syscall.SIGUSR2, finding.Info, 1},
			{"uring", syscall.SIGUSR2, finding.Info, 1},
			{"new-pids", syscall.SIGUSR2, finding.Info, 1},
		} {
			t.Run(root.Name+" "+tt.kind, func(t *testing.T) {
				p := root.Start(t, testbed.Cmd{Args: []string{program, tt.kind}})
				testbed.Await(t, "the program to be ready", func() bool { return strings.Contains(p.Output(), "\n") })
				if strings.HasPrefix(p.Output(), "no ") {
					t.Skip(p.Output())
				}
				var pid, other int
				if tt.kind == "new-pids" {
					pid = newest(t, p)
					other = pid
				} else {
					pid, other = p.AwaitPID(t, "ready", "pid"), p.AwaitPID(t, "ready", "other")
				}
				awaitWaiters(t, pid, tt.futex)
				doubted(t, pid, tt.worst)
				if err := syscall.Kill(other, tt.wake); err != nil {
					t.Fatal(err)
				}
				p.AwaitLine(t, "woken")
			})
		}
	}
}

// newest is the innermost of a line of processes, each a child of the one before.
func newest(t *testing.T, p *testbed.Proc) int {
	t.Helper()
	all := testbed.Descendants(p.PID)
	if len(all) == 0 {
		t.Fatal("no child")
	}
	return all[len(all)-1]
}

// awaitWaiters waits until n threads of a process sleep in a futex.
func awaitWaiters(t *testing.T, pid, n int) {
	t.Helper()
	fs := proc.New("/proc")
	testbed.Await(t, "threads to sleep in a futex", func() bool {
		asleep := 0
		for _, tid := range testbed.Threads(pid) {
			if s, err := fs.Syscall(pid, tid); err == nil && s.Nr == unix.SYS_FUTEX {
				asleep++
			} else if err != nil && !errors.Is(err, proc.ErrGone) {
				t.Fatal(err)
			}
		}
		return asleep == n
	})
}

// TestLockAsSignalFromC is TestLockAsSignal with calls of acquire that are not seen.
func TestLockAsSignalFromC(t *testing.T) {
	for _, root := range []*testbed.Root{testbed.Host(t), testbed.Open(t, "bullseye"), testbed.Open(t, "trixie"), testbed.Open(t, "forky")} {
		for _, kind := range []string{"call", "within", "iter", "alarm"} {
			t.Run(root.Name+" "+kind, func(t *testing.T) {
				p := testbed.Python(t, root, "signal_call.py", kind)
				pid := p.AwaitPID(t, "ready", "pid")
				testbed.AwaitFutex(t, pid)
				doubted(t, pid, finding.Warning)
				wake := syscall.SIGUSR1
				if kind == "alarm" {
					wake = syscall.SIGALRM
				}
				p.Signal(t, wake)
				p.AwaitLine(t, "woken")
			})
		}
	}
}

// TestLentGIL looks at a worker one of whose threads holds the GIL by a thread state
// that a thread of the master made.
func TestLentGIL(t *testing.T) {
	for _, root := range []*testbed.Root{testbed.Host(t), testbed.Open(t, "bullseye"), testbed.Open(t, "bookworm")} {
		t.Run(root.Name, func(t *testing.T) {
			lib := testbed.Build(t, "libgilvictim.c")
			p := root.Start(t, testbed.Cmd{Args: []string{"python3", testbed.Victim(t, "python/gil_lent.py")}, Env: []string{"VICTIM_LIB=" + lib}})
			pid := p.AwaitPID(t, "ready", "pid")
			awaitWaiters(t, pid, 1)
			doubted(t, pid, finding.Warning)
			if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			p.AwaitLine(t, "woken")
		})
	}
}
