package orphan

import (
	"encoding/binary"

	"forkproof/internal/libc"
	"forkproof/internal/procmem"
)

// candidate is a place that looks like a lock whose owner vanished.
type candidate struct {
	shape
	addr, stream uint64
}

// maxCandidates bounds what one worker keeps: a hostile target can fill its
// memory with locks.
const maxCandidates = 1 << 14

// matcher looks at chunks for one worker.
type matcher struct {
	s         *search
	found     []candidate
	noise     [classes]noise
	truncated bool
	buf       [max(fileSize, muslFSize)]byte
}

func newMatcher(s *search) *matcher { return &matcher{s: s} }

func (m *matcher) look(c procmem.Chunk) {
	if m.s.musl {
		m.lookMusl(c)
		return
	}
	m.lookGlibc(c)
}

// The second word of a held lock of glibc, as one number: a mutex has its owner
// in the low half and the number of its users in the high one, a read-write lock
// two small flags, of which neither is zero. With one taken off the high half, so
// that a word with none there has all its upper bits set, a single test is left.
const (
	highOne   = 1 << 32
	wordMask  = ^uint64((maxUsers-1)<<32 | (libc.MaxTID - 1))
	magicBits = 0xffff0000
	magic     = fileMagic << 16
)

// lookGlibc goes over all words. Nearly all of them are told by one subtraction
// and one comparison, and one more for every second: streams are 16-byte
// aligned, since malloc aligns like that and so do the static ones. What is left
// is told by the word before, but for the rarest. Where the processor compares
// four words at a time, skip does most of it.
func (m *matcher) lookGlibc(c procmem.Chunk) {
	b := c.Data[:len(c.Data)&^15]
	before, quick := uint64(0), fast()
	// How much to look at word by word once skip has found something: more and
	// more as long as it finds something again at once.
	step := 32
	for off := 0; off < len(b); {
		if quick && off > 0 {
			n := skip(b, off)
			if n > 0 {
				off += n
				before = binary.LittleEndian.Uint64(b[off-8:])
			}
			if n > 128 {
				step = 32
			} else if n == 0 {
				step = min(2*step, 4096)
			}
		}
		end := len(b)
		if quick {
			end = min(off+step, end)
		}
		before = m.words(c, b[off:end], c.Addr+uint64(off), before)
		off = end
	}
}

// words looks at b, which lies at addr in c, behind a word.
func (m *matcher) words(c procmem.Chunk, b []byte, addr, before uint64) uint64 {
	u := binary.LittleEndian
	for len(b) >= 16 {
		w0, w1 := u.Uint64(b), u.Uint64(b[8:])
		if (w0-highOne)&wordMask == 0 && held(before, w0) {
			m.glibcLock(c, addr-8)
		}
		if (w1-highOne)&wordMask == 0 && held(w0, w1) {
			m.glibcLock(c, addr)
		}
		if w0&magicBits == magic {
			m.glibcStream(c, addr)
		}
		before = w1
		b = b[16:]
		addr += 16
	}
	return before
}

// held reports whether the first word of a lock can be a held one's, by the lock
// word in its low half and the owner in the low half of the second word: 1 or 2,
// with a ceiling above it where the mutex protects a priority; the owner itself
// in a robust or priority-inheriting mutex; both bits of a writer in a
// read-write lock, whose second word holds flags of at most 3.
func held(first, second uint64) bool {
	word, owner := uint32(first), uint32(second)
	return word&(1<<19-1)-1 < 2 || word&0x3fffffff == owner && owner != 0 || word&3 == 3 && owner <= 3
}

