package elffile_test

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"forkproof/internal/elffile"
	"forkproof/internal/testbed"
)

// TestRelocs compares the relocations that the dynamic section leads to with
// those of the sections that a linker calls .rela.dyn, .rela.plt and .relr.dyn.
func TestRelocs(t *testing.T) {
	packed := testbed.BuildHost(t, "libhandlers.c", "-Wl,-z,pack-relative-relocs")
	for _, tt := range []struct {
		file   string
		packed bool
	}{
		{filepath.Join(testbed.Open(t, "bookworm").Dir, "usr/lib/x86_64-linux-gnu/libstdc++.so.6"), false},
		{filepath.Join(testbed.Cross(t).Dir, "usr/aarch64-linux-gnu/lib/libc.so.6"), false},
		{packed, true},
	} {
		f, err := os.Open(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		e, err := elffile.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		var got []elffile.Reloc
		if err := e.Relocs(func(r elffile.Reloc) error { got = append(got, r); return nil }); err != nil {
			t.Fatalf("%s: %v", tt.file, err)
		}
		d, err := elf.NewFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var want []elffile.Reloc
		for _, name := range []string{".rela.dyn", ".rela.plt"} {
			s := d.Section(name)
			if s == nil {
				continue
			}
			raw, err := s.Data()
			if err != nil {
				t.Fatal(err)
			}
			for ; len(raw) >= 24; raw = raw[24:] {
				info := binary.LittleEndian.Uint64(raw[8:])
				want = append(want, elffile.Reloc{Off: binary.LittleEndian.Uint64(raw), Type: uint32(info), Sym: uint32(info >> 32), Addend: int64(binary.LittleEndian.Uint64(raw[16:]))})
			}
		}
		if len(got) < len(want) || len(want) < 20 || !slices.Equal(got[:len(want)], want) {
			t.Errorf("%s: %d relocations, want %d that are equal", tt.file, len(got), len(want))
			continue
		}
		if more := got[len(want):]; (len(more) > 10) != tt.packed {
			t.Errorf("%s: %d packed relocations", tt.file, len(more))
		} else if !slices.IsSortedFunc(more, func(x, y elffile.Reloc) int { return int(x.Off) - int(y.Off) }) {
			t.Errorf("%s: packed relocations in no order: %v", tt.file, more)
		}
		stop := errors.New("enough")
		if err := e.Relocs(func(elffile.Reloc) error { return stop }); err != stop {
			t.Errorf("%s: the error of the caller comes back as %v", tt.file, err)
		}
	}
}
