package libc

import (
	"encoding/binary"
	"runtime"
)

// MaxTID is the largest thread id that Linux gives (PID_MAX_LIMIT, 4 Mi).
const MaxTID = 1 << 22

// tcbBelowRobust is how far struct pthread's robust_head lies behind its start
// on x86-64, where the start is the thread pointer and pthread_self(): glibc
// nptl/descr.h, the same in 2.31, 2.36, 2.41 and 2.43. It is 0 for processors on
// which no build was measured: a wrong thread pointer makes owners look gone.
var tcbBelowRobust = map[string]uint64{"amd64": 0x2e0}[runtime.GOARCH]

// ThreadPointer returns pthread_self() of a thread from the head of its list of
// robust futexes; 0 where it has none, or on processors other than x86-64.
func ThreadPointer(robust uint64) uint64 {
	if tcbBelowRobust == 0 || robust < tcbBelowRobust {
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

// Shared reports whether other processes may hold the mutex. A robust mutex has
// the bit for that whether it is shared or not (nptl/pthread_mutex_init.c): there
// only the memory that it lies in tells.
func (m Mutex) Shared() bool { return m.Kind&kindShared != 0 && m.Kind&kindRobust == 0 }

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

// The lock word of robust and priority-inheriting mutexes: the owner's id, and
// two bits above it (include/uapi/linux/futex.h).
const (
	futexWaiters   = 1 << 31 // FUTEX_WAITERS: somebody sleeps
	futexOwnerDied = 1 << 30 // FUTEX_OWNER_DIED: the kernel took it from a dead thread
	futexTID       = futexOwnerDied - 1
)

// OwnerTID is the thread that holds the mutex, 0 where nobody does, or what is
// recorded can be no thread's id.
func (m Mutex) OwnerTID() int {
	tid := m.Owner
	switch {
	case m.Kind&(kindRobust|kindPI) != 0:
		tid = m.Lock & futexTID
	case m.Lock == 0:
		return 0
	}
	if tid >= MaxTID {
		return 0
	}
	return int(tid)
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
		if m.Lock&futexTID != m.Owner {
			return false
		}
	case m.Kind&kindPP != 0:
		// The ceiling lies above bit 19 (PTHREAD_MUTEX_PRIO_CEILING_SHIFT).
		if w := m.Lock & (1<<19 - 1); w != 1 && w != 2 {
			return false
		}
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

// Inherits reports whether the kernel itself keeps the lock and lends its priority
// to the owner. When the owner ends it gives the lock to who waits, also if the
// owner is a thread of another process that has left its number there by a fork
// (kernel/futex/pi.c, exit_pi_state_list).
func (f Futex) Inherits() bool { return f.Command() == opLockPI || f.Command() == opLockPI2 }

// Private reports whether only this process's memory is meant.
func (f Futex) Private() bool { return f.Op&opPrivate != 0 }
