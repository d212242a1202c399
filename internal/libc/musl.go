package libc

import (
	"encoding/binary"
	"slices"

	"forkproof/internal/procmem"
)

// Lock words of musl (src/internal/pthread_impl.h, stdio_impl.h).
const (
	muslWaiters  = 1 << 31 // in the word of a mutex, rwlock or semaphore
	muslMaybe    = 1 << 30 // MAYBE_WAITERS in that of a stream
	muslBusy     = 16      // EBUSY: the word of a held mutex that names nobody
	muslAnyone   = muslMaybe - 1
	muslFileLock = 140 // FILE.lock
	muslFileSize = 232
	muslDetach   = 8 // detach_state, counted from tid
)

// classifyMusl follows musl 1.2: all waits are plain futex waits. Waiters on a
// condition variable sleep on a word of their own stack, and the first at a
// barrier does.
func classifyMusl(w Waiting, want wants, f Futex, mem procmem.Reader) Waiting {
	if f.Command() != opWait {
		return w
	}
	switch want {
	case condition:
		// Behind a signal a thread waits for the mutex.
		if m, ok := muslMutex(w, f, mem); ok && m.OwnerTID != 0 {
			return m
		}
		w.Kind, w.State = "condition-variable", "waits to be signalled"
		return w
	case barrier:
		w.Kind, w.State, w.Exclusive = "barrier", "waits for the other threads", true
		return w
	case semaphore:
		w.Kind, w.State = "semaphore", "0, with waiters"
		return w
	case rwlock:
		w.Kind, w.Exclusive, w.State = "pthread_rwlock", true, "held for reading"
		if f.Val&^muslWaiters == 1<<31-1 {
			w.State = "held for writing; a read-write lock of musl records no owner"
		}
		if v, err := procmem.Uint32(mem, f.Addr+8); err == nil {
			w.Shared = v != 0
		}
		return w
	case join:
		w.Kind, w.State, w.Exclusive, w.OwnerPointer = "thread-join", "the thread has not ended", true, muslJoined(f.Addr, mem)
		return w
	case once:
		w.Kind, w.State, w.Exclusive = "pthread-once", "another thread runs the function", true
		return w
	}
	if s, ok := muslStream(w, f, mem); ok {
		return s
	}
	if m, ok := muslMutex(w, f, mem); ok && (want == mutex || want == unnamed || m.OwnerTID != 0) {
		return m
	}
	if tp := muslJoined(f.Addr, mem); tp != 0 && f.Val < 3 {
		w.Kind, w.State, w.Exclusive, w.OwnerPointer = "thread-join", "the thread has not ended", true, tp
		return w
	}
	// LOCK of src/thread/__lock.c: the sign, and how many want it.
	if n := f.Val &^ muslWaiters; want == other && f.Val&muslWaiters != 0 && n > 0 && n < 1<<16 {
		w.Kind, w.State, w.Exclusive = "libc-internal", "held, with waiters", true
	}
	return w
}

// muslJoined returns the thread pointer of the thread whose detach_state lies at
// addr, 0 for none.
func muslJoined(addr uint64, mem procmem.Reader) uint64 {
	for _, l := range muslLayouts {
		if tp := addr - muslDetach - l.tid; addr > l.tid+muslDetach && l.record(tp, mem) {
			return tp
		}
	}
	return 0
}

// muslMutex decodes the mutex whose lock word, 4 bytes into it, is waited for. A
// normal one holds EBUSY. All others hold their owner's id, and are linked into
// the owner's list by _m_prev (24) and _m_next (32): so a mutex is told from a
// read-write lock, whose word counts readers.
func muslMutex(w Waiting, f Futex, mem procmem.Reader) (Waiting, bool) {
	b, err := procmem.Bytes(mem, f.Addr-4, MutexSize, MutexSize)
	if err != nil || f.Val&muslWaiters == 0 {
		return w, false
	}
	u := binary.LittleEndian
	typ, word := u.Uint32(b), u.Uint32(b[4:])
	if typ&^0x8f != 0 || typ&3 == 3 || word != f.Val {
		return w, false
	}
	tid := word & futexTID
	w.Kind, w.Addr, w.Exclusive, w.Shared = "pthread_mutex", f.Addr-4, true, typ&128 != 0
	w.State = [...]string{"normal", "recursive", "errorcheck"}[typ&3] + " mutex, held, with waiters"
	if typ&15 == 0 {
		w.State += "; such a mutex of musl records no owner"
		return w, tid == muslBusy
	}
	if typ&4 != 0 {
		w.State = "robust " + w.State
	}
	prev, next := u.Uint64(b[24:]), u.Uint64(b[32:])
	if tid == 0 || tid >= MaxTID || word&futexOwnerDied != 0 || u.Uint32(b[20:]) > 1<<20 || next == 0 || prev%8 != 0 {
		return w, false
	}
	if back, err := procmem.Uint64(mem, prev); err != nil || back != f.Addr-4+32 {
		return w, false
	}
	w.OwnerTID = int(tid)
	return w, true
}

