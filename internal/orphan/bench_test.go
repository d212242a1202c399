package orphan_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/libc"
	"forkproof/internal/orphan"
	"forkproof/internal/procmem"
)

// plain reads all ranges by process_vm_readv alone, by one thread, and returns
// how many bytes there were.
func plain(b *testing.B, pid int, ranges []procmem.Range, buf []byte) (n uint64) {
	for _, r := range ranges {
		for at := r.Start; at < r.End; {
			want := min(uint64(len(buf)), r.End-at)
			local := []unix.Iovec{{Base: &buf[0]}}
			local[0].SetLen(int(want))
			got, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: int(want)}}, 0)
			if err != nil || got <= 0 {
				b.Fatalf("read %d bytes at 0x%x: %d, %v", want, at, got, err)
			}
			at += uint64(got)
			n += uint64(got)
		}
	}
	return n
}

// BenchmarkScan searches a target for orphaned locks, as Scan does it, and reads
// the same memory by process_vm_readv alone, in turns: what is reported is the
// ratio of their speeds.
func BenchmarkScan(b *testing.B) {
	size := 1024
	if s := os.Getenv("FORKPROOF_BENCH_MIB"); s != "" {
		size, _ = strconv.Atoi(s)
	}
	for _, what := range []string{"mixed", "pointers", "zeros", "ints"} {
		b.Run(what+"/"+strconv.Itoa(size)+"MiB", func(b *testing.B) {
			pid := start(b, what, size)
			target, err := orphan.Gather(system, pid, nil, libc.Identity{Family: "glibc"})
			if err != nil {
				b.Fatal(err)
			}
			// Every small number may be an owner: the worst case.
			for i := range 100 {
				target.Vanished = append(target.Vanished, orphan.Thread{Inner: 1000000 + i})
			}
			var ranges []procmem.Range
			for r, err := range procmem.Resident(pid, procmem.Private(target.Mappings)) {
				if err != nil {
					b.Fatal(err)
				}
				ranges = append(ranges, r)
			}
			buf := make([]byte, 1024<<10)
			// The best of all turns counts: what else runs on the machine only
			// makes a turn slower.
			reading, searching := time.Hour, time.Hour
			bytes := plain(b, pid, ranges, buf)
			for b.Loop() {
				begin := time.Now()
				plain(b, pid, ranges, buf)
				reading = min(reading, time.Since(begin))
				begin = time.Now()
				if _, err := orphan.Scan(context.Background(), target); err != nil {
					b.Fatal(err)
				}
				searching = min(searching, time.Since(begin))
			}
			b.ReportMetric(float64(bytes)/1e9/reading.Seconds(), "readv-GB/s")
			b.ReportMetric(float64(bytes)/1e9/searching.Seconds(), "scan-GB/s")
			b.ReportMetric(reading.Seconds()/searching.Seconds(), "x-vs-readv")
			b.ReportMetric(0, "ns/op")
		})
	}
}
