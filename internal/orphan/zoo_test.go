package orphan_test

import (
	"context"
	"strconv"
	"testing"

	"forkproof/internal/libc"
	"forkproof/internal/orphan"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
)

var system = proc.New("/proc")

// search gathers and searches a process.
func search(t testing.TB, pid int, ancestors []int, family string) orphan.Result {
	t.Helper()
	target, err := orphan.Gather(system, pid, ancestors, libc.Identity{Family: family})
	if err != nil {
		t.Fatal(err)
	}
	res, err := orphan.Scan(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Dropped) > 0 || res.Lookalikes > 0 {
		t.Logf("process %d: dropped %v, %d lookalikes", pid, res.Dropped, res.Lookalikes)
	}
	return res
}

// zoo starts lockzoo and returns its child and parent as the machine counts
// them, the holder as the program does, and the lock's address.
func zoo(t *testing.T, root *testbed.Root, program, kind, mode string) (child, parent, holder int, lock uint64) {
	t.Helper()
	p := root.Start(t, testbed.Cmd{Args: []string{program, kind, mode}})
	f := p.AwaitFields(t, "ready")
	inner, _ := strconv.Atoi(f["child"])
	child = p.Outer(t, inner)
	testbed.AwaitBlocked(t, child)
	inner, _ = strconv.Atoi(f["parent"])
	holder, _ = strconv.Atoi(f["holder"])
	lock, err := strconv.ParseUint(f["lock"], 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return child, p.Outer(t, inner), holder, lock
}

var kinds = []struct {
	name, kind string
	musl       bool
}{
	{"normal", "pthread_mutex", false},
	{"recursive", "pthread_mutex", true},
	{"errorcheck", "pthread_mutex", true},
	{"adaptive", "pthread_mutex", false},
	{"robust", "pthread_mutex", true},
	{"pi", "pthread_mutex", true},
	{"rwlock-writer", "pthread_rwlock", false},
	{"stdio", "stdio", true},
}

func testZoo(t *testing.T, root *testbed.Root, program, family string) {
	for _, k := range kinds {
		if family == "musl" && !k.musl {
			continue
		}
		for _, mode := range []string{"armed", "stuck"} {
			if k.name == "pi" && mode == "stuck" {
				continue // the kernel refuses: its owner is no thread that could inherit a priority
			}
			t.Run(k.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				child, parent, holder, lock := zoo(t, root, program, k.name, mode)
				res := search(t, child, []int{parent}, family)
				if len(res.Locks) != 1 {
					t.Fatalf("found %+v, want one lock at 0x%x of thread %d; dropped %v", res.Locks, lock, holder, res.Dropped)
				}
				l := res.Locks[0]
				at := l.Addr
				if k.kind == "stdio" {
					at = l.Stream
				}
				if at != lock || l.Kind != k.kind || !l.OwnerAlive || l.Owner.Inner != holder || l.Owner.PID != parent || l.Parent != orphan.ParentSame {
					t.Errorf("found %+v, want a %s at 0x%x of thread %d", l, k.kind, lock, holder)
				}
				if l.OwnerTID == 0 == (l.OwnerTCB == 0) {
					t.Errorf("owner is recorded as %d and as 0x%x", l.OwnerTID, l.OwnerTCB)
				}
			})
		}
		t.Run(k.name+"/free", func(t *testing.T) {
			t.Parallel()
			child, parent, _, _ := zoo(t, root, program, k.name, "free")
			if res := search(t, child, []int{parent}, family); len(res.Locks) != 0 {
				t.Errorf("found %+v", res.Locks)
			}
		})
		t.Run(k.name+"/parent", func(t *testing.T) {
			t.Parallel()
			// The holder is alive in the parent, so nothing is orphaned there.
			_, parent, _, _ := zoo(t, root, program, k.name, "armed")
			if res := search(t, parent, nil, family); len(res.Locks) != 0 {
				t.Errorf("found %+v", res.Locks)
			}
		})
	}
}

func TestZooGlibc(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		testZoo(t, root, testbed.Build(t, "lockzoo.c"), "glibc")
	})
}

func TestZooMusl(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	testZoo(t, root, testbed.BuildMusl(t, "lockzoo.c"), "musl")
}
