package cfi

import (
	"bytes"
	"encoding/binary"
)

// reader reads forward through bytes that may be damaged: past the end it
// returns zeros and sets bad, which the caller must look at.
type reader struct {
	b    []byte
	addr uint64
	pos  int
	bad  bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b)-r.pos {
		r.bad = true
		r.pos = len(r.b)
		return make([]byte, 8)[:min(max(n, 0), 8)]
	}
	r.pos += n
	return r.b[r.pos-n : r.pos]
}

func (r *reader) more() bool  { return r.pos < len(r.b) && !r.bad }
func (r *reader) u8() byte    { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *reader) skip(n uint64) {
	if n > uint64(len(r.b)-r.pos) {
		r.bad = true
		return
	}
	r.pos += int(n)
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)-r.pos) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

func (r *reader) cstring() string {
	i := bytes.IndexByte(r.b[r.pos:], 0)
	if i < 0 {
		r.bad = true
		return ""
	}
	s := string(r.b[r.pos : r.pos+i])
	r.pos += i + 1
	return s
}

func (r *reader) uleb() uint64 {
	var v uint64
	for shift := uint(0); shift < 70; shift += 7 {
		b := r.u8()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			return v
		}
	}
	r.bad = true
	return 0
}

func (r *reader) sleb() int64 {
	var v int64
	for shift := uint(0); shift < 70; shift += 7 {
		b := r.u8()
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		if b&0x80 == 0 {
			if b&0x40 != 0 && shift+7 < 64 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
	r.bad = true
	return 0
}

// encoded reads a pointer in one of the DW_EH_PE encodings; datarel is the base
// for data-relative ones. An indirect pointer is returned as it stands: only
// personality routines use it, and they are not wanted here.
func (r *reader) encoded(enc byte, datarel uint64) uint64 {
	if enc == 0xff {
		return 0
	}
	at := r.addr + uint64(r.pos)
	var v uint64
	switch enc & 0x0f {
	case 0x00, 0x04, 0x0c:
		v = r.u64()
	case 0x01:
		v = r.uleb()
	case 0x02:
		v = uint64(r.u16())
	case 0x03:
		v = uint64(r.u32())
	case 0x09:
		v = uint64(r.sleb())
	case 0x0a:
		v = uint64(int64(int16(r.u16())))
	case 0x0b:
		v = uint64(int64(int32(r.u32())))
	default:
		r.bad = true
	}
	switch enc & 0x70 {
	case 0x00:
	case 0x10:
		v += at
	case 0x30:
		v += datarel
	default:
		r.bad = true
	}
	return v
}
