package orphan

import (
	"debug/elf"
	"sort"

	"forkproof/internal/elffile"
	"forkproof/internal/procmem"
)

// static reports whether addr lies where a program or library has its declared
// variables.
func (s *search) static(addr uint64) bool {
	all := s.statics()
	i := sort.Search(len(all), func(i int) bool { return all[i].End > addr })
	return i < len(all) && all[i].Start <= addr
}

// declared lists the memory of declared variables in ascending order: what is
// mapped from files and was changed, and the zeroed memory behind it, .bss. The
// kernel joins that with other anonymous memory that happens to follow, so how
// far it goes is asked of the program headers of the mapped file.
func (s *search) declared() []procmem.Range {
	var out []procmem.Range
	base := uint64(0)
	for i, m := range s.t.Mappings {
		if m.File() && m.Offset == 0 && (i == 0 || s.t.Mappings[i-1].Inode != m.Inode || s.t.Mappings[i-1].Path != m.Path) {
			base = m.Start
		}
		if !m.Write || m.Shared {
			continue
		}
		if m.File() {
			out = append(out, procmem.Range{Start: m.Start, End: m.End})
			continue
		}
		if i == 0 || base == 0 || m.Path != "" && m.Path != "[heap]" {
			continue
		}
		if last := s.t.Mappings[i-1]; !last.File() || last.End != m.Start {
			continue
		}
		if end := min(s.dataEnd(base), m.End); end > m.Start {
			out = append(out, procmem.Range{Start: m.Start, End: end})
		}
	}
	return out
}

// dataEnd is where the variables of the file end whose first page is mapped at
// base, 0 where that cannot be read.
func (s *search) dataEnd(base uint64) uint64 {
	f, err := elffile.FromMemory(s.mem, base)
	if err != nil {
		return 0
	}
	bias, ok := f.MemoryBias()
	if !ok {
		return 0
	}
	end := uint64(0)
	for _, g := range f.Segments {
		if g.Type == elf.PT_LOAD && g.Flags&elf.PF_W != 0 {
			end = max(end, bias+g.VAddr+g.MemSize)
		}
	}
	return end
}
