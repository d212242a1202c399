package ptrace

import (
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// instructions returns the addresses of the first n instructions at addr.
func instructions(t testing.TB, pid int, addr uint64, n int) (all []uint64) {
	t.Helper()
	code := readCode(t, pid, addr)
	for off := 0; len(all) < n; {
		all = append(all, addr+uint64(off))
		if off == 0 && code[0] == 0xf3 {
			off += 4
			continue
		}
		in, err := x86asm.Decode(code[off:], 64)
		if err != nil {
			t.Fatal(err)
		}
		off += in.Len
	}
	return all
}
