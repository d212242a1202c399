package unwind

import (
	"encoding/binary"
	"errors"
	"runtime"

	"forkproof/internal/cfi"
	"forkproof/internal/procmem"
)

// Frame is one frame of a stack.
type Frame struct {
	PC, SP, CFA uint64
	Module      *Module
	// Signal: the frame that the kernel made to run a signal handler.
	Signal bool
	// Guessed: found by searching the stack, not by call frame information.
	Guessed bool
}

// Lookup returns the address to name and to look up unwind information with: a
// return address points behind its call, maybe into the next function.
func (f Frame) Lookup(innermost bool) uint64 {
	if innermost || f.Signal {
		return f.PC
	}
	return f.PC - 1
}

type value struct {
	v  uint64
	ok bool
}

// arch holds what differs between processors.
type arch struct {
	sp, fp uint64
	// retSize is what a call pushes.
	retSize uint64
}

var arches = map[string]arch{
	"amd64": {sp: 7, fp: 6, retSize: 8},
	"arm64": {sp: 31, fp: 29, retSize: 0},
}

// searchWindow bounds the search for a return address: frames of more than
// 64 KiB are given up.
const searchWindow = 64 << 10

var errEnd = errors.New("end of stack")

type walker struct {
	mem   procmem.Reader
	space *Space
	arch  arch
	regs  [cfi.Regs]value
	pc    uint64
	sp    uint64
}

// Stack walks the stack of a thread that sleeps with this stack pointer and
// program counter. Callee-saved registers are not known at first; they become
// known as inner frames turn out to have saved them. At most limit frames are
// returned; a stack that cannot be followed further ends there.
func Stack(mem procmem.Reader, space *Space, sp, pc uint64, limit int) []Frame {
	w := &walker{mem: mem, space: space, arch: arches[runtime.GOARCH], pc: pc, sp: sp}
	w.regs[w.arch.sp] = value{sp, true}
	var out []Frame
	inner := true
	guessed := false
	for len(out) < limit {
		mod, _ := space.Find(w.pc)
		f := Frame{PC: w.pc, SP: w.sp, Module: mod, Guessed: guessed}
		var fde *cfi.FDE
		if mod != nil && mod.Frames != nil {
			fde, _ = mod.Frames.FDEFor(f.Lookup(inner) - mod.Bias)
			if fde == nil || (!inner && fde.Signal) || fde.Start == w.pc-mod.Bias {
				// A signal trampoline is entered at its first instruction: its
				// "return address" is exact.
				if exact, err := mod.Frames.FDEFor(w.pc - mod.Bias); err == nil && exact.Signal {
					fde, f.Signal = exact, true
				}
			}
		}
		cfa, g, err := w.step(mod, fde, f, inner || f.Signal)
		f.CFA = cfa
		out = append(out, f)
		if err != nil || w.pc == 0 {
			break
		}
		// The stack shrinks with each caller; a signal stack may lie elsewhere.
		if cfa <= f.SP && !f.Signal {
			break
		}
		if !space.Executable(w.pc) {
			break
		}
		inner, guessed = f.Signal, g
	}
	return out
}

// step moves to the caller.
func (w *walker) step(mod *Module, fde *cfi.FDE, f Frame, exact bool) (cfa uint64, guessed bool, err error) {
	if fde == nil {
		return w.search(mod, 0, f)
	}
	at := f.Lookup(exact) - mod.Bias
	row, err := fde.RowAt(at)
	if err != nil {
		return w.search(mod, fde.Start+mod.Bias, f)
	}
	if row.Rule[min(row.RA, cfi.Regs-1)].Kind == cfi.Undefined {
		return 0, false, errEnd
	}
	cfa, ok := w.cfa(row)
	if !ok {
		return w.searchRow(mod, fde, row, f)
	}
	if !w.apply(row, cfa) {
		return w.search(mod, fde.Start+mod.Bias, f)
	}
	return cfa, false, nil
}

