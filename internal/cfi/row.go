package cfi

import "fmt"

// Regs is how many registers are followed: 0-16 on amd64 (16 is the return
// address), 0-31 on arm64 (30 is the return address, 31 the stack pointer).
const Regs = 33

// Kind says how a register of the caller is found.
type Kind uint8

// Kinds of rules.
const (
	Same       Kind = iota // not touched by the function
	Undefined              // lost
	Offset                 // saved at CFA+N
	ValOffset              // is CFA+N itself
	InRegister             // is in register Reg
	Expression             // saved at the address that Expr computes
	ValExpr                // is what Expr computes
)

// Rule says how one register of the caller is found.
type Rule struct {
	Kind Kind
	Reg  uint64
	N    int64
	Expr []byte
}

// Row is the state at one place of a function.
type Row struct {
	// CFA is the canonical frame address: InRegister with Reg and N, or ValExpr.
	CFA  Rule
	Rule [Regs]Rule
	// RA is the number of the register that stands for the return address.
	RA uint64
}

// RowAt runs the function's program up to pc.
func (d *FDE) RowAt(pc uint64) (*Row, error) {
	row := &Row{RA: d.cie.ra}
	m := machine{row: row, cie: &d.cie, loc: d.Start, stop: ^uint64(0)}
	if err := m.run(d.cie.code, d.cie.addr); err != nil {
		return nil, err
	}
	initial := *row
	m.initial, m.stop = &initial, pc
	if err := m.run(d.code, d.addr); err != nil {
		return nil, err
	}
	return row, nil
}

type machine struct {
	row, initial *Row
	cie          *cie
	loc, stop    uint64
	stack        []Row
}

// run executes call frame instructions until the location passes stop.
func (m *machine) run(code []byte, addr uint64) error {
	r := &reader{b: code, addr: addr}
	row := m.row
	set := func(reg uint64, rule Rule) {
		if reg < Regs {
			row.Rule[reg] = rule
		}
	}
	restore := func(reg uint64) {
		if m.initial != nil && reg < Regs {
			row.Rule[reg] = m.initial.Rule[reg]
		}
	}
	advance := func(n uint64) bool {
		m.loc += n * m.cie.codeAlign
		return m.loc > m.stop
	}
	for r.more() {
		op := r.u8()
		low := uint64(op & 0x3f)
		switch op >> 6 {
		case 1:
			if advance(low) {
				return nil
			}
			continue
		case 2:
			set(low, Rule{Kind: Offset, N: int64(r.uleb()) * m.cie.dataAlign})
			continue
		case 3:
			restore(low)
			continue
		}
		switch op {
		case 0x00: // nop
		case 0x01: // set_loc
			m.loc = r.encoded(m.cie.enc, 0)
			if m.loc > m.stop {
				return nil
			}
		case 0x02:
			if advance(uint64(r.u8())) {
				return nil
			}
		case 0x03:
			if advance(uint64(r.u16())) {
				return nil
			}
		case 0x04:
			if advance(uint64(r.u32())) {
				return nil
			}
		case 0x05: // offset_extended
			reg := r.uleb()
			set(reg, Rule{Kind: Offset, N: int64(r.uleb()) * m.cie.dataAlign})
		case 0x06:
			restore(r.uleb())
		case 0x07:
			set(r.uleb(), Rule{Kind: Undefined})
		case 0x08:
			set(r.uleb(), Rule{Kind: Same})
		case 0x09: // register
			reg := r.uleb()
			set(reg, Rule{Kind: InRegister, Reg: r.uleb()})
		case 0x0a:
			if len(m.stack) >= maxRemember {
				return fmt.Errorf("remember_state nested over %d: %w", maxRemember, ErrDamaged)
			}
			m.stack = append(m.stack, *row)
		case 0x0b:
			if len(m.stack) == 0 {
				return fmt.Errorf("restore_state without remember_state: %w", ErrDamaged)
			}
			*row = m.stack[len(m.stack)-1]
			m.stack = m.stack[:len(m.stack)-1]
		case 0x0c: // def_cfa
			reg := r.uleb()
			row.CFA = Rule{Kind: InRegister, Reg: reg, N: int64(r.uleb())}
		case 0x0d:
			row.CFA.Kind, row.CFA.Reg = InRegister, r.uleb()
		case 0x0e:
			row.CFA.N = int64(r.uleb())
		case 0x0f:
			row.CFA = Rule{Kind: ValExpr, Expr: r.bytes(r.uleb())}
		case 0x10:
			reg := r.uleb()
			set(reg, Rule{Kind: Expression, Expr: r.bytes(r.uleb())})
		case 0x11: // offset_extended_sf
			reg := r.uleb()
			set(reg, Rule{Kind: Offset, N: r.sleb() * m.cie.dataAlign})
		case 0x12: // def_cfa_sf
			reg := r.uleb()
			row.CFA = Rule{Kind: InRegister, Reg: reg, N: r.sleb() * m.cie.dataAlign}
		case 0x13:
			row.CFA.N = r.sleb() * m.cie.dataAlign
		case 0x14:
			reg := r.uleb()
			set(reg, Rule{Kind: ValOffset, N: int64(r.uleb()) * m.cie.dataAlign})
		case 0x15:
			reg := r.uleb()
			set(reg, Rule{Kind: ValOffset, N: r.sleb() * m.cie.dataAlign})
		case 0x16:
			reg := r.uleb()
			set(reg, Rule{Kind: ValExpr, Expr: r.bytes(r.uleb())})
		case 0x2d: // AARCH64_negate_ra_state: the caller strips the signature anyway
		case 0x2e: // GNU_args_size
			r.uleb()
		default:
			return fmt.Errorf("call frame instruction 0x%x: %w", op, ErrDamaged)
		}
	}
	if r.bad {
		return fmt.Errorf("call frame program: %w", ErrDamaged)
	}
	return nil
}
