package elffile

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
)

// Section is one section header. Offsets and sizes are in bytes.
type Section struct {
	Name  string
	Type  elf.SectionType
	Flags elf.SectionFlag
	// VAddr is 0 for a section that is not loaded.
	VAddr, Off, Size uint64
	// Link is the index of a related section: a symbol table's strings.
	Link int
	// Info is for a symbol table the index of the first symbol that is not local.
	Info int
	// Align is what the address is a multiple of; 0 and 1 mean anything.
	Align uint64
	// EntSize is the size of one entry of a table.
	EntSize uint64

	nameAt uint32
}

// Sections returns all section headers, the empty one with index 0 included.
// A file without any, and an image in memory, gives ErrAbsent.
func (f *File) Sections() ([]Section, error) { return f.sections() }

// Section is the virtual address and size of the section called name, for
// example ".PyRuntime". ok is false where there is none, and where the section
// headers cannot be read; SectionNamed tells which.
func (f *File) Section(name string) (vaddr, size uint64, ok bool) {
	s, err := f.SectionNamed(name)
	return s.VAddr, s.Size, err == nil
}

// SectionNamed finds a section by name. The error wraps ErrAbsent where there
// is none of that name.
func (f *File) SectionNamed(name string) (Section, error) {
	all, err := f.sections()
	if err != nil {
		return Section{}, err
	}
	for i := range all {
		if all[i].Name == name && i > 0 {
			return all[i], nil
		}
	}
	return Section{}, fmt.Errorf("section %s: %w", name, ErrAbsent)
}

// SectionData is the run of bytes of s, decompressed where it is compressed
// with zlib. A section without bytes in the file (.bss, or most sections of a
// separate debug file) gives ErrAbsent.
func (f *File) SectionData(s Section) (Data, error) {
	if s.Type == elf.SHT_NOBITS {
		return Data{}, fmt.Errorf("section %s has no bytes in this file: %w", s.Name, ErrAbsent)
	}
	d, err := f.atOffset(s.Off, s.Size)
	if err != nil {
		return Data{}, fmt.Errorf("section %s: %w", s.Name, err)
	}
	d.VAddr = s.VAddr
	if s.Flags&elf.SHF_COMPRESSED == 0 {
		return d, nil
	}
	plain, err := inflate(d)
	if err != nil {
		return Data{}, fmt.Errorf("section %s: %w", s.Name, err)
	}
	return Data{VAddr: s.VAddr, Size: uint64(len(plain)), plain: plain}, nil
}

// inflate undoes SHF_COMPRESSED. The header is Elf64_Chdr: type, reserved,
// size, alignment.
func inflate(d Data) ([]byte, error) {
	raw, err := d.Bytes()
	if err != nil {
		return nil, err
	}
	if len(raw) < 24 {
		return nil, fmt.Errorf("compressed section of %d bytes: %w", len(raw), ErrDamaged)
	}
	if t := elf.CompressionType(binary.LittleEndian.Uint32(raw)); t != elf.COMPRESS_ZLIB {
		return nil, fmt.Errorf("compression %v cannot be undone here, only zlib: %w", t, ErrAbsent)
	}
	size := binary.LittleEndian.Uint64(raw[8:])
	// zlib cannot shrink anything to less than about a thousandth.
	if size > maxBytes || size > uint64(len(raw))*1100 {
		return nil, fmt.Errorf("%d bytes claim to hold %d: %w", len(raw), size, ErrDamaged)
	}
	z, err := zlib.NewReader(bytes.NewReader(raw[24:]))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, int64(size)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if uint64(len(plain)) != size {
		return nil, fmt.Errorf("compressed data of %d bytes claims to be %d: %w", len(plain), size, ErrDamaged)
	}
	return plain, nil
}

func (f *File) sectionHeader(i int) (Section, error) {
	if f.shoff == 0 {
		return Section{}, fmt.Errorf("section headers: %w", ErrAbsent)
	}
	raw, err := f.Bytes(f.shoff+uint64(i)*sectionSize, sectionSize)
	if err != nil {
		return Section{}, err
	}
	return parseSection(raw), nil
}

func parseSection(p []byte) Section {
	return Section{
		nameAt:  binary.LittleEndian.Uint32(p),
		Type:    elf.SectionType(binary.LittleEndian.Uint32(p[4:])),
		Flags:   elf.SectionFlag(binary.LittleEndian.Uint64(p[8:])),
		VAddr:   binary.LittleEndian.Uint64(p[16:]),
		Off:     binary.LittleEndian.Uint64(p[24:]),
		Size:    binary.LittleEndian.Uint64(p[32:]),
		Link:    int(binary.LittleEndian.Uint32(p[40:])),
		Info:    int(binary.LittleEndian.Uint32(p[44:])),
		Align:   binary.LittleEndian.Uint64(p[48:]),
		EntSize: binary.LittleEndian.Uint64(p[56:]),
	}
}

func (f *File) readSections() ([]Section, error) {
	if f.mem != nil {
		return nil, fmt.Errorf("sections of an image in memory: %w", ErrAbsent)
	}
	if f.shoff == 0 {
		return nil, fmt.Errorf("section headers: %w", ErrAbsent)
	}
	count, names := uint64(f.shnum), f.shstrndx
	if count == 0 || names == int(elf.SHN_XINDEX) {
		// Too many for the header's 16 bits: section 0 says how many.
		s, err := f.sectionHeader(0)
		if err != nil {
			return nil, fmt.Errorf("section headers: %w", err)
		}
		if count == 0 {
			count = s.Size
		}
		if names == int(elf.SHN_XINDEX) {
			names = s.Link
		}
	}
	if count == 0 {
		return nil, fmt.Errorf("section headers: %w", ErrAbsent)
	}
	if count > maxSections {
		return nil, fmt.Errorf("%d section headers: %w", count, ErrDamaged)
	}
	raw, err := f.Bytes(f.shoff, count*sectionSize)
	if err != nil {
		return nil, fmt.Errorf("section headers: %w", err)
	}
	all := make([]Section, count)
	for i := range all {
		all[i] = parseSection(raw[i*sectionSize:])
	}
	if names >= len(all) {
		return nil, fmt.Errorf("section %d should hold the section names, of %d: %w", names, len(all), ErrDamaged)
	}
	if names == 0 {
		return all, nil // SHN_UNDEF: sections have no names
	}
	strs, err := f.SectionData(all[names])
	if err != nil {
		return nil, fmt.Errorf("names of the sections: %w", err)
	}
	table, err := strs.Bytes()
	if err != nil {
		return nil, fmt.Errorf("names of the sections: %w", err)
	}
	// Cut at the NULs of one string, so that names share it instead of being
	// allocated one by one.
	joined := string(table)
	for i := range all {
		o := uint64(all[i].nameAt)
		if o >= uint64(len(joined)) {
			continue // a section without a readable name can still be found by type
		}
		name := joined[o:min(uint64(len(joined)), o+maxString)]
		for j := range len(name) {
			if name[j] == 0 {
				name = name[:j]
				break
			}
		}
		all[i].Name = name
	}
	return all, nil
}
