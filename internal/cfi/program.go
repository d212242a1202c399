package cfi

import (
	"fmt"
	"iter"
)

// maxRemember bounds the stack of DW_CFA_remember_state. Compilers nest it once,
// hand-written assembly a few times.
const maxRemember = 64

// RowAt returns the rules that hold at pc, which must lie in the function.
func (d *FDE) RowAt(pc uint64) (*Row, error) {
	if pc < d.Start || pc >= d.End {
		return nil, fmt.Errorf("%#x lies outside of %#x to %#x: %w", pc, d.Start, d.End, ErrNoFDE)
	}
	var m machine
	if err := m.begin(d); err != nil {
		return nil, err
	}
	err := m.run(d.code, d.at, func(next uint64) bool { return next <= pc })
	if err != nil {
		return nil, err
	}
	if !m.stopped || m.row.End > d.End {
		m.row.End = d.End
	}
	return &m.row, nil
}

// Rows yields all rows of the function in the order of their addresses. The row
// is the same variable each time. After an error nothing more comes.
func (d *FDE) Rows() iter.Seq2[*Row, error] {
	return func(yield func(*Row, error) bool) {
		var m machine
		if err := m.begin(d); err != nil {
			yield(nil, err)
			return
		}
		more := true
		err := m.run(d.code, d.at, func(next uint64) bool {
			if next == m.row.Start {
				return true
			}
			if next >= d.End {
				// Places behind the function are nobody's.
				return false
			}
			m.row.End = next
			more = yield(&m.row, nil)
			return more
		})
		if err != nil {
			yield(nil, err)
			return
		}
		if more && m.row.Start < d.End {
			m.row.End = d.End
			yield(&m.row, nil)
		}
	}
}

// state is what DW_CFA_remember_state keeps.
type state struct {
	cfa    Rule
	regs   [NumRegs]Rule
	signed bool
}

// machine runs call frame programs.
type machine struct {
	cie     *cie
	row     Row
	initial *[NumRegs]Rule // the rules that the CIE set, once it ran
	stack   []state
	stopped bool
}

func (m *machine) begin(d *FDE) error {
	m.cie = d.cie
	m.row.Start, m.row.End = d.Start, d.End
	if err := m.run(d.cie.code, d.cie.at, func(uint64) bool { return true }); err != nil {
		return err
	}
	if m.row.Start != d.Start {
		return fmt.Errorf("a CIE's program moves the location: %w", ErrDamaged)
	}
	initial := m.row.Regs
	m.initial, m.stack = &initial, m.stack[:0]
	return nil
}

// Call frame instructions, from DWARF 5, table 7.29, and those of GNU and ARM.
const (
	opAdvance = 0x40 // high two bits; the rest is the operand
	opOffset  = 0x80
	opRestore = 0xc0

	opNop              = 0x00
	opSetLoc           = 0x01
	opAdvance1         = 0x02
	opAdvance2         = 0x03
	opAdvance4         = 0x04
	opOffsetExtended   = 0x05
	opRestoreExtended  = 0x06
	opUndefined        = 0x07
	opSameValue        = 0x08
	opRegister         = 0x09
	opRememberState    = 0x0a
	opRestoreState     = 0x0b
	opDefCFA           = 0x0c
	opDefCFARegister   = 0x0d
	opDefCFAOffset     = 0x0e
	opDefCFAExpression = 0x0f
	opExpression       = 0x10
	opOffsetExtendedSF = 0x11
	opDefCFASF         = 0x12
	opDefCFAOffsetSF   = 0x13
	opValOffset        = 0x14
	opValOffsetSF      = 0x15
	opValExpression    = 0x16
	// opNegateRAPC and opNegateRA are AArch64's: the return address is signed
	// from here, or no longer (ABI aadwarf64, 2023Q3).
	opNegateRAPC = 0x2c
	opNegateRA   = 0x2d
	// opArgsSize is GNU's: bytes of arguments pushed; only exceptions need it.
	opArgsSize = 0x2e
	// opNegOffset is an old GNU form of opOffsetExtended.
	opNegOffset = 0x2f
)

// run executes code. Before the location moves to next it asks cont, and stops
// where that says no.
func (m *machine) run(code []byte, at uint64, cont func(next uint64) bool) error {
	c := cursor{b: code, addr: at}
	for c.more() {
		op := c.u8()
		low := uint64(op & 0x3f)
		next, moved := m.row.Start, false
		switch op & 0xc0 {
		case opAdvance:
			next, moved = m.row.Start+low*m.cie.codeAlign, true
		case opOffset:
			m.set(low, Rule{Kind: Offset, Off: m.factored(c.uleb())})
		case opRestore:
			m.restore(low)
		default:
			switch op {
			case opSetLoc:
				v, err := c.pointer(m.cie.enc, m.cie.base)
				if err != nil {
					return err
				}
				next, moved = v, true
			case opAdvance1:
				next, moved = m.row.Start+uint64(c.u8())*m.cie.codeAlign, true
			case opAdvance2:
				next, moved = m.row.Start+uint64(c.u16())*m.cie.codeAlign, true
			case opAdvance4:
				next, moved = m.row.Start+uint64(c.u32())*m.cie.codeAlign, true
			default:
				if err := m.rule(op, &c); err != nil {
					return err
				}
			}
		}
		if c.bad {
			break
		}
		if moved {
			if next < m.row.Start {
				return fmt.Errorf("a call frame program goes back from %#x to %#x: %w", m.row.Start, next, ErrDamaged)
			}
			if !cont(next) {
				m.row.End, m.stopped = next, true
				return nil
			}
			m.row.Start = next
		}
	}
	if c.bad {
		return fmt.Errorf("a call frame program ends within an instruction: %w", ErrDamaged)
	}
	return nil
}

