// Package elffile reads ELF files of Linux on x86-64 and AArch64 (64 bits,
// little endian), from a file or from the memory of a process that has it
// loaded. It reads lazily: opening costs the header and the program headers,
// everything else is fetched when it is asked for.
//
// The memory form exists for objects that have no file any more (a library that
// was replaced by an upgrade) or never had one (the vdso). There only what the
// loader mapped can be had: program headers, the dynamic section, notes and
// unwind tables, but no sections.
//
// Every byte read here is foreign. Offsets, sizes and counts are checked before
// they are used, and whatever does not fit is an error that wraps [ErrDamaged].
package elffile

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotELF: the first bytes are not those of an ELF file.
	ErrNotELF = errors.New("not an ELF file")
	// ErrNot64: a 32-bit ELF file.
	ErrNot64 = errors.New("a 32-bit ELF file; only 64-bit programs are supported")
	// ErrMachine: an ELF file for a processor or byte order other than x86-64
	// and AArch64, little endian.
	ErrMachine = errors.New("an ELF file for a machine that is not supported (x86-64 and AArch64 are)")
	// ErrDamaged: the file contradicts itself, is cut short, or is too large to
	// be true. It comes wrapped with what was wrong and where.
	ErrDamaged = errors.New("damaged ELF file")
	// ErrAbsent: the file does not have what was asked for: no such section, no
	// build-id, no symbol table.
	ErrAbsent = errors.New("not in this ELF file")
	// ErrNotLoaded: no mapping that was given fits the program headers.
	ErrNotLoaded = errors.New("no mapping fits the program headers of the ELF file")
)

// Limits on what a file may claim. They are far above what real files have
// (the largest browsers have about 50 sections and 15 segments) and keep a
// hostile file from making us allocate or loop.
const (
	maxSegments = 1 << 14
	maxSections = 1 << 18
	maxDynamic  = 1 << 14
	maxNotes    = 1 << 16
	maxString   = 1 << 16
	// maxBytes is the most that one call hands out as a slice.
	maxBytes = 512 << 20
)

const (
	headerSize  = 64
	progSize    = 56
	sectionSize = 64
	dynSize     = 16
	// SymSize is the size of one symbol table entry in bytes.
	SymSize = 24
)

// MemoryReader reads the memory of a process; procmem.Reader is one. ReadAt
// fills p from addr, and returns how much it got with an error where that is
// less than len(p).
type MemoryReader interface {
	ReadAt(p []byte, addr uint64) (int, error)
}

// File is an ELF file or a loaded image. It can be used by many goroutines at
// a time.
type File struct {
	// Segments are the program headers, in the order of the file.
	Segments []Segment

	machine elf.Machine
	typ     elf.Type
	entry   uint64

	file    io.ReaderAt  // nil for an image in memory
	size    uint64       // of file
	mem     MemoryReader // nil for a file
	memBias uint64       // run-time address minus virtual address; only with mem

	head                      []byte // the first bytes, so that most small things cost no further read
	phoff, shoff              uint64
	shnum, shstrndx, rawPhnum int

	sections func() ([]Section, error)
	dynamic  func() (*Dynamic, error)
}

// Machine is the processor that the file is for: elf.EM_X86_64 or
// elf.EM_AARCH64.
func (f *File) Machine() elf.Machine { return f.machine }

// Type is elf.ET_EXEC, elf.ET_DYN and so on.
func (f *File) Type() elf.Type { return f.typ }

// Entry is the virtual address where a program starts, 0 for none.
func (f *File) Entry() uint64 { return f.entry }

// Segment is one program header. Offsets and sizes are in bytes.
type Segment struct {
	Type                          elf.ProgType
	Flags                         elf.ProgFlag
	Off, VAddr, FileSize, MemSize uint64
	Align                         uint64
}

