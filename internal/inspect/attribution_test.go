package inspect

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

// TestTwoLocks reports the lock that a worker waits for, and the one behind it.
func TestTwoLocks(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		server := testbed.Gunicorn(t, root, testbed.Site{App: "two_locks", Hooks: "touch"})
		for _, pid := range server.AwaitHung(t, 2) {
			doc := inspectPID(t, pid)
			var got []string
			for _, f := range doc.Findings {
				if f.Lock != nil {
					owner := ""
					if f.Lock.Owner != nil {
						owner = f.Lock.Owner.Name
					}
					got = append(got, strings.Join([]string{f.Confidence.String(), string(f.Rule), f.Lock.Where, owner}, " "))
				}
			}
			want := []string{"proven deadlock-nobody-left two_locks.FIRST refresher", "observed orphaned-lock two_locks.SECOND refresher"}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

// TestOwners names who left a lock: a thread that has ended, or nobody but the
// thread that waits.
func TestOwners(t *testing.T) {
	program := testbed.Build(t, "owners.c")
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for mode, title := range map[string]string{
			"ended":    "waits for owners`g_lock, which a thread of process %d that has ended since held at the fork",
			"survivor": "waits for owners`g_lock, which it took itself before the fork",
		} {
			t.Run(mode, func(t *testing.T) {
				p := root.Start(t, testbed.Cmd{Args: []string{program, mode}})
				child := p.AwaitPID(t, "ready", "child")
				testbed.AwaitFutex(t, child)
				doc := inspectPID(t, child)
				got := proofs(doc)
				if len(got) != 1 || len(doc.Findings) != 1 {
					t.Fatalf("%d proofs, %d findings", len(got), len(doc.Findings))
				}
				f := got[0]
				if mode == "ended" {
					title = fmt.Sprintf(title, p.PID)
				}
				if !strings.HasSuffix(f.Title, title) {
					t.Errorf("%s, want %s", f.Title, title)
				}
				holder := p.AwaitFields(t, "ready")["holder"]
				if o := f.Lock.Owner; o == nil || strconv.Itoa(f.Lock.OwnerTID) != holder || o.Alive != (mode == "survivor") || o.Alive && (o.TID != child || o.PID != child) {
					t.Errorf("owner %+v, recorded as %d, want %s", o, f.Lock.OwnerTID, holder)
				}
			})
		}
	})
}

// TestInsideFork proves that a master hangs in fork() itself, and says where.
func TestInsideFork(t *testing.T) {
	program := testbed.Build(t, "atfork.c")
	tests := []struct {
		mode, place string
		rule        finding.Rule
		kind, where string
		owner       string
	}{
		{"prepare", "inside fork(), in a fork handler of atfork (prepare)", finding.DeadlockCycle, "pthread_mutex", "atfork`g_lock", "atfork"},
		{"join", "inside fork(), in a fork handler of atfork (prepare)", finding.DeadlockCycle, "thread-join", "the end of thread atfork", "atfork"},
		{"slow", "inside fork(), in a fork handler of atfork (prepare)", finding.StuckInFork, "pthread_mutex", "atfork`g_lock", "atfork"},
		{"python", "inside os.fork(), in a handler of os.register_at_fork(), before at ", finding.DeadlockCycle, "python-rlock", "__main__.LOCK", "holder"},
	}
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for _, tt := range tests {
			t.Run(tt.mode, func(t *testing.T) {
				var p *testbed.Proc
				if tt.mode == "python" {
					p = testbed.Python(t, root, "at_fork.py")
				} else {
					p = root.Start(t, testbed.Cmd{Args: []string{program, tt.mode}})
				}
				p.AwaitLine(t, "ready.*")
				testbed.AwaitBlocked(t, p.PID)
				var doc *finding.Document
				testbed.Await(t, "the hang to be told", func() bool {
					doc = inspectPID(t, p.PID)
					return len(doc.Findings) > 0
				})
				f := doc.Findings[0]
				proven := finding.Proven
				if tt.mode == "slow" {
					proven = finding.Observed
				}
				if len(doc.Findings) != 1 || f.Rule != tt.rule || f.Confidence != proven || f.TID != p.PID || !strings.Contains(f.Title, tt.place) {
					t.Errorf("%s, want %s %s of the main thread %s", f.Title, proven, tt.rule, tt.place)
				}
				if f.Lock.Kind != tt.kind || !strings.HasPrefix(f.Lock.Where, tt.where) {
					t.Errorf("lock %s %s, want %s %s", f.Lock.Kind, f.Lock.Where, tt.kind, tt.where)
				}
				if o := f.Lock.Owner; o == nil || o.Name != tt.owner || o.PID != p.PID || o.TID == p.PID || len(o.Native) == 0 {
					t.Errorf("owner %+v, want another thread %s of process %d with its stack", o, tt.owner, p.PID)
				}
				says(t, doc)
			})
		}
	})
}

