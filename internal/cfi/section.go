package cfi

import (
	"fmt"
	"io"
	"sync/atomic"
)

const (
	// pageSize is how much is read at a time. One read of a file in the page
	// cache costs about the same for 1 and for 16 KiB.
	pageSize = 16 << 10
	// maxSection bounds a section. The largest known .eh_frame, that of a
	// browser, has about 20 MiB.
	maxSection = 4 << 30
)

// Section is a run of bytes and the virtual address of the first.
type Section struct {
	// Data holds the bytes, or is nil and R reads them.
	Data []byte
	// R reads the section; its offset 0 is the section's first byte. It must be
	// usable from many goroutines, and as long as the Frames is.
	R io.ReaderAt
	// Addr is the virtual address of the first byte.
	Addr uint64
	// Size is the number of bytes that R has; not used with Data.
	Size uint64
}

// section reads a Section page by page and keeps the pages.
type section struct {
	name  string
	addr  uint64
	size  uint64
	data  []byte
	r     io.ReaderAt
	pages []atomic.Pointer[[]byte]
}

func newSection(s Section, name string) (*section, error) {
	if s.Data != nil {
		if len(s.Data) == 0 {
			return nil, nil
		}
		return &section{name: name, addr: s.Addr, size: uint64(len(s.Data)), data: s.Data}, nil
	}
	if s.R == nil || s.Size == 0 {
		return nil, nil
	}
	if s.Size > maxSection {
		return nil, fmt.Errorf("%s of %d bytes: %w", name, s.Size, ErrDamaged)
	}
	return &section{
		name: name, addr: s.Addr, size: s.Size, r: s.R,
		pages: make([]atomic.Pointer[[]byte], (s.Size+pageSize-1)/pageSize),
	}, nil
}

// bytes returns n bytes at offset off. The result must not be written to.
func (s *section) bytes(off, n uint64) ([]byte, error) {
	if off > s.size || n > s.size-off {
		return nil, fmt.Errorf("%s: %d bytes at offset %#x reach beyond its end: %w", s.name, n, off, ErrDamaged)
	}
	if s.data != nil {
		return s.data[off : off+n : off+n], nil
	}
	at := off % pageSize
	if at+n <= pageSize {
		p, err := s.page(off/pageSize, at+n)
		if err != nil {
			return nil, err
		}
		return p[at : at+n : at+n], nil
	}
	out := make([]byte, 0, n)
	for uint64(len(out)) < n {
		at := off % pageSize
		take := min(n-uint64(len(out)), pageSize-at)
		p, err := s.page(off/pageSize, at+take)
		if err != nil {
			return nil, err
		}
		out = append(out, p[at:at+take]...)
		off += take
	}
	return out, nil
}

// page returns page i, of which at least need bytes are there.
func (s *section) page(i, need uint64) ([]byte, error) {
	if p := s.pages[i].Load(); p != nil && uint64(len(*p)) >= need {
		return *p, nil
	}
	buf := make([]byte, min(pageSize, s.size-i*pageSize))
	n, err := s.r.ReadAt(buf, int64(i*pageSize))
	buf = buf[:n]
	if uint64(n) < need {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading %s at offset %#x: %w", s.name, i*pageSize, err)
	}
	s.pages[i].Store(&buf)
	return buf, nil
}

// offset turns an address into an offset.
func (s *section) offset(addr uint64) (uint64, bool) {
	off := addr - s.addr
	return off, addr >= s.addr && off < s.size
}
