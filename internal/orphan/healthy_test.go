package orphan_test

import (
	"context"
	"slices"
	"testing"

	"forkproof/internal/libc"
	"forkproof/internal/orphan"
	"forkproof/internal/testbed"
)

// measure says how often a process's memory looks like a held lock, and how
// often chance would make a false orphan of it: what is reported if any three
// numbers in a row of those that look like owners were vanished threads' ids.
func measure(t *testing.T, pid int) (believed int) {
	t.Helper()
	target, err := orphan.Gather(system, pid, nil, libc.Identity{Family: "glibc"})
	if err != nil {
		t.Fatal(err)
	}
	scan := func(ids ...int) orphan.Result {
		target.Vanished = nil
		for _, id := range ids {
			target.Vanished = append(target.Vanished, orphan.Thread{Inner: id})
		}
		res, err := orphan.Scan(context.Background(), target)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	target.Former, target.Settle = nil, 1
	looks := scan()
	var owners []int
	for id := range looks.Owners() {
		owners = append(owners, int(id))
	}
	slices.Sort(owners)
	for _, o := range owners {
		for _, l := range scan(o, o+1, o+2).Locks {
			if l.OwnerTID == o {
				believed++
				t.Logf("with a thread %d a false orphan would be a %s (%s) at 0x%x in %q, static %v", o, l.Kind, l.State, l.Addr, l.Mapping.Path, l.Static)
			}
		}
	}
	t.Logf("process %d: %d MiB, %d lookalikes with %d owners, %d of which would be believed", pid, looks.Coverage.Bytes>>20, looks.Lookalikes, len(owners), believed)
	return believed
}

// TestOtherRuntimes measures processes whose memory is full of small numbers: of
// the dozens that look like owners in a Java machine next to none would pass.
func TestOtherRuntimes(t *testing.T) {
	for _, p := range []*testbed.Proc{testbed.Node(t), testbed.Java(t), testbed.GoWaiter(t, "http")} {
		p.AwaitLine(t, "ready.*")
		pid := p.PID
		if res := search(t, pid, nil, "glibc"); len(res.Locks) > 0 {
			t.Errorf("process %d: found %+v", pid, res.Locks)
		}
		if believed := measure(t, pid); believed > 2 {
			t.Errorf("process %d: %d false orphans, if threads had just those numbers", pid, believed)
		}
	}
}

// TestNativeMutexUnderGunicorn finds the mutex that a thread of the master holds
// in every worker that has not asked for it yet.
func TestNativeMutexUnderGunicorn(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		server := testbed.Gunicorn(t, root, testbed.Site{
			App: "native_mutex", Env: []string{"VICTIM_LIB=" + testbed.Build(t, "libforkvictim.c"), "VICTIM_HOLDER=native"},
		})
		server.AwaitServing(t, "/")
		for _, pid := range server.Workers() {
			res := search(t, pid, []int{server.Master()}, "glibc")
			if len(res.Locks) != 1 || !res.Locks[0].Static || !res.Locks[0].OwnerAlive || res.Locks[0].Owner.PID != server.Master() ||
				res.Locks[0].Mapping.Name() != "libforkvictim.so" && res.Locks[0].Mapping.File() {
				t.Errorf("process %d: found %+v", pid, res.Locks)
			}
		}
	})
}
