package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/testbed"
	"forkproof/internal/trace"
)

// TestHeldAtFork traces a fork at which a thread is within localtime_r. In the
// child a thread waits for that lock, which records nobody, and another one polls:
// only what the trace kept can prove that it waits for ever.
func TestHeldAtFork(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		state := t.TempDir()
		t.Setenv("XDG_STATE_HOME", state)
		p := root.Start(t, testbed.Cmd{Args: []string{testbed.Build(t, "forks_on_signal.c"), "tz"}})
		p.AwaitLine(t, "ready .*")
		holder := p.AwaitPID(t, "ready", "holder")
		ctx, cancel := context.WithTimeout(t.Context(), testbed.Patience)
		defer cancel()
		doc, err := trace.Run(ctx, trace.Request{PIDs: []int{p.PID}, Forks: 1, MaxStop: time.Second, Ready: func() { _ = syscall.Kill(p.PID, syscall.SIGUSR1) }})
		if err != nil {
			t.Fatal(err)
		}
		if len(doc.Forks) != 1 || len(doc.Forks[0].Locks) != 1 {
			t.Fatalf("forks %+v", doc.Forks)
		}
		l := doc.Forks[0].Locks[0]
		if l.Kind != "libc-internal" || !strings.Contains(l.Where, "time zone lock") || l.Survivor || l.Reset || l.Owner == nil || l.Owner.TID != holder {
			t.Errorf("lock %+v, owner %+v", l, l.Owner)
		}
		child := doc.Forks[0].Children[0]
		// Its first thread waits for the lock in the end; the other one never rests.
		testbed.Await(t, "the child to wait for the lock", func() bool {
			call, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", child))
			return err == nil && strings.HasPrefix(string(call), fmt.Sprintf("%d ", unix.SYS_FUTEX)) && len(testbed.Threads(child)) == 2
		})
		look := func() *finding.Finding {
			doc, err := inspect.Run(ctx, inspect.Request{PIDs: []int{child}})
			if err != nil {
				t.Fatal(err)
			}
			if i := slices.IndexFunc(doc.Findings, func(f finding.Finding) bool { return f.Rule == finding.DeadlockHeldAtFork }); i >= 0 {
				return &doc.Findings[i]
			}
			for _, f := range doc.Findings {
				if f.Confidence == finding.Proven {
					t.Errorf("proven by another rule: %s", f.Title)
				}
			}
			return nil
		}
		f := look()
		if f == nil || f.Confidence != finding.Proven || f.Severity != finding.Critical || f.TID != child {
			t.Fatalf("finding %+v", f)
		}
		if f.Lock.Owner == nil || f.Lock.Owner.TID != holder || f.Lock.Owner.Basis != finding.HeldThen || f.Lock.Address != l.Address {
			t.Errorf("lock %+v, owner %+v", f.Lock, f.Lock.Owner)
		}
		if !strings.Contains(f.Title, strconv.Itoa(holder)) || !strings.Contains(f.Title, "held at the fork") {
			t.Errorf("title %q", f.Title)
		}
		// Without what the trace kept nothing can be proven, whatever it looks like.
		t.Setenv("XDG_STATE_HOME", t.TempDir())
		if f := look(); f != nil {
			t.Errorf("found without a trace: %+v", f)
		}
	})
}
