// Package cfi reads call frame information: the tables that say, for every
// place in a program, where the caller's registers are. It reads .eh_frame
// (through the search table .eh_frame_hdr where there is one) and .debug_frame,
// for x86-64 and AArch64.
//
// The formats are those of the DWARF standard, version 5, section 6.4, and of
// the Linux Standard Base 5.0, "Exception Frames", which .eh_frame follows.
//
// Tables are read page by page as lookups need them, from a file or from the
// memory of a process; a lookup reads some kilobytes of tables of megabytes. All
// addresses are the virtual addresses of the file, before it was loaded.
//
// Every byte is foreign: whatever does not fit is an error that wraps
// [ErrDamaged], never a panic, and never a rule that was made up.
package cfi

import (
	"errors"
	"fmt"
	"sync"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNoFDE: no function in the tables covers the address.
	ErrNoFDE = errors.New("no call frame information for this address")
	// ErrDamaged: the tables contradict themselves, are cut short, or use an
	// encoding that no known compiler writes.
	ErrDamaged = errors.New("damaged call frame information")
	// ErrUnknown: an expression needs a register whose value is not known.
	ErrUnknown = errors.New("the value of a register is not known")
)

// Arch is the processor that the tables are for.
type Arch uint8

// The architectures.
const (
	AMD64 Arch = iota + 1
	ARM64
)

func (a Arch) String() string {
	switch a {
	case AMD64:
		return "amd64"
	case ARM64:
		return "arm64"
	}
	return fmt.Sprintf("arch(%d)", uint8(a))
}

// Source is where the tables of one file are. Sections that the file does not
// have are left zero.
type Source struct {
	Arch Arch
	// EHFrameHdr is what PT_GNU_EH_FRAME points to.
	EHFrameHdr Section
	// EHFrame is .eh_frame. It may be larger than that, up to the whole loaded
	// segment, where section headers are not at hand: the header and the
	// terminator say where the table begins and ends.
	EHFrame Section
	// DebugFrame is .debug_frame, decompressed. It is asked where .eh_frame
	// does not know an address.
	DebugFrame Section
	// TextBase is the address that text-relative pointers count from.
	TextBase uint64
	// Deref reads the pointer at an address, for indirect encodings. Without it
	// a function whose address is given in that way is an error. No compiler
	// known to us does that; personality routines are often so given, and are
	// skipped here.
	Deref func(addr uint64) (uint64, error)
}

// Frames is the call frame information of one file. It may be used by many
// goroutines at a time.
type Frames struct {
	arch     Arch
	hdr      *section
	eh       *section
	debug    *section
	textBase uint64
	deref    func(uint64) (uint64, error)

	table   func() (searchTable, error)
	ehIndex func() (index, error)
	dbIndex func() (index, error)
	cies    sync.Map // of cieKey to *cie
	recent  cache
}

// New returns the call frame information that src describes. It reads nothing
// yet: damage shows in lookups.
func New(src Source) (*Frames, error) {
	if src.Arch != AMD64 && src.Arch != ARM64 {
		return nil, fmt.Errorf("call frame information for %v: only amd64 and arm64 are supported", src.Arch)
	}
	f := &Frames{arch: src.Arch, textBase: src.TextBase, deref: src.Deref}
	for _, s := range []struct {
		to   **section
		from Section
		name string
	}{
		{&f.hdr, src.EHFrameHdr, ".eh_frame_hdr"},
		{&f.eh, src.EHFrame, ".eh_frame"},
		{&f.debug, src.DebugFrame, ".debug_frame"},
	} {
		sec, err := newSection(s.from, s.name)
		if err != nil {
			return nil, err
		}
		*s.to = sec
	}
	if f.eh == nil && f.debug == nil {
		return nil, fmt.Errorf("neither .eh_frame nor .debug_frame: %w", ErrNoFDE)
	}
	f.table = sync.OnceValues(f.readTable)
	f.ehIndex = sync.OnceValues(func() (index, error) { return f.scan(f.eh, f.ehStart()) })
	f.dbIndex = sync.OnceValues(func() (index, error) { return f.scan(f.debug, 0) })
	return f, nil
}

// Arch is the processor that the tables are for.
func (f *Frames) Arch() Arch { return f.arch }

// FDEFor returns the entry of the function that covers pc. The error wraps
// ErrNoFDE where there is none, ErrDamaged, or what the reader returned.
//
// For a return address ask for pc-1: the call may be the last instruction of
// its function.
func (f *Frames) FDEFor(pc uint64) (*FDE, error) {
	if d := f.recent.get(pc); d != nil {
		return d, nil
	}
	d, err := f.find(pc)
	if err != nil {
		return nil, err
	}
	f.recent.put(pc, d)
	return d, nil
}

func (f *Frames) find(pc uint64) (*FDE, error) {
	if f.eh != nil {
		d, err := f.findEH(pc)
		if err == nil || !errors.Is(err, ErrNoFDE) {
			return d, err
		}
	}
	if f.debug != nil {
		ix, err := f.dbIndex()
		if err != nil {
			return nil, err
		}
		return f.findIndexed(f.debug, ix, pc)
	}
	return nil, fmt.Errorf("%#x: %w", pc, ErrNoFDE)
}

func (f *Frames) findEH(pc uint64) (*FDE, error) {
	if f.hdr != nil {
		t, err := f.table()
		if err == nil && t.count > 0 {
			return f.findInTable(t, pc)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return nil, err
		}
		// A header without a table, or one that makes no sense, is as good as
		// none: the entries themselves are read instead.
	}
	ix, err := f.ehIndex()
	if err != nil {
		return nil, err
	}
	return f.findIndexed(f.eh, ix, pc)
}
