package orphan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// Gather reads from /proc what Scan needs to know of a process. Ancestors are
// the processes that it was forked from without execve in between, the parent
// first, as far as they are alive; there may be none, and then little can be
// found. It stops and changes nobody.
func Gather(fs proc.FS, pid int, ancestors []int, id libc.Identity) (Target, error) {
	t := Target{Libc: id}
	var err error
	fail := func(err error) (Target, error) {
		return Target{}, fmt.Errorf("look for the locks that process %d inherited: %w", pid, err)
	}
	if t.ID, err = fs.Identity(pid); err != nil {
		return fail(err)
	}
	if t.Mappings, err = fs.Maps(pid); err != nil {
		return fail(err)
	}
	own, err := threads(fs, pid)
	if err != nil {
		return fail(err)
	}
	mem := procmem.Open(pid)
	var first threadInfo
	t.AllTCBs = true
	for _, o := range own {
		// A raw clone leaves even the first thread without a list.
		t.AllTCBs = t.AllTCBs && (o.tcb != 0 || o.tid == pid)
		t.Threads = append(t.Threads, o.inner)
		if o.tcb != 0 {
			t.TCBs = append(t.TCBs, o.tcb)
			// The thread's own record of its id: a raw clone leaves the old one.
			if was, err := procmem.Uint32(mem, o.head-16); err == nil && was > 0 && was < libc.MaxTID && id.Family == "glibc" {
				t.Former = append(t.Former, int(was))
			}
		}
		if o.tid == pid {
			first = o
		}
	}
	t.Recheck = func() ([]int, error) {
		own, err := threads(fs, pid)
		var ids []int
		for _, o := range own {
			ids = append(ids, o.inner)
		}
		return ids, err
	}
	t.OpenMapped = func(m proc.Mapping) (*os.File, error) { return fs.OpenMapped(pid, m) }
	survivorKnown := len(ancestors) > 0
	for i, a := range ancestors {
		theirs, err := threads(fs, a)
		if err != nil {
			if proc.IsGone(err) {
				survivorKnown = false
				continue
			}
			return fail(err)
		}
		maps, err := fs.Maps(a)
		if err != nil && !proc.IsGone(err) {
			return fail(err)
		}
		for _, o := range theirs {
			if o.start > t.ID.Start {
				continue // began after the fork
			}
			switch survivor(first, o, maps) {
			case no:
				t.Vanished = append(t.Vanished, Thread{PID: a, TID: o.tid, Inner: o.inner, TCB: o.tcb})
			case unknown:
				survivorKnown = false
				t.Former = append(t.Former, o.inner)
			case yes:
				t.Former = append(t.Former, o.inner)
				if first.tcb == 0 && o.tcb != 0 {
					first.tcb = o.tcb
					t.TCBs = append(t.TCBs, o.tcb)
				}
			}
			if i == 0 && o.tid == a {
				t.After = o.inner
			}
		}
	}
	if len(ancestors) > 0 {
		t.Parent = procmem.Open(ancestors[0])
		// Ids of two namespaces cannot be compared, and a survivor that is not
		// known under its old id cannot be told from one that ended.
		a, err1 := fs.Namespace(pid, "pid")
		b, err2 := fs.Namespace(ancestors[0], "pid")
		if survivorKnown && err1 == nil && err2 == nil && a == b {
			t.Before = first.inner
		}
	}
	t.AllTCBs = t.AllTCBs && first.tcb != 0
	t.Stacks = deadStacks(mem, t, own)
	return t, nil
}

// threadInfo is one thread as /proc shows it.
type threadInfo struct {
	tid, inner int
	start      uint64
	// head is that of its robust list, tcb the thread pointer before it; both 0
	// where the thread has no such list.
	head, tcb uint64
	// sp is the stack pointer, 0 while the thread runs.
	sp uint64
}

