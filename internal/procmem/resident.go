package procmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// Range is a piece of an address space, from Start up to and without End.
type Range struct{ Start, End uint64 }

// Len is how many bytes the range covers.
func (r Range) Len() uint64 { return r.End - r.Start }

// Private returns what of a process's mappings is memory of its own that it may
// write, in ascending order, neighbours joined: an object of .bss may begin in
// the last page of a file's data and go on in the anonymous memory behind it.
func Private(maps []proc.Mapping) []Range {
	var out []Range
	for _, m := range maps {
		if !m.Read || !m.Write || m.Shared || m.End <= m.Start {
			continue
		}
		if n := len(out); n > 0 && out[n-1].End == m.Start {
			out[n-1].End = m.End
			continue
		}
		out = append(out, Range{m.Start, m.End})
	}
	return out
}

// Categories of a page and the request PAGEMAP_SCAN, include/uapi/linux/fs.h.
const (
	pageFile    = 1 << 2
	pagePresent = 1 << 3
	pageSwapped = 1 << 4
	pageZero    = 1 << 5
	pageGuard   = 1 << 8 // Linux 6.15

	pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
)

// Bits of a word of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.
const (
	wordPresent = 1 << 63
	wordSwapped = 1 << 62
	wordFile    = 1 << 61
	wordGuard   = 1 << 58
)

// scanArg is struct pm_scan_arg.
type scanArg struct {
	size, flags, start, end, walkEnd    uint64
	vec, vecLen, maxPages               uint64
	inverted, mask, anyOf, returnedMask uint64
}

// region is struct page_region.
type region struct{ start, end, categories uint64 }

// Sizes of what is asked of the kernel at a time: 24 KiB of regions, or 32 KiB
// of words, which are 16 MiB of address space.
const (
	regionsAtOnce = 1024
	wordsAtOnce   = 4096
)

// Resident yields the pages within the wanted ranges that are memory of the
// process's own and really there, or in swap: left out are holes that were never
// touched, pages of a file that the process has not changed, the kernel's page
// of zeros, and guard pages. Wanted ranges must be in ascending order and must
// not overlap; what is yielded is in that order too, in whole pages, neighbours
// joined as far as the kernel joins them.
//
// Linux 6.7 and later answer by PAGEMAP_SCAN; before that every page's word is
// read, and pages of zeros that were only read from are yielded too, since the
// words do not tell them apart.
//
// It needs the permission that reading the memory needs, holds some 64 KiB
// whatever the size of the process, and may miss a page that comes into being
// while it looks. The error is yielded last, with an empty range: proc.ErrGone
// for a process that ended.
func Resident(pid int, wanted []Range) iter.Seq2[Range, error] {
	return resident(pid, wanted, true)
}

func resident(pid int, wanted []Range, byScan bool) iter.Seq2[Range, error] {
	return func(yield func(Range, error) bool) {
		f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
		if err != nil {
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				err = proc.ErrGone
			}
			yield(Range{}, fmt.Errorf("look up the present pages of process %d: %w", pid, err))
			return
		}
		defer f.Close()
		w := walker{f: f, page: uint64(os.Getpagesize()), yield: yield}
		if byScan {
			w.regions, w.inverted = make([]region, regionsAtOnce), pageFile|pageZero|pageGuard
		}
		for _, r := range wanted {
			r.Start -= r.Start % w.page
			r.End += (w.page - r.End%w.page) % w.page
			if err := w.walk(r); err != nil {
				if !errors.Is(err, errStop) {
					yield(Range{}, fmt.Errorf("look up the present pages of process %d: %w", pid, err))
				}
				return
			}
		}
	}
}

// errStop ends a walk whose caller wants no more.
var errStop = errors.New("enough")

// walker looks up pages for one Resident.
type walker struct {
	f     *os.File
	page  uint64
	yield func(Range, error) bool
	// regions is nil where the kernel has no PAGEMAP_SCAN.
	regions []region
	// inverted are the categories that a page must not have.
	inverted uint64
	words    []byte
}

func (w *walker) walk(r Range) error {
	for w.regions != nil && r.Start < r.End {
		arg := scanArg{
			start: r.Start, end: r.End, vec: uint64(uintptr(unsafe.Pointer(&w.regions[0]))), vecLen: uint64(len(w.regions)),
			inverted: w.inverted, mask: w.inverted, anyOf: pagePresent | pageSwapped,
		}
		arg.size = uint64(unsafe.Sizeof(arg))
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, w.f.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EINVAL && w.inverted&pageGuard != 0:
			w.inverted &^= pageGuard
			continue
		case errno == unix.ESRCH:
			return proc.ErrGone
		case errno == unix.ENOTTY || errno == unix.EINVAL || errno == unix.ENOSYS || errno == unix.EPERM:
			w.regions = nil
			continue
		case errno != 0:
			return errno
		}
		for _, g := range w.regions[:min(int(n), len(w.regions))] {
			if !w.yield(Range{g.start, g.end}, nil) {
				return errStop
			}
		}
		if arg.walkEnd <= r.Start {
			break
		}
		r.Start = arg.walkEnd
	}
	return w.walkWords(r)
}

// walkWords is walk by the words of the pagemap file.
func (w *walker) walkWords(r Range) error {
	if w.words == nil && r.Start < r.End {
		w.words = make([]byte, 8*wordsAtOnce)
	}
	var run Range
	for r.Start < r.End {
		want := min(wordsAtOnce, (r.End-r.Start)/w.page)
		n, err := w.f.ReadAt(w.words[:8*want], int64(r.Start/w.page*8))
		if err != nil && !errors.Is(err, io.EOF) {
			if errors.Is(err, unix.ESRCH) {
				err = proc.ErrGone
			}
			return err
		}
		if n < 8 {
			// The kernel gives nothing for a process whose memory is gone.
			return proc.ErrGone
		}
		for i := 0; i+8 <= n; i += 8 {
			v := binary.LittleEndian.Uint64(w.words[i:])
			at := r.Start + uint64(i/8)*w.page
			if v&(wordPresent|wordSwapped) == 0 || v&(wordFile|wordGuard) != 0 {
				continue
			}
			if run.End == at && run.Start < run.End {
				run.End += w.page
				continue
			}
			if run.Start < run.End && !w.yield(run, nil) {
				return errStop
			}
			run = Range{at, at + w.page}
		}
		r.Start += uint64(n/8) * w.page
	}
	if run.Start < run.End && !w.yield(run, nil) {
		return errStop
	}
	return nil
}
