package unwind

import (
	"encoding/binary"
	"fmt"

	"forkproof/internal/procmem"
)

const (
	chunkSize = 16 << 10
	pageSize  = 4 << 10
	// maxChunks bounds what is kept to 16 MiB.
	maxChunks = 1024
)

// memory reads a process's memory in large pieces and keeps them for the time
// of one walk: a call of the kernel costs more than copying 16 KiB.
type memory struct {
	r      procmem.Reader
	chunks map[uint64]*chunk
	last   *chunk
}

type chunk struct {
	base uint64
	have uint8 // bit n: page n was read
	miss uint8 // bit n: page n cannot be read
	err  error
	b    [chunkSize]byte
}

// page returns the chunk of addr with at least that page read.
func (m *memory) page(addr uint64) (*chunk, error) {
	base := addr &^ (chunkSize - 1)
	c := m.last
	if c == nil || c.base != base {
		if c = m.chunks[base]; c == nil {
			if m.chunks == nil || len(m.chunks) >= maxChunks {
				m.chunks = make(map[uint64]*chunk)
			}
			c = &chunk{base: base}
			m.chunks[base] = c
			n, err := m.r.ReadAt(c.b[:], base)
			for i := 0; (i+1)*pageSize <= n; i++ {
				c.have |= 1 << i
			}
			if n < chunkSize && err == nil {
				c.err = fmt.Errorf("short read at %#x", base)
			}
		}
		m.last = c
	}
	i := addr % chunkSize / pageSize
	if c.have&(1<<i) != 0 {
		return c, nil
	}
	if c.miss&(1<<i) == 0 {
		// The end of a stack lies within the chunk: this page may be there
		// though others are not.
		at := i * pageSize
		_, err := m.r.ReadAt(c.b[at:at+pageSize], base+at)
		if err == nil {
			c.have |= 1 << i
			return c, nil
		}
		c.miss |= 1 << i
		c.err = err
	}
	if c.err == nil {
		return nil, fmt.Errorf("memory at %#x cannot be read", addr)
	}
	return nil, c.err
}

// bytes returns up to n bytes at addr, all within one page, and fewer only at the
// page's end. They are not to be written to.
func (m *memory) bytes(addr, n uint64) ([]byte, error) {
	c, err := m.page(addr)
	if err != nil {
		return nil, err
	}
	at := addr % chunkSize
	end := at - at%pageSize + pageSize
	return c.b[at:min(at+n, end)], nil
}

// read fills p.
func (m *memory) read(p []byte, addr uint64) error {
	for len(p) > 0 {
		b, err := m.bytes(addr, uint64(len(p)))
		if err != nil {
			return err
		}
		n := copy(p, b)
		p, addr = p[n:], addr+uint64(n)
	}
	return nil
}

// load reads a little-endian number of 1, 2, 4 or 8 bytes.
func (m *memory) load(addr uint64, size int) (uint64, error) {
	var tmp [8]byte
	if size < 0 || size > 8 {
		return 0, fmt.Errorf("a number of %d bytes", size)
	}
	b, err := m.bytes(addr, uint64(size))
	if err != nil {
		return 0, err
	}
	if len(b) == 8 {
		return binary.LittleEndian.Uint64(b), nil
	}
	if err := m.read(tmp[:size], addr); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(tmp[:]), nil
}
