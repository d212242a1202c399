package machine

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// store keeps every state once, in the order in which they were found: which is
// the queue of a breadth-first search too. A state's number is its place in it.
type store struct {
	stride int
	// chunks and parents are of chunkStates each, so that growing copies nothing. A
	// parent is the number of the state that one was found from.
	chunks  [][]byte
	parents [][]uint32
	// slots have the number of a state and 1 in the low half, half of its hash in the
	// high one: enough to find the place in a larger table without the state, and to
	// tell most other states from it. Open addressing, at most three quarters full.
	slots []uint64
	n     int
	limit int // bytes
}

const (
	chunkBits   = 10
	chunkStates = 1 << chunkBits
	maxStates   = 1<<32 - 2
)

func newStore(stride, limit int) *store {
	return &store{stride: stride, limit: limit, slots: make([]uint64, 1<<10)}
}

// bytes in use.
func (st *store) bytes() int {
	return len(st.chunks)*chunkStates*(st.stride+4) + 8*len(st.slots)
}

func (st *store) state(i int) []byte {
	o := (i & (chunkStates - 1)) * st.stride
	return st.chunks[i>>chunkBits][o : o+st.stride : o+st.stride]
}

// parent is the number of the state that a state was found from.
func (st *store) parent(i int) int { return int(st.parents[i>>chunkBits][i&(chunkStates-1)]) }

// hash mixes the words of a state by multiplication to twice the width.
func hash(s []byte) uint64 {
	h := uint64(len(s)) * 0x9e3779b97f4a7c15
	for i := 0; i+8 <= len(s); i += 8 {
		hi, lo := bits.Mul64(binary.LittleEndian.Uint64(s[i:])^0xa0761d6478bd642f, h^0xe7037ed1a0b428db)
		h = hi ^ lo
	}
	return h
}

// add keeps a state if it is new. full says that there is no room for it.
func (st *store) add(s []byte, parent uint32) (added, full bool) {
	h := hash(s)
	mask := uint64(len(st.slots) - 1)
	tag := h &^ 0xffffffff
	i := tag >> 32 & mask
	for ; st.slots[i] != 0; i = (i + 1) & mask {
		if slot := st.slots[i]; slot&^0xffffffff == tag && bytes.Equal(st.state(int(uint32(slot))-1), s) {
			return false, false
		}
	}
	if st.n&(chunkStates-1) == 0 {
		if st.n >= maxStates || st.bytes()+chunkStates*(st.stride+4) > st.limit {
			return false, true
		}
		st.chunks = append(st.chunks, make([]byte, chunkStates*st.stride))
		st.parents = append(st.parents, make([]uint32, chunkStates))
	}
	if 4*st.n >= 3*len(st.slots) {
		if st.bytes()+8*len(st.slots) > st.limit {
			return false, true
		}
		st.grow()
		mask = uint64(len(st.slots) - 1)
		for i = tag >> 32 & mask; st.slots[i] != 0; i = (i + 1) & mask {
		}
	}
	copy(st.state(st.n), s)
	st.parents[st.n>>chunkBits][st.n&(chunkStates-1)] = parent
	st.n++
	st.slots[i] = tag | uint64(st.n)
	return true, false
}

// grow doubles the table. Slots that lie together go to two places that lie together,
// so it reads and writes in order.
func (st *store) grow() {
	old := st.slots
	st.slots = make([]uint64, 2*len(old))
	mask := uint64(len(st.slots) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		i := slot >> 32 & mask
		for st.slots[i] != 0 {
			i = (i + 1) & mask
		}
		st.slots[i] = slot
	}
}
