package unwind

import (
	"forkproof/internal/cfi"
	"forkproof/internal/procmem"
)

// Called lists where the call before the return address ra went: what the
// instruction names, then where stubs and jumps lead from there. It is how a
// function can be named that left no frame of its own, since it ended in a jump.
// It is empty for a call through a register, and where ra is no return address.
func Called(mem procmem.Reader, machine cfi.Arch, ra uint64) []uint64 {
	a, err := archOf(machine)
	if err != nil {
		return nil
	}
	m := &memory{r: mem}
	c := a.call(m, ra)
	if !c.ok || c.target == 0 {
		return nil
	}
	to := c.target
	if c.slot {
		if to, err = m.load(to, 8); err != nil {
			return nil
		}
	}
	out := []uint64{to}
	const most = 4 // a stub, an alias, a variant for this processor: more is a loop
	for len(out) < most {
		next, ok := a.hop(m, to)
		if !ok {
			break
		}
		out, to = append(out, next), next
	}
	return out
}