// Open is OpenSize for a reader that knows its own size, as an *os.File, a
// *bytes.Reader and an *io.SectionReader do. Of any other the size is taken to
// be unlimited, and a claim beyond the end shows only when it is read.
func Open(r io.ReaderAt) (*File, error) {
	size := int64(math.MaxInt64)
	switch s := r.(type) {
	case interface{ Stat() (fs.FileInfo, error) }:
		info, err := s.Stat()
		if err != nil {
			return nil, fmt.Errorf("size of the ELF file: %w", err)
		}
		if info.Mode().IsRegular() {
			size = info.Size()
		}
	case interface{ Size() int64 }:
		size = s.Size()
	}
	return OpenSize(r, size)
}

// OpenSize reads the header and program headers of the ELF file r of size
// bytes. The error wraps ErrNotELF, ErrNot64, ErrMachine or ErrDamaged, or what
// r returned. r must stay readable as long as the File is used; the File never
// closes it.
func OpenSize(r io.ReaderAt, size int64) (*File, error) {
	if size < 0 {
		return nil, fmt.Errorf("size %d: %w", size, ErrNotELF)
	}
	f := &File{file: r, size: uint64(size)}
	head := make([]byte, min(size, 4096))
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the ELF header: %w", err)
	}
	f.head = head[:n]
	if err := f.readHeader(); err != nil {
		return nil, err
	}
	if err := f.readSegments(); err != nil {
		return nil, err
	}
	f.prepare()
	return f, nil
}