// muslStream decodes the FILE whose lock is waited for: the owner's id, or for a
// lock that getc or putc took just "somebody".
func muslStream(w Waiting, f Futex, mem procmem.Reader) (Waiting, bool) {
	owner := f.Val &^ muslMaybe
	if f.Val&muslWaiters != 0 || f.Val&muslMaybe == 0 || owner == 0 || owner >= MaxTID && owner != muslAnyone || f.Addr < muslFileLock {
		return w, false
	}
	b, err := procmem.Bytes(mem, f.Addr-muslFileLock, muslFileSize, muslFileSize)
	if err != nil {
		return w, false
	}
	u := binary.LittleEndian
	mode, fd := int32(u.Uint32(b[136:])), int32(u.Uint32(b[120:]))
	if u.Uint32(b[muslFileLock:]) != f.Val || mode < -1 || mode > 1 || fd < -1 || fd > 1<<24 || u.Uint64(b[48:]) != 0 {
		return w, false
	}
	w.Kind, w.Addr, w.Stream, w.Exclusive, w.State = "stdio", f.Addr, f.Addr-muslFileLock, true, "stream, held, with waiters"
	if owner < MaxTID {
		w.OwnerTID = int(owner)
	}
	return w, true
}

// MuslThread is a thread of musl as its own record has it.
type MuslThread struct {
	// Pointer is where its struct pthread begins, which is pthread_self().
	Pointer uint64
	// TID is the id that its locks record, from 1 to MaxTID-1.
	TID int
}

// muslLayout is where struct pthread has its fields.
type muslLayout struct{ prev, next, tid uint64 }

// muslLayouts are those of musl 1.1.22 and later: on x86-64, and on AArch64,
// where the array of thread-local data is not in front.
var muslLayouts = []muslLayout{{16, 24, 48}, {8, 16, 32}}

func (l muslLayout) self(at uint64, mem procmem.Reader) bool {
	self, err := procmem.Uint64(mem, at)
	return err == nil && self == at && at != 0 && at%8 == 0
}

// record reports whether a thread's struct pthread lies at addr: also that of one
// which vanished at a fork: its neighbours have closed the ring without it, but are
// still where they were, and it has the id -1 (src/process/fork.c).
func (l muslLayout) record(at uint64, mem procmem.Reader) bool {
	prev, err := procmem.Uint64(mem, at+l.prev)
	next, err2 := procmem.Uint64(mem, at+l.next)
	if err != nil || err2 != nil {
		return false
	}
	for _, a := range []uint64{at, prev, next} {
		tid, err := procmem.Uint32(mem, a+l.tid)
		if err != nil || tid == 0 || tid >= MaxTID && tid != 1<<32-1 || !l.self(a, mem) {
			return false
		}
	}
	return true
}

// MuslCandidate reports whether the words at addr, given as memory, may begin the
// struct pthread of a thread of this id: MuslThreads is to decide.
func MuslCandidate(b []byte, addr uint64, tid int) bool {
	if len(b) < 52 || binary.LittleEndian.Uint64(b) != addr {
		return false
	}
	for _, l := range muslLayouts {
		if int(binary.LittleEndian.Uint32(b[l.tid:])) == tid {
			return true
		}
	}
	return false
}

// MuslThreads follows the ring of all threads of a process from the struct
// pthread at addr. It is that of the process, and not a trace of the past or
// something that only looks so, if and only if the ids in the ring are tids, all
// of them and no others: else ok is false. It may be so while threads come and go.
func MuslThreads(mem procmem.Reader, addr uint64, tids []int) (threads []MuslThread, ok bool) {
	for _, l := range muslLayouts {
		if threads, ok := l.ring(mem, addr, tids); ok {
			return threads, true
		}
	}
	return nil, false
}

func (l muslLayout) ring(mem procmem.Reader, first uint64, tids []int) ([]MuslThread, bool) {
	var out []MuslThread
	var ids []int
	for at := first; ; {
		if !l.self(at, mem) || len(out) > len(tids) {
			return nil, false
		}
		next, err := procmem.Uint64(mem, at+l.next)
		tid, err2 := procmem.Uint32(mem, at+l.tid)
		if err != nil || err2 != nil || tid == 0 || tid >= MaxTID {
			return nil, false
		}
		if back, err := procmem.Uint64(mem, next+l.prev); err != nil || back != at {
			return nil, false
		}
		out, ids = append(out, MuslThread{Pointer: at, TID: int(tid)}), append(ids, int(tid))
		if at = next; at == first {
			break
		}
	}
	want := slices.Clone(tids)
	slices.Sort(want)
	slices.Sort(ids)
	return out, slices.Equal(ids, want)
}
