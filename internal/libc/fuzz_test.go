package libc

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"
)

// window is memory that holds data at base and nothing else.
type window struct {
	data []byte
	base uint64
}

var errOutside = errors.New("nothing is mapped there")

func (w window) ReadAt(p []byte, addr uint64) (int, error) {
	off := addr - w.base
	if addr < w.base || off > uint64(len(w.data)) || uint64(len(p)) > uint64(len(w.data))-off {
		return 0, errOutside
	}
	return copy(p, w.data[off:]), nil
}

func FuzzMutex(f *testing.F) {
	f.Add(mutexBytes(2, 0, 77, 1, 0))
	f.Add(mutexBytes(77|1<<31, 1, 77, 1, 16|128))
	f.Add(mutexBytes(77|1<<31|1<<30, 0, 77, 1, 32))
	f.Add(mutexBytes(0xffffffff, 0, 0xffffffff, 1, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < MutexSize {
			return
		}
		m := DecodeMutex(b)
		tid := m.OwnerTID()
		if tid < 0 || tid >= MaxTID {
			t.Errorf("owner %d of %+v is no thread id", tid, m)
		}
		if m.Plausible() && (tid == 0 || m.TypeName() == "") {
			t.Errorf("a held mutex without owner or name: %+v", m)
		}
		_ = m.Shared()
	})
}

func FuzzRWLock(f *testing.F) {
	held := make([]byte, RWLockSize)
	for i, v := range []uint32{3, 0, 1, 1, 0, 0, 77} {
		binary.LittleEndian.PutUint32(held[4*i:], v)
	}
	f.Add(held)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < RWLockSize {
			return
		}
		l := DecodeRWLock(b)
		if l.Plausible() && (l.Writer == 0 || l.Writer >= MaxTID || !l.WriteLocked() || l.ReaderCount() < 0) {
			t.Errorf("a lock held for writing by %d: %+v", l.Writer, l)
		}
	})
}

// fuzzed functions, by number: one of each sort, and no name.
var fuzzed = []string{"", "pthread_mutex_lock", "__pthread_rwlock_wrlock", "__pthread_cond_wait", "__new_sem_wait_slow.constprop.0",
	"pthread_barrier_wait", "__pthread_clockjoin_ex", "__pthread_once_slow", "dl_iterate_phdr", "localtime_r", "__lll_lock_wait_private", "syscall", "fwrite"}

func FuzzClassify(f *testing.F) {
	const base = 0x10000
	f.Add(append(mutexBytes(2, 0, 77, 1, 0), make([]byte, 64)...), uint64(base), uint32(128), uint32(2), uint8(1), uint8(36))
	f.Add(append(mutexBytes(77|1<<31, 1, 77, 1, 16|128), make([]byte, 64)...), uint64(base), uint32(0), uint32(77|1<<31), uint8(0), uint8(31))
	f.Add(append(mutexBytes(77|1<<31, 1, 77, 1, 32), make([]byte, 64)...), uint64(base), uint32(128|opLockPI), uint32(0), uint8(0), uint8(41))
	f.Add(make([]byte, 512), uint64(base+140), uint32(128), uint32(77|1<<30), uint8(12), uint8(5|128))
	f.Add(slices.Repeat([]byte{0xff}, 256), uint64(base+64), uint32(128), uint32(0xffffffff), uint8(2), uint8(128))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64, op, val uint32, function, how uint8) {
		id := Identity{Family: "glibc", Major: 2, Minor: int(how & 63)}
		object := "libc.so.6"
		if how&128 != 0 {
			id, object = Identity{Family: "musl"}, "ld-musl-x86_64.so.1"
		}
		fx, ok := ParseFutex([6]uint64{addr, uint64(op), uint64(val)})
		if !ok {
			return
		}
		var callers []Caller
		if how&64 == 0 {
			callers = []Caller{{Object: object, Function: fuzzed[int(function)%len(fuzzed)]}, {Object: "app", Function: "main"}}
		}
		w := Classify(fx, callers, window{data, base}, id)
		if w.OwnerTID < 0 || w.OwnerTID >= MaxTID {
			t.Errorf("owner %d is no thread id: %+v", w.OwnerTID, w)
		}
		if w.OwnerTID != 0 && (w.OwnerPointer != 0 || !w.Exclusive) || w.Kind == "" {
			t.Errorf("a lock that contradicts itself: %+v", w)
		}
		if w.Kind == "futex" && (w.OwnerTID != 0 || w.OwnerPointer != 0 || w.Exclusive) {
			t.Errorf("something is claimed of a word that was not recognised: %+v", w)
		}
		if helper(plain(w.Via)) && w.Via != "" {
			t.Errorf("a helper is named: %q", w.Via)
		}
	})
}

func FuzzMuslThreads(f *testing.F) {
	const base = 0x10000
	one := make([]byte, 64)
	for _, at := range []int{0, 16, 24} {
		binary.LittleEndian.PutUint64(one[at:], base)
	}
	binary.LittleEndian.PutUint32(one[48:], 77)
	f.Add(one, uint32(77))
	f.Fuzz(func(t *testing.T, data []byte, tid uint32) {
		mem := window{data, base}
		threads, ok := MuslThreads(mem, base, []int{int(tid)})
		if ok && (len(threads) != 1 || threads[0].TID != int(tid) || threads[0].Pointer != base || tid == 0 || tid >= MaxTID) {
			t.Errorf("found %+v, want one thread %d", threads, tid)
		}
		_ = MuslCandidate(data, base, int(tid))
	})
}

func FuzzRead(f *testing.F) {
	f.Add("glibc", "libc.so.6", []byte("GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\n"))
	f.Add("musl", "/lib/x86_64-linux-musl/libc.so", []byte("\x001.2.3\x00musl libc (x86_64)\nVersion %s\n"))
	f.Fuzz(func(t *testing.T, family, path string, b []byte) {
		id := Read(family, path, fileBytes(b))
		if id.Major < 0 || id.Minor < 0 || id.Version == "" && (id.Major != 0 || id.Minor != 0) {
			t.Errorf("read %+v", id)
		}
	})
}

func FuzzBuilds(f *testing.F) {
	f.Add([]byte("build 00ff amd64 Debian:1\n10 4 tzset_lock tzset.c\nx y z -\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for id, locks := range parseBuilds(b) {
			for _, l := range locks {
				if id == "" || l.lock.Symbol == "" || l.lock.String() == "" {
					t.Errorf("build %q has %+v", id, l)
				}
			}
		}
	})
}

// fileBytes is a file.
type fileBytes []byte

func (b fileBytes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, os.ErrInvalid
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, os.ErrInvalid
	}
	return n, nil
}
