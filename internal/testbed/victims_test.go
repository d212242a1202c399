package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestThreadStartedAfterFork(t *testing.T) {
	for _, name := range []string{"lock_module", "rlock_module", "queue_module"} {
		server := Gunicorn(t, Open(t, "bookworm"), Site{App: name, Hooks: "post_fork", Env: []string{"VICTIM=post_fork"}})
		for _, pid := range server.AwaitServing(t, "/touch") {
			Await(t, "the worker's own thread", func() bool { return len(Threads(pid)) == 2 })
		}
	}
}

func TestLockZoo(t *testing.T) {
	kinds := []string{"normal", "recursive", "errorcheck", "adaptive", "robust", "pi", "rwlock-writer", "rwlock-readers", "spin",
		"sem", "cond", "barrier", "join", "stdio", "tz"}
	glibc, musl := Build(t, "lockzoo.c"), BuildMusl(t, "lockzoo.c")
	for _, libc := range []string{"glibc", "musl"} {
		Each(t, func(t *testing.T, root *Root) {
			for _, kind := range kinds {
				program := glibc
				if libc == "musl" {
					if program = musl; kind == "adaptive" {
						continue // glibc's own
					}
				}
				for _, mode := range []string{"stuck", "crowd", "beside", "armed", "free"} {
					t.Run(libc+" "+kind+" "+mode, func(t *testing.T) {
						p := root.Start(t, Cmd{Args: []string{program, kind, mode}})
						child := p.AwaitPID(t, "ready", "child")
						parent := p.AwaitPID(t, "ready", "parent")
						if parent != p.PID {
							t.Errorf("parent %d, want %d", parent, p.PID)
						}
						threads := map[string]int{"crowd": 4, "beside": 2}[mode]
						if got := len(Threads(child)); got != max(threads, 1) {
							t.Errorf("the child has %d threads, want %d", got, max(threads, 1))
						}
						switch {
						case kind == "spin" && (mode == "stuck" || mode == "crowd" || mode == "beside"):
							AwaitState(t, child, "R")
						case mode == "stuck" || mode == "crowd":
							AwaitFutex(t, child)
						default:
							AwaitBlocked(t, child)
						}
					})
				}
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
