package orphan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"forkproof/internal/libc"
	"forkproof/internal/procmem"
)

// place is memory at an address.
type place struct {
	at   uint64
	data []byte
}

func (p place) ReadAt(b []byte, addr uint64) (int, error) {
	if addr < p.at || addr-p.at > uint64(len(p.data)) || uint64(len(b)) > uint64(len(p.data))-(addr-p.at) {
		return 0, errors.New("outside")
	}
	return copy(b, p.data[addr-p.at:]), nil
}

const base = 0x7f0000001000

// everyone is a search to which every id is a thread that may have vanished.
func everyone(family string, data []byte) *search {
	s := newSearch(&Target{Libc: libc.Identity{Family: family}, After: libc.MaxTID, Before: libc.MaxTID, AllTCBs: true})
	s.mem = place{base, data}
	return s
}

// slow finds what a matcher must find: it tries everything everywhere.
func slow(s *search, data []byte) []string {
	var out []string
	for at := 0; at+8 <= len(data); at += 8 {
		addr := uint64(base + at)
		try := func(n int, decode func(b []byte) (shape, bool), from int, kind string) {
			if from < 0 || from+n > len(data) {
				return
			}
			if sh, ok := decode(data[from : from+n]); ok && s.owner(sh) == ended {
				out = append(out, fmt.Sprintf("%s %x %d %x", kind, addr, sh.owner, sh.tcb))
			}
		}
		if s.musl {
			try(40, func(b []byte) (shape, bool) { return muslMutex(addr, b) }, at, "mutex")
			try(muslFSize, muslFile, at-muslFDelta, "stream")
			continue
		}
		try(40, func(b []byte) (shape, bool) { return glibcMutex(addr, b) }, at, "mutex")
		try(lockSize, glibcRWLock, at, "rwlock")
		if at%16 == 0 {
			try(fileSize, func(b []byte) (shape, bool) {
				lock, ok := glibcFile(b)
				if !ok || lock < base || lock-base > uint64(len(data)) || lock-base+ioLockSize > uint64(len(data)) {
					return shape{}, false
				}
				return glibcFileLock(data[lock-base:][:ioLockSize])
			}, at, "stream")
		}
	}
	slices.Sort(out)
	return out
}

// quick is what the matcher finds in chunks that are cut at a place.
func quick(s *search, data []byte, cut int) []string {
	m := newMatcher(s)
	cut -= cut % 16
	first := data[:min(len(data), cut+lockSize)]
	if cut > 0 {
		m.look(procmem.Chunk{Addr: base, Data: first, Own: min(cut, len(data))})
	}
	if cut < len(data) {
		m.look(procmem.Chunk{Addr: base + uint64(cut), Data: data[cut:], Own: len(data) - cut})
	}
	var out []string
	for _, c := range m.found {
		kind, addr := "mutex", c.addr
		switch {
		case c.stream != 0 && s.musl:
			kind, addr = "stream", c.stream+muslFDelta
		case c.stream != 0:
			kind, addr = "stream", c.stream
		case c.kind == "pthread_rwlock":
			kind = "rwlock"
		}
		out = append(out, fmt.Sprintf("%s %x %d %x", kind, addr, c.owner, c.tcb))
	}
	slices.Sort(out)
	return out
}

