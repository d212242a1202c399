package libc

import (
	"encoding/binary"
	"fmt"

	"forkproof/internal/procmem"
)

// Waiting is what a thread that sleeps in a futex waits for.
type Waiting struct {
	// Kind is a term of finding.Lock.Kind.
	Kind string
	// Addr is where the lock object begins.
	Addr uint64
	// OwnerTID is who holds the lock, from 1 to MaxTID-1, 0 where it does not
	// say.
	OwnerTID int
	// OwnerPointer is the thread pointer of who holds the lock, 0 where it does
	// not say. For a thread-join it is the thread's whose end is awaited.
	OwnerPointer uint64
	// Stream is the FILE whose lock it is, 0 for none that is known.
	Stream uint64
	// Shared: another process may hold it.
	Shared bool
	// Exclusive: only whoever holds it may release it, so no signal handler
	// ends the wait. False for semaphores, condition variables and what is not
	// recognised.
	Exclusive bool
	// State is the lock in words.
	State string
	// Via is the function of the C library that the program called and that
	// waits, where its name is known. It is never an inner one's.
	Via string
}

// Classify tells what a thread waits for, from the arguments of futex(2), the
// memory around the word, and the functions on its stack.
func Classify(f Futex, callers []Caller, mem procmem.Reader, id Identity) Waiting {
	frames := inner(callers)
	w := Waiting{Kind: "futex", Addr: f.Addr, Via: via(frames)}
	if len(callers) > 0 && isOpenMP(callers) {
		w.Kind, w.Exclusive, w.State = "openmp-barrier", true, "waits for the other threads of the team"
		return w
	}
	if len(frames) == 0 && len(callers) > 0 {
		return w // a futex of the program's own
	}
	want := told(frames)
	if want == bare {
		return w
	}
	if id.Family == "musl" {
		return classifyMusl(w, want, f, mem)
	}
	return classifyGlibc(w, want, f, mem, id, len(frames) > 0)
}

func isOpenMP(callers []Caller) bool {
	o := callers[0].Object
	return len(o) >= 7 && o[:7] == "libgomp"
}

// classifyGlibc follows nptl of glibc 2.17 and later.
func classifyGlibc(w Waiting, want wants, f Futex, mem procmem.Reader, id Identity, inLibc bool) Waiting {
	switch want {
	case condition:
		// On its way out of the wait a thread takes the mutex again.
		if m, ok := heldMutex(f, mem); ok {
			return m.waiting(w)
		}
		w.Kind, w.State, w.Addr = "condition-variable", "waits to be signalled", condAddr(f.Addr, mem, id)
		return w
	case barrier:
		w.Kind, w.State, w.Exclusive = "barrier", "waits for the other threads", true
		if id.Minor == 0 || id.Minor >= 25 {
			w.Addr = f.Addr - 4 // struct pthread_barrier: in 0, current_round 4
		}
		return w
	case semaphore:
		w.Kind, w.State = "semaphore", semState(f, mem)
		return w
	case rwlock:
		return classifyRW(w, f, mem, id)
	case join:
		return classifyJoin(w, f, mem)
	case once:
		w.Kind, w.State, w.Exclusive = "pthread-once", "another thread runs the function", true
		return w
	}
	// A word of libc's own data beside other words may look like a mutex: where
	// functions have names they must agree.
	if want != other {
		if m, ok := heldMutex(f, mem); ok {
			return m.waiting(w)
		}
	}
	if !f.Private() && (want == unnamed || want == other) {
		// pthread_join often leaves no frame, as a program's last call.
		if j := classifyJoin(w, f, mem); j.OwnerPointer != 0 {
			return j
		}
	}
	if want == unnamed && f.Command() == opWaitBitset && f.Val == 0 {
		if v, err := procmem.Uint64(mem, f.Addr); err == nil && uint32(v) == 0 && v>>32 > 0 && v>>32 < 1<<16 {
			w.Kind, w.State = "semaphore", semState(f, mem)
			return w
		}
	}
	if f.Command() == opWait && f.Val == 2 && f.Private() && inLibc {
		w.Kind, w.State, w.Exclusive = "libc-internal", "held, with waiters", true
		if owner, ok := recursiveOwner(f.Addr, mem); ok {
			w.OwnerPointer = owner
			if s, ok := streamOf(f.Addr, mem); ok {
				w.Kind, w.State, w.Stream = "stdio", "stream, held, with waiters", s
			}
		}
	}
	return w
}

// heldMutex decodes the mutex that a thread waits for with these arguments.
func heldMutex(f Futex, mem procmem.Reader) (Mutex, bool) {
	b, err := procmem.Bytes(mem, f.Addr, MutexSize, MutexSize)
	if err != nil {
		return Mutex{}, false
	}
	m := DecodeMutex(b)
	pi := f.Inherits()
	// The waiters of a robust mutex, or of any that priority does not matter to,
	// sleep as long as the word is what they saw (nptl/pthread_mutex_lock.c).
	fits := m.Plausible() && pi == (m.Kind&kindPI != 0) && (pi || f.Val == m.Lock) && (pi || f.Command() == opWait || f.Command() == opWaitBitset)
	if fits && m.Kind&kindRobust != 0 && m.Lock&futexWaiters == 0 {
		fits = false
	}
	return m, fits
}

