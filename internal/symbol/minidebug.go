package symbol

import (
	"bytes"
	"fmt"
	"io"

	"github.com/therootcompany/xz"

	"forkproof/internal/elffile"
)

const (
	// maxMini bounds the unpacked mini debug information; that of the largest
	// programs of Fedora has a few MiB.
	maxMini = 64 << 20
	// maxPacked bounds the section itself.
	maxPacked = 32 << 20
)

// miniDebugInfo unpacks .gnu_debugdata: an ELF file with a .symtab of those
// functions that .dynsym lacks, compressed with xz ("MiniDebugInfo" in the
// manual of gdb). Without one the error wraps elffile.ErrAbsent.
func miniDebugInfo(f *elffile.File) (*elffile.File, error) {
	s, err := f.SectionNamed(".gnu_debugdata")
	if err != nil {
		return nil, err
	}
	data, err := f.SectionData(s)
	if err != nil {
		return nil, err
	}
	if data.Size > maxPacked {
		return nil, fmt.Errorf(".gnu_debugdata of %d bytes: %w", data.Size, elffile.ErrDamaged)
	}
	plain, err := unpack(io.NewSectionReader(data, 0, int64(data.Size)))
	if err != nil {
		return nil, fmt.Errorf(".gnu_debugdata: %w", err)
	}
	mini, err := elffile.Open(bytes.NewReader(plain))
	if err != nil {
		return nil, fmt.Errorf(".gnu_debugdata: %w", err)
	}
	return mini, nil
}

// unpack undoes xz, up to maxMini bytes.
func unpack(r io.Reader) (plain []byte, err error) {
	// The decoder is a translation of C code. It was not seen to panic, but a
	// damaged file must not end an inspection if it does.
	defer func() {
		if p := recover(); p != nil {
			plain, err = nil, fmt.Errorf("%w: unpacking failed: %v", elffile.ErrDamaged, p)
		}
	}()
	z, err := xz.NewReader(r, xz.DefaultDictMax)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", elffile.ErrDamaged, err)
	}
	plain, err = io.ReadAll(io.LimitReader(z, maxMini+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", elffile.ErrDamaged, err)
	}
	if len(plain) > maxMini {
		return nil, fmt.Errorf("more than %d bytes: %w", maxMini, elffile.ErrDamaged)
	}
	return plain, nil
}
