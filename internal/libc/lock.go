package libc

import (
	"encoding/binary"
	"fmt"
	"strings"

	"forkproof/internal/procmem"
)

// MaxTID is the largest thread id that Linux gives (PID_MAX_LIMIT, 4 Mi).
const MaxTID = 1 << 22

// tcbBelowRobust is how far struct pthread's robust_head lies behind its start
// on x86-64, where the start is the thread pointer and pthread_self(): glibc
// nptl/descr.h, the same in 2.31, 2.36, 2.41 and 2.43.
const tcbBelowRobust = 0x2e0

// ThreadPointer returns pthread_self() of a thread from the head of its list of
// robust futexes (0 where it has none).
func ThreadPointer(robust uint64) uint64 {
	if robust < tcbBelowRobust {
		return 0
	}
	return robust - tcbBelowRobust
}

// Mutex is a pthread_mutex_t of glibc on a 64-bit machine
// (sysdeps/nptl/bits/struct_mutex.h): __lock 0, __count 4, __owner 8, __nusers
// 12, __kind 16, __spins 20, __list 24.
type Mutex struct {
	Lock, Count, Owner, Users, Kind uint32
	Spins                           int16
	Prev, Next                      uint64
}

// MutexSize is how many bytes DecodeMutex wants.
const MutexSize = 40

// DecodeMutex decodes the bytes of a mutex.
func DecodeMutex(b []byte) Mutex {
	u := binary.LittleEndian
	return Mutex{
		Lock: u.Uint32(b), Count: u.Uint32(b[4:]), Owner: u.Uint32(b[8:]), Users: u.Uint32(b[12:]), Kind: u.Uint32(b[16:]),
		Spins: int16(u.Uint16(b[20:])), Prev: u.Uint64(b[24:]), Next: u.Uint64(b[32:]),
	}
}

// Bits of __kind (glibc nptl/pthreadP.h).
const (
	kindType   = 3
	kindRobust = 16
	kindPI     = 32
	kindPP     = 64
	kindShared = 128
	kindElide  = 256 | 512
)

// Shared reports whether other processes may hold the mutex.
func (m Mutex) Shared() bool { return m.Kind&kindShared != 0 }

// TypeName is the kind of mutex in POSIX's words.
func (m Mutex) TypeName() string {
	s := [...]string{"normal", "recursive", "errorcheck", "adaptive"}[m.Kind&kindType]
	if m.Kind&kindRobust != 0 {
		s = "robust " + s
	}
	if m.Kind&kindPI != 0 {
		s = "priority-inheriting " + s
	}
	return s
}

// OwnerTID is the thread that holds the mutex, 0 where nobody does.
func (m Mutex) OwnerTID() int {
	if m.Kind&(kindRobust|kindPI) != 0 {
		return int(m.Lock & 0x3fffffff)
	}
	if m.Lock == 0 {
		return 0
	}
	return int(m.Owner)
}

// Plausible reports whether these bytes can be a mutex that somebody holds:
// that is how byte patterns are told from locks. Checked are the lock word
// against the kind, the owner's range, the count against the kind, the number of
// users, and the list pointers, which only robust mutexes use.
func (m Mutex) Plausible() bool {
	if m.Kind&^(kindType|kindRobust|kindPI|kindPP|kindShared|kindElide) != 0 {
		return false
	}
	if m.Owner == 0 || m.Owner >= MaxTID || m.Users == 0 || m.Users > 1<<16 {
		return false
	}
	robustOrPI := m.Kind&(kindRobust|kindPI) != 0
	switch {
	case robustOrPI:
		if m.Lock&0x3fffffff != m.Owner {
			return false
		}
	case m.Kind&kindPP != 0:
	case m.Lock != 1 && m.Lock != 2:
		return false
	}
	// Robust, priority-inheriting and priority-protecting mutexes count their
	// first taking whatever their type (nptl/pthread_mutex_lock.c,
	// __pthread_mutex_lock_full).
	counts := robustOrPI || m.Kind&kindPP != 0
	if !counts && (m.Kind&kindType == 1) != (m.Count != 0) || m.Count > 1<<20 {
		return false
	}
	if m.Kind&kindRobust == 0 && (m.Prev != 0 || m.Next != 0) {
		return false
	}
	return true
}

// RWLock is a pthread_rwlock_t of glibc 2.25 and later.
type RWLock struct {
	Readers, Writers, WrPhase, WritersFutex uint32
	Writer                                  uint32
	Shared                                  bool
}

