package cfi

import "fmt"

// NumRegs is how many registers rows hold rules for: the general ones, by DWARF
// number. amd64: 0 rax, 1 rdx, 2 rcx, 3 rbx, 4 rsi, 5 rdi, 6 rbp, 7 rsp, 8 to 15,
// 16 the return address. arm64: 0 to 30, 31 the stack pointer, 32 the program
// counter, 34 whether the return address is signed. Rules for vector registers are
// read and dropped: no address is computed from them.
const NumRegs = 35

// Kind is the kind of a rule: how a register of the caller is had.
type Kind uint8

// Kinds of rules. Those from Offset on refer to the canonical frame address
// (CFA), the stack pointer before the call.
const (
	// Unspecified: the tables say nothing. By the ABIs that means SameValue for
	// registers that a function must preserve, and Undefined for others.
	Unspecified Kind = iota
	// Undefined: lost. For the return address: there is no caller.
	Undefined
	// SameValue: not changed.
	SameValue
	// Register: in the register Reg; for the CFA, that plus Off.
	Register
	// Offset: saved in memory at CFA+Off.
	Offset
	// ValOffset: it is CFA+Off itself.
	ValOffset
	// Expression: saved in memory at the address that Expr computes.
	Expression
	// ValExpression: it is what Expr computes.
	ValExpression
)

var kindNames = [...]string{"unspecified", "undefined", "same", "register", "offset", "val_offset", "expression", "val_expression"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Rule says how one register of the caller, or the CFA, is had.
type Rule struct {
	Kind Kind
	Reg  uint16
	Off  int64
	Expr *Expr
}

// Row is the rules that hold from Start up to End, which is excluded.
type Row struct {
	Start, End uint64
	// CFA is of kind Register or ValExpression.
	CFA  Rule
	Regs [NumRegs]Rule
	// RASigned: on arm64, the return address is signed here (by PACIASP).
	RASigned bool
}
