package orphan

import (
	"encoding/binary"

	"forkproof/internal/libc"
)

// shape is what a place in memory looks like.
type shape struct {
	kind  string
	state string
	// owner is the recorded thread id, tcb the thread pointer; one of them.
	owner  uint32
	tcb    uint64
	shared bool
	// users is how many threads a mutex of glibc counts that hold it or wait on a
	// condition with it; 0 for others.
	users uint32
	// link is the address of a pointer that must lead back to back: the list of
	// held mutexes that robust ones of glibc and all of musl are part of. 0:
	// there is none.
	link, back uint64
}

// lockSize is how many bytes a lock may take: glibc's pthread_rwlock_t.
const lockSize = libc.RWLockSize

const (
	maxUsers = 1 << 16
	maxSpins = 1000 // glibc caps what it adapts to at 100 by default
)

// glibcMutex decodes a held mutex of glibc at addr. Beyond what makes one
// plausible, every byte that this kind of mutex does not use must be zero.
func glibcMutex(addr uint64, b []byte) (shape, bool) {
	m := libc.DecodeMutex(b)
	if !m.Plausible() {
		return shape{}, false
	}
	const (
		typeMask, adaptive       = 3, 3
		robust, pi, pp, elidable = 16, 32, 64, 256
	)
	u := binary.LittleEndian
	if m.Kind&(robust|pi|pp) != 0 && (m.Count == 0 || m.Count != 1 && m.Kind&typeMask != 1) {
		return shape{}, false
	}
	// Who waits on a condition with the mutex counts as a user, but such waits
	// and recursive locks do not go together: they release only one level.
	if m.Kind&typeMask == 1 && m.Count > 1 && m.Users > 1 {
		return shape{}, false
	}
	if spins := u.Uint32(b[20:]); spins != 0 {
		// Two short numbers on x86, one of four bytes elsewhere: small anyway.
		lo, hi := spins&0xffff, spins>>16
		if lo > maxSpins || hi > maxSpins || lo != 0 && m.Kind&typeMask != adaptive || hi != 0 && m.Kind&elidable == 0 {
			return shape{}, false
		}
	}
	s := shape{kind: "pthread_mutex", state: m.TypeName() + " mutex, held", owner: m.Owner, shared: m.Shared(), users: m.Users}
	switch {
	case m.Kind&pp != 0:
		// The ceiling lies above bit 19 (PTHREAD_MUTEX_PRIO_CEILING_SHIFT).
		if w := m.Lock & (1<<19 - 1); m.Kind&(robust|pi) != 0 || w != 1 && w != 2 || m.Lock>>19 > 99 {
			return shape{}, false
		}
	case m.Kind&robust != 0:
		// The list of the owner's robust mutexes goes through __list.__next at
		// 32; bit 0 of a pointer marks a priority-inheriting one.
		if m.Prev == 0 || m.Next == 0 || m.Prev%8 != 0 || m.Next%8 > 1 {
			return shape{}, false
		}
		// A robust mutex has the bit for shared ones whether it is or not
		// (nptl/pthread_mutex_init.c).
		s.shared, s.link, s.back = false, m.Prev, addr+32
	}
	return s, true
}

// glibcRWLock decodes a read-write lock of glibc 2.25 or later that a writer
// holds.
func glibcRWLock(b []byte) (shape, bool) {
	l := libc.DecodeRWLock(b)
	u := binary.LittleEndian
	if !l.Plausible() || u.Uint64(b[16:]) != 0 || u.Uint32(b[28:]) > 1 || u.Uint64(b[32:])>>8 != 0 || u.Uint64(b[40:]) != 0 ||
		u.Uint32(b[48:]) > 2 || u.Uint32(b[52:]) != 0 {
		return shape{}, false
	}
	// Bit 0 says that the phase, or the lock, is a writer's, bit 1 that somebody
	// sleeps there (PTHREAD_RWLOCK_FUTEX_USED).
	if l.WrPhase&1 == 0 || l.WritersFutex&1 == 0 {
		return shape{}, false
	}
	return shape{kind: "pthread_rwlock", state: "held for writing", owner: l.Writer, shared: l.Shared}, true
}

