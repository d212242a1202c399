package inspect

import (
	"encoding/binary"
	"sync"

	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// pointer returns the thread pointer of a thread, 0 where it is not known.
func (p *process) pointer(tid int) uint64 {
	if v, ok := p.points[tid]; ok {
		return v
	}
	var v uint64
	switch {
	case p.load() != nil:
	case p.libcID.Family == "musl":
		v = p.muslThreads()[tid]
	default:
		// A program may have given the kernel a list of its own: then what lies
		// before it is no control block.
		if head, err := proc.RobustList(tid); err == nil && head != 0 {
			v = libc.ThreadPointer(head)
			if !libc.ControlBlock(v, procmem.Open(p.pid)) {
				v = 0
			}
		}
	}
	p.points[tid] = v
	return v
}

// muslThreads finds the thread pointers of a process with musl, which tells the
// kernel of no list of robust mutexes as a rule: by a search for the record of
// the first thread, from which a ring leads to all others. It is empty where the
// ring does not hold just the threads that the kernel knows, as after a raw clone.
func (p *process) muslThreads() map[int]uint64 {
	if p.ring != nil {
		return p.ring
	}
	p.ring = make(map[int]uint64)
	inner := make(map[int]int, len(p.tids)) // to the outer one
	var ids []int
	for _, tid := range p.tids {
		id := p.looks[1][tid].status.InnerPID()
		inner[id] = tid
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return p.ring
	}
	const record = 64 // of struct pthread is enough
	first := p.looks[1][p.pid].status.InnerPID()
	var mu sync.Mutex
	var found []uint64
	_, err := procmem.Scan(p.j.ctx, p.pid, procmem.Resident(p.pid, procmem.Private(p.maps)), procmem.ScanOptions{Overlap: record, Workers: procmem.ScanWorkers()},
		func(_ int, c procmem.Chunk) {
			for off := 0; off+8 <= min(c.Own, len(c.Data)); off += 8 {
				addr := c.Addr + uint64(off)
				if binary.LittleEndian.Uint64(c.Data[off:]) == addr && libc.MuslCandidate(c.Data[off:], addr, first) {
					mu.Lock()
					found = append(found, addr)
					mu.Unlock()
				}
			}
		})
	if err != nil {
		return p.ring
	}
	var ring []libc.MuslThread
	for _, addr := range found {
		r, ok := libc.MuslThreads(p.mem, addr, ids)
		if ok && ring != nil {
			return p.ring // two that cannot both be true
		}
		if ok {
			ring = r
		}
	}
	for _, t := range ring {
		p.ring[inner[t.TID]] = t.Pointer
	}
	return p.ring
}
