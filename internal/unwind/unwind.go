// Package unwind walks the stack of a thread of another process without
// stopping it.
//
// For a thread that sleeps in a system call the kernel tells where its stack
// pointer and program counter are (/proc/PID/task/TID/syscall), and no other
// register. That is enough for most frames: their tables (package cfi) count
// from the stack pointer, and a register that an inner function saved becomes
// known again on the way up. Where a frame counts from a register that is not
// known (one with a frame pointer), its return address is looked for in the
// stack: see search.go for what makes a word one, and how sure that is.
//
// Nothing here judges whether the thread moved meanwhile. Read its syscall file
// before and after; if they differ the stack is worth nothing.
package unwind

import (
	"errors"
	"fmt"

	"forkproof/internal/cfi"
	"forkproof/internal/procmem"
	"forkproof/internal/symbol"
)

// Errors of Stack, told apart with errors.Is. The frames that came before are
// good in either case.
var (
	// ErrLost: the stack goes on, but its next frame cannot be found.
	ErrLost = errors.New("the stack cannot be followed further")
	// ErrLimit: there are more frames than were asked for.
	ErrLimit = errors.New("the stack has more frames than were asked for")
)

// MaxFrames is the most that Stack returns, whatever was asked for.
const MaxFrames = 1 << 16

// Frame is one frame of a stack.
type Frame struct {
	// PC is where the frame goes on: behind a call, save for exact frames.
	PC uint64
	// SP is the stack pointer there.
	SP uint64
	// CFA is the stack pointer before the call that made the frame, 0 for the
	// outermost frame.
	CFA uint64
	// Module is what is mapped at PC, nil if nothing is.
	Module *Module
	// Entry is where the function (or a part of it that the compiler put apart)
	// starts, 0 where neither unwind tables nor symbols tell.
	Entry uint64
	// Exact: PC is the next instruction to run, not one behind a call. So it is
	// in the innermost frame and in one that a signal interrupted.
	Exact bool
	// Signal: the kernel made this frame, for a signal handler to return to.
	Signal bool
	// Searched: the frame was found by looking through the stack, since a
	// register was not known or unwind tables are missing.
	Searched bool
	// Guessed: Searched, and other frames would have been possible. The frame
	// may be wrong, or frames between it and the one before may be missing.
	Guessed bool
	// Damage is what is wrong with the tables that should lead to the caller,
	// nil for tables that are whole or that do not know the frame. It wraps
	// cfi.ErrDamaged.
	Damage error
}

// Addr is the address to look the frame's function and line up with: within the
// call, since a call may be the last instruction of its function.
func (f Frame) Addr() uint64 {
	if f.Exact || f.Signal || f.PC == 0 {
		return f.PC
	}
	return f.PC - 1
}

// errEnd: the tables say that a frame has no caller.
var errEnd = errors.New("end of stack")

// Stack returns the frames of the thread that has these registers, innermost
// first, at most limit (0 for MaxFrames). The error is nil where the end of the
// stack was reached, wraps ErrLimit or ErrLost, or is what mem returned for the
// first frame already.
func Stack(mem procmem.Reader, space Space, regs Regs, limit int) ([]Frame, error) {
	a, err := archOf(regs.arch)
	if err != nil {
		return nil, err
	}
	if limit <= 0 || limit > MaxFrames {
		limit = MaxFrames
	}
	w := &walker{mem: memory{r: mem}, space: space, arch: a}
	var frames []Frame
	exact := true
	var searched, guessed bool
	for {
		if len(frames) >= limit {
			return frames, ErrLimit
		}
		p := w.locate(regs.PC(), exact)
		f := Frame{
			PC: regs.PC(), SP: regs.SP(), Module: p.mod, Entry: p.start,
			Exact: exact, Signal: p.signal, Searched: searched, Guessed: guessed,
		}
		next, cfa, err := w.caller(&regs, &p)
		searched, guessed = false, false
		if errors.Is(err, cfi.ErrDamaged) {
			f.Damage = err
		}
		if err != nil && !errors.Is(err, errEnd) {
			searched = true
			var found candidate
			if found, err = w.search(&regs, &p, err); err == nil {
				next, cfa, guessed = found.next, found.cfa, found.guessed
			}
		}
		if err == nil {
			f.CFA = cfa
		}
		frames = append(frames, f)
		if errors.Is(err, errEnd) || err == nil && next.PC() == 0 {
			return frames, nil
		}
		if err != nil {
			return frames, err
		}
		if err := w.plausible(&regs, &next, &p); err != nil {
			return frames, err
		}
		regs, exact = next, p.signal
	}
}

