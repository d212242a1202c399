package stress_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/stress"
	"forkproof/internal/testbed"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "keep" {
		os.Exit(stress.Keep(os.Args[2:]))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// request is one with what every test needs.
func request(t testing.TB, commands ...[]string) stress.Request {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return stress.Request{
		Commands: commands, Self: []string{self, "keep"}, Connections: 2, Forks: 40, Duration: time.Minute, Timeout: 10 * time.Second,
		Prove: func(ctx context.Context, pids []int) (*finding.Document, error) {
			doc, err := inspect.Run(ctx, inspect.Request{PIDs: pids})
			if err != nil && !slices.ContainsFunc(pids, func(pid int) bool { _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); return err == nil }) {
				return nil, nil
			}
			return doc, err
		},
	}
}

func run(t testing.TB, req stress.Request) *finding.Document {
	t.Helper()
	doc, err := stress.Run(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range doc.Trials {
		if !tr.Exact {
			t.Errorf("root on the machine itself counts exactly: %q", doc.Notes)
		}
	}
	return doc
}

// lottery is a program that forks n times, and of which a fork hangs with the
// probability that its seconds argument says: the thread has the lock for so long of each 20 ms.
const lottery = `
import ctypes, os, random, sys, threading, time
n, p = int(sys.argv[1]), float(sys.argv[2])
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
for _ in range(n):
    # Another thread has the lock at this fork, or nobody.
    held = random.random() < p
    go, done = threading.Event(), threading.Event()
    def hold():
        if held: libc.pthread_mutex_lock(mutex)
        go.set(); done.wait()
        if held: libc.pthread_mutex_unlock(mutex)
    t = threading.Thread(target=hold); t.start(); go.wait()
    pid = os.fork()
    if not pid:
        libc.pthread_mutex_lock(mutex)
        os._exit(0)
    done.set(); t.join()
    os.waitpid(pid, 0)
`

// The chance of a hang is known by construction, and the interval holds it. It
// misses in 1 of some 20 runs where it is as narrow as 95 % allow, so that a miss
// counts only when it is far off.
func TestKnownProbability(t *testing.T) {
	const p, forks = 0.1, 60
	req := request(t, []string{"/usr/bin/python3", "-c", lottery, "1000", fmt.Sprint(p)})
	req.Forks = forks
	doc := run(t, req)
	tr := doc.Trials[0]
	if tr.Forks < forks || tr.Forks > forks+20 || tr.Low >= tr.High || tr.Hung == 0 {
		t.Errorf("%+v", tr)
	}
	if slack := tr.High - tr.Low; p < tr.Low-slack || p > tr.High+slack {
		t.Errorf("%d of %d forks hung, %.3f to %.3f, where each did with %g", tr.Hung, tr.Forks, tr.Low, tr.High, p)
	}
	// Each run ended with the fork that hung, the last one with the count.
	if tr.Starts < tr.Hung || tr.Starts > tr.Hung+1 || tr.First < 1 || tr.First > tr.Forks {
		t.Errorf("%d starts, %d hung, the first was fork %d", tr.Starts, tr.Hung, tr.First)
	}
	if len(doc.Findings) == 0 || doc.Findings[0].Confidence != finding.Proven || !strings.Contains(strings.Join(doc.Findings[0].Evidence, "\n"), "forks hung so") {
		t.Errorf("findings: %+v", doc.Findings)
	}
}

// A program all of whose forks are well shows 0 of n, with n as it was asked for,
// each counted.
func TestHealthyProgram(t *testing.T) {
	req := request(t, testbed.Open(t, "bookworm").Command(t, testbed.Cmd{Args: []string{testbed.Build(t, "rarelocks.c"), "mutex", "forks=100", "twin"}}))
	req.Forks = 300
	doc := run(t, req)
	tr := doc.Trials[0]
	// Each run is stopped at its end, or, the last one, somewhere before it.
	if tr.Hung != 0 || tr.Forks < 300 || tr.Forks > 400 || tr.Forks > tr.Starts*100 || tr.Forks <= (tr.Starts-2)*100 || tr.Suspected != 0 || tr.Failures != 0 || tr.Below <= 0 || tr.Below > 0.01 {
		t.Errorf("%+v", tr)
	}
}

// Where fewer forks are made than wanted each single one is counted.
func TestEveryForkCounts(t *testing.T) {
	const script = "i=0; while [ $i -lt 137 ]; do (:) & i=$((i+1)); /bin/true; done; wait; sleep 0.5"
	const thread = "import os, sys, threading\nthreading.Thread(target=os.execv, args=('/bin/sh', ['sh', '-c', sys.argv[1]])).start()"
	for name, command := range map[string][]string{
		"plain": {"sh", "-c", script},
		// execve in another thread than the first, whose end is told as if it were
		// that of the process.
		"thread": {"/usr/bin/python3", "-c", thread, script},
	} {
		req := request(t, command)
		req.Forks = 137
		tr := run(t, req).Trials[0]
		// 137 subshells, and at most as many of /bin/true, which are other programs.
		if tr.Forks != 137 || tr.Starts != 1 || tr.Execs < 130 {
			t.Errorf("%s: %d forks, %d of other programs, %d starts; want 137, some 137, 1", name, tr.Forks, tr.Execs, tr.Starts)
		}
	}
}

// A server is reloaded in its own way, under load: a worker that meets the lock
// is proven to hang, and the others serve.
func TestGunicorn(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	for _, tt := range []struct {
		name, mode, reload string
		hangs              bool
	}{
		{"held", "held", "", true},
		{"healthy", "free", "", false},
		{"ttin", "free", "ttin", false},
		{"workers", "free", "workers", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, cmd := testbed.GunicornCmd(t, testbed.Site{App: "lock_module", Hooks: "touch", Workers: 3, Env: []string{"VICTIM=" + tt.mode}})
			req := request(t, root.Command(t, cmd))
			req.Reload, req.Forks = tt.reload, 15
			if !tt.hangs {
				req.Load = []string{"http://" + addr + "/"}
			}
			doc := run(t, req)
			tr := doc.Trials[0]
			if tr.Server != "gunicorn" || tr.Reload == "" || tr.Forks < 15 || tr.Starts != 1 || tr.Suspected != 0 {
				t.Errorf("%+v", tr)
			}
			if tt.hangs {
				// All but those that were asked to end before they came to the lock.
				if tr.Hung < 5 || tr.Locks[0].Where != "lock_module.LOCK" || tr.First != 1 && tr.First > 3 {
					t.Errorf("%+v", tr)
				}
				return
			}
			if tr.Hung != 0 || len(doc.Findings) != 0 || tr.Requests == 0 || tr.LatencyMS == nil || tr.Failed > tr.Requests/10 {
				t.Errorf("%+v, %+v", tr, tr.LatencyMS)
			}
		})
	}
}

