package cfi

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"sync/atomic"
)

// maxIndex bounds how many FDEs an index holds. LLVM, among the largest, has
// about 100,000.
const maxIndex = 1 << 22

// index lists the FDEs of a section without search table, by address.
type index []indexed

type indexed struct{ start, end, off uint64 }

// scan reads all entries of s from offset off on.
func (f *Frames) scan(s *section, off uint64) (index, error) {
	var ix index
	for r, err := range s.records(off) {
		if err != nil {
			// What was read so far is good: a damaged tail must not hide it.
			if len(ix) > 0 && errors.Is(err, ErrDamaged) {
				break
			}
			return nil, err
		}
		if r.isCIE(s) {
			continue
		}
		d, err := f.fde(s, r.record)
		if err != nil {
			// One bad entry does not spoil the next: their bounds are known.
			continue
		}
		// Address 0 is that of a function which the linker dropped.
		if d.Start == 0 || d.Start >= d.End {
			continue
		}
		if len(ix) >= maxIndex {
			return nil, fmt.Errorf("%s has more than %d functions: %w", s.name, maxIndex, ErrDamaged)
		}
		ix = append(ix, indexed{d.Start, d.End, r.off})
	}
	slices.SortFunc(ix, func(a, b indexed) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	return ix, nil
}

type placed struct {
	record
	off uint64
}

// records yields the entries of s from offset off on. A terminator ends the
// section as unwinders see it; the linker may have put more behind it, which
// is yielded as long as it makes sense.
func (s *section) records(off uint64) iter.Seq2[placed, error] {
	return func(yield func(placed, error) bool) {
		ended := false
		for s.size >= 4 && off <= s.size-4 {
			r, err := s.record(off)
			if err != nil {
				if !ended {
					yield(placed{}, err)
				}
				return
			}
			if r.end {
				ended = true
			} else if !yield(placed{r, off}, nil) {
				return
			}
			off = r.next
		}
	}
}

func (f *Frames) findIndexed(s *section, ix index, pc uint64) (*FDE, error) {
	i := sort.Search(len(ix), func(i int) bool { return ix[i].start > pc })
	// Functions do not overlap; some tolerance for files in which they do.
	for j := i - 1; j >= 0 && j >= i-4; j-- {
		if pc < ix[j].end {
			return f.fdeAt(s, ix[j].off)
		}
	}
	return nil, fmt.Errorf("%#x: %w", pc, ErrNoFDE)
}

// All yields every FDE of the file in the order of the sections, .eh_frame
// first. After an error nothing more comes.
func (f *Frames) All() iter.Seq2[*FDE, error] {
	return func(yield func(*FDE, error) bool) {
		for _, s := range []*section{f.eh, f.debug} {
			if s == nil {
				continue
			}
			off := uint64(0)
			if s == f.eh {
				off = f.ehStart()
			}
			for r, err := range s.records(off) {
				if err != nil {
					yield(nil, err)
					return
				}
				if r.isCIE(s) {
					continue
				}
				d, err := f.fde(s, r.record)
				if !yield(d, err) || err != nil {
					return
				}
			}
		}
	}
}

// cache remembers the last lookups: the stacks of a server's threads go through
// the same few functions again and again.
type cache struct {
	slots [512]atomic.Pointer[looked]
	cies  atomic.Int64
}

type looked struct {
	pc  uint64
	fde *FDE
}

func (c *cache) slot(pc uint64) *atomic.Pointer[looked] {
	return &c.slots[pc*0x9e3779b97f4a7c15>>55]
}

func (c *cache) get(pc uint64) *FDE {
	if l := c.slot(pc).Load(); l != nil && l.pc == pc {
		return l.fde
	}
	return nil
}

func (c *cache) put(pc uint64, d *FDE) { c.slot(pc).Store(&looked{pc, d}) }