// plausible checks that a step leads up the stack and to code.
func (w *walker) plausible(from, to *Regs, p *place) error {
	// A signal handler may have run on a stack of its own, anywhere. Of functions
	// that call nobody glibc's vfork keeps the return address in a register
	// (sysdeps/unix/sysv/linux/x86_64/vfork.S).
	up := to.SP() > from.SP() || p.signal || to.SP() == from.SP() && (w.arch.leaf || p.exact) && to.PC() != from.PC()
	if !up {
		return fmt.Errorf("the caller of %#x would have its stack at %#x, not above %#x: %w", from.PC(), to.SP(), from.SP(), ErrLost)
	}
	if _, ok := w.space.Find(to.PC() - 1); !ok {
		if _, ok := w.space.Find(to.PC()); !ok || !p.signal {
			return fmt.Errorf("%#x would return to %#x, where no code is: %w", from.PC(), to.PC(), ErrLost)
		}
	}
	return nil
}

type walker struct {
	mem   memory
	space Space
	arch  *arch
	tries int // words that the searches asked
}

// place is what is known of one program counter.
type place struct {
	pc     uint64
	exact  bool
	mod    *Module
	fde    *cfi.FDE // nil: no unwind tables for it
	start  uint64   // of the function, in the process; 0 unknown
	signal bool     // a signal trampoline
	row    *cfi.Row // set by caller
	err    error    // why fde is nil
}

// locate finds the tables for a program counter.
func (w *walker) locate(pc uint64, exact bool) place {
	p := place{pc: pc, exact: exact}
	at := pc
	if !exact {
		at--
	}
	mod, ok := w.space.Find(at)
	if !ok {
		if mod, ok = w.space.Find(pc); !ok {
			p.err = fmt.Errorf("no code is mapped at %#x", pc)
			return p
		}
	}
	p.mod = mod
	if mod.Frames != nil {
		p.fde, p.err = mod.Frames.FDEFor(at - mod.Bias)
	} else {
		p.err = fmt.Errorf("%s has no unwind tables", mod.Name)
	}
	// A signal trampoline is never called: the kernel lets the handler return
	// to its first instruction. glibc's FDE starts one byte earlier for that
	// reason, others do not, and musl's has none.
	if !exact && (p.fde == nil || pc-mod.Bias >= p.fde.End) {
		if own, ok := w.space.Find(pc); ok {
			var d *cfi.FDE
			if own.Frames != nil {
				d, _ = own.Frames.FDEFor(pc - own.Bias)
			}
			switch {
			case d != nil && d.Signal:
				p.mod, p.fde, p.exact = own, d, true
			case d == nil && w.trampoline(pc):
				p.mod, p.fde, p.exact, p.signal = own, nil, true, true
			}
		}
	}
	switch {
	case p.fde != nil:
		p.signal = p.fde.Signal
		p.start = p.fde.Start + p.mod.Bias
	case p.mod.Table != nil:
		if sym, ok := p.mod.Symbol(at); ok && sym.Kind == symbol.Func && !sym.NoSize {
			p.start = sym.Value + p.mod.Bias
		}
	}
	return p
}