func (w *walker) reg(n uint64) (uint64, bool) {
	if n >= cfi.Regs {
		return 0, false
	}
	return w.regs[n].v, w.regs[n].ok
}

func (w *walker) load(addr uint64) (uint64, error) { return procmem.Uint64(w.mem, addr) }

func (w *walker) cfa(row *cfi.Row) (uint64, bool) {
	switch row.CFA.Kind {
	case cfi.InRegister:
		v, ok := w.reg(row.CFA.Reg)
		return v + uint64(row.CFA.N), ok
	case cfi.ValExpr:
		regs := func(n uint64) (uint64, bool) {
			if n == 16 && w.arch.retSize != 0 {
				return w.pc, true
			}
			return w.reg(n)
		}
		v, err := cfi.Eval(row.CFA.Expr, nil, regs, w.load)
		return v, err == nil
	}
	return 0, false
}

// apply computes the caller's registers. It reports false where the return
// address cannot be had.
func (w *walker) apply(row *cfi.Row, cfa uint64) bool {
	next := w.regs
	get := func(rule cfi.Rule, old value) value {
		switch rule.Kind {
		case cfi.Same:
			return old
		case cfi.Offset:
			v, err := w.load(cfa + uint64(rule.N))
			return value{v, err == nil}
		case cfi.ValOffset:
			return value{cfa + uint64(rule.N), true}
		case cfi.InRegister:
			v, ok := w.reg(rule.Reg)
			return value{v, ok}
		case cfi.Expression:
			a, err := cfi.Eval(rule.Expr, []uint64{cfa}, w.reg, w.load)
			if err != nil {
				return value{}
			}
			v, err := w.load(a)
			return value{v, err == nil}
		case cfi.ValExpr:
			v, err := cfi.Eval(rule.Expr, []uint64{cfa}, w.reg, w.load)
			return value{v, err == nil}
		}
		return value{}
	}
	for i := range next {
		next[i] = get(row.Rule[i], w.regs[i])
	}
	if w.arch.retSize != 0 {
		// Registers that a call may change are not the caller's any more.
		for _, i := range []int{0, 1, 2, 4, 5, 8, 9, 10, 11} {
			if row.Rule[i].Kind == cfi.Same {
				next[i] = value{}
			}
		}
	}
	if row.RA >= cfi.Regs || !next[row.RA].ok {
		return false
	}
	sp := cfa
	if r := row.Rule[w.arch.sp]; r.Kind != cfi.Same {
		sp = next[w.arch.sp].v
	}
	next[w.arch.sp] = value{sp, true}
	w.regs, w.sp, w.pc = next, sp, stripPAC(next[row.RA].v)
	return true
}

// stripPAC removes the signature that aarch64 keeps in the upper bits of a
// return address; on amd64 user addresses have none set.
func stripPAC(v uint64) uint64 { return v & (1<<48 - 1) }

// searchRow finds a frame whose CFA rests on an unknown frame pointer: the
// return address is looked for above the stack pointer, and the row says where
// the caller's registers lie relative to it.
func (w *walker) searchRow(mod *Module, fde *cfi.FDE, row *cfi.Row, f Frame) (uint64, bool, error) {
	ra := row.Rule[min(row.RA, cfi.Regs-1)]
	if ra.Kind != cfi.Offset {
		return w.search(mod, fde.Start+mod.Bias, f)
	}
	saved := w.regs
	best, found := uint64(0), false
	w.candidates(f.SP, fde.Start+mod.Bias, func(slot uint64, certain bool) bool {
		cfa := slot - uint64(ra.N)
		if row.Rule[w.arch.fp].Kind == cfi.Offset {
			fp, err := w.load(cfa + uint64(row.Rule[w.arch.fp].N))
			// The caller's frame pointer, where it is one, points further up.
			if err != nil || (fp > f.SP && fp < cfa) {
				return true
			}
		}
		best, found = cfa, true
		return !certain
	})
	if !found {
		return 0, true, errEnd
	}
	w.regs = saved
	if !w.apply(row, best) {
		return 0, true, errEnd
	}
	return best, true, nil
}