// FromMemory reads an image that is loaded in the memory of a process, whose
// ELF header is at address base: the start of the mapping with file offset 0,
// or AT_SYSINFO_EHDR for the vdso. Virtual addresses stay those of the file;
// see [File.MemoryBias].
func FromMemory(r MemoryReader, base uint64) (*File, error) {
	f := &File{mem: r, size: math.MaxUint64}
	head := make([]byte, 4096)
	// The vdso or a small last mapping may end within the first 4 KiB of what
	// is asked for: take what there is.
	n, _ := r.ReadAt(head, base)
	if n < headerSize {
		var err error
		if n, err = r.ReadAt(head[:headerSize], base); n < headerSize {
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("reading the ELF header at %#x in memory: %w", base, err)
		}
	}
	f.head = head[:n]
	if err := f.readHeader(); err != nil {
		return nil, fmt.Errorf("image at %#x: %w", base, err)
	}
	// Until the program headers are known, offsets are taken from base.
	f.memBias = base
	if err := f.readSegments(); err != nil {
		return nil, fmt.Errorf("image at %#x: %w", base, err)
	}
	found := false
	for _, s := range f.Segments {
		// The header lies in the segment that maps the start of the file. Its
		// offset need not be 0, since the loader maps whole pages.
		if s.Type == elf.PT_LOAD && s.Off < 1<<16 && (!found || s.Off == 0) {
			f.memBias = base - (s.VAddr - s.Off)
			found = true
			if s.Off == 0 {
				break
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("image at %#x: no loaded segment holds the ELF header: %w", base, ErrDamaged)
	}
	f.prepare()
	return f, nil
}

func (f *File) prepare() {
	f.sections = sync.OnceValues(f.readSections)
	f.dynamic = sync.OnceValues(f.readDynamic)
}

// InMemory says whether the File is an image in the memory of a process.
func (f *File) InMemory() bool { return f.mem != nil }

// MemoryBias is, for an image in memory, what to add to a virtual address of
// the file to get the run-time address. ok is false for a file.
func (f *File) MemoryBias() (bias uint64, ok bool) { return f.memBias, f.mem != nil }

func (f *File) readHeader() error {
	h := f.head
	if len(h) < 4 || string(h[:4]) != elf.ELFMAG {
		return ErrNotELF
	}
	if len(h) < elf.EI_NIDENT+4 {
		return fmt.Errorf("the file ends within the ELF header: %w", ErrDamaged)
	}
	switch elf.Class(h[elf.EI_CLASS]) {
	case elf.ELFCLASS64:
	case elf.ELFCLASS32:
		return ErrNot64
	default:
		return fmt.Errorf("class %d in the ELF header: %w", h[elf.EI_CLASS], ErrDamaged)
	}
	if d := elf.Data(h[elf.EI_DATA]); d != elf.ELFDATA2LSB {
		return fmt.Errorf("byte order %v: %w", d, ErrMachine)
	}
	f.typ = elf.Type(binary.LittleEndian.Uint16(h[16:]))
	f.machine = elf.Machine(binary.LittleEndian.Uint16(h[18:]))
	if f.machine != elf.EM_X86_64 && f.machine != elf.EM_AARCH64 {
		return fmt.Errorf("%v: %w", f.machine, ErrMachine)
	}
	if len(h) < headerSize {
		return fmt.Errorf("the file ends within the ELF header: %w", ErrDamaged)
	}
	f.entry = binary.LittleEndian.Uint64(h[24:])
	f.phoff = binary.LittleEndian.Uint64(h[32:])
	f.shoff = binary.LittleEndian.Uint64(h[40:])
	f.rawPhnum = int(binary.LittleEndian.Uint16(h[56:]))
	f.shnum = int(binary.LittleEndian.Uint16(h[60:]))
	f.shstrndx = int(binary.LittleEndian.Uint16(h[62:]))
	if n := binary.LittleEndian.Uint16(h[54:]); f.rawPhnum > 0 && n != progSize {
		return fmt.Errorf("program headers of %d bytes where 64-bit files have %d: %w", n, progSize, ErrDamaged)
	}
	if n := binary.LittleEndian.Uint16(h[58:]); f.shnum > 0 && n != sectionSize {
		// Sections are a convenience: a loaded program runs without them.
		f.shoff, f.shnum = 0, 0
	}
	return nil
}

func (f *File) readSegments() error {
	count := f.rawPhnum
	if count == 0xffff && f.mem == nil { // PN_XNUM: the true number is in section 0
		s, err := f.sectionHeader(0)
		if err != nil {
			return fmt.Errorf("number of program headers: %w", err)
		}
		count = s.Info
	}
	if count > maxSegments {
		return fmt.Errorf("%d program headers: %w", count, ErrDamaged)
	}
	if count == 0 {
		return nil
	}
	raw, err := f.headBytes(f.phoff, uint64(count)*progSize)
	if err != nil {
		return fmt.Errorf("program headers: %w", err)
	}
	f.Segments = make([]Segment, count)
	for i := range f.Segments {
		p := raw[i*progSize:]
		f.Segments[i] = Segment{
			Type:     elf.ProgType(binary.LittleEndian.Uint32(p)),
			Flags:    elf.ProgFlag(binary.LittleEndian.Uint32(p[4:])),
			Off:      binary.LittleEndian.Uint64(p[8:]),
			VAddr:    binary.LittleEndian.Uint64(p[16:]),
			FileSize: binary.LittleEndian.Uint64(p[32:]),
			MemSize:  binary.LittleEndian.Uint64(p[40:]),
			Align:    binary.LittleEndian.Uint64(p[48:]),
		}
	}
	return nil
}

// headBytes reads n bytes at file offset off before the program headers are
// known: in a file directly, in an image relative to its base.
func (f *File) headBytes(off, n uint64) ([]byte, error) {
	if off <= uint64(len(f.head)) && n <= uint64(len(f.head))-off {
		return f.head[off : off+n], nil
	}
	if f.mem == nil {
		return f.Bytes(off, n)
	}
	if off > 1<<32 {
		return nil, fmt.Errorf("at offset %#x: %w", off, ErrDamaged)
	}
	buf := make([]byte, n)
	if err := readMemory(f.mem, buf, f.memBias+off); err != nil {
		return nil, err
	}
	return buf, nil
}