func threads(fs proc.FS, pid int) ([]threadInfo, error) {
	tids, err := fs.Threads(pid)
	if err != nil {
		return nil, err
	}
	out := make([]threadInfo, 0, len(tids))
	for _, tid := range tids {
		st, err := fs.TaskStatus(pid, tid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		o := threadInfo{tid: tid, inner: st.InnerPID()}
		if s, err := fs.TaskStat(pid, tid); err == nil {
			o.start = s.StartTime
		}
		if h, err := proc.RobustList(tid); err == nil && h != 0 {
			o.head, o.tcb = h, libc.ThreadPointer(h)
		}
		if c, err := fs.Syscall(pid, tid); err == nil && !c.Running {
			o.sp = c.SP
		}
		out = append(out, o)
	}
	if len(out) == 0 {
		return nil, proc.ErrGone
	}
	return out, nil
}

type answer int

const (
	unknown answer = iota
	yes
	no
)

// survivor says whether a thread of an ancestor is the one that called fork: the
// one that first goes on as. Both have the same thread pointer, since fork
// copies that too; and both still use the same stack.
func survivor(first, o threadInfo, maps []proc.Mapping) answer {
	switch {
	case first.tcb != 0 && o.tcb != 0 && first.tcb == o.tcb:
		return yes
	case first.tcb != 0 && o.tcb != 0:
		return no
	case first.sp == 0 || o.sp == 0:
		return unknown
	}
	m, ok := proc.Find(maps, o.sp)
	switch {
	case !ok:
		return unknown
	case m.Contains(first.sp):
		return yes
	}
	return no
}

// maxStack bounds what is believed of a thread's own record of its stack.
const maxStack = 1 << 30

// deadStacks lists where a held lock would only be a trace of the past: the
// stacks of vanished threads, on which nothing runs any more and which nothing
// else may point into, and what lies below the stack pointers of those who live.
func deadStacks(mem procmem.Reader, t Target, own []threadInfo) []procmem.Range {
	live := make(map[uint64]bool)
	var out []procmem.Range
	for _, o := range own {
		live[o.tcb] = true
		m, ok := proc.Find(t.Mappings, o.sp)
		if o.sp == 0 || !ok {
			continue
		}
		const redZone = 128 // x86-64 leaf functions use that much below
		low := m.Start
		if m.Path != "[stack]" {
			r, ok := stackOf(mem, o.tcb)
			if !ok || o.sp < r.Start || o.sp >= r.End {
				continue
			}
			low = r.Start
		}
		if o.sp-redZone > low {
			out = append(out, procmem.Range{Start: low, End: o.sp - redZone})
		}
	}
	for _, v := range t.Vanished {
		if v.TCB == 0 || live[v.TCB] {
			continue // a new thread may live on the old one's stack
		}
		if r, ok := stackOf(mem, v.TCB); ok {
			out = append(out, r)
		}
	}
	return out
}

// stackOf returns the memory of a thread's stack, which holds its thread
// pointer and thread-local data too. Both glibc and musl note it in the thread's
// control block as an address followed by a size, at places that differ between
// versions; the pair is known by its pages and by what lies within it.
func stackOf(mem procmem.Reader, tcb uint64) (procmem.Range, bool) {
	const page, search, above = 4096, 0x940, 1 << 20
	if tcb == 0 {
		return procmem.Range{}, false
	}
	var b [search]byte
	if _, err := mem.ReadAt(b[:], tcb); err != nil {
		return procmem.Range{}, false
	}
	for i := 0; i+16 <= search; i += 8 {
		at, size := binary.LittleEndian.Uint64(b[i:]), binary.LittleEndian.Uint64(b[i+8:])
		if at%page == 0 && size%page == 0 && size > 0 && size <= maxStack && at <= tcb && tcb < at+size && at+size-tcb < above {
			return procmem.Range{Start: at, End: at + size}, true
		}
	}
	return procmem.Range{}, false
}