func (m Mutex) waiting(w Waiting) Waiting {
	w.Kind, w.OwnerTID, w.Shared, w.Exclusive = "pthread_mutex", m.OwnerTID(), m.Shared(), true
	w.State = fmt.Sprintf("%s mutex, held, %d in use", m.TypeName(), m.Users)
	return w
}

// condAddr returns where a condition variable begins whose waiter sleeps at addr:
// on __futex (4) before glibc 2.25, then on one of __g_signals, which 2.41 moved
// from 40 to 32 (sysdeps/nptl/bits/thread-shared-types.h). The branches of 2.38 to
// 2.40 moved it too: there the words that only the older layout has must tell.
func condAddr(addr uint64, mem procmem.Reader, id Identity) uint64 {
	if id.Minor > 0 && id.Minor < 25 {
		return addr - 4
	}
	group := addr % 8 // of two words, aligned to 8
	addr -= group
	old := id.Minor == 0 || id.Minor < 41
	if id.Minor >= 38 && id.Minor <= 40 {
		seq, err := procmem.Uint64(mem, addr-40)
		refs, err2 := procmem.Uint32(mem, addr-24+group)
		old = err == nil && err2 == nil && seq >= 2 && refs > 0 && refs%2 == 0 && refs < 1<<20
	}
	if old {
		return addr - 40
	}
	return addr - 32
}

func semState(f Futex, mem procmem.Reader) string {
	v, err := procmem.Uint64(mem, f.Addr)
	if n := v >> 32; err == nil && uint32(v) == 0 && n > 0 && n < 1<<16 {
		return fmt.Sprintf("0, %d waiting", n)
	}
	return "0, with waiters"
}

func classifyRW(w Waiting, f Futex, mem procmem.Reader, id Identity) Waiting {
	w.Kind, w.Exclusive = "pthread_rwlock", true
	if id.Major == 2 && id.Minor > 0 && id.Minor < 25 {
		return w
	}
	// Waiters sleep on __wrphase_futex (8) or __writers_futex (12), readers
	// behind a writer on the former.
	for _, off := range []uint64{8, 12} {
		b, err := procmem.Bytes(mem, f.Addr-off, RWLockSize, RWLockSize)
		if err != nil {
			continue
		}
		l := DecodeRWLock(b)
		if l.Plausible() {
			w.Addr, w.OwnerTID, w.Shared = f.Addr-off, int(l.Writer), l.Shared
			w.State = "held for writing"
			return w
		}
	}
	w.Addr, w.State = f.Addr&^7-8, "held for reading" // the lock is aligned to 8
	return w
}

// classifyJoin finds the thread whose end is awaited: the word lies in its
// struct pthread (tid, and from 2.43 on joinstate).
func classifyJoin(w Waiting, f Futex, mem procmem.Reader) Waiting {
	w.Kind, w.State, w.Exclusive = "thread-join", "the thread has not ended", true
	const most = 0x900 // sizeof(struct pthread) is 2304 at most, 2.31 to 2.43
	for at := f.Addr &^ 63; at+most > f.Addr; at -= 64 {
		if ControlBlock(at, mem) {
			w.OwnerPointer = at
			break
		}
		if at < 64 {
			break
		}
	}
	return w
}

// ControlBlock reports whether a thread's control block lies at addr: on x86-64 it holds
// its own address twice (tcbhead_t: tcb 0, self 16). A thread that vanished at a
// fork has left it in the child, too.
func ControlBlock(addr uint64, mem procmem.Reader) bool {
	if addr == 0 || addr%16 != 0 {
		return false
	}
	tcb, err := procmem.Uint64(mem, addr)
	self, err2 := procmem.Uint64(mem, addr+16)
	return err == nil && err2 == nil && tcb == addr && self == addr
}

// recursiveOwner decodes a held _IO_lock_t, which is also what libc's own
// recursive locks are: int lock, int cnt, void *owner.
func recursiveOwner(addr uint64, mem procmem.Reader) (uint64, bool) {
	b, err := procmem.Bytes(mem, addr, 16, 16)
	if err != nil {
		return 0, false
	}
	u := binary.LittleEndian
	owner := u.Uint64(b[8:])
	return owner, u.Uint32(b) == 2 && u.Uint32(b[4:]) < 1<<20 && ControlBlock(owner, mem)
}

// Places in a FILE of glibc (libio/bits/types/struct_FILE.h). A stream that fopen
// made is a struct locked_FILE, whose lock follows it (libio/iofopen.c).
const (
	fileMagic  = 0xfbad
	fileLockAt = 136
	fileSize   = 224
)

// streamOf returns the stream that fopen made together with the lock at addr.
func streamOf(addr uint64, mem procmem.Reader) (uint64, bool) {
	l, ok := StreamLock(addr-fileSize, mem)
	return addr - fileSize, ok && l == addr
}

// StreamLock returns where the lock of the FILE at stream lies, in glibc.
func StreamLock(stream uint64, mem procmem.Reader) (uint64, bool) {
	flags, err := procmem.Uint32(mem, stream)
	if err != nil || flags>>16 != fileMagic {
		return 0, false
	}
	l, err := procmem.Uint64(mem, stream+fileLockAt)
	return l, err == nil && l != 0
}
