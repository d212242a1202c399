package osdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Kinds of pages and of items in a hash of Berkeley DB (Oracle, Berkeley DB 5.3,
// src/dbinc/db_page.h).
const (
	pageHashUnsorted, pageOverflow, pageHashMeta, pageHash = 2, 7, 8, 13
	itemOffPage                                            = 3
	pageHeader                                             = 26
)

// readBDB reads the headers from a hash of Berkeley DB, as rpm had it until 4.16:
// each value is too long for a page and lies on a chain of overflow pages. The
// short item of number 0, which counts packages, is left out.
func readBDB(r io.ReaderAt, size int64, each func([]byte) error) error {
	h, err := span(r, size, 0, 96)
	if err != nil {
		return fmt.Errorf("no header of Berkeley DB: %w", err)
	}
	const magic = 0x061561
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(h[12:]) != magic {
		order = binary.BigEndian
	}
	if order.Uint32(h[12:]) != magic || h[25] != pageHashMeta {
		return errors.New("it does not begin as a hash of Berkeley DB")
	}
	if h[24] != 0 {
		return errors.New("it is encrypted")
	}
	page, last := int64(order.Uint32(h[20:])), int64(order.Uint32(h[32:]))
	if page < 512 || page > 65536 || page&(page-1) != 0 {
		return fmt.Errorf("pages of %d bytes", page)
	}
	if last >= size/page {
		return fmt.Errorf("its last page %d is beyond its end at page %d: it was cut short", last, size/page)
	}
	d := bdb{r: r, size: size, page: page, order: order}
	for n := int64(1); n <= last; n++ {
		b, err := span(r, size, n*page, page)
		if err != nil {
			return err
		}
		if b[25] != pageHash && b[25] != pageHashUnsorted {
			continue
		}
		count := int64(order.Uint16(b[20:]))
		if pageHeader+2*count > page || count%2 != 0 {
			return fmt.Errorf("page %d claims %d items", n, count)
		}
		// Keys and values take turns.
		for i := int64(1); i < count; i += 2 {
			at := int64(order.Uint16(b[pageHeader+2*i:]))
			if at >= page {
				return fmt.Errorf("page %d: an item lies outside of it", n)
			}
			if b[at] != itemOffPage {
				continue
			}
			if at+12 > page {
				return fmt.Errorf("page %d: an item is cut short", n)
			}
			header, err := d.chain(int64(order.Uint32(b[at+4:])), int64(order.Uint32(b[at+8:])))
			if err != nil {
				return err
			}
			if err := each(header); err != nil {
				return err
			}
		}
	}
	return nil
}

type bdb struct {
	r          io.ReaderAt
	size, page int64
	order      binary.ByteOrder
	// read counts the pages of chains: no two chains share one.
	read int64
}

// chain gathers an item of the given length from overflow pages.
func (d *bdb) chain(n, length int64) ([]byte, error) {
	if length > min(d.size, maxHeader) {
		return nil, fmt.Errorf("an item of %d bytes", length)
	}
	out := make([]byte, 0, length)
	for n != 0 && int64(len(out)) < length {
		if d.read++; d.read > d.size/d.page {
			return nil, errors.New("its pages form a ring")
		}
		b, err := span(d.r, d.size, n*d.page, d.page)
		if err != nil {
			return nil, err
		}
		if b[25] != pageOverflow {
			return nil, fmt.Errorf("page %d should be an overflow page", n)
		}
		used := int64(d.order.Uint16(b[22:]))
		if pageHeader+used > d.page {
			return nil, fmt.Errorf("page %d claims %d bytes", n, used)
		}
		out = append(out, b[pageHeader:pageHeader+used]...)
		n = int64(d.order.Uint32(b[16:]))
	}
	if int64(len(out)) != length {
		return nil, fmt.Errorf("an item of %d bytes has %d", length, len(out))
	}
	return out, nil
}