// RWLockSize is how many bytes DecodeRWLock wants.
const RWLockSize = 56

// DecodeRWLock decodes the bytes of a read-write lock (glibc 2.25 and later,
// sysdeps/nptl/bits/struct_rwlock.h).
func DecodeRWLock(b []byte) RWLock {
	u := binary.LittleEndian
	return RWLock{
		Readers: u.Uint32(b), Writers: u.Uint32(b[4:]), WrPhase: u.Uint32(b[8:]), WritersFutex: u.Uint32(b[12:]),
		Writer: u.Uint32(b[24:]), Shared: u.Uint32(b[28:]) != 0,
	}
}

// WriteLocked reports whether a writer holds the lock.
func (l RWLock) WriteLocked() bool { return l.Readers&3 == 3 && l.Writer != 0 }

// ReaderCount is how many readers hold the lock.
func (l RWLock) ReaderCount() int { return int(l.Readers >> 3) }

// Plausible reports whether these bytes can be a lock that a writer holds.
func (l RWLock) Plausible() bool {
	return l.WriteLocked() && l.Writer < MaxTID && l.Readers>>3 < 1<<20 && l.Writers < 1<<20 &&
		l.WrPhase <= 3 && l.WritersFutex <= 3
}

// Futex is a thread's wait in the futex system call.
type Futex struct {
	Addr    uint64
	Op      uint32
	Val     uint32
	Timeout bool
}

// Commands of futex(2), include/uapi/linux/futex.h.
const (
	opWait       = 0
	opLockPI     = 6
	opWaitBitset = 9
	opLockPI2    = 13
	opPrivate    = 128
	opRealtime   = 256
)

// ParseFutex decodes the arguments of futex(2); ok is false where the call does
// not wait.
func ParseFutex(args [6]uint64) (f Futex, ok bool) {
	f = Futex{Addr: args[0], Op: uint32(args[1]), Val: uint32(args[2]), Timeout: args[3] != 0}
	switch f.Command() {
	case opWait, opWaitBitset, opLockPI, opLockPI2:
		return f, true
	}
	return f, false
}

// Command is the operation without its flags.
func (f Futex) Command() uint32 { return f.Op &^ (opPrivate | opRealtime) }

// Private reports whether only this process's memory is meant.
func (f Futex) Private() bool { return f.Op&opPrivate != 0 }

// Waiting is what a thread that sleeps in a futex waits for.
type Waiting struct {
	// Kind is a term of finding.Lock.Kind.
	Kind string
	// Addr is where the lock object begins.
	Addr uint64
	// OwnerTID is who holds the lock, 0 where it does not say.
	OwnerTID int
	// Shared: another process may hold it.
	Shared bool
	// Exclusive: only whoever holds it may release it, so no signal handler
	// ends the wait. False for semaphores, condition variables and what is not
	// recognised.
	Exclusive bool
	// State is the lock in words.
	State string
	// Via is the function that waits, where its name is known.
	Via string
}

// Caller is one frame above the system call, innermost first.
type Caller struct {
	// Function is empty for one without a symbol.
	Function string
	// Object is the base name of the file.
	Object string
}