// Two commands are run in turns, and what differs is told.
func TestCompare(t *testing.T) {
	one := func(p string) []string { return []string{"/usr/bin/python3", "-c", lottery, "1000", p} }
	req := request(t, one("0.6"), one("0"))
	req.Forks = 20
	doc := run(t, req)
	if c := doc.Comparison; c == nil || c.Verdict != "less" || c.P > 0.05 || c.High >= 0 {
		t.Errorf("%+v of %+v", c, doc.Trials)
	}
	if len(doc.Findings) != 0 {
		t.Errorf("findings of the first command: %+v", doc.Findings)
	}
	req = request(t, one("0"), one("0"))
	req.Forks = 10
	if c := run(t, req).Comparison; c == nil || c.Verdict != "undecided" || c.P != 1 {
		t.Errorf("two that are the same: %+v", c)
	}
}

// A server that runs is reloaded and goes on.
func TestPID(t *testing.T) {
	server := testbed.Gunicorn(t, testbed.Open(t, "bookworm"), testbed.Site{Workers: 2})
	server.AwaitServing(t, "/")
	req := request(t)
	req.PID, req.Forks = server.Master(), 6
	tr := run(t, req).Trials[0]
	if tr.Forks < 6 || tr.Starts != 0 || tr.Server != "gunicorn" || tr.Hung != 0 || !strings.Contains(tr.Command, "gunicorn") {
		t.Errorf("%+v", tr)
	}
	server.AwaitServing(t, "/")
}

// A master that hangs inside fork makes no child, and counts as a fork that hung.
func TestInFork(t *testing.T) {
	req := request(t, []string{"/usr/bin/python3", testbed.Victim(t, "python/at_fork.py")})
	req.Forks, req.Timeout = 2, 500*time.Millisecond
	tr := run(t, req).Trials[0]
	if tr.Hung != 2 || tr.InFork != 2 || tr.Forks != 2 || tr.First != 1 {
		t.Errorf("%+v", tr)
	}
}

// A program that stands still without a deadlock is suspected, and not proven.
func TestStandsStill(t *testing.T) {
	req := request(t, []string{"sh", "-c", "(read x < /dev/zero; exec sleep 1000) & (sleep 1000; :) & wait"})
	req.Timeout, req.Forks, req.Duration = 500*time.Millisecond, 5, 20*time.Second
	tr := run(t, req).Trials[0]
	if tr.Hung != 0 || tr.Suspected == 0 {
		t.Errorf("%+v", tr)
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  func(*stress.Request)
		want string
	}{
		{"no such program", func(r *stress.Request) { r.Commands = [][]string{{"/nonexistent/server"}} }, "/nonexistent/server"},
		{"no fork", func(r *stress.Request) { r.Commands = [][]string{{"sh", "-c", "echo no configuration >&2; exit 3"}} }, "exit status 3"},
		{"no server", func(r *stress.Request) { r.Commands, r.Duration = [][]string{{"sleep", "1000"}}, time.Second }, "--reload"},
		{"no process", func(r *stress.Request) { r.PID = 1 << 22 }, "--pid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := request(t)
			tt.req(&req)
			_, err := stress.Run(t.Context(), req)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want it to speak of %q", err, tt.want)
			}
			if tt.name == "no fork" && (!errors.Is(err, stress.ErrNoForks) || !strings.Contains(err.Error(), "no configuration")) {
				t.Errorf("%v", err)
			}
		})
	}
}