func words(w ...uint32) []byte {
	var b []byte
	for _, v := range w {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// samples are locks as they were seen in memory.
func samples() map[string][]byte {
	stream := make([]byte, fileSize+ioLockSize)
	u := binary.LittleEndian
	u.PutUint32(stream, 0xfbad2488)
	u.PutUint32(stream[fileNumber:], 3)
	u.PutUint64(stream[fileLock:], base+fileSize) // where the test puts it
	u.PutUint64(stream[fileVtable:], base)
	copy(stream[fileSize:], words(1, 1, 0x1234740, 0x7f00))
	musl := make([]byte, muslFSize)
	u.PutUint64(musl[24:], base)
	u.PutUint64(musl[88:], base)
	u.PutUint32(musl[140:], 77|0x40000000)
	return map[string][]byte{
		"normal": words(1, 0, 77, 1, 0, 0, 0, 0, 0, 0), "waited for": words(2, 0, 4194303, 1, 0, 0, 0, 0, 0, 0),
		"no elision": words(1, 0, 77, 3, 512, 0, 0, 0, 0, 0), "recursive": words(2, 5, 77, 1, 1, 0, 0, 0, 0, 0),
		"errorcheck": words(1, 0, 77, 1, 2, 0, 0, 0, 0, 0), "adaptive": words(1, 0, 77, 1, 3, 40, 0, 0, 0, 0),
		"robust": words(77|0x80000000, 1, 77, 1, 0x90, 0, 0x1000, 0x7f, 0x2000, 0x7f), "pi": words(77, 1, 77, 1, 0x20, 0, 0, 0, 0, 0),
		"robust pi": words(77, 1, 77, 1, 0xb0, 0, 0x1000, 0x7f, 0x2001, 0x7f), "pp": words(5<<19|1, 1, 77, 1, 0x40, 0, 0, 0, 0, 0),
		"rwlock": words(3, 0, 1, 1, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0), "rwlock waited for": words(3|4|2<<3, 2, 3, 3, 0, 0, 77, 1, 0, 0, 0, 0, 2, 0),
		"stream": stream, "musl stream": musl,
		"musl recursive": words(1, 77|0x80000000, 1, 0, 0, 2, 0x1000, 0x7f, 0x2000, 0x7f), "musl errorcheck": words(2, 77, 0, 0, 0, 0, 0x1000, 0x7f, 0x2000, 0x7f),
		"musl robust": words(4, 77, 0, 0, 0, 0, 0x1000, 0x7f, 0x2000, 0x7f), "musl pi": words(8, 77, 0, 0, 0, 0, 0x1000, 0x7f, 0x2000, 0x7f),
	}
}

// TestMatcherSeesSamples puts each lock at each place of a piece of memory and
// cuts it into chunks everywhere.
func TestMatcherSeesSamples(t *testing.T) {
	for name, sample := range samples() {
		family := "glibc"
		if len(name) > 4 && name[:4] == "musl" {
			family = "musl"
		}
		for _, filler := range []byte{0, 0xff, 1} {
			for at := 0; at < 512; at += 8 {
				if name == "stream" && at != 0 {
					continue // its lock is where it says
				}
				data := bytes.Repeat([]byte{filler}, 1024)
				copy(data[at:], sample)
				s := everyone(family, data)
				want := slow(s, data)
				if len(want) != 1 {
					t.Fatalf("%s at %d in %#x: the slow matcher finds %v", name, at, filler, want)
				}
				for cut := 0; cut <= 640; cut += 16 {
					if got := quick(s, data, cut); !slices.Equal(got, want) {
						t.Fatalf("%s at %d in %#x, cut at %d: got %v, want %v", name, at, filler, cut, got, want)
					}
				}
			}
		}
	}
}

func FuzzMatcher(f *testing.F) {
	all := bytes.Repeat([]byte{0, 0, 0, 0, 1, 0, 0, 0}, 40)
	for _, b := range samples() {
		f.Add(b, uint16(16))
		all = append(append(all, b...), 3, 0, 0, 0, 1, 0, 0, 0)
	}
	f.Add(all, uint16(512))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		if len(data) > 1<<16 {
			return
		}
		data = data[:len(data)&^15]
		for _, family := range []string{"glibc", "musl"} {
			s := everyone(family, data)
			want := slow(s, data)
			if got := quick(s, data, int(cut)); !slices.Equal(got, want) {
				t.Errorf("%s, cut at %d: got %v, want %v", family, cut, got, want)
			}
		}
	})
}

// TestMatcherAgreesOnNumbers tries memory that is full of small numbers, which
// chance makes locks of now and then.
func TestMatcherAgreesOnNumbers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 200 {
		data := make([]byte, 8192)
		for i := 0; i < len(data); i += 4 {
			// Mostly zeros, as in locks.
			if rng.IntN(3) == 0 {
				binary.LittleEndian.PutUint32(data[i:], uint32(rng.IntN(4)))
			}
		}
		for _, family := range []string{"glibc", "musl"} {
			s := everyone(family, data)
			want := slow(s, data)
			found += len(want)
			if got := quick(s, data, rng.IntN(len(data))); !slices.Equal(got, want) {
				t.Fatalf("%s: got %v, want %v", family, got, want)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d places looked like locks: the test says little", found)
	}
}

// BenchmarkMatch is the matching alone, of memory that is in the cache.
func BenchmarkMatch(b *testing.B) {
	for _, kind := range []string{"zeros", "random", "pointers", "ints", "labels"} {
		b.Run(kind, func(b *testing.B) {
			buf := make([]byte, 256<<10)
			for i := 0; i < len(buf); i += 8 {
				var v uint64
				switch kind {
				case "random":
					v = rand.Uint64()
				case "pointers":
					v = 0x7f0000000000 + uint64(rand.Uint32())
				case "ints":
					v = uint64(rand.IntN(1000)) | uint64(rand.IntN(1000))<<32
				case "labels":
					v = uint64(rand.IntN(4)) | uint64(rand.IntN(4))<<32
				}
				binary.LittleEndian.PutUint64(buf[i:], v)
			}
			m := newMatcher(newSearch(&Target{}))
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				m.look(procmem.Chunk{Addr: base, Data: buf, Own: len(buf)})
			}
		})
	}
}
