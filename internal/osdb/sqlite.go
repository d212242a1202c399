package osdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// readSQLite reads column blob of table Packages, in which rpm keeps the headers,
// from an SQLite 3 database (the SQLite project, fileformat2.html). It walks the
// table's tree only: rpm's database has one kind of table, no views, and no log
// that must be played back when nobody has it open.
func readSQLite(r io.ReaderAt, size int64, each func([]byte) error) error {
	h, err := span(r, size, 0, 100)
	if err != nil {
		return fmt.Errorf("no header of SQLite: %w", err)
	}
	if string(h[:16]) != "SQLite format 3\x00" {
		return errors.New("it does not begin as a database of SQLite 3")
	}
	page := int64(binary.BigEndian.Uint16(h[16:]))
	if page == 1 {
		page = 65536
	}
	reserved := int64(h[20])
	if page < 512 || page&(page-1) != 0 || page-reserved < 480 {
		return fmt.Errorf("pages of %d bytes", page)
	}
	if pages := int64(binary.BigEndian.Uint32(h[28:])); pages > size/page {
		return fmt.Errorf("it says it has %d pages of %d bytes and has %d: it was cut short", pages, page, size/page)
	}
	if e := binary.BigEndian.Uint32(h[56:]); e > 1 {
		return errors.New("its text is not UTF-8")
	}
	s := &sqlite{r: r, size: size, page: page, usable: page - reserved}
	var root int64
	// Columns of the schema: type, name, tbl_name, rootpage, sql.
	if err := s.table(1, 0, func(record []byte) error {
		c, err := columns(record, 4)
		if err != nil {
			return err
		}
		if string(c[0].b) == "table" && string(c[1].b) == "Packages" {
			root = c[3].i
		}
		return nil
	}); err != nil {
		return err
	}
	if root == 0 {
		if size == page {
			return nil // made and never used
		}
		return errors.New("it has no table Packages")
	}
	s.visited = 0
	// Columns of Packages: hnum, which is the key and stored as null, and blob.
	return s.table(root, 0, func(record []byte) error {
		c, err := columns(record, 2)
		if err != nil {
			return err
		}
		return each(c[1].b)
	})
}

type sqlite struct {
	r            io.ReaderAt
	size         int64
	page, usable int64
	// visited counts pages, so that a tree that bites its tail comes to an end.
	visited int64
}

func (s *sqlite) read(n int64) ([]byte, error) {
	if s.visited++; s.visited > s.size/s.page+1 {
		return nil, errors.New("its pages form a ring")
	}
	if n < 1 || n > s.size/s.page {
		return nil, fmt.Errorf("page %d is beyond its end at page %d", n, s.size/s.page)
	}
	return span(s.r, s.size, (n-1)*s.page, s.page)
}

// maxDepth bounds the height of a tree: with pages of 512 bytes 20 levels hold
// more than any file can.
const maxDepth = 20

// table calls each for every record of the table whose root is page n.
func (s *sqlite) table(n int64, depth int, each func([]byte) error) error {
	if depth > maxDepth {
		return errors.New("its tree is too deep")
	}
	b, err := s.read(n)
	if err != nil {
		return err
	}
	at := int64(0)
	if n == 1 {
		at = 100
	}
	kind, cells := b[at], int64(binary.BigEndian.Uint16(b[at+3:]))
	list := at + 8
	if kind == 5 {
		list = at + 12
	}
	if kind != 5 && kind != 13 || list+2*cells > s.usable {
		return fmt.Errorf("page %d is no page of a table", n)
	}
	for i := range cells {
		cell := int64(binary.BigEndian.Uint16(b[list+2*i:]))
		if cell < list || cell+4 > s.usable {
			return fmt.Errorf("page %d: a cell lies outside of it", n)
		}
		if kind == 5 {
			if err := s.table(int64(binary.BigEndian.Uint32(b[cell:])), depth+1, each); err != nil {
				return err
			}
			continue
		}
		record, err := s.payload(b[cell:s.usable])
		if err != nil {
			return err
		}
		if err := each(record); err != nil {
			return err
		}
	}
	if kind == 5 {
		return s.table(int64(binary.BigEndian.Uint32(b[at+8:])), depth+1, each)
	}
	return nil
}

// payload gathers a record from its cell and the overflow pages behind it.
func (s *sqlite) payload(cell []byte) ([]byte, error) {
	length, n := varint(cell)
	_, m := varint(cell[n:]) // the row's number
	if n == 0 || m == 0 || length < 0 || length > min(s.size, maxHeader) {
		return nil, fmt.Errorf("a record of %d bytes", length)
	}
	cell = cell[n+m:]
	local := length
	if most := s.usable - 35; length > most {
		least := (s.usable-12)*32/255 - 23
		if local = least + (length-least)%(s.usable-4); local > most {
			local = least
		}
	}
	more := local < length
	if need := local; need > int64(len(cell)) || more && need+4 > int64(len(cell)) {
		return nil, errors.New("a record is cut short")
	}
	if !more {
		return cell[:local], nil
	}
	out := make([]byte, 0, length)
	out = append(out, cell[:local]...)
	next := int64(binary.BigEndian.Uint32(cell[local:]))
	for int64(len(out)) < length {
		b, err := s.read(next)
		if err != nil {
			return nil, err
		}
		next = int64(binary.BigEndian.Uint32(b))
		out = append(out, b[4:4+min(s.usable-4, length-int64(len(out)))]...)
	}
	return out, nil
}

// varint decodes SQLite's integers of 1 to 9 bytes; n is 0 where it is cut short.
func varint(b []byte) (v int64, n int) {
	for i := range 9 {
		if i >= len(b) {
			return 0, 0
		}
		if i == 8 {
			return v<<8 | int64(b[i]), 9
		}
		v = v<<7 | int64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// column is one value of a record: an integer, or the bytes of text or a blob.
type column struct {
	i int64
	b []byte
}

// columns decodes the first columns of a record, which must have as many.
func columns(record []byte, want int) ([]column, error) {
	head, n := varint(record)
	if n == 0 || head < int64(n) || head > int64(len(record)) {
		return nil, errors.New("a record without a header")
	}
	kinds, body := record[n:head], record[head:]
	out := make([]column, 0, want)
	for len(out) < want {
		kind, n := varint(kinds)
		if n == 0 {
			return nil, fmt.Errorf("a record of %d columns", len(out))
		}
		kinds = kinds[n:]
		var length int64
		switch {
		case kind < 0 || kind == 10 || kind == 11:
			return nil, fmt.Errorf("a column of type %d", kind)
		case kind >= 12:
			length = (kind - 12) / 2
		default:
			length = [...]int64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0}[kind]
		}
		if length > int64(len(body)) {
			return nil, errors.New("a column is cut short")
		}
		c := column{b: body[:length]}
		switch {
		case kind >= 12:
		case kind == 9:
			c.i = 1
		case kind <= 6:
			for i, x := range c.b {
				if i == 0 {
					c.i = int64(int8(x))
				} else {
					c.i = c.i<<8 | int64(x)
				}
			}
		}
		body = body[length:]
		out = append(out, c)
	}
	return out, nil
}
