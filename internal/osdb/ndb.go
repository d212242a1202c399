package osdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// readNDB reads the headers from rpm's own back end NDB (rpm, lib/backend/ndb/
// rpmpkg.c): pages of slots that say where each package's blob lies, in units of
// 16 bytes; all little-endian.
func readNDB(r io.ReaderAt, size int64, each func([]byte) error) error {
	const page, entry = 4096, 16
	h, err := span(r, size, 0, 32)
	if err != nil {
		return fmt.Errorf("no header of NDB: %w", err)
	}
	u32 := binary.LittleEndian.Uint32
	if string(h[:4]) != "RpmP" {
		return errors.New("it does not begin as a database of NDB")
	}
	if v := u32(h[4:]); v != 0 {
		return fmt.Errorf("version %d of NDB", v)
	}
	pages := int64(u32(h[12:]))
	if pages == 0 || pages*page > size {
		return fmt.Errorf("%d pages of slots in %d bytes", pages, size)
	}
	slots, err := span(r, size, 32, pages*page-32)
	if err != nil {
		return err
	}
	total := int64(0)
	for ; len(slots) >= entry; slots = slots[entry:] {
		if string(slots[:4]) != "Slot" {
			return errors.New("a slot without its mark")
		}
		index := u32(slots[4:])
		if index == 0 {
			continue
		}
		at := int64(u32(slots[8:])) * 16
		b, err := span(r, size, at, 16)
		if err != nil {
			return err
		}
		if string(b[:4]) != "BlbS" || u32(b[4:]) != index {
			return fmt.Errorf("package %d is not where its slot says", index)
		}
		length := int64(u32(b[12:]))
		// Blobs do not overlap: together they are no longer than the file.
		if total += length; length > maxHeader || total > size {
			return fmt.Errorf("package %d: a header of %d bytes", index, length)
		}
		header, err := span(r, size, at+16, length)
		if err != nil {
			return fmt.Errorf("package %d: %w", index, err)
		}
		if err := each(header); err != nil {
			return err
		}
	}
	return nil
}
