package elffile

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// Reloc is one relocation that the loader applies to the memory of a program or
// library.
type Reloc struct {
	// Off is the virtual address of the place.
	Off uint64
	// Type is an elf.R_X86_64 or elf.R_AARCH64.
	Type uint32
	// Sym is the index of the dynamic symbol, 0 for none.
	Sym uint32
	// Addend of a relative relocation is the virtual address that the place will
	// hold.
	Addend int64
}

const (
	relaSize = 24
	// maxRelocs bounds what one table may hold: browsers have some 2 million.
	maxRelocs = 1 << 22
)

// Relocs calls fn with every dynamic relocation: DT_RELA, DT_JMPREL and DT_RELR,
// whose entries come as relative ones. A file without a dynamic section has none.
// It stops at the first error of fn, and returns it. A damaged table is an error
// that wraps ErrDamaged, after what came before the damage.
func (f *File) Relocs(fn func(Reloc) error) error {
	d, err := f.dynamic()
	if err != nil {
		return err
	}
	for _, t := range []struct {
		at, size elf.DynTag
	}{{elf.DT_RELA, elf.DT_RELASZ}, {elf.DT_JMPREL, elf.DT_PLTRELSZ}} {
		addr, ok := d.Addr(t.at)
		size, sized := d.Value(t.size)
		if !ok || !sized || size == 0 {
			continue
		}
		if size > maxRelocs*relaSize {
			return fmt.Errorf("relocations of %d bytes: %w", size, ErrDamaged)
		}
		data, err := f.AtVAddr(addr, size)
		if err != nil {
			return fmt.Errorf("relocations: %w", err)
		}
		if err := eachRela(data, fn); err != nil {
			return err
		}
	}
	return f.relr(d, fn)
}

// pieces calls fn with the bytes of data, a piece of step bytes at a time.
func pieces(data Data, step uint64, fn func(b []byte) error) error {
	buf := make([]byte, min(data.Size, step))
	for off := uint64(0); off < data.Size; off += step {
		b := buf[:min(step, data.Size-off)]
		if _, err := data.fill(b, off); err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
	}
	return nil
}

func eachRela(data Data, fn func(Reloc) error) error {
	data.Size -= data.Size % relaSize
	return pieces(data, 4096*relaSize, func(b []byte) error {
		for ; len(b) >= relaSize; b = b[relaSize:] {
			info := binary.LittleEndian.Uint64(b[8:])
			r := Reloc{Off: binary.LittleEndian.Uint64(b), Type: uint32(info), Sym: uint32(info >> 32), Addend: int64(binary.LittleEndian.Uint64(b[16:]))}
			if err := fn(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// DT_RELR and DT_RELRSZ, of the gABI of 2022; package debug/elf lacks them.
const (
	dtRelrSz = elf.DynTag(35)
	dtRelr   = elf.DynTag(36)
)

// relr decodes the packed relative relocations: an even entry is the address of
// a place, an odd one has a bit for each of the 63 words behind the last.
func (f *File) relr(d *Dynamic, fn func(Reloc) error) error {
	addr, ok := d.Addr(dtRelr)
	size, sized := d.Value(dtRelrSz)
	if !ok || !sized || size == 0 {
		return nil
	}
	if size > maxRelocs*8 {
		return fmt.Errorf("packed relocations of %d bytes: %w", size, ErrDamaged)
	}
	data, err := f.AtVAddr(addr, size)
	if err != nil {
		return fmt.Errorf("packed relocations: %w", err)
	}
	relative := uint32(elf.R_X86_64_RELATIVE)
	if f.machine == elf.EM_AARCH64 {
		relative = uint32(elf.R_AARCH64_RELATIVE)
	}
	// The places lie beside each other, so that they are read by the page.
	var page []byte
	var start uint64
	count := 0
	one := func(at uint64) error {
		if count++; count > maxRelocs {
			return fmt.Errorf("more than %d packed relocations: %w", maxRelocs, ErrDamaged)
		}
		if at < start || at-start+8 > uint64(len(page)) {
			page = make([]byte, 16<<10)
			n, err := f.ReadVAddr(page, at)
			if n < 8 {
				return fmt.Errorf("packed relocation of %#x: %w", at, err)
			}
			page, start = page[:n], at
		}
		return fn(Reloc{Off: at, Type: relative, Addend: int64(binary.LittleEndian.Uint64(page[at-start:]))})
	}
	var next uint64
	return pieces(data, 16<<10, func(b []byte) error {
		for ; len(b) >= 8; b = b[8:] {
			e := binary.LittleEndian.Uint64(b)
			if e&1 == 0 {
				if err := one(e); err != nil {
					return err
				}
				next = e + 8
				continue
			}
			for i, bits := uint64(0), e>>1; bits != 0; i, bits = i+1, bits>>1 {
				if bits&1 != 0 {
					if err := one(next + 8*i); err != nil {
						return err
					}
				}
			}
			next += 63 * 8
		}
		return nil
	})
}
