package cfi

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// cursor reads forward through foreign bytes. Past the end it returns zeros and
// sets bad; whoever reads must look at bad before believing anything.
type cursor struct {
	b    []byte
	addr uint64 // virtual address of b[0]
	pos  int
	bad  bool
}

func (c *cursor) more() bool { return !c.bad && c.pos < len(c.b) }

func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)-c.pos) {
		c.bad = true
		return nil
	}
	c.pos += int(n)
	return c.b[c.pos-int(n) : c.pos : c.pos]
}

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// cstring reads up to a zero byte, which must come within 64 bytes: the strings
// here are augmentations, of which the longest known has 6 letters.
func (c *cursor) cstring() string {
	rest := c.b[c.pos:]
	i := bytes.IndexByte(rest[:min(len(rest), 64)], 0)
	if c.bad || i < 0 {
		c.bad = true
		return ""
	}
	c.pos += i + 1
	return string(rest[:i])
}

// maxLEB is the most bytes of a number. 10 hold 64 bits; assemblers may pad.
const maxLEB = 16

func (c *cursor) uleb() uint64 {
	var v uint64
	for i := range maxLEB {
		b := c.u8()
		if i < 10 {
			v |= uint64(b&0x7f) << (7 * i)
		}
		if b&0x80 == 0 {
			return v
		}
	}
	c.bad = true
	return 0
}

func (c *cursor) sleb() int64 {
	var v int64
	for i := range maxLEB {
		b := c.u8()
		if i < 10 {
			v |= int64(b&0x7f) << (7 * i)
		}
		if b&0x80 == 0 {
			if b&0x40 != 0 && i < 9 {
				v |= -1 << (7 * (i + 1))
			}
			return v
		}
	}
	c.bad = true
	return 0
}

// Pointer encodings, from the Linux Standard Base 5.0, "DWARF Extensions".
const (
	encOmit     = 0xff
	encIndirect = 0x80

	encAbs     = 0x00
	encULEB    = 0x01
	encUData2  = 0x02
	encUData4  = 0x03
	encUData8  = 0x04
	encSigned  = 0x08
	encSLEB    = 0x09
	encSData2  = 0x0a
	encSData4  = 0x0b
	encSData8  = 0x0c
	encFormat  = 0x0f
	encPCRel   = 0x10
	encTextRel = 0x20
	encDataRel = 0x30
	encFuncRel = 0x40
	encAligned = 0x50
	encApply   = 0x70
)

// bases are what relative pointers count from.
type bases struct {
	text, data, function uint64
	deref                func(uint64) (uint64, error)
}

// raw reads the number of an encoded pointer without what it is relative to.
func (c *cursor) raw(enc uint8) uint64 {
	switch enc & encFormat {
	case encAbs, encUData8, encSData8, encSigned:
		return c.u64()
	case encULEB:
		return c.uleb()
	case encUData2:
		return uint64(c.u16())
	case encUData4:
		return uint64(c.u32())
	case encSLEB:
		return uint64(c.sleb())
	case encSData2:
		return uint64(int64(int16(c.u16())))
	case encSData4:
		return uint64(int64(int32(c.u32())))
	}
	c.bad = true
	return 0
}

// pointer reads an encoded pointer.
func (c *cursor) pointer(enc uint8, b bases) (uint64, error) {
	if enc == encOmit {
		return 0, fmt.Errorf("a pointer that is left out where one is needed: %w", ErrDamaged)
	}
	if enc&encApply == encAligned {
		c.align()
	}
	at := c.addr + uint64(c.pos)
	v := c.raw(enc)
	if c.bad {
		return 0, fmt.Errorf("pointer of encoding %#x: %w", enc, ErrDamaged)
	}
	switch enc & encApply {
	case encAbs, encAligned:
	case encPCRel:
		v += at
	case encTextRel:
		v += b.text
	case encDataRel:
		v += b.data
	case encFuncRel:
		v += b.function
	default:
		return 0, fmt.Errorf("pointer of encoding %#x: %w", enc, ErrDamaged)
	}
	if enc&encIndirect == 0 {
		return v, nil
	}
	if b.deref == nil {
		return 0, fmt.Errorf("pointer of indirect encoding %#x, with nothing to read it from: %w", enc, ErrDamaged)
	}
	return b.deref(v)
}

// skip passes over an encoded pointer whose value is not wanted.
func (c *cursor) skip(enc uint8) {
	if enc == encOmit {
		return
	}
	if enc&encApply == encAligned {
		c.align()
	}
	c.raw(enc)
}

func (c *cursor) align() {
	if over := (c.addr + uint64(c.pos)) % 8; over != 0 {
		c.take(8 - over)
	}
}
