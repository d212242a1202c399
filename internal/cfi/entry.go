package cfi

import (
	"fmt"
	"strings"
)

const (
	// maxEntry bounds one CIE or FDE in bytes. Real ones have some hundred,
	// functions made by generators a few ten thousand.
	maxEntry = 1 << 20
	// maxCIEs bounds how many CIEs are remembered.
	maxCIEs = 1 << 16
)

// FDE is the entry of one function, or of a part of one: compilers give the
// cold part of a function an FDE of its own.
type FDE struct {
	// Start and End bound the code, End excluded.
	Start, End uint64
	// Signal marks the code that the kernel makes a signal handler return to.
	// The address in the frame above is then that of the interrupted
	// instruction, not one behind a call.
	Signal bool
	// RA is the number of the column that stands for the return address: 16 on
	// amd64, 30 on arm64.
	RA uint16

	cie  *cie
	code []byte
	at   uint64 // address of code
}

type cieKey struct {
	sec *section
	off uint64
}

// cie is what FDEs have in common.
type cie struct {
	codeAlign uint64
	dataAlign int64
	ra        uint16
	enc       uint8 // of addresses in FDEs
	sized     bool  // 'z': FDEs carry the size of their augmentation
	signal    bool  // 'S'
	code      []byte
	at        uint64
	base      bases
	arch      Arch
}

// record is one entry without its length.
type record struct {
	cursor
	id    uint64 // 0 or all ones for a CIE, else what leads to the CIE
	idOff uint64 // offset of id
	wide  bool   // 64-bit DWARF
	next  uint64 // offset of the record that follows
	end   bool   // the terminator
}

func (s *section) record(off uint64) (record, error) {
	var r record
	b, err := s.bytes(off, 4)
	if err != nil {
		return r, err
	}
	c := cursor{b: b}
	size, at := uint64(c.u32()), off+4
	if size == 0xffffffff {
		if b, err = s.bytes(at, 8); err != nil {
			return r, err
		}
		c = cursor{b: b}
		size, at, r.wide = c.u64(), at+8, true
	}
	if size == 0 {
		return record{end: true, next: at}, nil
	}
	if size > maxEntry {
		return r, fmt.Errorf("%s: entry of %d bytes at offset %#x: %w", s.name, size, off, ErrDamaged)
	}
	if b, err = s.bytes(at, size); err != nil {
		return r, err
	}
	r.cursor = cursor{b: b, addr: s.addr + at}
	r.idOff, r.next = at, at+size
	// .eh_frame keeps a 4-byte id in the wide form, too, as GCC's unwinder and
	// the GNU assembler have it; only .debug_frame widens it.
	if r.wide && s.isDebug() {
		r.id = r.u64()
	} else {
		r.id = uint64(r.u32())
	}
	if r.bad {
		return r, fmt.Errorf("%s: entry of %d bytes at offset %#x: %w", s.name, size, off, ErrDamaged)
	}
	return r, nil
}

func (s *section) isDebug() bool { return s.name == ".debug_frame" }

func (r *record) isCIE(s *section) bool {
	switch {
	case !s.isDebug():
		return r.id == 0
	case r.wide:
		return r.id == ^uint64(0)
	}
	return r.id == 0xffffffff
}

// cieOffset is where an FDE's CIE is.
func (r *record) cieOffset(s *section) (uint64, error) {
	off := r.id
	if !s.isDebug() {
		// In .eh_frame the id counts back from itself.
		if r.id > r.idOff {
			return 0, fmt.Errorf("%s: an FDE points to a CIE before the section: %w", s.name, ErrDamaged)
		}
		off = r.idOff - r.id
	}
	if off >= s.size {
		return 0, fmt.Errorf("%s: an FDE points to a CIE behind the section: %w", s.name, ErrDamaged)
	}
	return off, nil
}

func (f *Frames) fdeAt(s *section, off uint64) (*FDE, error) {
	r, err := s.record(off)
	if err != nil {
		return nil, err
	}
	if r.end || r.isCIE(s) {
		return nil, fmt.Errorf("%s: no FDE at offset %#x, where one should be: %w", s.name, off, ErrDamaged)
	}
	return f.fde(s, r)
}

