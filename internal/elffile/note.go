package elffile

import (
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Note is one entry of a note segment.
type Note struct {
	// Owner is the name without its NUL: "GNU", "stapsdt", "Go".
	Owner string
	Type  uint32
	Desc  []byte
}

// noteBuildID is NT_GNU_BUILD_ID.
const noteBuildID = 3

// Notes iterates over all notes: those of the note segments, then those of note
// sections outside of them. (Go's linker, 1.26, puts the GNU build-id into a
// section that its note segment leaves out; separate debug files may have empty
// segments.) It ends at the first error. The Desc of a note stays valid.
func (f *File) Notes() iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		for _, s := range f.Segments {
			if s.Type != elf.PT_NOTE || s.FileSize == 0 {
				continue
			}
			data, err := f.SegmentData(s)
			if !readNotes(data, err, s.Align, yield) {
				return
			}
		}
		all, err := f.sections()
		if err != nil {
			if !errors.Is(err, ErrAbsent) {
				yield(Note{}, err)
			}
			return
		}
		for _, s := range all {
			if s.Type != elf.SHT_NOTE || f.inNoteSegment(s) {
				continue
			}
			data, err := f.SectionData(s)
			if !readNotes(data, err, s.Align, yield) {
				return
			}
		}
	}
}

func (f *File) inNoteSegment(sec Section) bool {
	for _, s := range f.Segments {
		if s.Type == elf.PT_NOTE && sec.Off >= s.Off && sec.Off-s.Off < s.FileSize {
			return true
		}
	}
	return false
}

// readNotes yields the notes of data; false ends the iteration.
func readNotes(data Data, err error, align uint64, yield func(Note, error) bool) bool {
	var raw []byte
	if err == nil {
		raw, err = data.Bytes()
	}
	if err != nil {
		yield(Note{}, fmt.Errorf("notes: %w", err))
		return false
	}
	// Notes of 64-bit files are aligned to 4 like those of 32-bit ones, but
	// for .note.gnu.property, whose segment says 8.
	if align != 8 {
		align = 4
	}
	pos, size := uint64(0), uint64(len(raw))
	for count := 0; size-pos >= 12; count++ {
		if count == maxNotes {
			yield(Note{}, fmt.Errorf("more than %d notes: %w", maxNotes, ErrDamaged))
			return false
		}
		p := raw[pos:]
		nameLen := uint64(binary.LittleEndian.Uint32(p))
		descLen := uint64(binary.LittleEndian.Uint32(p[4:]))
		descAt := (12 + nameLen + align - 1) &^ (align - 1)
		if descAt+descLen > size-pos {
			yield(Note{}, fmt.Errorf("note at %d of %d bytes claims a name of %d and a descriptor of %d: %w", pos, size, nameLen, descLen, ErrDamaged))
			return false
		}
		n := Note{
			Owner: strings.TrimRight(string(p[12:12+nameLen]), "\x00"),
			Type:  binary.LittleEndian.Uint32(p[8:]),
			Desc:  p[descAt : descAt+descLen : descAt+descLen],
		}
		if !yield(n, nil) {
			return false
		}
		pos = min(size, pos+(descAt+descLen+align-1)&^(align-1))
	}
	return true
}

// BuildID is the GNU build-id in lower-case hexadecimal, usually 40 digits. It
// is empty where the file has none, and where it cannot be read; ReadBuildID
// tells which.
func (f *File) BuildID() string {
	id, err := f.ReadBuildID()
	if err != nil {
		return ""
	}
	return id
}

// ReadBuildID is BuildID with the reason why there is none: an error that wraps
// ErrAbsent for a file without one.
func (f *File) ReadBuildID() (string, error) {
	for n, err := range f.Notes() {
		if err != nil {
			return "", fmt.Errorf("build-id: %w", err)
		}
		if n.Owner == "GNU" && n.Type == noteBuildID && len(n.Desc) > 0 {
			return hex.EncodeToString(n.Desc), nil
		}
	}
	return "", fmt.Errorf("build-id: %w", ErrAbsent)
}
