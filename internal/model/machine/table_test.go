package machine

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestStoreIsExact: it keeps every state once, as a map of whole states does, while
// it grows.
func TestStoreIsExact(t *testing.T) {
	st := newStore(16, 1<<30)
	r := rand.New(rand.NewPCG(1, 2))
	known := make(map[[16]byte]bool)
	for range 300_000 {
		var s [16]byte
		// Few bits differ, as between states that follow one another.
		binary.LittleEndian.PutUint32(s[:], r.Uint32()&0x1fffe)
		s[12] = byte(r.IntN(3))
		added, full := st.add(s[:], 0)
		if full {
			t.Fatal("it is full")
		}
		if added == known[s] {
			t.Fatalf("%v: added %v, known before %v", s, added, known[s])
		}
		known[s] = true
	}
	if st.n != len(known) || st.n < 100_000 {
		t.Fatalf("%d states in the store, %d in the map", st.n, len(known))
	}
	for i := range st.n {
		if !known[[16]byte(st.state(i))] {
			t.Fatalf("state %d was never put in", i)
		}
	}
}

// TestStoreKeepsStatesOfOneHash apart: their slots say the same of them.
func TestStoreKeepsStatesOfOneHash(t *testing.T) {
	// Of 2^17 random states some two have the same half of the hash.
	byTag := make(map[uint64][]byte)
	var a, b []byte
	r := rand.New(rand.NewPCG(3, 4))
	for a == nil {
		s := make([]byte, 16)
		binary.LittleEndian.PutUint64(s, r.Uint64())
		tag := hash(s) >> 32
		if other := byTag[tag]; other != nil && string(other) != string(s) {
			a, b = other, s
		}
		byTag[tag] = s
	}
	st := newStore(16, 1<<20)
	for i, s := range [][]byte{a, b, a, b} {
		if added, _ := st.add(s, 0); added != (i < 2) {
			t.Errorf("state %d: added %v", i, added)
		}
	}
}

// TestStoreKeepsToItsBound: it says that it is full, and holds no more than allowed.
func TestStoreKeepsToItsBound(t *testing.T) {
	const limit = 1 << 20
	st := newStore(16, limit)
	for i := range 1 << 20 {
		var s [16]byte
		binary.LittleEndian.PutUint64(s[:], uint64(i))
		if _, full := st.add(s[:], 0); full {
			if st.n < 10_000 {
				t.Errorf("full after %d states", st.n)
			}
			if st.bytes() > limit {
				t.Errorf("%d bytes, of %d", st.bytes(), limit)
			}
			return
		}
	}
	t.Error("it is never full")
}
