package cfi

import "fmt"

const (
	// maxOps bounds one evaluation: expressions may loop. The longest known, in
	// glibc's signal return, has 4 operations, that of a PLT 11.
	maxOps = 1000
	// maxStack bounds the expression's stack, in words.
	maxStack = 64
)

// Machine is the state that expressions are evaluated in.
type Machine interface {
	// Register returns the value of a register by its DWARF number, false where
	// it is not known.
	Register(n uint16) (uint64, bool)
	// Load reads size bytes (1, 2, 4 or 8) of the process's memory as a little
	// endian number.
	Load(addr uint64, size int) (uint64, error)
}

// Expr is a DWARF expression.
type Expr struct{ code []byte }

// NewExpr returns the expression of these bytes, which are not copied.
func NewExpr(code []byte) *Expr { return &Expr{code: code} }

// Eval computes the expression with stack holding these values at the start, the
// last on top: the CFA for rules of registers, nothing for the CFA. The error
// wraps ErrUnknown where a register is needed that is not known, ErrDamaged for
// an expression that makes no sense, or is what m.Load returned.
func (e *Expr) Eval(m Machine, stack ...uint64) (uint64, error) {
	v := evaluation{m: m, c: cursor{b: e.code}}
	v.n = copy(v.stack[:], stack)
	for ops := 0; v.c.more(); ops++ {
		if ops >= maxOps {
			return 0, fmt.Errorf("an expression of more than %d steps: %w", maxOps, ErrDamaged)
		}
		if err := v.step(v.c.u8()); err != nil {
			return 0, err
		}
	}
	result := v.pop()
	if v.c.bad {
		return 0, fmt.Errorf("expression % x: %w", e.code[:min(len(e.code), 32)], ErrDamaged)
	}
	return result, nil
}

type evaluation struct {
	m     Machine
	c     cursor
	stack [maxStack]uint64
	n     int
}

func (v *evaluation) push(x uint64) {
	if v.n >= maxStack {
		v.c.bad = true
		return
	}
	v.stack[v.n] = x
	v.n++
}

func (v *evaluation) pop() uint64 {
	if v.n == 0 {
		v.c.bad = true
		return 0
	}
	v.n--
	return v.stack[v.n]
}

func (v *evaluation) pick(i uint64) {
	if i >= uint64(v.n) {
		v.c.bad = true
		return
	}
	v.push(v.stack[v.n-1-int(i)])
}

func (v *evaluation) base(reg uint64, off int64) error {
	n, err := register(reg)
	if err != nil {
		return err
	}
	x, ok := v.m.Register(n)
	if !ok {
		return fmt.Errorf("register %d: %w", n, ErrUnknown)
	}
	v.push(x + uint64(off))
	return nil
}

func (v *evaluation) deref(size int) error {
	addr := v.pop()
	if v.c.bad {
		return nil
	}
	if size != 1 && size != 2 && size != 4 && size != 8 {
		return fmt.Errorf("an expression reads %d bytes: %w", size, ErrDamaged)
	}
	x, err := v.m.Load(addr, size)
	if err != nil {
		return err
	}
	v.push(x)
	return nil
}

// step executes one operation, from DWARF 5, section 2.5.1. Operations that
// describe places of variables have no meaning here.
func (v *evaluation) step(op uint8) error {
	c := &v.c
	switch {
	case op >= 0x30 && op <= 0x4f: // lit0 to lit31
		v.push(uint64(op - 0x30))
		return nil
	case op >= 0x70 && op <= 0x8f: // breg0 to breg31
		off := c.sleb()
		if c.bad {
			return nil
		}
		return v.base(uint64(op-0x70), off)
	}
	switch op {
	case 0x03: // addr
		v.push(c.u64())
	case 0x06: // deref
		return v.deref(8)
	case 0x94: // deref_size
		return v.deref(int(c.u8()))
	case 0x08: // const1u
		v.push(uint64(c.u8()))
	case 0x09: // const1s
		v.push(uint64(int64(int8(c.u8()))))
	case 0x0a: // const2u
		v.push(uint64(c.u16()))
	case 0x0b: // const2s
		v.push(uint64(int64(int16(c.u16()))))
	case 0x0c: // const4u
		v.push(uint64(c.u32()))
	case 0x0d: // const4s
		v.push(uint64(int64(int32(c.u32()))))
	case 0x0e, 0x0f: // const8u, const8s
		v.push(c.u64())
	case 0x10: // constu
		v.push(c.uleb())
	case 0x11: // consts
		v.push(uint64(c.sleb()))
	case 0x12: // dup
		v.pick(0)
	case 0x13: // drop
		v.pop()
	case 0x14: // over
		v.pick(1)
	case 0x15: // pick
		v.pick(uint64(c.u8()))
	case 0x16: // swap
		a, b := v.pop(), v.pop()
		v.push(a)
		v.push(b)
	case 0x17: // rot
		a, b, d := v.pop(), v.pop(), v.pop()
		v.push(a)
		v.push(d)
		v.push(b)
	case 0x19: // abs
		x := v.pop()
		if int64(x) < 0 {
			x = -x
		}
		v.push(x)
	case 0x1f: // neg
		v.push(-v.pop())
	case 0x20: // not
		v.push(^v.pop())
	case 0x23: // plus_uconst
		v.push(v.pop() + c.uleb())
	case 0x28, 0x2f: // bra, skip
		by := int(int16(c.u16()))
		if op == 0x28 && v.pop() == 0 {
			return nil
		}
		to := c.pos + by
		if c.bad || to < 0 || to > len(c.b) {
			return fmt.Errorf("an expression jumps out of itself: %w", ErrDamaged)
		}
		c.pos = to
	case 0x92: // bregx
		reg, off := c.uleb(), c.sleb()
		if c.bad {
			return nil
		}
		return v.base(reg, off)
	case 0x96: // nop
	default:
		return v.binary(op)
	}
	return nil
}

func (v *evaluation) binary(op uint8) error {
	b, a := v.pop(), v.pop()
	var x uint64
	truth := func(t bool) uint64 {
		if t {
			return 1
		}
		return 0
	}
	switch op {
	case 0x1a:
		x = a & b
	case 0x1b, 0x1d: // div is signed, mod is not
		if b == 0 {
			return fmt.Errorf("an expression divides by zero: %w", ErrDamaged)
		}
		x = a % b
		if op == 0x1b {
			x = uint64(int64(a) / int64(b))
		}
	case 0x1c:
		x = a - b
	case 0x1e:
		x = a * b
	case 0x21:
		x = a | b
	case 0x22:
		x = a + b
	case 0x24:
		x = a << b
	case 0x25:
		x = a >> b
	case 0x26:
		x = uint64(int64(a) >> b)
	case 0x27:
		x = a ^ b
	case 0x29:
		x = truth(a == b)
	case 0x2a:
		x = truth(int64(a) >= int64(b))
	case 0x2b:
		x = truth(int64(a) > int64(b))
	case 0x2c:
		x = truth(int64(a) <= int64(b))
	case 0x2d:
		x = truth(int64(a) < int64(b))
	case 0x2e:
		x = truth(a != b)
	default:
		return fmt.Errorf("expression operation %#x: %w", op, ErrDamaged)
	}
	v.push(x)
	return nil
}
