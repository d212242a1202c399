package testbed

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// reader is memory at addresses, as package procmem reads it.
type reader interface {
	ReadAt(p []byte, addr uint64) (int, error)
}

const recordedPage = 4096

// Recorded is memory that was read from somewhere and is kept: what a fuzz test
// starts from, after the process is gone.
type Recorded struct {
	from  reader
	pages map[uint64][]byte // nil for a page that cannot be read
	order []uint64          // those that can, ascending
}

// Record returns memory that is read from r when it is first asked for.
func Record(r reader) *Recorded { return &Recorded{from: r, pages: make(map[uint64][]byte)} }

// Stop ends the recording: what was not asked for until now cannot be read.
func (m *Recorded) Stop() {
	m.from = nil
	for at, b := range m.pages {
		if b != nil {
			m.order = append(m.order, at)
		}
	}
	slices.Sort(m.order)
}

// ReadAt implements procmem.Reader.
func (m *Recorded) ReadAt(p []byte, addr uint64) (int, error) {
	for done := 0; done < len(p); {
		at := addr + uint64(done)
		base := at - at%recordedPage
		page, ok := m.pages[base]
		if !ok && m.from != nil {
			page = make([]byte, recordedPage)
			if _, err := m.from.ReadAt(page, base); err != nil {
				page = nil
			}
			m.pages[base] = page
		}
		if page == nil {
			return done, fmt.Errorf("nothing was recorded at %#x", at)
		}
		done += copy(p[done:], page[at-base:])
	}
	return len(p), nil
}

// Patched is recorded memory with some words changed, which counts what is read.
type Patched struct {
	base  *Recorded
	pages map[uint64][]byte
	// Read is how many bytes were read so far.
	Read int
}

// Patch changes words of the memory as the bytes say: where (4 bytes), how (1),
// and with what (8), again and again. A word becomes a number, another word of
// the memory, a pointer to one, or itself with some bits turned: structures go
// wrong in the ways that matter.
func (m *Recorded) Patch(edits []byte) *Patched {
	p := &Patched{base: m, pages: make(map[uint64][]byte)}
	place := func(n uint32) (page uint64, off int) {
		return m.order[int(n)%len(m.order)], int(n/uint32(len(m.order))) % (recordedPage / 8) * 8
	}
	for ; len(edits) >= 13 && len(m.order) > 0; edits = edits[13:] {
		page, off := place(binary.LittleEndian.Uint32(edits))
		value := binary.LittleEndian.Uint64(edits[5:])
		b := p.pages[page]
		if b == nil {
			b = slices.Clone(m.pages[page])
			p.pages[page] = b
		}
		other, at := place(uint32(value))
		switch edits[4] % 4 {
		case 1:
			value = binary.LittleEndian.Uint64(m.pages[other][at:])
		case 2:
			value = other + uint64(at)
		case 3:
			value ^= binary.LittleEndian.Uint64(b[off:])
		}
		binary.LittleEndian.PutUint64(b[off:], value)
	}
	return p
}

// ReadAt implements procmem.Reader.
func (p *Patched) ReadAt(b []byte, addr uint64) (int, error) {
	for done := 0; done < len(b); {
		at := addr + uint64(done)
		base := at - at%recordedPage
		page, ok := p.pages[base]
		if !ok {
			page = p.base.pages[base]
		}
		if page == nil {
			return done, fmt.Errorf("nothing was recorded at %#x", at)
		}
		n := copy(b[done:], page[at-base:])
		done += n
		p.Read += n
	}
	return len(b), nil
}

// Edit is one step of Patch, for the seeds of a fuzz test: it turns bits of the
// word at addr, which must have been recorded.
func (m *Recorded) Edit(addr, bits uint64) []byte {
	i, ok := slices.BinarySearch(m.order, addr-addr%recordedPage)
	if !ok {
		return nil
	}
	e := binary.LittleEndian.AppendUint32(nil, uint32(i)+uint32(addr%recordedPage/8)*uint32(len(m.order)))
	return binary.LittleEndian.AppendUint64(append(e, 3), bits)
}

// Mirrors is memory in which the same bytes come again and again, at every
// address: all pointers lead somewhere, and most of them in a ring.
type Mirrors struct {
	Image []byte
	// Read is how many bytes were read so far.
	Read int
}

// ReadAt implements procmem.Reader.
func (m *Mirrors) ReadAt(p []byte, addr uint64) (int, error) {
	if len(m.Image) == 0 {
		return 0, fmt.Errorf("nothing is at %#x", addr)
	}
	m.Read += len(p)
	for done := 0; done < len(p); {
		done += copy(p[done:], m.Image[(addr+uint64(done))%uint64(len(m.Image)):])
	}
	return len(p), nil
}
