package orphan_test

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/libc"
	"forkproof/internal/orphan"
	"forkproof/internal/procmem"
)

// plain reads all ranges by process_vm_readv alone, by so many threads with a
// buffer of their own each, and returns how many bytes there were. 256 KiB at a
// time is what the kernel copies fastest, here and in Scan.
func plain(tb testing.TB, pid int, ranges []procmem.Range, threads int) (n uint64) {
	pieces := make(chan procmem.Range, 64)
	go func() {
		defer close(pieces)
		for _, r := range ranges {
			for at := r.Start; at < r.End; at += 8 << 20 {
				pieces <- procmem.Range{Start: at, End: min(at+8<<20, r.End)}
			}
		}
	}()
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range threads {
		wait.Go(func() {
			buf := make([]byte, 256<<10)
			var read uint64
			for r := range pieces {
				for at := r.Start; at < r.End; {
					want := min(uint64(len(buf)), r.End-at)
					local := []unix.Iovec{{Base: &buf[0]}}
					local[0].SetLen(int(want))
					got, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: int(want)}}, 0)
					if err != nil || got <= 0 {
						tb.Errorf("read %d bytes at 0x%x: %d, %v", want, at, got, err)
						return
					}
					at += uint64(got)
					read += uint64(got)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			n += read
		})
	}
	wait.Wait()
	return n
}

// spent is wall time and processor time of this process.
type spent struct{ wall, cpu time.Duration }

func timed(tb testing.TB, do func()) spent {
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		tb.Fatal(err)
	}
	begin := time.Now()
	do()
	wall := time.Since(begin)
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		tb.Fatal(err)
	}
	return spent{wall, time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())}
}

// turns are what the same memory cost to read plainly, by one thread and by as
// many as Scan uses, and to search, each once in each turn.
type turns struct {
	one, many, scan []spent
	bytes           uint64
}

func (u *turns) take(tb testing.TB, target orphan.Target, ranges []procmem.Range) {
	pid := target.ID.PID
	u.one = append(u.one, timed(tb, func() { u.bytes = plain(tb, pid, ranges, 1) }))
	u.many = append(u.many, timed(tb, func() { plain(tb, pid, ranges, procmem.ScanWorkers()) }))
	u.scan = append(u.scan, timed(tb, func() {
		res, err := orphan.Scan(context.Background(), target)
		if err != nil {
			tb.Fatal(err)
		}
		// Less than was read plainly would be a race that is won by not running.
		if res.Coverage.Bytes < u.bytes {
			tb.Fatalf("searched %d bytes of %d", res.Coverage.Bytes, u.bytes)
		}
	}))
}

// ratio is the median of how many times as fast as peer the search was.
func (u *turns) ratio(peer []spent, of func(spent) time.Duration) float64 {
	all := make([]float64, len(peer))
	for i := range all {
		all[i] = float64(of(peer[i])) / float64(of(u.scan[i]))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (u *turns) gigabytes(all []spent) float64 {
	walls := make([]time.Duration, len(all))
	for i := range all {
		walls[i] = all[i].wall
	}
	slices.Sort(walls)
	return float64(u.bytes) / 1e9 / walls[len(walls)/2].Seconds()
}

// memory is a target full of what, and what there is to read in it.
func memory(tb testing.TB, what string, mib int) (orphan.Target, []procmem.Range) {
	pid := start(tb, what, mib)
	target, err := orphan.Gather(system, pid, nil, libc.Identity{Family: "glibc"})
	if err != nil {
		tb.Fatal(err)
	}
	// Every small number may be an owner: the worst case.
	for i := range 100 {
		target.Vanished = append(target.Vanished, orphan.Thread{Inner: 1000000 + i})
	}
	var ranges []procmem.Range
	for r, err := range procmem.Resident(pid, procmem.Private(target.Mappings)) {
		if err != nil {
			tb.Fatal(err)
		}
		ranges = append(ranges, r)
	}
	return target, ranges
}

// BenchmarkScan searches a target for orphaned locks, as Scan does it, and reads
// the same memory by process_vm_readv alone, in turns. FORKPROOF_BENCH_MIB is the
// size of the target.
func BenchmarkScan(b *testing.B) {
	size := 512
	if s := os.Getenv("FORKPROOF_BENCH_MIB"); s != "" {
		var err error
		if size, err = strconv.Atoi(s); err != nil {
			b.Fatalf("FORKPROOF_BENCH_MIB: %v", err)
		}
	}
	for _, what := range []string{"mixed", "pointers", "zeros", "ints"} {
		b.Run(what+"/"+strconv.Itoa(size)+"MiB", func(b *testing.B) {
			target, ranges := memory(b, what, size)
			// The most memory that this process ever had starts anew with what it
			// has now.
			runtime.GC()
			if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
				b.Fatal(err)
			}
			var u turns
			for b.Loop() {
				u.take(b, target, ranges)
			}
			wall, cpu := func(s spent) time.Duration { return s.wall }, func(s spent) time.Duration { return s.cpu }
			b.ReportMetric(u.gigabytes(u.one), "readv-GB/s")
			b.ReportMetric(u.gigabytes(u.scan), "scan-GB/s")
			b.ReportMetric(u.ratio(u.one, wall), "x-readv")
			b.ReportMetric(u.ratio(u.many, wall), "x-readv-"+strconv.Itoa(procmem.ScanWorkers())+"-threads")
			b.ReportMetric(u.ratio(u.one, cpu), "x-readv-cpu")
			b.ReportMetric(float64(peak())/(1<<20), "MiB-own")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// TestBenchmarkScan lets the benchmark do once, with little, what it measures.
func TestBenchmarkScan(t *testing.T) {
	target, ranges := memory(t, "mixed", 16)
	var u turns
	u.take(t, target, ranges)
	if u.bytes < 16<<20 {
		t.Errorf("read %d bytes of a target with more than 16 MiB", u.bytes)
	}
}