// rule executes an instruction that changes rules.
func (m *machine) rule(op uint8, c *cursor) error {
	row := &m.row
	switch op {
	case opNop:
	case opOffsetExtended:
		reg := c.uleb()
		m.set(reg, Rule{Kind: Offset, Off: m.factored(c.uleb())})
	case opOffsetExtendedSF:
		reg := c.uleb()
		m.set(reg, Rule{Kind: Offset, Off: c.sleb() * m.cie.dataAlign})
	case opNegOffset:
		reg := c.uleb()
		m.set(reg, Rule{Kind: Offset, Off: -m.factored(c.uleb())})
	case opRestoreExtended:
		m.restore(c.uleb())
	case opUndefined:
		m.set(c.uleb(), Rule{Kind: Undefined})
	case opSameValue:
		m.set(c.uleb(), Rule{Kind: SameValue})
	case opRegister:
		reg := c.uleb()
		from, err := register(c.uleb())
		if err != nil {
			return err
		}
		m.set(reg, Rule{Kind: Register, Reg: from})
	case opValOffset:
		reg := c.uleb()
		m.set(reg, Rule{Kind: ValOffset, Off: m.factored(c.uleb())})
	case opValOffsetSF:
		reg := c.uleb()
		m.set(reg, Rule{Kind: ValOffset, Off: c.sleb() * m.cie.dataAlign})
	case opExpression, opValExpression:
		reg := c.uleb()
		kind := Expression
		if op == opValExpression {
			kind = ValExpression
		}
		m.set(reg, Rule{Kind: kind, Expr: &Expr{code: c.take(c.uleb())}})
	case opDefCFA, opDefCFASF, opDefCFARegister:
		reg, err := register(c.uleb())
		if err != nil {
			return err
		}
		off := row.CFA.Off
		switch op {
		case opDefCFA:
			off = int64(c.uleb())
		case opDefCFASF:
			off = c.sleb() * m.cie.dataAlign
		}
		row.CFA = Rule{Kind: Register, Reg: reg, Off: off}
	case opDefCFAOffset:
		row.CFA.Off = int64(c.uleb())
	case opDefCFAOffsetSF:
		row.CFA.Off = c.sleb() * m.cie.dataAlign
	case opDefCFAExpression:
		row.CFA = Rule{Kind: ValExpression, Expr: &Expr{code: c.take(c.uleb())}}
	case opRememberState:
		if len(m.stack) >= maxRemember {
			return fmt.Errorf("more than %d remembered states: %w", maxRemember, ErrDamaged)
		}
		m.stack = append(m.stack, state{row.CFA, row.Regs, row.RASigned})
	case opRestoreState:
		if len(m.stack) == 0 {
			return fmt.Errorf("a state is restored that was not remembered: %w", ErrDamaged)
		}
		s := &m.stack[len(m.stack)-1]
		row.CFA, row.Regs, row.RASigned = s.cfa, s.regs, s.signed
		m.stack = m.stack[:len(m.stack)-1]
	case opArgsSize:
		c.uleb()
	case opNegateRA, opNegateRAPC:
		if m.cie.arch != ARM64 {
			return fmt.Errorf("call frame instruction %#x on %v: %w", op, m.cie.arch, ErrDamaged)
		}
		row.RASigned = !row.RASigned
	default:
		return fmt.Errorf("call frame instruction %#x: %w", op, ErrDamaged)
	}
	return nil
}

func (m *machine) factored(v uint64) int64 { return int64(v) * m.cie.dataAlign }

func (m *machine) set(reg uint64, r Rule) {
	if reg < NumRegs {
		m.row.Regs[reg] = r
	}
}

func (m *machine) restore(reg uint64) {
	if reg >= NumRegs {
		return
	}
	m.row.Regs[reg] = Rule{}
	if m.initial != nil {
		m.row.Regs[reg] = m.initial[reg]
	}
}

// register checks the number of a register whose value is needed.
func register(n uint64) (uint16, error) {
	if n > 0xffff {
		return 0, fmt.Errorf("register %d: %w", n, ErrDamaged)
	}
	return uint16(n), nil
}
