package elffile

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// DynEntry is one entry of the dynamic section. Value is as it stands there:
// in the memory of a process the loader may have turned addresses into
// run-time addresses.
type DynEntry struct {
	Tag   elf.DynTag
	Value uint64
}

// Dynamic is the dynamic section: what the loader goes by.
type Dynamic struct {
	// Entries up to the terminating DT_NULL, which is left out.
	Entries []DynEntry

	f    *File
	strs Data
	err  error // why there is no strs
}

// Dynamic reads the dynamic section. A file without one, such as a static
// program or a separate debug file, gives ErrAbsent.
func (f *File) Dynamic() (*Dynamic, error) { return f.dynamic() }

func (f *File) readDynamic() (*Dynamic, error) {
	s, ok := f.Segment(elf.PT_DYNAMIC)
	if !ok {
		return nil, fmt.Errorf("dynamic section: %w", ErrAbsent)
	}
	if s.FileSize == 0 {
		return nil, fmt.Errorf("dynamic section has no bytes in this file: %w", ErrAbsent)
	}
	data, err := f.SegmentData(s)
	if err != nil {
		return nil, fmt.Errorf("dynamic section: %w", err)
	}
	raw, err := data.Slice(0, min(data.Size, maxDynamic*dynSize))
	if err != nil {
		return nil, fmt.Errorf("dynamic section: %w", err)
	}
	d := &Dynamic{f: f}
	for ; len(raw) >= dynSize; raw = raw[dynSize:] {
		e := DynEntry{elf.DynTag(binary.LittleEndian.Uint64(raw)), binary.LittleEndian.Uint64(raw[8:])}
		if e.Tag == elf.DT_NULL {
			break
		}
		d.Entries = append(d.Entries, e)
	}
	d.strs, d.err = d.strings()
	return d, nil
}

func (d *Dynamic) strings() (Data, error) {
	addr, ok := d.Addr(elf.DT_STRTAB)
	if !ok {
		return Data{}, fmt.Errorf("string table of the dynamic section: %w", ErrAbsent)
	}
	strs, err := d.f.FromVAddr(addr)
	if err != nil {
		return Data{}, fmt.Errorf("string table of the dynamic section: %w", err)
	}
	if size, ok := d.Value(elf.DT_STRSZ); ok && size < strs.Size {
		strs.Size = size
	}
	return strs, nil
}

// Value is the value of the first entry with tag.
func (d *Dynamic) Value(tag elf.DynTag) (uint64, bool) {
	for _, e := range d.Entries {
		if e.Tag == tag {
			return e.Value, true
		}
	}
	return 0, false
}

// Addr is the virtual address that the first entry with tag holds. It undoes
// what the loader does to the dynamic section in memory: glibc adds the load
// bias to the addresses there (elf/get-dynamic-info.h, ADJUST_DYN_INFO), musl
// and the kernel's vdso leave them alone.
func (d *Dynamic) Addr(tag elf.DynTag) (uint64, bool) {
	v, ok := d.Value(tag)
	if !ok {
		return 0, false
	}
	if bias, mem := d.f.MemoryBias(); mem && !d.f.loaded(v) && d.f.loaded(v-bias) {
		v -= bias
	}
	return v, true
}

func (f *File) loaded(vaddr uint64) bool {
	for _, s := range f.Segments {
		if s.Type == elf.PT_LOAD && vaddr >= s.VAddr && vaddr-s.VAddr < s.MemSize {
			return true
		}
	}
	return false
}

// String reads the string at offset off of the dynamic string table.
func (d *Dynamic) String(off uint64) (string, error) {
	if d.err != nil {
		return "", d.err
	}
	return stringAt(d.strs, off)
}

// Needed lists the DT_NEEDED names, in the order of the file. None, for a
// static program, is no error.
func (f *File) Needed() ([]string, error) {
	d, err := f.dynamic()
	if errors.Is(err, ErrAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range d.Entries {
		if e.Tag != elf.DT_NEEDED {
			continue
		}
		s, err := d.String(e.Value)
		if err != nil {
			return names, fmt.Errorf("name of a needed library: %w", err)
		}
		names = append(names, s)
	}
	return names, nil
}

// Soname is the name that a shared library gives itself, "" with ErrAbsent
// where it gives none.
func (f *File) Soname() (string, error) {
	d, err := f.dynamic()
	if err != nil {
		return "", err
	}
	off, ok := d.Value(elf.DT_SONAME)
	if !ok {
		return "", fmt.Errorf("soname: %w", ErrAbsent)
	}
	return d.String(off)
}

// Interp is the path of the program interpreter (the dynamic loader), "" with
// ErrAbsent for a file without one.
func (f *File) Interp() (string, error) {
	s, ok := f.Segment(elf.PT_INTERP)
	if !ok {
		return "", fmt.Errorf("program interpreter: %w", ErrAbsent)
	}
	if s.FileSize > maxString {
		return "", fmt.Errorf("path of the program interpreter has %d bytes: %w", s.FileSize, ErrDamaged)
	}
	data, err := f.SegmentData(s)
	if err != nil {
		return "", fmt.Errorf("program interpreter: %w", err)
	}
	raw, err := data.Bytes()
	if err != nil {
		return "", fmt.Errorf("program interpreter: %w", err)
	}
	path, _, _ := strings.Cut(string(raw), "\x00")
	return path, nil
}

// IsPIE says whether this is a position-independent program, which a shared
// library is not although both are of type ET_DYN. Linkers since binutils 2.26
// mark it with DF_1_PIE; of an older one the interpreter tells it.
func (f *File) IsPIE() bool {
	if f.typ != elf.ET_DYN {
		return false
	}
	if f.flagPIE() {
		return true
	}
	_, interp := f.Segment(elf.PT_INTERP)
	_, err := f.Soname() // libc.so.6 has an interpreter and can be run, yet is a library
	return interp && err != nil
}

// IsStatic says whether this is a program that starts without a dynamic
// loader, static-pie included.
func (f *File) IsStatic() bool {
	if _, ok := f.Segment(elf.PT_INTERP); ok {
		return false
	}
	if d, err := f.dynamic(); err == nil {
		if _, ok := d.Value(elf.DT_NEEDED); ok {
			return false
		}
	}
	return f.typ == elf.ET_EXEC || f.flagPIE()
}

func (f *File) flagPIE() bool {
	d, err := f.dynamic()
	if err != nil {
		return false
	}
	v, _ := d.Value(elf.DT_FLAGS_1)
	return elf.DynFlag1(v)&elf.DF_1_PIE != 0
}