// TestMasterGone inspects hung workers whose master was killed.
func TestMasterGone(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	addr := testbed.Address(t)
	p := root.Start(t, testbed.Cmd{
		Env: []string{"PYTHONPATH=" + testbed.Victim(t, "python")},
		Args: []string{"sh", "-c", `"$@" & exec sleep infinity`, "sh", "gunicorn", "--preload", "--workers", "2", "--timeout", "3600",
			"--bind", addr, "--config", testbed.Victim(t, "python/hooks/touch.py"), "lock_module:app"},
	})
	var workers []int
	testbed.Await(t, "workers", func() bool {
		workers = workers[:0]
		for _, master := range testbed.Children(p.PID) {
			workers = append(workers, testbed.Children(master)...)
		}
		return len(workers) == 2
	})
	for _, pid := range workers {
		testbed.AwaitFutex(t, pid)
	}
	if err := syscall.Kill(testbed.Children(p.PID)[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testbed.Await(t, "the workers to be adopted", func() bool { return slices.Equal(testbed.Children(p.PID), workers) })
	doc, err := Run(context.Background(), Request{PIDs: workers})
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Findings) != len(workers) {
		t.Errorf("%d findings for %d workers", len(doc.Findings), len(workers))
	}
	for _, f := range doc.Findings {
		if f.Rule != finding.DeadlockNobodyLeft || f.Confidence != finding.Proven || f.Lock.Where != "lock_module.LOCK" ||
			f.Lock.Owner != nil || len(f.Lock.Suspects) > 0 || !strings.Contains(f.Remedy[0], "its master is gone") {
			t.Errorf("%s %s: %s; %+v, %q", f.Confidence, f.Rule, f.Title, f.Lock, f.Remedy)
		}
	}
	for _, target := range doc.Targets {
		if target.Role != "worker" || target.Server != "gunicorn" || target.Parent != 0 || len(target.Notes) != 1 {
			t.Errorf("a left worker is a %s %s of %d, with notes %q", target.Server, target.Role, target.Parent, target.Notes)
		}
	}
	says(t, doc)
}

// TestRequests names targets in all ways there are.
func TestRequests(t *testing.T) {
	server := testbed.Gunicorn(t, testbed.Open(t, "bookworm"), testbed.Site{App: "lock_module", Hooks: "touch"})
	workers := server.AwaitHung(t, 2)
	all := append([]int{server.Master()}, workers...)
	for name, tt := range map[string]struct {
		req  Request
		want []int
	}{
		"a worker":    {Request{PIDs: workers[1:]}, workers[1:]},
		"workers":     {Request{PIDs: workers}, workers},
		"the master":  {Request{PIDs: all[:1]}, all},
		"both":        {Request{PIDs: []int{workers[1], server.Master(), workers[1]}}, []int{workers[1], server.Master(), workers[0]}},
		"a name":      {Request{Name: regexp.MustCompile(regexp.QuoteMeta(server.Addr))}, all},
		"all servers": {Request{All: true}, all},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := Run(context.Background(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, target := range doc.Targets {
				if !tt.req.All || slices.Contains(all, target.PID) {
					got = append(got, target.PID)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("targets %v, want %v", got, tt.want)
			}
			for _, pid := range workers {
				if slices.Contains(tt.want, pid) {
					hangs["lock_module"].check(t, doc, pid)
				}
			}
		})
	}
}