// Classify tells what a thread waits for, from the arguments of futex(2), the
// memory around the word, and the functions on its stack.
func Classify(f Futex, callers []Caller, mem procmem.Reader, id Identity) Waiting {
	w := Waiting{Kind: "futex", Addr: f.Addr}
	inLibc := false
	for i, c := range callers {
		lib := Named(c.Object) != "" || Loader(c.Object)
		if i == 0 {
			inLibc = lib
		}
		if c.Function != "" && !sleeps(c.Function) && (lib || i > 0) {
			if w.Via == "" {
				w.Via = c.Function
			}
		}
		if !lib {
			break
		}
	}
	if len(callers) > 0 && isOpenMP(callers) {
		w.Kind, w.Exclusive, w.State = "openmp-barrier", true, "waits for the other threads of the team"
		return w
	}
	if id.Family == "musl" {
		return classifyMusl(w, f, mem)
	}
	if !inLibc && len(callers) > 0 {
		return w
	}
	name := libcFunction(callers)
	switch name {
	case "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait":
		w.Kind, w.State = "condition-variable", "waits to be signalled"
		return w
	case "pthread_barrier_wait":
		w.Kind, w.State, w.Exclusive = "barrier", "waits for the other threads", true
		return w
	case "sem_wait", "sem_timedwait", "sem_clockwait":
		w.Kind, w.State = "semaphore", "0, with waiters"
		return w
	case "pthread_rwlock_wrlock", "pthread_rwlock_rdlock":
		return classifyRW(w, f, mem, id)
	}
	if b, err := procmem.Bytes(mem, f.Addr, MutexSize, MutexSize); err == nil {
		m := DecodeMutex(b)
		word := binary.LittleEndian.Uint32(b)
		pi := f.Command() == opLockPI || f.Command() == opLockPI2
		fits := m.Plausible() && (pi == (m.Kind&kindPI != 0)) && (pi || f.Val == word || m.Kind&kindRobust != 0)
		// A word of libc's own data beside other words may look like a mutex:
		// where functions have names they must agree.
		if fits && (name == "" || name == "pthread_mutex_lock" || isLoaderCall(name)) {
			w.Kind, w.OwnerTID, w.Shared, w.Exclusive = "pthread_mutex", m.OwnerTID(), m.Shared(), true
			w.State = fmt.Sprintf("%s mutex, held, %d in use", m.TypeName(), m.Users)
			return w
		}
	}
	if f.Command() == opWaitBitset && f.Val == 0 && name == "" {
		if v, err := procmem.Uint64(mem, f.Addr); err == nil && uint32(v) == 0 && v>>32 > 0 && v>>32 < 1<<16 {
			w.Kind, w.State = "semaphore", fmt.Sprintf("0, %d waiting", v>>32)
			return w
		}
	}
	if f.Command() == opWait && f.Val == 2 && inLibc {
		w.Kind, w.State, w.Exclusive = "libc-internal", "held, with waiters", true
	}
	return w
}

// libcFunction is the innermost named function of the C library.
func libcFunction(callers []Caller) string {
	for _, c := range callers {
		if Named(c.Object) == "" && !Loader(c.Object) {
			return ""
		}
		if c.Function != "" && !sleeps(c.Function) {
			return c.Function
		}
	}
	return ""
}

// sleeps reports whether a function is the one in which all waits for a lock
// end. It has a name where the libpthread of glibc up to 2.33 keeps its table of
// symbols, as Debian's does for debuggers, and says nothing of the lock.
func sleeps(function string) bool {
	return strings.HasPrefix(function, "__lll_lock_wait") || strings.HasPrefix(function, "__lll_timedlock_wait")
}

func isLoaderCall(name string) bool {
	switch name {
	case "dl_iterate_phdr", "dlopen", "dlclose", "dlsym", "dladdr", "_dl_find_dso_for_object":
		return true
	}
	return false
}

func isOpenMP(callers []Caller) bool {
	o := callers[0].Object
	return len(o) >= 7 && o[:7] == "libgomp"
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
	w.Addr, w.State = f.Addr-8, "held for reading"
	return w
}

// classifyMusl follows musl's src/internal/pthread_impl.h: the futex word of a
// mutex lies 4 bytes into it and holds the owner, but for normal mutexes, which
// hold EBUSY (16) and name nobody; a FILE holds the owner with bit 30 set.
func classifyMusl(w Waiting, f Futex, mem procmem.Reader) Waiting {
	const waiters, maybeWaiters, busy = 0x80000000, 0x40000000, 16
	if f.Command() != opWait {
		return w
	}
	tid := int(f.Val & 0x3fffffff)
	switch {
	case f.Val&waiters != 0 && tid != 0:
		typ, err := procmem.Uint32(mem, f.Addr-4)
		if err != nil || typ&^0x8f != 0 {
			return w
		}
		w.Kind, w.Addr, w.Exclusive, w.Shared = "pthread_mutex", f.Addr-4, true, typ&128 != 0
		w.State = "held, with waiters"
		if typ&3 == 0 {
			if tid != busy {
				return Waiting{Kind: "futex", Addr: f.Addr, Via: w.Via}
			}
			w.State += "; a normal mutex of musl records no owner"
			return w
		}
		w.OwnerTID = tid
	case f.Val&maybeWaiters != 0 && tid != 0 && tid < MaxTID && f.Val&waiters == 0:
		w.Kind, w.Addr, w.OwnerTID, w.Exclusive, w.State = "stdio", f.Addr-140, tid, true, "held, with waiters"
	}
	return w
}