// lookup is the address to ask the tables of p with.
func (p *place) lookup() uint64 {
	at := p.pc - p.mod.Bias
	if !p.exact && (p.fde == nil || at > p.fde.Start) {
		at--
	}
	return at
}

// caller steps to the caller by what the tables say. It fails with errEnd where
// they say that there is none, and with an error that wraps cfi.ErrUnknown where
// they need a register that is not known.
func (w *walker) caller(regs *Regs, p *place) (Regs, uint64, error) {
	if p.fde == nil {
		if p.signal {
			return w.sigreturn(regs)
		}
		return Regs{}, 0, p.err
	}
	row, err := p.fde.RowAt(p.lookup())
	if err != nil {
		return Regs{}, 0, err
	}
	p.row = row
	if row.Regs[p.fde.RA].Kind == cfi.Undefined {
		return Regs{}, 0, errEnd
	}
	m := machine{w, regs}
	cfa, err := m.cfa(row)
	if err != nil {
		return Regs{}, 0, err
	}
	next, err := m.apply(row, p.fde.RA, cfa)
	return next, cfa, err
}

// machine evaluates rules with the registers of a frame.
type machine struct {
	w    *walker
	regs *Regs
}

// Register implements cfi.Machine.
func (m machine) Register(n uint16) (uint64, bool) { return m.regs.Get(int(n)) }

// Load implements cfi.Machine.
func (m machine) Load(addr uint64, size int) (uint64, error) { return m.w.mem.load(addr, size) }

func (m machine) cfa(row *cfi.Row) (uint64, error) {
	switch row.CFA.Kind {
	case cfi.Register:
		v, ok := m.Register(row.CFA.Reg)
		if !ok {
			return 0, fmt.Errorf("register %d: %w", row.CFA.Reg, cfi.ErrUnknown)
		}
		return v + uint64(row.CFA.Off), nil
	case cfi.ValExpression:
		return row.CFA.Expr.Eval(m)
	}
	return 0, fmt.Errorf("no rule for the frame address: %w", cfi.ErrDamaged)
}

// apply computes the registers of the caller.
func (m machine) apply(row *cfi.Row, ra uint16, cfa uint64) (Regs, error) {
	a := m.w.arch
	next := Regs{arch: m.regs.arch, pac: m.regs.pac}
	for i := range row.Regs {
		rule := &row.Regs[i]
		if rule.Kind == cfi.Unspecified && a.preserved&(1<<i) == 0 {
			continue
		}
		v, ok, err := m.rule(rule, i, cfa)
		if err != nil && i == int(ra) {
			return Regs{}, err
		}
		// A register that cannot be read stays unknown; it may never be asked for.
		if ok && err == nil {
			next.Set(i, v)
		}
	}
	pc, ok := next.Get(int(ra))
	if !ok {
		return Regs{}, fmt.Errorf("return address in register %d: %w", ra, cfi.ErrUnknown)
	}
	if row.Regs[a.sp].Kind == cfi.Unspecified {
		next.Set(a.sp, cfa)
	}
	next.setPC(next.strip(pc))
	return next, nil
}

func (m machine) rule(r *cfi.Rule, self int, cfa uint64) (uint64, bool, error) {
	switch r.Kind {
	case cfi.Unspecified, cfi.SameValue:
		v, ok := m.regs.Get(self)
		return v, ok, nil
	case cfi.Register:
		v, ok := m.Register(r.Reg)
		return v + uint64(r.Off), ok, nil
	case cfi.Offset:
		v, err := m.w.mem.load(cfa+uint64(r.Off), 8)
		return v, true, err
	case cfi.ValOffset:
		return cfa + uint64(r.Off), true, nil
	case cfi.Expression:
		addr, err := r.Expr.Eval(m, cfa)
		if err != nil {
			return 0, false, err
		}
		v, err := m.w.mem.load(addr, 8)
		return v, true, err
	case cfi.ValExpression:
		v, err := r.Expr.Eval(m, cfa)
		return v, true, err
	}
	return 0, false, nil // undefined
}
