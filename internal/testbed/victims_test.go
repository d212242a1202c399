package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestThreadStartedAfterFork(t *testing.T) {
	for _, name := range []string{"lock_module", "rlock_module", "queue_module"} {
		server := Gunicorn(t, Open(t, "bookworm"), Site{App: name, Hooks: "post_fork", Env: []string{"VICTIM=post_fork"}})
		for _, pid := range server.AwaitServing(t, "/touch") {
			Await(t, "the worker's own thread", func() bool { return len(Threads(pid)) == 2 })
		}
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

// TestAwaitEnded sees that what a program did counts though it has ended since.
func TestAwaitEnded(t *testing.T) {
	p := Host(t).Start(t, Cmd{Args: []string{"echo", "woken"}})
	if err := p.Wait(t); err != nil {
		t.Fatal(err)
	}
	p.AwaitLine(t, "woken")
}

// TestKillTraced ends a program that the test itself has stopped by ptrace.
func TestKillTraced(t *testing.T) {
	p := Host(t).Start(t, Cmd{Args: []string{Build(t, "healthy.c"), "busy"}})
	p.AwaitPID(t, "ready", "pid")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, request := range []uintptr{unix.PTRACE_SEIZE, unix.PTRACE_INTERRUPT} {
		if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, request, uintptr(p.PID), 0, 0, 0, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	AwaitState(t, p.PID, "t")
	if !p.Alive() {
		t.Error("taken for ended because it was stopped")
	}
	if err := unix.PtraceDetach(p.PID); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	AwaitGone(t, p.PID)
}
