package procmem

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// mapped maps private memory into this process, with ordinary pages, and gives
// it back at the end of the test.
func mapped(t testing.TB, size, prot, flags, fd int) ([]byte, uint64) {
	t.Helper()
	b, err := unix.Mmap(fd, 0, size, prot, unix.MAP_PRIVATE|flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		t.Fatal(err)
	}
	return b, uint64(uintptr(unsafe.Pointer(&b[0])))
}

func collect(t *testing.T, seq iter.Seq2[Range, error]) []Range {
	t.Helper()
	var out []Range
	for r, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		if n := len(out); n > 0 && out[n-1].End == r.Start {
			out[n-1].End = r.End
			continue
		}
		out = append(out, r)
	}
	return out
}

func TestResident(t *testing.T) {
	page := uint64(os.Getpagesize())
	mem, base := mapped(t, int(64*page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON, -1)
	for _, i := range []uint64{3, 4, 5, 40} {
		mem[i*page] = 1
	}
	zero := mem[20*page] // only read: the kernel's page of zeros
	const guard = 102    // MADV_GUARD_INSTALL, Linux 6.13
	hasGuard := unix.Madvise(mem[50*page:51*page], guard) == nil

	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, bytes.Repeat([]byte("data"), int(4*page)/4), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, fileBase := mapped(t, int(4*page), unix.PROT_READ|unix.PROT_WRITE, 0, int(f.Fd()))
	zero += file[0] - 'd' // a clean page of the file
	file[2*page] = 'x'    // a changed one

	wanted := []Range{{base, base + 64*page}, {fileBase, fileBase + 4*page}}
	slices.SortFunc(wanted, func(a, b Range) int { return int(int64(a.Start - b.Start)) })
	want := []Range{{base + 3*page, base + 6*page}, {base + 40*page, base + 41*page}, {fileBase + 2*page, fileBase + 3*page}}
	slices.SortFunc(want, func(a, b Range) int { return int(int64(a.Start - b.Start)) })
	if got := collect(t, resident(os.Getpid(), wanted, true)); !slices.Equal(got, want) {
		t.Errorf("by PAGEMAP_SCAN: got %x, want %x (guard pages: %v)", got, want, hasGuard)
	}
	// The words do not tell a page of zeros.
	got := slices.DeleteFunc(collect(t, resident(os.Getpid(), wanted, false)), func(r Range) bool {
		return r == Range{base + 20*page, base + 21*page}
	})
	if !slices.Equal(got, want) {
		t.Errorf("by words: got %x, want %x", got, want)
	}
	if zero != 0 {
		t.Error("memory that was never written to is not zero")
	}
	// A range within a page stands for the page.
	if got := collect(t, Resident(os.Getpid(), []Range{{base + 4*page + 100, base + 4*page + 200}})); !slices.Equal(got, []Range{{base + 4*page, base + 5*page}}) {
		t.Errorf("part of a page: got %x", got)
	}
	for range Resident(os.Getpid(), wanted) {
		break
	}
}

// TestResidentInBatches has more runs of pages than fit into one answer.
func TestResidentInBatches(t *testing.T) {
	page := uint64(os.Getpagesize())
	const runs = 3*regionsAtOnce + 7
	mem, base := mapped(t, int(2*runs*page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON, -1)
	var want []Range
	for i := range uint64(runs) {
		mem[2*i*page] = 1
		want = append(want, Range{base + 2*i*page, base + (2*i+1)*page})
	}
	all := []Range{{base, base + 2*runs*page}}
	for _, byScan := range []bool{true, false} {
		if got := collect(t, resident(os.Getpid(), all, byScan)); !slices.Equal(got, want) {
			t.Errorf("by scan %v: got %d ranges, want %d", byScan, len(got), runs)
		}
	}
}

func these(ranges ...Range) iter.Seq2[Range, error] {
	return func(yield func(Range, error) bool) {
		for _, r := range ranges {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func TestScanSeesEverythingOnce(t *testing.T) {
	page := uint64(os.Getpagesize())
	size := uint64(5*chunkSize) + 3*page
	mem, base := mapped(t, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON, -1)
	for i := uint64(0); i < size; i += 8 {
		binary.LittleEndian.PutUint64(mem[i:], i)
	}
	// One large range, many small ones, a hole between all of them.
	ranges := []Range{{base, base + 3*chunkSize + page}}
	for at := ranges[0].End + page; at+2*page < base+size; at += 2 * page {
		ranges = append(ranges, Range{at, at + page})
	}
	var total uint64
	for _, r := range ranges {
		total += r.Len()
	}
	for _, workers := range []int{1, 2, 4} {
		var mu sync.Mutex
		seen := make(map[uint64]int)
		borders := 0
		cover, err := Scan(context.Background(), os.Getpid(), these(ranges...), ScanOptions{Overlap: 60, Workers: workers}, func(w int, c Chunk) {
			mu.Lock()
			defer mu.Unlock()
			if w < 0 || w >= workers || c.Own <= 0 || c.Own > len(c.Data) {
				t.Errorf("worker %d sees %d of %d bytes", w, c.Own, len(c.Data))
			}
			for i := 0; i < len(c.Data); i += 8 {
				if v := binary.LittleEndian.Uint64(c.Data[i:]); v != c.Addr+uint64(i)-base {
					t.Fatalf("at 0x%x: %x", c.Addr+uint64(i), v)
				}
				if i < c.Own {
					seen[c.Addr+uint64(i)]++
				}
			}
			if len(c.Data) > c.Own {
				borders++
				if len(c.Data) != c.Own+64 {
					t.Errorf("an overlap of %d bytes", len(c.Data)-c.Own)
				}
			}
		})
		if err != nil || cover.Bytes != total || cover.Unreadable != 0 || borders != 3 {
			t.Errorf("%d workers: %+v, %v, %d borders; want %d bytes", workers, cover, err, borders, total)
		}
		for _, r := range ranges {
			for at := r.Start; at < r.End; at += 8 {
				if seen[at] != 1 {
					t.Fatalf("%d workers saw 0x%x %d times", workers, at, seen[at])
				}
			}
		}
	}
}

// TestScanTellsUnreadable takes the permission to read from some pages that
// were promised.
func TestScanTellsUnreadable(t *testing.T) {
	page := uint64(os.Getpagesize())
	mem, base := mapped(t, int(100*page), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON, -1)
	for i := range mem {
		mem[i] = 7
	}
	for _, i := range []uint64{0, 10, 11, 99} {
		if err := unix.Mprotect(mem[i*page:(i+1)*page], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	for name, ranges := range map[string][]Range{
		"one range":   {{base, base + 100*page}},
		"many ranges": {{base, base + 5*page}, {base + 5*page, base + 11*page}, {base + 11*page, base + 50*page}, {base + 50*page, base + 100*page}},
	} {
		var seen uint64
		cover, err := Scan(context.Background(), os.Getpid(), these(ranges...), ScanOptions{Overlap: 56, Workers: 1}, func(_ int, c Chunk) {
			seen += uint64(c.Own)
			if c.Data[0] != 7 || c.Data[c.Own-1] != 7 {
				t.Errorf("%s: wrong bytes at 0x%x", name, c.Addr)
			}
		})
		want := []Range{{base, base + page}, {base + 10*page, base + 12*page}, {base + 99*page, base + 100*page}}
		if err != nil || seen != 96*page || cover.Bytes != seen || cover.Unreadable != 4*page || !slices.Equal(cover.Where, want) {
			t.Errorf("%s: %+v, %v; saw %d pages", name, cover, err, seen/page)
		}
	}
}

func TestScanEnds(t *testing.T) {
	_, base := mapped(t, 8*chunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_POPULATE, -1)
	all := Range{base, base + 8*chunkSize}
	ctx, cancel := context.WithCancel(context.Background())
	chunks := 0
	cover, err := Scan(ctx, os.Getpid(), these(all), ScanOptions{Workers: 1}, func(int, Chunk) {
		chunks++
		cancel()
	})
	if !errors.Is(err, context.Canceled) || chunks != 1 || cover.Bytes != chunkSize {
		t.Errorf("after a cancel: %v, %d chunks, %+v", err, chunks, cover)
	}
	oops := errors.New("oops")
	_, err = Scan(context.Background(), os.Getpid(), func(yield func(Range, error) bool) { yield(Range{}, oops) }, ScanOptions{}, func(int, Chunk) {
		t.Error("a chunk of nothing")
	})
	if !errors.Is(err, oops) {
		t.Errorf("error of the ranges: got %v", err)
	}
}

func TestProcessThatEnded(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	for _, err := range Resident(pid, []Range{{0x1000, 0x2000}}) {
		if !errors.Is(err, proc.ErrGone) {
			t.Errorf("resident pages of a process that ended: %v", err)
		}
	}
	if _, err := Scan(context.Background(), pid, these(Range{0x1000, 0x2000}), ScanOptions{}, func(int, Chunk) {}); !errors.Is(err, proc.ErrGone) {
		t.Errorf("scan of a process that ended: %v", err)
	}
}

// TestProcessThatEndsMeanwhile kills the target between the look-up of its pages
// and the reading of them.
func TestProcessThatEndsMeanwhile(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	maps, err := proc.New("/proc").Maps(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	ranges := func(yield func(Range, error) bool) {
		for r, err := range Resident(cmd.Process.Pid, Private(maps)) {
			if in != nil {
				in.Close()
				in = nil
				_ = cmd.Wait()
			}
			if !yield(r, err) {
				return
			}
		}
	}
	if _, err := Scan(context.Background(), cmd.Process.Pid, ranges, ScanOptions{}, func(int, Chunk) {}); !errors.Is(err, proc.ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestPrivate(t *testing.T) {
	rw := proc.Mapping{Read: true, Write: true}
	at := func(m proc.Mapping, start, end uint64) proc.Mapping { m.Start, m.End = start, end; return m }
	shared := proc.Mapping{Read: true, Write: true, Shared: true}
	got := Private([]proc.Mapping{
		at(proc.Mapping{Read: true, Exec: true}, 0x1000, 0x2000), at(rw, 0x2000, 0x3000), at(rw, 0x3000, 0x5000),
		at(shared, 0x5000, 0x6000), at(rw, 0x6000, 0x7000), at(proc.Mapping{Write: true}, 0x7000, 0x8000), at(rw, 0x9000, 0x9000),
	})
	if want := []Range{{0x2000, 0x5000}, {0x6000, 0x7000}}; !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
