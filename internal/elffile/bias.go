package elffile

import (
	"debug/elf"
	"fmt"
)

// Mapping is what BiasOf needs to know of one mapping of the file: a line of
// /proc/PID/maps.
type Mapping struct {
	Start, End uint64 // run-time addresses
	Offset     uint64 // in the file
	Exec       bool
}

// Bias is what to add (modulo 2^64) to a virtual address of the file to get
// the run-time address, in a process which has the page at file offset off
// mapped at start. Neighbouring segments may share a page of the file, and then
// one mapping can fit two of them: BiasOf, which is told more, is to be
// preferred where the whole list of mappings is at hand.
func (f *File) Bias(start, off uint64) (uint64, bool) {
	const page = 4096
	if f.typ == elf.ET_EXEC {
		// Also where off is a page that two segments share: one of them is it.
		for _, s := range f.Segments {
			if b, ok := s.bias(Mapping{Start: start, End: start + page, Offset: off}); ok && b == 0 {
				return 0, true
			}
		}
		return 0, false
	}
	var first uint64
	found := false
	for _, s := range f.Segments {
		b, ok := s.bias(Mapping{Start: start, End: start + page, Offset: off})
		if !ok || b%page != 0 {
			continue
		}
		if s.Flags&elf.PF_X != 0 {
			return b, true // it is code that callers ask about
		}
		if !found {
			first, found = b, true
		}
	}
	return first, found
}

// BiasOf is Bias from all mappings of one loading of the file. Of a program
// that is not position-independent the bias is 0. The error wraps ErrNotLoaded
// where no mapping fits a program header, as with a file that is mapped as
// plain data.
func (f *File) BiasOf(maps []Mapping) (uint64, error) {
	if f.typ == elf.ET_EXEC {
		if len(maps) > 0 && f.fitness(0, maps) == 0 {
			return 0, fmt.Errorf("a program linked to fixed addresses is mapped elsewhere: %w", ErrNotLoaded)
		}
		return 0, nil
	}
	var best uint64
	score := 0
	const enough = 64 // mappings of one file; more would make the search quadratic for nothing
	for _, m := range maps[:min(len(maps), enough)] {
		for _, s := range f.Segments {
			if b, ok := s.bias(m); ok {
				if n := f.fitness(b, maps); n > score {
					best, score = b, n
				}
			}
		}
	}
	if score == 0 {
		return 0, fmt.Errorf("%d mappings and %d program headers: %w", len(maps), len(f.Segments), ErrNotLoaded)
	}
	return best, nil
}

// bias is the bias under which m is the mapping of s. The kernel maps whole
// pages, so m may begin before the segment and end after it; a segment may also
// have been split by mprotect, so m may begin inside.
func (s Segment) bias(m Mapping) (uint64, bool) {
	if s.Type != elf.PT_LOAD || s.FileSize == 0 || m.End <= m.Start {
		return 0, false
	}
	if m.Offset >= s.Off+s.FileSize || m.Offset+(m.End-m.Start) <= s.Off {
		return 0, false
	}
	return m.Start - (s.VAddr + (m.Offset - s.Off)), true
}

// fitness counts how well maps agree with bias b: each mapping that is one of
// a segment's counts, more if it can be executed exactly where the segment can.
func (f *File) fitness(b uint64, maps []Mapping) int {
	const page = 4096 // the smallest that Linux has on these machines
	if b%page != 0 {
		return 0
	}
	score := 0
	for _, m := range maps {
		best := 0
		for _, s := range f.Segments {
			if sb, ok := s.bias(m); ok && sb == b {
				n := 2
				if m.Exec == (s.Flags&elf.PF_X != 0) {
					n = 3
				}
				best = max(best, n)
			}
		}
		score += best
	}
	return score
}
