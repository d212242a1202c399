package procmem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// Chunk is a piece of a process's memory as it was read.
type Chunk struct {
	// Addr is the address of Data's first byte.
	Addr uint64
	// Data is only valid until the visitor returns.
	Data []byte
	// Own is how many bytes of Data belong to this chunk. What follows is the
	// beginning of the next one, so that an object that lies across the border
	// is seen whole by whoever looks at each place of the first Own bytes.
	Own int
}

// ScanOptions says how to scan. The zero value is good.
type ScanOptions struct {
	// Overlap is how many bytes a visitor wants to see behind a chunk's own,
	// where the memory goes on there; at most 4096.
	Overlap int
	// Workers is how many chunks are read and visited at a time; 0 means one
	// for each processor, at most 4.
	Workers int
}

// Coverage says what a scan has read.
type Coverage struct {
	// Bytes were read.
	Bytes uint64
	// Unreadable are bytes that could not be, since the process gave them back
	// or forbade itself to read them meanwhile.
	Unreadable uint64
	// Where are the first few unreadable ranges.
	Where []Range
}

// chunkSize is how much is read at a time. A chunk that stays in a processor's
// own cache between the kernel's copy and the visitor costs least; 256 KiB is
// half of it on most.
const chunkSize = 256 << 10

const (
	maxPieces     = 128
	maxUnreadable = 64
)

// Scan reads the ranges, which may be those of Resident, and shows them to
// visit, in chunks and not necessarily in order. visit is called by several
// goroutines at a time, each with a number of its own from 0 up to but without
// Workers. However large the process is, Scan holds 256 KiB per worker and some.
//
// Pages that cannot be read are skipped and told. The error is that of the
// ranges, of ctx, or proc.ErrGone for a process that ended meanwhile; what was
// visited until then is told too.
func Scan(ctx context.Context, pid int, ranges iter.Seq2[Range, error], opt ScanOptions, visit func(worker int, c Chunk)) (Coverage, error) {
	s := scan{pid: pid, page: uint64(os.Getpagesize()), overlap: uint64(min(max(opt.Overlap, 0), 4096)+7) &^ 7}
	var stop func()
	s.next, stop = iter.Pull2(ranges)
	defer stop()
	workers := opt.Workers
	if workers <= 0 {
		workers = ScanWorkers()
	}
	if workers == 1 {
		s.work(ctx, 0, visit)
		return s.cover, s.err
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { s.work(ctx, i, visit) })
	}
	wg.Wait()
	return s.cover, s.err
}

// ScanWorkers is how many workers Scan uses where it is left the choice.
func ScanWorkers() int { return min(runtime.GOMAXPROCS(0), 4) }

// scan is the state that the workers of one Scan share.
type scan struct {
	pid     int
	page    uint64
	overlap uint64

	mu    sync.Mutex
	next  func() (Range, error, bool)
	rest  Range
	cover Coverage
	err   error
}

// piece is one Chunk that is still to be read.
type piece struct {
	Range
	// tail is how many bytes behind the range belong to the next chunk.
	tail uint64
}

// take fills one worker's hands with up to chunkSize bytes in few or many
// pieces; there are none where all is done.
func (s *scan) take(ctx context.Context, into []piece) []piece {
	into = into[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	room := uint64(chunkSize)
	for s.err == nil && len(into) < maxPieces && room > 0 {
		if s.rest.Start >= s.rest.End {
			r, err, ok := s.next()
			if !ok {
				break
			}
			if s.err = err; err != nil {
				break
			}
			s.rest = r
			continue
		}
		// A range is only cut where a chunk ends: cuts cost an overlap each.
		if len(into) > 0 && s.rest.Len() > room && room < chunkSize/2 {
			break
		}
		p := piece{Range: Range{s.rest.Start, s.rest.Start + min(room, s.rest.Len())}}
		p.tail = min(s.overlap, s.rest.End-p.End)
		s.rest.Start = p.End
		room -= p.Len()
		into = append(into, p)
	}
	if err := ctx.Err(); err != nil && s.err == nil {
		s.err = err
	}
	if s.err != nil {
		return nil
	}
	return into
}

func (s *scan) work(ctx context.Context, worker int, visit func(int, Chunk)) {
	pieces := make([]piece, 0, maxPieces)
	remote := make([]unix.RemoteIovec, 0, maxPieces)
	buf := make([]byte, chunkSize+maxPieces*s.overlap)
	for {
		if pieces = s.take(ctx, pieces); len(pieces) == 0 {
			return
		}
		for todo := pieces; len(todo) > 0; {
			remote = remote[:0]
			total := uint64(0)
			for _, p := range todo {
				remote = append(remote, unix.RemoteIovec{Base: uintptr(p.Start), Len: int(p.Len() + p.tail)})
				total += p.Len() + p.tail
			}
			local := [1]unix.Iovec{{Base: &buf[0]}}
			local[0].SetLen(int(total))
			n, err := readv(s.pid, local[:], remote)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EFAULT):
				n = 0
			case errors.Is(err, unix.ESRCH):
				s.fail(fmt.Errorf("read memory of process %d: %w", s.pid, proc.ErrGone))
				return
			case err != nil:
				s.fail(fmt.Errorf("read memory of process %d: %w", s.pid, err))
				return
			}
			todo = s.show(todo, buf[:min(uint64(max(n, 0)), total)], worker, visit)
		}
	}
}

// readv is process_vm_readv(2) without telling Go's scheduler: a call takes
// some 40 µs, after which it would have given the processor to another thread,
// and have to find one anew, thousands of times a second.
func readv(pid int, local []unix.Iovec, remote []unix.RemoteIovec) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(pid),
		uintptr(unsafe.Pointer(&local[0])), uintptr(len(local)), uintptr(unsafe.Pointer(&remote[0])), uintptr(len(remote)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// show gives the visitor what was read of the pieces, leaves out the page at
// which reading stopped, and returns what is left to do.
func (s *scan) show(todo []piece, got []byte, worker int, visit func(int, Chunk)) []piece {
	read, bad := uint64(0), Range{}
	for len(todo) > 0 {
		p := &todo[0]
		n := min(uint64(len(got)), p.Len()+p.tail)
		own := min(n, p.Len())
		if own > 0 {
			visit(worker, Chunk{Addr: p.Start, Data: got[:n], Own: int(own)})
			read += own
		}
		got = got[n:]
		if own < p.Len() {
			at := p.Start + own
			bad = Range{at, min(at-at%s.page+s.page, p.End)}
			if p.Start = bad.End; p.Start == p.End {
				todo = todo[1:]
			}
			break
		}
		// A tail that could not be read is the next chunk's own, which tells.
		cut := n < p.Len()+p.tail
		todo = todo[1:]
		if cut {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cover.Bytes += read
	if n := bad.Len(); n > 0 {
		s.cover.Unreadable += n
		if w := s.cover.Where; len(w) > 0 && w[len(w)-1].End == bad.Start {
			w[len(w)-1].End = bad.End
		} else if len(w) < maxUnreadable {
			s.cover.Where = append(w, bad)
		}
	}
	return todo
}

func (s *scan) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}