// muslMutex decodes a held mutex of musl that records its owner: not one that is
// normal and nothing else. Fields of src/internal/pthread_impl.h: _m_type 0, _m_lock 4, _m_waiters
// 8, _m_count 20, _m_prev 24, _m_next 32. Every held mutex of these types is
// linked into its owner's list by _m_next (pthread_mutex_trylock.c).
func muslMutex(addr uint64, b []byte) (shape, bool) {
	u := binary.LittleEndian
	typ, word := u.Uint32(b), u.Uint32(b[4:])
	owner := word & 0x3fffffff
	if typ&^0x8f != 0 || typ&15 == 0 || typ&3 == 3 || word&0x40000000 != 0 || owner == 0 || owner >= libc.MaxTID {
		return shape{}, false
	}
	prev, next := u.Uint64(b[24:]), u.Uint64(b[32:])
	if u.Uint32(b[8:]) >= maxUsers || u.Uint64(b[12:]) != 0 || u.Uint32(b[20:]) > 1<<20 ||
		prev == 0 || next == 0 || prev%8 != 0 || next%8 != 0 || typ&3 == 2 && u.Uint32(b[20:]) != 0 {
		return shape{}, false
	}
	s := shape{kind: "pthread_mutex", owner: owner, shared: typ&128 != 0, link: prev, back: addr + 32}
	s.state = [...]string{"normal", "recursive", "errorcheck"}[typ&3] + " mutex, held"
	if typ&4 != 0 {
		s.state = "robust " + s.state
	}
	if typ&8 != 0 {
		s.state = "priority-inheriting " + s.state
	}
	return s, true
}

// Places in a FILE of glibc on 64-bit machines (libio/bits/types/struct_FILE.h);
// the vtable of struct _IO_FILE_plus follows it. The same in 2.31 to 2.43.
const (
	fileMagic   = 0xfbad // _IO_MAGIC, the upper half of _flags
	fileNumber  = 112
	fileLock    = 136
	fileVtable  = 216
	fileSize    = 224
	ioLockSize  = 16
	tcbSelf     = 16 // tcbhead_t.self on x86-64: a thread's own pointer
	muslFDelta  = 136
	muslFSize   = 232
	muslMaxMode = 1
)

// glibcFile checks that b, of fileSize bytes, is a stream, and returns the
// address of its lock.
func glibcFile(b []byte) (lock uint64, ok bool) {
	u := binary.LittleEndian
	lock = u.Uint64(b[fileLock:])
	number := int32(u.Uint32(b[fileNumber:]))
	ok = u.Uint16(b[2:]) == fileMagic && lock != 0 && lock%4 == 0 && number >= -2 && number < 1<<24 && u.Uint64(b[fileVtable:]) != 0
	return lock, ok
}

// glibcFileLock decodes a held _IO_lock_t: int lock, int cnt, void *owner.
func glibcFileLock(b []byte) (shape, bool) {
	u := binary.LittleEndian
	word, count, owner := u.Uint32(b), u.Uint32(b[4:]), u.Uint64(b[8:])
	// A stream held once counts 1 up to glibc 2.36 and 0 from 2.37 on.
	if word != 1 && word != 2 || count > 1<<20 || owner == 0 || owner%8 != 0 {
		return shape{}, false
	}
	return shape{kind: "stdio", state: "stream, held", tcb: owner}, true
}

// muslFile decodes a held stream of musl (src/internal/stdio_impl.h): mode at
// 136, lock at 140, and pointers that tell a stream from numbers.
func muslFile(b []byte) (shape, bool) {
	u := binary.LittleEndian
	word := u.Uint32(b[140:])
	owner := word &^ 0x40000000
	mode, fd := int32(u.Uint32(b[136:])), int32(u.Uint32(b[120:]))
	if owner == 0 || owner >= libc.MaxTID || mode < -1 || mode > muslMaxMode || fd < -1 || fd > 1<<24 ||
		u.Uint64(b[48:]) != 0 || u.Uint64(b[24:]) == 0 || u.Uint64(b[88:]) == 0 {
		return shape{}, false
	}
	return shape{kind: "stdio", state: "stream, held", owner: owner}, true
}
