package elffile

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// EHFrame says where the unwind tables of a file are.
type EHFrame struct {
	// Hdr is .eh_frame_hdr with its binary search table; Size is 0 where the
	// file has none.
	Hdr Data
	// Frame is .eh_frame; Size is 0 where the file has none. Found through the
	// header alone it reaches to the end of its segment, and the zero
	// terminator in it, or the table of the header, says where to stop.
	Frame Data
	// Exact says that Frame has the size of the section.
	Exact bool
}

// Pointer encodings of .eh_frame_hdr, from the Linux Standard Base, "DWARF
// Extensions".
const (
	encOmit    = 0xff
	encFormat  = 0x0f
	encApply   = 0x70
	encPCRel   = 0x10
	encDataRel = 0x30
)

// EHFrame finds .eh_frame_hdr through PT_GNU_EH_FRAME, and .eh_frame through
// that header or its section. Where there is neither the error wraps ErrAbsent.
func (f *File) EHFrame() (EHFrame, error) {
	var e EHFrame
	var hdrErr error
	if s, ok := f.Segment(elf.PT_GNU_EH_FRAME); ok && s.FileSize > 0 {
		e.Hdr, hdrErr = f.SegmentData(s)
		if hdrErr == nil {
			e.Frame, hdrErr = f.frameOf(e.Hdr)
		}
	}
	if f.mem == nil && (hdrErr != nil || e.Frame.Size == 0) {
		// The section is looked for only where the header does not do: reading
		// the section headers costs more than all of the above.
		if s, err := f.SectionNamed(".eh_frame"); err == nil {
			if d, err := f.SectionData(s); err == nil {
				e.Frame, e.Exact = d, true
			}
		}
	}
	if e.Frame.Size > 0 {
		return e, nil
	}
	if hdrErr != nil {
		return e, fmt.Errorf("unwind tables: %w", hdrErr)
	}
	return e, fmt.Errorf("unwind tables (.eh_frame): %w", ErrAbsent)
}

// EHFrameHdr is the virtual address and size of .eh_frame_hdr, the search table
// of the unwind information. ok is false where the file has none.
func (f *File) EHFrameHdr() (vaddr, size uint64, ok bool) {
	s, ok := f.Segment(elf.PT_GNU_EH_FRAME)
	return s.VAddr, s.FileSize, ok && s.FileSize > 0
}

// DebugFrame is the .debug_frame section, which programs built without
// .eh_frame and separate debug files have. The error wraps ErrAbsent for a file
// without.
func (f *File) DebugFrame() (Data, error) {
	s, err := f.SectionNamed(".debug_frame")
	if err != nil {
		return Data{}, err
	}
	return f.SectionData(s)
}

// frameOf follows the pointer to .eh_frame in .eh_frame_hdr: a version byte,
// three encodings (of this pointer, of the count, of the table), the pointer.
func (f *File) frameOf(hdr Data) (Data, error) {
	raw, err := hdr.Slice(0, min(hdr.Size, 12))
	if err != nil {
		return Data{}, fmt.Errorf(".eh_frame_hdr: %w", err)
	}
	if len(raw) < 8 || raw[0] != 1 {
		return Data{}, fmt.Errorf(".eh_frame_hdr of %d bytes is not version 1: %w", hdr.Size, ErrDamaged)
	}
	enc := raw[1]
	if enc == encOmit {
		return Data{}, nil
	}
	var v uint64
	switch body := raw[4:]; enc & encFormat {
	case 0x03: // udata4
		v = uint64(binary.LittleEndian.Uint32(body))
	case 0x0b: // sdata4
		v = uint64(int64(int32(binary.LittleEndian.Uint32(body))))
	case 0x00, 0x04, 0x0c: // absptr, udata8, sdata8
		if len(body) < 8 {
			return Data{}, fmt.Errorf(".eh_frame_hdr of %d bytes: %w", hdr.Size, ErrDamaged)
		}
		v = binary.LittleEndian.Uint64(body)
	default:
		return Data{}, fmt.Errorf(".eh_frame_hdr: pointer encoding %#x: %w", enc, ErrDamaged)
	}
	switch enc & encApply {
	case 0:
	case encPCRel:
		v += hdr.VAddr + 4
	case encDataRel:
		v += hdr.VAddr
	default:
		return Data{}, fmt.Errorf(".eh_frame_hdr: pointer encoding %#x: %w", enc, ErrDamaged)
	}
	d, err := f.FromVAddr(v)
	if errors.Is(err, ErrAbsent) {
		return Data{}, fmt.Errorf(".eh_frame_hdr points to %#x, outside of the file: %w", v, ErrDamaged)
	}
	return d, err
}
