package orphan_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/libc"
	"forkproof/internal/orphan"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// own maps memory of this very process, to be searched as a target.
func own(t *testing.T, size int) (words []uint32, target orphan.Target) {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		t.Fatal(err)
	}
	id, err := system.Identity(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	start := uint64(uintptr(unsafe.Pointer(&mem[0])))
	return unsafe.Slice((*uint32)(unsafe.Pointer(&mem[0])), size/4), orphan.Target{
		ID: id, Libc: libc.Identity{Family: "glibc"}, Settle: 1,
		Mappings: []proc.Mapping{{Start: start, End: start + uint64(size), Read: true, Write: true}},
	}
}

// mutex writes a held normal mutex at word i.
func mutex(words []uint32, i int, owner uint32) {
	words[i], words[i+2], words[i+3] = 1, owner, 1
}

func find(t *testing.T, target orphan.Target) (orphan.Result, []uint64) {
	t.Helper()
	res, err := orphan.Scan(context.Background(), target)
	if err != nil {
		t.Fatal(err)
	}
	var at []uint64
	for _, l := range res.Locks {
		at = append(at, l.Addr-target.Mappings[0].Start)
	}
	return res, at
}

// TestAcrossBorders puts locks around the ends of pages and chunks.
func TestAcrossBorders(t *testing.T) {
	const size = 1 << 20
	words, target := own(t, size)
	for i := 0; i < size; i += 4096 {
		words[i/4+512] = 7 // every page is there
	}
	var want []uint64
	owner := uint32(1 << 20)
	for _, border := range []int{4096, 65536, 256 << 10, 512 << 10, 768 << 10} {
		for _, before := range []int{8, 16, 24, 32, 40} {
			at := border + 4096*before/8 - before
			if before == 8 {
				at = border - before
			}
			mutex(words, at/4, owner)
			target.Vanished = append(target.Vanished, orphan.Thread{Inner: int(owner)})
			want = append(want, uint64(at))
			owner += 2000
		}
	}
	slices.Sort(want)
	if res, got := find(t, target); !slices.Equal(got, want) {
		t.Errorf("found %x, want %x; dropped %v", got, want, res.Dropped)
	}
}

// TestNumbers has memory in which many numbers look like owners.
func TestNumbers(t *testing.T) {
	words, target := own(t, 1<<20)
	for i := range 40 {
		mutex(words, 1000+64*i, uint32(20+i))
	}
	mutex(words, 100000, 70000)
	target.Vanished = []orphan.Thread{{Inner: 30}, {Inner: 31}, {Inner: 70000}, {Inner: 2}}
	mutex(words, 120000, 2)
	res, got := find(t, target)
	if !slices.Equal(got, []uint64{4 * 100000}) || res.Lookalikes != 38 {
		t.Errorf("found %x and %d lookalikes, want the one lock whose owner is no small number; dropped %v", got, res.Lookalikes, res.Dropped)
	}
	// Without the numbers around, a small one is as good as a large one.
	for i := range 40 {
		if i != 10 {
			clear(words[1000+64*i:][:10])
		}
	}
	if res, got := find(t, target); !slices.Equal(got, []uint64{4 * 1640, 4 * 100000}) {
		t.Errorf("found %x; dropped %v", got, res.Dropped)
	}
	// The same owner in many places is a table.
	for i := range 10 {
		mutex(words, 140000+64*i, 70000)
	}
	if res, got := find(t, target); !slices.Equal(got, []uint64{4 * 1640}) {
		t.Errorf("found %x; dropped %v", got, res.Dropped)
	}
}

// TestUsers has mutexes that count more users than their owner: as many threads
// as there were may wait on a condition with one, and no more.
func TestUsers(t *testing.T) {
	words, target := own(t, 1<<20)
	target.Vanished = []orphan.Thread{{Inner: 70000}, {Inner: 80000}}
	for i, users := range []uint32{1, 3, 4, 67} {
		mutex(words, 1000*(i+1), 70000)
		words[1000*(i+1)+3] = users
	}
	if res, got := find(t, target); !slices.Equal(got, []uint64{4000, 8000}) {
		t.Errorf("found %x, want those of 1 and 3 users; dropped %v", got, res.Dropped)
	}
}

// TestWhoseLock looks at owners of every standing.
func TestWhoseLock(t *testing.T) {
	words, target := own(t, 1<<20)
	for i, owner := range []uint32{5000, 5001, 5002, 5003, 5004} {
		mutex(words, 1000*(i+1), owner)
	}
	target.Threads, target.Former, target.After, target.Before = []int{5000}, []int{5001}, 4900, 5003
	target.Vanished = []orphan.Thread{{PID: 9, TID: 10, Inner: 5003}, {Inner: 5001}}
	res, got := find(t, target)
	if !slices.Equal(got, []uint64{16000}) || res.Locks[0].Owner.TID != 10 || res.Lookalikes != 1 {
		t.Errorf("found %+v and %d lookalikes; dropped %v", res.Locks, res.Lookalikes, res.Dropped)
	}
	// A thread that came into being while the search went on.
	target.Recheck = func() ([]int, error) { return []int{5000, 5003}, nil }
	if _, got := find(t, target); len(got) != 0 {
		t.Errorf("a thread of its own that began meanwhile: found %x", got)
	}
	target.Recheck = nil
	target.Stacks = []procmem.Range{{Start: target.Mappings[0].Start + 16000, End: target.Mappings[0].Start + 16001}}
	if _, got := find(t, target); len(got) != 0 {
		t.Errorf("on a dead stack: found %x", got)
	}
}

// TestInMotion has a lock that is given back while the search waits to look
// again.
func TestInMotion(t *testing.T) {
	words, target := own(t, 1<<20)
	mutex(words, 1000, 5000)
	target.Vanished = []orphan.Thread{{Inner: 5000}}
	target.Settle = time.Nanosecond
	target.Recheck = func() ([]int, error) {
		atomic.StoreUint32(&words[1002], 0)
		return nil, nil
	}
	if res, got := find(t, target); len(got) != 0 || len(res.Dropped) != 1 {
		t.Errorf("found %x; dropped %v", got, res.Dropped)
	}
}

func TestScanRefuses(t *testing.T) {
	_, target := own(t, 1<<20)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := orphan.Scan(ctx, target); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
	target.Libc.Family = "unknown"
	if _, err := orphan.Scan(context.Background(), target); !errors.Is(err, orphan.ErrFamily) {
		t.Errorf("an unknown family: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := orphan.Gather(system, cmd.Process.Pid, nil, libc.Identity{Family: "glibc"}); !errors.Is(err, proc.ErrGone) {
		t.Errorf("a process that ended: %v", err)
	}
	// Another process has the number by now.
	_, target = own(t, 1<<20)
	target.ID.Start--
	if _, err := orphan.Scan(context.Background(), target); !errors.Is(err, proc.ErrGone) {
		t.Errorf("a number that was given out again: %v", err)
	}
}
