package cfi

import "fmt"

// maxOps bounds one DWARF expression, which may hold loops.
const maxOps = 1000

// Eval computes a DWARF expression. reg returns a register's value and whether
// it is known; load reads a word of the target.
func Eval(expr []byte, stack []uint64, reg func(uint64) (uint64, bool), load func(uint64) (uint64, error)) (uint64, error) {
	r := &reader{b: expr}
	bad := false
	pop := func() uint64 {
		if len(stack) == 0 {
			bad = true
			return 0
		}
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		return v
	}
	push := func(v uint64) {
		if len(stack) > 256 {
			bad = true
			return
		}
		stack = append(stack, v)
	}
	flag := func(b bool) {
		if b {
			push(1)
		} else {
			push(0)
		}
	}
	for n := 0; r.more() && !bad; n++ {
		if n > maxOps {
			return 0, fmt.Errorf("DWARF expression of over %d steps: %w", maxOps, ErrDamaged)
		}
		op := r.u8()
		switch {
		case op >= 0x30 && op <= 0x4f:
			push(uint64(op - 0x30))
			continue
		case op >= 0x70 && op <= 0x8f:
			off := r.sleb()
			v, ok := reg(uint64(op - 0x70))
			if !ok {
				return 0, fmt.Errorf("DWARF expression wants register %d, which is not known", op-0x70)
			}
			push(v + uint64(off))
			continue
		}
		switch op {
		case 0x03:
			push(r.u64())
		case 0x06:
			v, err := load(pop())
			if err != nil {
				return 0, err
			}
			push(v)
		case 0x08:
			push(uint64(r.u8()))
		case 0x09:
			push(uint64(int64(int8(r.u8()))))
		case 0x0a:
			push(uint64(r.u16()))
		case 0x0b:
			push(uint64(int64(int16(r.u16()))))
		case 0x0c:
			push(uint64(r.u32()))
		case 0x0d:
			push(uint64(int64(int32(r.u32()))))
		case 0x0e, 0x0f:
			push(r.u64())
		case 0x10:
			push(r.uleb())
		case 0x11:
			push(uint64(r.sleb()))
		case 0x12:
			v := pop()
			push(v)
			push(v)
		case 0x13:
			pop()
		case 0x16:
			a, b := pop(), pop()
			push(a)
			push(b)
		case 0x1a:
			a, b := pop(), pop()
			push(b & a)
		case 0x1c:
			a, b := pop(), pop()
			push(b - a)
		case 0x1e:
			push(pop() * pop())
		case 0x21:
			a, b := pop(), pop()
			push(b | a)
		case 0x22:
			push(pop() + pop())
		case 0x23:
			push(pop() + r.uleb())
		case 0x24:
			a, b := pop(), pop()
			push(b << (a & 63))
		case 0x25:
			a, b := pop(), pop()
			push(b >> (a & 63))
		case 0x29:
			a, b := pop(), pop()
			flag(b == a)
		case 0x2a:
			a, b := pop(), pop()
			flag(int64(b) >= int64(a))
		case 0x2b:
			a, b := pop(), pop()
			flag(int64(b) > int64(a))
		case 0x2c:
			a, b := pop(), pop()
			flag(int64(b) <= int64(a))
		case 0x2d:
			a, b := pop(), pop()
			flag(int64(b) < int64(a))
		case 0x2e:
			a, b := pop(), pop()
			flag(b != a)
		case 0x2f, 0x28:
			off := int(int16(r.u16()))
			if op == 0x28 && pop() == 0 {
				continue
			}
			if to := r.pos + off; to < 0 || to > len(r.b) {
				bad = true
			} else {
				r.pos = to
			}
		case 0x92:
			n, off := r.uleb(), r.sleb()
			v, ok := reg(n)
			if !ok {
				return 0, fmt.Errorf("DWARF expression wants register %d, which is not known", n)
			}
			push(v + uint64(off))
		case 0x96:
		default:
			return 0, fmt.Errorf("DWARF operation 0x%x: %w", op, ErrDamaged)
		}
	}
	v := pop()
	if bad || r.bad {
		return 0, fmt.Errorf("DWARF expression: %w", ErrDamaged)
	}
	return v, nil
}
