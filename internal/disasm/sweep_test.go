package disasm_test

import (
	"debug/elf"
	"path/filepath"
	"slices"
	"testing"

	"forkproof/internal/disasm"
	"forkproof/internal/testbed"
)

// TestSweepMissesNothing decodes the code of real libraries instruction by
// instruction, and sees that a sweep for a few of the addresses that it goes to
// finds each place.
func TestSweepMissesNothing(t *testing.T) {
	for _, tt := range []struct {
		arch disasm.Arch
		file string
	}{
		{disasm.AMD64, filepath.Join(testbed.Open(t, "bookworm").Dir, "usr/lib/x86_64-linux-gnu/libstdc++.so.6")},
		{disasm.ARM64, filepath.Join(testbed.Cross(t).Dir, "usr/aarch64-linux-gnu/lib/libc.so.6")},
	} {
		t.Run(tt.arch.String(), func(t *testing.T) {
			f, err := elf.Open(tt.file)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			text := f.Section(".text")
			code, err := text.Data()
			if err != nil {
				t.Fatal(err)
			}
			places := make(map[uint64][]uint64)
			var page [32]uint64
			for at := uint64(0); at < uint64(len(code)); {
				in := disasm.Decode(tt.arch, code[at:], text.Addr+at)
				var target uint64
				switch {
				case in.Op == disasm.Page:
					page[in.Dst] = uint64(in.Imm)
				case tt.arch == disasm.ARM64 && (in.Op == disasm.Load || in.Op == disasm.Add) && in.PostAdd == 0 && in.Src < 31 && page[in.Src] != 0:
					// No compiler completes an address with another form.
					if in.Imm >= 0 && in.Imm < 4096 && (in.Op == disasm.Add || in.Imm%8 == 0) {
						target = page[in.Src] + uint64(in.Imm)
					}
				case in.Kind == disasm.Call || in.Kind == disasm.Jump || in.Kind == disasm.Branch:
					target = in.Target
					if in.Indirect && in.Mem && in.Src == disasm.NoReg && !in.Segment {
						target = in.Ref
					}
				case tt.arch == disasm.AMD64 && in.Ref != 0 && in.Op == disasm.Load:
					target = in.Ref
				}
				if target != 0 && in.Len > 2 {
					places[target] = append(places[target], in.Addr)
				}
				at += uint64(in.Len)
			}
			var wanted []uint64
			for a, all := range places {
				if len(all) > 3 && a%7 < 2 {
					wanted = append(wanted, a)
				}
			}
			if len(wanted) < 50 {
				t.Fatalf("only %d addresses to look for", len(wanted))
			}
			found := make(map[uint64][]uint64)
			disasm.NewSweep(tt.arch, wanted).Run(code, text.Addr, func(at, target uint64) { found[target] = append(found[target], at) })
			missed, all := 0, 0
			for _, a := range wanted {
				for _, at := range places[a] {
					all++
					if !slices.ContainsFunc(found[a], func(got uint64) bool { return got >= at && got <= at+2 }) {
						if missed++; missed < 10 {
							t.Errorf("the sweep did not find %#x, which names %#x", at, a)
						}
					}
				}
			}
			t.Logf("%d places of %d addresses", all, len(wanted))
		})
	}
}

// FuzzDecode sees that no bytes make the decoder fail, and that it says where
// the next instruction is.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"\xf3\x0f\x1e\xfa", "\x62\xf1\x7c\x48\x10\x04\x25\x00\x00\x00\x00", "\xc4\xe2\x79\x18", "\x66\x66\x2e\x0f\x1f\x84", "\xff\x25\x00\x00\x00\x00", "\x8f\xe9\x78", "\x00\x00\x00\x94", "\xc0\x03\x5f\xd6"} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, code []byte, arm bool) {
		arch := disasm.AMD64
		if arm {
			arch = disasm.ARM64
		}
		const addr = 0x400000
		in := disasm.Decode(arch, code, addr)
		if in.Len < 1 || in.Len > 15 || in.Addr != addr || in.Kind > disasm.Bad {
			t.Fatalf("% x: %+v", code, in)
		}
		if in.Kind != disasm.Bad && in.Len > len(code) {
			t.Fatalf("% x: an instruction of %d bytes in %d", code, in.Len, len(code))
		}
		disasm.NewSweep(arch, []uint64{addr, addr + 64}).Run(code, addr, func(at, target uint64) {
			if at < addr || at >= addr+uint64(len(code)) || target != addr && target != addr+64 {
				t.Fatalf("% x: found %#x at %#x", code, target, at)
			}
		})
	})
}