func (f *Frames) fde(s *section, r record) (*FDE, error) {
	off, err := r.cieOffset(s)
	if err != nil {
		return nil, err
	}
	c, err := f.cieAt(s, off)
	if err != nil {
		return nil, err
	}
	start, err := r.pointer(c.enc, c.base)
	if err != nil {
		return nil, fmt.Errorf("%s: FDE: %w", s.name, err)
	}
	// The length is a plain number in the format of the address.
	size := r.raw(c.enc & encFormat)
	if c.sized {
		r.take(r.uleb())
	}
	if r.bad || start+size < start {
		return nil, fmt.Errorf("%s: FDE for %#x: %w", s.name, start, ErrDamaged)
	}
	return &FDE{
		Start: start, End: start + size, Signal: c.signal, RA: c.ra,
		cie: c, code: r.b[r.pos:], at: r.addr + uint64(r.pos),
	}, nil
}

func (f *Frames) cieAt(s *section, off uint64) (*cie, error) {
	key := cieKey{s, off}
	if c, ok := f.cies.Load(key); ok {
		return c.(*cie), nil
	}
	r, err := s.record(off)
	if err != nil {
		return nil, err
	}
	if r.end || !r.isCIE(s) {
		return nil, fmt.Errorf("%s: no CIE at offset %#x, where one should be: %w", s.name, off, ErrDamaged)
	}
	c, err := f.cie(r, s)
	if err != nil {
		return nil, fmt.Errorf("%s: CIE at offset %#x: %w", s.name, off, err)
	}
	if f.recent.cies.Add(1) <= maxCIEs {
		f.cies.Store(key, c)
	}
	return c, nil
}

func (f *Frames) cie(r record, s *section) (*cie, error) {
	c := &cie{arch: f.arch, base: bases{text: f.textBase, deref: f.deref}}
	if f.hdr != nil {
		c.base.data = f.hdr.addr
	}
	version := r.u8()
	if version != 1 && version != 3 && version != 4 {
		return nil, fmt.Errorf("version %d: %w", version, ErrDamaged)
	}
	aug := r.cstring()
	if strings.HasPrefix(aug, "eh") {
		// GCC before 3.0: a pointer to exception data follows.
		r.u64()
		aug = aug[2:]
	}
	if version == 4 {
		if address, segment := r.u8(), r.u8(); address != 8 || segment != 0 {
			return nil, fmt.Errorf("addresses of %d bytes, segments of %d: %w", address, segment, ErrDamaged)
		}
	}
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	ra := uint64(0)
	if version == 1 {
		ra = uint64(r.u8())
	} else {
		ra = r.uleb()
	}
	if ra >= NumRegs {
		return nil, fmt.Errorf("return address in column %d: %w", ra, ErrDamaged)
	}
	c.ra = uint16(ra)
	if err := c.augment(&r.cursor, aug); err != nil {
		return nil, err
	}
	if r.bad {
		return nil, ErrDamaged
	}
	c.code, c.at = r.b[r.pos:], r.addr+uint64(r.pos)
	return c, nil
}

// augment reads the augmentation data that the letters of aug announce.
func (c *cie) augment(r *cursor, aug string) error {
	if aug == "" {
		return nil
	}
	if aug[0] != 'z' {
		// Without a size there is no telling where the program begins, save
		// for letters that have no data.
		if strings.Trim(aug, "SB") != "" {
			return fmt.Errorf("augmentation %q: %w", aug, ErrDamaged)
		}
		c.signal = strings.Contains(aug, "S")
		return nil
	}
	c.sized = true
	size := r.uleb()
	at := r.addr + uint64(r.pos)
	body := r.take(size)
	if r.bad {
		return fmt.Errorf("augmentation of %d bytes: %w", size, ErrDamaged)
	}
	d := cursor{b: body, addr: at}
	for _, a := range aug[1:] {
		switch a {
		case 'R':
			c.enc = d.u8()
		case 'P':
			d.skip(d.u8())
		case 'L':
			d.u8()
		case 'S':
			c.signal = true
		case 'B', 'G':
			// AArch64: return addresses are signed with key B; the stack is
			// tagged. Neither has data, nor matters to us.
		default:
			return fmt.Errorf("augmentation %q: %w", aug, ErrDamaged)
		}
	}
	if d.bad {
		return fmt.Errorf("augmentation %q of %d bytes: %w", aug, size, ErrDamaged)
	}
	return nil
}