// glibcLock looks for a mutex or read-write lock that begins at addr.
func (m *matcher) glibcLock(c procmem.Chunk, addr uint64) {
	off := addr - c.Addr
	if addr < c.Addr || off >= uint64(c.Own) {
		return
	}
	if off+32 <= uint64(len(c.Data)) {
		// The kind of a mutex and its list; or padding, and a writer.
		third, fourth := binary.LittleEndian.Uint64(c.Data[off+16:]), binary.LittleEndian.Uint64(c.Data[off+24:])
		mutex := uint32(third)&^0x3ff == 0 && (fourth == 0 || third&16 != 0)
		rw := third == 0 && fourth != 0 && fourth < 2*highOne
		if !mutex && !rw {
			return
		}
	}
	b, ok := m.whole(c, addr, lockSize)
	if !ok {
		if b, ok = m.whole(c, addr, libc.MutexSize); !ok {
			return
		}
	}
	if s, ok := glibcMutex(addr, b); ok {
		m.add(candidate{shape: s, addr: addr})
	}
	if len(b) < lockSize {
		return
	}
	if s, ok := glibcRWLock(b); ok {
		m.add(candidate{shape: s, addr: addr})
	}
}

// glibcStream looks for a FILE at addr and at its lock.
func (m *matcher) glibcStream(c procmem.Chunk, addr uint64) {
	if addr < c.Addr || addr-c.Addr >= uint64(c.Own) {
		return
	}
	b, ok := m.whole(c, addr, fileSize)
	if !ok {
		return
	}
	lock, ok := glibcFile(b)
	if !ok {
		return
	}
	var l [ioLockSize]byte
	if _, err := m.s.mem.ReadAt(l[:], lock); err != nil {
		return
	}
	if s, ok := glibcFileLock(l[:]); ok {
		m.add(candidate{shape: s, addr: lock, stream: addr})
	}
}

const (
	muslWords = ^uint64((0xc0000000|libc.MaxTID-1)<<32 | 0x8f)
	muslHigh  = ^uint64((0x40000000 | libc.MaxTID - 1) << 32)
)

// lookMusl goes over all words. A mutex begins with its type, a few low bits,
// and its owner in the high half; a stream has its mode (-1, 0 or 1) and owner
// at 136.
func (m *matcher) lookMusl(c procmem.Chunk) {
	b := c.Data[:min(len(c.Data), c.Own)&^7]
	addr := c.Addr
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		if w>>32 != 0 && w&0xc03fffff_ffffffff == w {
			m.muslWord(c, addr, w)
		}
		b = b[8:]
		addr += 8
	}
}

func (m *matcher) muslWord(c procmem.Chunk, addr, w uint64) {
	if w&muslWords == 0 && w&15 != 0 {
		if b, ok := m.whole(c, addr, libc.MutexSize); ok {
			if s, ok := muslMutex(addr, b); ok {
				m.add(candidate{shape: s, addr: addr})
			}
		}
	}
	if mode := int32(uint32(w)); mode >= -1 && mode <= muslMaxMode && w&0x80000000_00000000 == 0 && addr >= muslFDelta {
		// The owner decides first: the rest of a stream must often be read anew.
		if !m.s.concerns(uint32(w>>32) &^ 0x40000000) {
			return
		}
		if b, ok := m.whole(c, addr-muslFDelta, muslFSize); ok {
			if s, ok := muslFile(b); ok {
				m.add(candidate{shape: s, addr: addr - muslFDelta + 140, stream: addr - muslFDelta})
			}
		}
	}
}

// whole returns n bytes at addr: from the chunk, or where that ends from the
// process. A lock may end in a page that nobody ever wrote to.
func (m *matcher) whole(c procmem.Chunk, addr uint64, n int) ([]byte, bool) {
	if addr >= c.Addr && addr-c.Addr+uint64(n) <= uint64(len(c.Data)) {
		return c.Data[addr-c.Addr:][:n], true
	}
	b := m.buf[:n]
	_, err := m.s.mem.ReadAt(b, addr)
	return b, err == nil
}

// add keeps a candidate whose owner vanished or may have.
func (m *matcher) add(c candidate) {
	switch m.s.owner(c.shape) {
	case ours:
		return
	case nobody:
		m.noise[m.s.class(c)].add(c.owner)
		return
	}
	if len(m.found) >= maxCandidates {
		m.truncated = true
		return
	}
	m.found = append(m.found, c)
}
