package elffile

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
)

// Data is a run of bytes of the file or image, read on demand. It is an
// io.ReaderAt whose offset 0 is the first byte of the run.
type Data struct {
	// VAddr is the virtual address of the first byte, 0 where the run is not
	// loaded (a debug section).
	VAddr uint64
	// Size in bytes.
	Size uint64

	f     *File
	off   uint64 // file offset; meaningless in memory
	plain []byte // the bytes themselves, where they had to be decompressed
}

// ReadAt implements io.ReaderAt.
func (d Data) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("negative offset %d", off)
	}
	if uint64(off) >= d.Size {
		return 0, io.EOF
	}
	short := false
	if left := d.Size - uint64(off); uint64(len(p)) > left {
		p, short = p[:left], true
	}
	n, err := d.fill(p, uint64(off))
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (d Data) fill(p []byte, off uint64) (int, error) {
	switch {
	case d.plain != nil:
		return copy(p, d.plain[off:]), nil
	case d.f == nil:
		return 0, io.ErrUnexpectedEOF
	case d.f.mem != nil:
		if err := readMemory(d.f.mem, p, d.VAddr+d.f.memBias+off); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return d.f.readFile(p, d.off+off)
}

// Bytes reads the whole run. It refuses runs of more than 512 MiB.
func (d Data) Bytes() ([]byte, error) { return d.Slice(0, d.Size) }

// Slice reads n bytes at offset off of the run.
func (d Data) Slice(off, n uint64) ([]byte, error) {
	if off > d.Size || n > d.Size-off {
		return nil, fmt.Errorf("%d bytes at %d of a run of %d: %w", n, off, d.Size, ErrDamaged)
	}
	if n > maxBytes {
		return nil, fmt.Errorf("a run of %d bytes is too large: %w", n, ErrDamaged)
	}
	if d.plain != nil {
		return d.plain[off : off+n : off+n], nil
	}
	// An image in memory has no size to check a claim against, so the buffer
	// grows with what is really there.
	const step = 1 << 20
	if d.f == nil || d.f.mem == nil || n <= step {
		buf := make([]byte, n)
		if _, err := d.fill(buf, off); err != nil {
			return nil, err
		}
		return buf, nil
	}
	var buf []byte
	for uint64(len(buf)) < n {
		part := make([]byte, min(step, n-uint64(len(buf))))
		if _, err := d.fill(part, off+uint64(len(buf))); err != nil {
			return nil, err
		}
		buf = append(buf, part...)
	}
	return buf, nil
}

// Bytes reads n bytes at file offset off. An image in memory has file offsets
// too, as far as they are loaded.
func (f *File) Bytes(off, n uint64) ([]byte, error) {
	d, err := f.atOffset(off, n)
	if err != nil {
		return nil, err
	}
	return d.Bytes()
}

// BytesAt reads n bytes at virtual address vaddr. Of a file that is what the
// loader will put there: memory that is only reserved (.bss) is ErrAbsent.
func (f *File) BytesAt(vaddr, n uint64) ([]byte, error) {
	d, err := f.AtVAddr(vaddr, n)
	if err != nil {
		return nil, err
	}
	return d.Bytes()
}

// ReadVAddr fills p with the bytes at virtual address vaddr. Like io.ReaderAt it
// returns an error, io.ErrUnexpectedEOF, where the segment ends before p is
// full, with the bytes up to there.
func (f *File) ReadVAddr(p []byte, vaddr uint64) (int, error) {
	d, err := f.FromVAddr(vaddr)
	if err != nil {
		return 0, err
	}
	n, err := d.ReadAt(p, 0)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// AtVAddr is the run of n bytes at virtual address vaddr, not read yet.
func (f *File) AtVAddr(vaddr, n uint64) (Data, error) {
	d, err := f.FromVAddr(vaddr)
	if err != nil {
		return Data{}, err
	}
	if n > d.Size {
		return Data{}, fmt.Errorf("%d bytes at address %#x reach beyond their segment: %w", n, vaddr, ErrDamaged)
	}
	d.Size = n
	return d, nil
}

// FromVAddr is the run from virtual address vaddr to the end of what the file
// holds of its loaded segment.
func (f *File) FromVAddr(vaddr uint64) (Data, error) {
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD || vaddr < s.VAddr {
			continue
		}
		into := vaddr - s.VAddr
		size := s.FileSize
		if f.mem != nil {
			size = s.MemSize
		}
		if into < size {
			return f.clip(Data{f: f, VAddr: vaddr, off: s.Off + into, Size: size - into})
		}
		if into < s.MemSize {
			return Data{}, fmt.Errorf("address %#x is zeroed memory without bytes in the file: %w", vaddr, ErrAbsent)
		}
	}
	return Data{}, fmt.Errorf("address %#x lies in no loaded segment: %w", vaddr, ErrAbsent)
}

// clip checks a run of a file against the file's size.
func (f *File) clip(d Data) (Data, error) {
	if f.mem != nil {
		return d, nil
	}
	if d.off > f.size {
		return Data{}, fmt.Errorf("offset %#x lies beyond the end of the file (%d bytes): %w", d.off, f.size, ErrDamaged)
	}
	d.Size = min(d.Size, f.size-d.off)
	return d, nil
}

// atOffset is the run of n bytes at file offset off.
func (f *File) atOffset(off, n uint64) (Data, error) {
	if f.mem == nil {
		if off > f.size || n > f.size-off {
			return Data{}, fmt.Errorf("%d bytes at offset %#x reach beyond the end of the file (%d bytes): %w", n, off, f.size, ErrDamaged)
		}
		return Data{f: f, off: off, Size: n}, nil
	}
	for _, s := range f.Segments {
		if s.Type == elf.PT_LOAD && off >= s.Off && off-s.Off < s.FileSize && n <= s.FileSize-(off-s.Off) {
			return Data{f: f, VAddr: s.VAddr + (off - s.Off), off: off, Size: n}, nil
		}
	}
	return Data{}, fmt.Errorf("%d bytes at file offset %#x are not loaded: %w", n, off, ErrAbsent)
}

// Offset turns a virtual address into an offset in the file. ok is false where
// no loaded segment has bytes for it.
func (f *File) Offset(vaddr uint64) (off uint64, ok bool) {
	for _, s := range f.Segments {
		if s.Type == elf.PT_LOAD && vaddr >= s.VAddr && vaddr-s.VAddr < s.FileSize {
			return s.Off + (vaddr - s.VAddr), true
		}
	}
	return 0, false
}

// Segment returns the first program header of type t, or false.
func (f *File) Segment(t elf.ProgType) (Segment, bool) {
	for _, s := range f.Segments {
		if s.Type == t {
			return s, true
		}
	}
	return Segment{}, false
}

// SegmentData is the run of bytes that the file has for s: in memory by
// address, in a file by offset.
func (f *File) SegmentData(s Segment) (Data, error) {
	if f.mem != nil {
		if s.VAddr == 0 && s.Off != 0 {
			return f.atOffset(s.Off, s.FileSize)
		}
		return f.AtVAddr(s.VAddr, s.FileSize)
	}
	d, err := f.atOffset(s.Off, s.FileSize)
	d.VAddr = s.VAddr
	return d, err
}

// readFile fills p from file offset off: a short read is an error, since the
// size was checked before.
func (f *File) readFile(p []byte, off uint64) (int, error) {
	if off <= uint64(len(f.head)) && uint64(len(p)) <= uint64(len(f.head))-off {
		return copy(p, f.head[off:]), nil
	}
	n, err := f.file.ReadAt(p, int64(off))
	if n == len(p) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file ends at %#x, before its size says: %w", off+uint64(n), ErrDamaged)
	}
	return n, err
}

func readMemory(r MemoryReader, p []byte, addr uint64) error {
	n, err := r.ReadAt(p, addr)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes of a loaded image at %#x: %w", len(p), addr, err)
}

// stringAt reads the NUL-terminated string at offset off of d.
func stringAt(d Data, off uint64) (string, error) {
	if off >= d.Size {
		return "", fmt.Errorf("string at %d of a table of %d bytes: %w", off, d.Size, ErrDamaged)
	}
	if d.plain != nil {
		return cut(d.plain[off:min(d.Size, off+maxString)], off)
	}
	var first [64]byte
	buf := first[:]
	for {
		n := min(uint64(len(buf)), d.Size-off)
		if _, err := d.fill(buf[:n], off); err != nil {
			return "", err
		}
		if s, err := cut(buf[:n], off); err == nil || n < uint64(len(buf)) || len(buf) >= maxString {
			return s, err
		}
		buf = make([]byte, min(len(buf)*8, maxString))
	}
}

func cut(b []byte, off uint64) (string, error) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), nil
		}
	}
	return "", fmt.Errorf("string at %d of its table has no end: %w", off, ErrDamaged)
}
