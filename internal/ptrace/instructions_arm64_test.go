package ptrace

import "testing"

// instructions returns the addresses of the first n instructions at addr.
func instructions(t testing.TB, pid int, addr uint64, n int) (all []uint64) {
	for i := range n {
		all = append(all, addr+4*uint64(i))
	}
	return all
}
