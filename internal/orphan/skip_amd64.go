package orphan

import "golang.org/x/sys/cpu"

// skipAVX2 returns how many of n bytes at p, from the front and in blocks of 32,
// lookGlibc need not look at. n is a multiple of 32, and the 8 bytes before p can
// be read too.
//
//go:noescape
func skipAVX2(p *byte, n int) int

// skip returns how many bytes of b from off on, a multiple of 32, hold nothing
// that lookGlibc wants to see. It may stop too early, never too late. off is a
// multiple of 32 and not 0.
func skip(b []byte, off int) int {
	n := (len(b) - off) &^ 31
	if off < 8 || n <= 0 || !cpu.X86.HasAVX2 {
		return 0
	}
	return skipAVX2(&b[off], n)
}

// fast reports whether skip skips anything.
func fast() bool { return cpu.X86.HasAVX2 }
