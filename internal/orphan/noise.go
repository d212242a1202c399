package orphan

import (
	"maps"
	"slices"
)

// noise remembers the owners that places named which look like held locks but
// cannot be any: their owner is no thread of the process, its ancestors, or of
// anybody who can have held a lock there. Memory of some programs is full of
// them: small numbers in a row, of which one is read as a thread id. In such
// memory a match proves nothing, and how likely it is to be a chance one is known
// from the process itself.
type noise struct {
	owners map[uint32]struct{}
	// full: there were more than anybody wants to count.
	full  bool
	total int
	// sorted are the owners once all are known.
	sorted []uint32
}

// maxOwners bounds the owners that are remembered.
const maxOwners = 1 << 15

func (n *noise) add(owner uint32) {
	n.total++
	if n.owners == nil {
		n.owners = make(map[uint32]struct{})
	}
	if len(n.owners) >= maxOwners {
		n.full = true
		return
	}
	n.owners[owner] = struct{}{}
}

func (n *noise) merge(o noise) {
	if n.owners == nil {
		n.owners = make(map[uint32]struct{})
	}
	maps.Copy(n.owners, o.owners)
	n.full = n.full || o.full
	n.total += o.total
}

// done must be called when all is merged.
func (n *noise) done() { n.sorted = slices.Sorted(maps.Keys(n.owners)) }

// Numbers of a thread that are never believed without more evidence: nothing is
// as common in memory as a one and a two.
const smallest = 3

// tolerance is the largest number of chance matches to be expected at which a
// match is believed.
const tolerance = 0.05

// credible reports whether a match with one of so many vanished threads' ids is
// unlikely to be chance. Small numbers are more common than large ones, so only
// owners of the same magnitude count: from half to twice as large. Of the span's
// numbers, so many were named by chance; so many are threads' ids.
func (n *noise) credible(owner uint32, suspects func(from, to uint32) int) bool {
	if owner < smallest || n.full {
		return false
	}
	from, to := owner/2+1, 2*owner
	first, _ := slices.BinarySearch(n.sorted, from)
	last, _ := slices.BinarySearch(n.sorted, to+1)
	chance := last - first
	return float64(chance)*float64(suspects(from, to))/float64(to-from+1) < tolerance
}
