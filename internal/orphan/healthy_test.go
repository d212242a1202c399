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
func measure(t *testing.T, pid int, ancestors []int) {
	t.Helper()
	target, err := orphan.Gather(system, pid, ancestors, libc.Identity{Family: "glibc"})
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
	bad := 0
	for _, o := range owners {
		for _, l := range scan(o, o+1, o+2).Locks {
			if l.OwnerTID == o {
				bad++
				t.Logf("with a thread %d a false orphan would be a %s (%s) at 0x%x in %q, static %v", o, l.Kind, l.State, l.Addr, l.Mapping.Path, l.Static)
			}
		}
	}
	t.Logf("process %d: %d MiB, %d lookalikes with %d owners, %d of which would be believed", pid, looks.Coverage.Bytes>>20, looks.Lookalikes, len(owners), bad)
}

// TestHealthyServers searches the workers of real servers in which nothing is
// wrong.
func TestHealthyServers(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	lib := testbed.Build(t, "libforkvictim.c")
	for _, s := range []struct {
		name  string
		start func(t testing.TB, root *testbed.Root, site testbed.Site) *testbed.Server
		site  testbed.Site
	}{
		{"gunicorn", testbed.Gunicorn, testbed.Site{}},
		{"gunicorn-gthread", testbed.Gunicorn, testbed.Site{Flags: []string{"--worker-class", "gthread", "--threads", "4"}}},
		// The master's threads take and give back the same locks as in the
		// hanging twins.
		{"gunicorn-lock_module", testbed.Gunicorn, testbed.Site{App: "lock_module", Env: []string{"VICTIM=free"}}},
		{"gunicorn-native_mutex", testbed.Gunicorn, testbed.Site{App: "native_mutex", Env: []string{"VICTIM=free", "VICTIM_LIB=" + lib}}},
		{"gunicorn-openblas", testbed.Gunicorn, testbed.Site{App: "openblas", Env: []string{"VICTIM=free", "OMP_NUM_THREADS=4"}}},
		{"uwsgi", testbed.UWSGI, testbed.Site{Flags: []string{"--enable-threads", "--py-call-uwsgi-fork-hooks"}}},
		{"celery", testbed.Celery, testbed.Site{}},
		{"puma", testbed.Puma, testbed.Site{}},
		{"unicorn", testbed.Unicorn, testbed.Site{}},
		{"postgresql", testbed.PostgreSQL, testbed.Site{}},
		{"apache", testbed.Apache, testbed.Site{}},
		{"nginx", testbed.Nginx, testbed.Site{}},
		{"php-fpm", testbed.PHPFPM, testbed.Site{}},
	} {
		t.Run(s.name, func(t *testing.T) {
			server := s.start(t, root, s.site)
			server.AwaitWorkers(t)
			for _, pid := range server.Workers() {
				if res := search(t, pid, []int{server.Master()}, "glibc"); len(res.Locks) > 0 {
					t.Errorf("process %d: found %+v", pid, res.Locks)
				}
			}
			measure(t, server.Workers()[0], []int{server.Master()})
		})
	}
}

// TestOtherRuntimes measures processes whose memory is full of small numbers.
func TestOtherRuntimes(t *testing.T) {
	for _, p := range []*testbed.Proc{testbed.Node(t), testbed.Java(t), testbed.GoWaiter(t, "http")} {
		p.AwaitLine(t, "ready.*")
		pid := p.PID
		if res := search(t, pid, nil, "glibc"); len(res.Locks) > 0 {
			t.Errorf("process %d: found %+v", pid, res.Locks)
		}
		measure(t, pid, nil)
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