// search finds the caller of a function without usable call frame information.
// callee is the function's start where known.
func (w *walker) search(_ *Module, callee uint64, f Frame) (uint64, bool, error) {
	best, found := uint64(0), false
	w.candidates(f.SP, callee, func(slot uint64, certain bool) bool {
		if !found {
			best, found = slot, true
		}
		if certain {
			best = slot
		}
		return !certain && callee != 0
	})
	if !found {
		return 0, true, errEnd
	}
	v, err := w.load(best)
	if err != nil {
		return 0, true, err
	}
	sp := best + 8
	w.regs = [cfi.Regs]value{}
	w.regs[w.arch.sp] = value{sp, true}
	w.sp, w.pc = sp, stripPAC(v)
	return sp, true, nil
}

// candidates calls fn for each word above sp that points behind a call; certain
// where that call's target is the function itself. fn returns false to stop.
func (w *walker) candidates(sp, callee uint64, fn func(slot uint64, certain bool) bool) {
	sp = (sp + 7) &^ 7
	buf := make([]byte, 4096)
	for base := sp; base < sp+searchWindow; base += uint64(len(buf)) {
		n, err := w.mem.ReadAt(buf, base)
		for i := 0; i+8 <= n; i += 8 {
			v := stripPAC(binary.LittleEndian.Uint64(buf[i:]))
			if v < 4096 || !w.space.Executable(v-1) {
				continue
			}
			ok, to := w.callBefore(v)
			if !ok || (callee != 0 && to != 0 && to != callee && w.known(to)) {
				continue
			}
			if !fn(base+uint64(i), callee != 0 && to == callee) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// known reports whether code at addr is the start of a function proper, so that
// a direct call to it rules out any other callee; calls to PLT stubs do not.
func (w *walker) known(addr uint64) bool {
	mod, ok := w.space.Find(addr)
	if !ok || mod.Frames == nil {
		return false
	}
	fde, err := mod.Frames.FDEFor(addr - mod.Bias)
	return err == nil && fde.Start == addr-mod.Bias
}

// callBefore reports whether the instruction before ra is a call, and the
// target of a direct one.
func (w *walker) callBefore(ra uint64) (ok bool, target uint64) {
	var b [8]byte
	if _, err := w.mem.ReadAt(b[:], ra-8); err != nil {
		return false, 0
	}
	if w.arch.retSize == 0 {
		ins := binary.LittleEndian.Uint32(b[4:])
		if ins>>26 == 0x25 { // bl
			return true, ra - 4 + uint64(int64(int32(ins<<6)>>6)*4)
		}
		return ins&0xfffffc1f == 0xd63f0000, 0 // blr
	}
	if b[3] == 0xe8 {
		return true, ra + uint64(int64(int32(binary.LittleEndian.Uint32(b[4:]))))
	}
	// FF /2: call through a register or memory, 2, 3, 6 or 7 bytes long.
	for _, n := range []int{2, 3, 4, 6, 7} {
		at := 8 - n
		if b[at] != 0xff || b[at+1]>>3&7 != 2 {
			continue
		}
		if callLength(b[at+1], b[min(at+2, 7)]) == n {
			return true, 0
		}
	}
	return false, 0
}

// callLength is the length of FF /2 with these ModRM and SIB bytes.
func callLength(modrm, sib byte) int {
	mod, rm := modrm>>6, modrm&7
	n := 2
	if mod != 3 && rm == 4 {
		n++
		if mod == 0 && sib&7 == 5 {
			n += 4
		}
	}
	switch {
	case mod == 1:
		n++
	case mod == 2, mod == 0 && rm == 5:
		n += 4
	}
	return n
}
