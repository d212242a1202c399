package unwind

import (
	"encoding/binary"
	"errors"
	"fmt"

	"forkproof/internal/cfi"
)

// Searching for a frame.
//
// A function's tables may say that its frame is found from a register, usually
// the frame pointer, that nobody saved in a place we passed. The frame's return
// address is in the stack above the stack pointer then, at a fixed distance from
// the frame address. So each word there is asked, from below:
//
//  1. Does it point behind a call instruction, in code that is mapped, or to
//     where signal handlers return?
//  2. Where does that call go? A direct call to this very function, also by
//     way of its PLT stub or a jump, is a strong sign. A call through a register may
//     go anywhere. A direct call to another function speaks against the word,
//     but not fully: that function may have jumped to ours as its last act.
//  3. If this were the frame, does the step after it work, and the one after
//     that, and do the calls there fit?
//
// Words that a returned function left behind can pass all three: a frame that
// reserves much memory without writing to it (alloca) covers old ones. Where the
// function's own prologue tells how far its frame reaches, the word at that very
// place is asked first. Otherwise a direct call counts as certain only if no
// other word within reach is as good, as in a recursion.

const (
	// nearWindow bounds the search for any call, in bytes of stack, and that
	// for a second direct call after the first.
	nearWindow = 64 << 10
	// farWindow bounds the search for a direct call. Frames are larger than
	// that where large arrays are local variables.
	farWindow = 1 << 20
	// maxTries bounds how many words of one stack are asked whether they lead to
	// code, in all searches together: less than a hundred in real stacks, any
	// number in a process that wants to keep its reader busy.
	maxTries = 1 << 14
)

// grade is how well the call before a return address fits the function.
type grade uint8

const (
	none      grade = iota // no call at all
	elsewhere              // a direct call to another function
	indirect               // a call that may go anywhere
	direct                 // a call to this function
)

// candidate is a possible caller.
type candidate struct {
	next    Regs
	cfa     uint64
	grade   grade
	ahead   int // what lookahead found
	guessed bool
}

func (c *candidate) better(than *candidate) bool {
	if c.ahead == 0 {
		return false
	}
	if c.grade != than.grade {
		return c.grade > than.grade
	}
	return c.ahead > than.ahead
}

// search finds the caller of the frame at p where its tables do not lead to it;
// why is what they failed with.
func (w *walker) search(regs *Regs, p *place, why error) (candidate, error) {
	if p.row != nil && !errors.Is(why, cfi.ErrUnknown) {
		// The frame is where the tables say, but cannot be read.
		return candidate{}, fmt.Errorf("the caller of %#x: %w: %w", p.pc, ErrLost, why)
	}
	if p.mod == nil {
		return candidate{}, fmt.Errorf("%w: %w", why, ErrLost)
	}
	entry := w.entry(p)
	if c, ok := w.frameRecord(regs, p); ok {
		return c, nil
	}
	if w.arch.leaf && p.row != nil && p.row.CFA.Kind == cfi.Register && int(p.row.CFA.Reg) == w.arch.sp {
		// The frame is known, but the return address was in a register only.
		return w.leafCaller(regs, p, entry)
	}
	for _, slot := range w.expected(regs, p, entry) {
		// Here even a call to another function will do: that may have jumped
		// to this one, and nothing else would put a return address just there.
		if c, ok := w.try(regs, p, slot, entry); ok && c.ahead > 0 {
			c.guessed = c.grade != direct
			return c, nil
		}
	}
	best, ambiguous := w.scan(regs, p, entry)
	if best.ahead == 0 {
		return candidate{}, fmt.Errorf("no return address above %#x for the caller of %#x (%w): %w", regs.SP(), p.pc, why, ErrLost)
	}
	best.guessed = best.grade != direct || ambiguous || p.row == nil
	return best, nil
}

// scan asks each word of the stack. ambiguous: a second one is as good.
func (w *walker) scan(regs *Regs, p *place, entry uint64) (best candidate, ambiguous bool) {
	from := (regs.SP() + 7) &^ 7
	end := from + farWindow
	if from > end {
		return candidate{}, false
	}
	limit := end
	for at := from; at < end && at < limit; {
		words, err := w.mem.bytes(at, pageSize)
		if err != nil || len(words) < 8 {
			break
		}
		for ; len(words) >= 8; words, at = words[8:], at+8 {
			// Addresses of code are neither small nor negative.
			v := binary.LittleEndian.Uint64(words)
			if v>>12 == 0 || regs.arch == cfi.AMD64 && v>>47 != 0 {
				continue
			}
			if _, ok := w.space.Find(regs.strip(v) - 1); !ok {
				continue
			}
			if w.tries++; w.tries > maxTries {
				return best, true
			}
			c, ok := w.try(regs, p, at, entry)
			switch {
			case !ok || c.ahead == 0:
			case c.grade == direct && best.grade == direct:
				return best, true
			case c.better(&best):
				best = c
				if c.grade == direct {
					limit = at + nearWindow
				}
			}
			if at-from > nearWindow && best.grade >= indirect && best.grade != direct {
				return best, false
			}
			if entry == 0 && best.grade == indirect && best.ahead == maxAhead {
				// Nothing can be better where a direct call cannot be told.
				return best, false
			}
		}
	}
	return best, false
}

// try makes a candidate of the word at slot, if that can be a return address.
func (w *walker) try(regs *Regs, p *place, slot, entry uint64) (candidate, bool) {
	raw, err := w.mem.load(slot, 8)
	if err != nil {
		return candidate{}, false
	}
	ra := regs.strip(raw)
	c := candidate{grade: w.grade(ra, entry)}
	if c.grade == none {
		return c, false
	}
	if p.row == nil {
		c.next, c.cfa = w.without(regs, slot, ra)
	} else {
		var ok bool
		if c.next, c.cfa, ok = w.suppose(regs, p, slot, ra); !ok {
			return c, false
		}
	}
	if c.next.SP() <= regs.SP() {
		return c, false
	}
	c.ahead = w.lookahead(&c.next)
	return c, true
}

// suppose computes the caller from the row at p if the return address were at
// slot.
func (w *walker) suppose(regs *Regs, p *place, slot, ra uint64) (Regs, uint64, bool) {
	row := p.row
	rule := row.Regs[p.fde.RA]
	if rule.Kind != cfi.Offset {
		return Regs{}, 0, false
	}
	r := *regs
	switch row.CFA.Kind {
	case cfi.Register:
		r.Set(int(row.CFA.Reg), slot-uint64(rule.Off)-uint64(row.CFA.Off))
	case cfi.ValExpression:
		// A function that realigns its stack copies the return address above
		// the saved frame pointer, and keeps the frame address below it.
		r.Set(w.arch.fp, slot-8)
	default:
		return Regs{}, 0, false
	}
	m := machine{w, &r}
	cfa, err := m.cfa(row)
	if err != nil || cfa < slot {
		return Regs{}, 0, false
	}
	// What the function saved lies in its frame, above the stack pointer.
	for i := range row.Regs {
		if s := &row.Regs[i]; s.Kind == cfi.Offset && cfa+uint64(s.Off) < regs.SP() {
			return Regs{}, 0, false
		}
	}
	next, err := m.apply(row, p.fde.RA, cfa)
	if err != nil || next.PC() != ra {
		return Regs{}, 0, false
	}
	return next, cfa, true
}

// without is the caller where no tables tell what the function saved: nothing
// but its stack pointer is known.
func (w *walker) without(regs *Regs, slot, ra uint64) (Regs, uint64) {
	next := Regs{arch: regs.arch, pac: regs.pac}
	next.setPC(ra)
	next.SetSP(slot + 8)
	return next, slot + 8
}

// frameRecord follows the frame pointer where it is known and there are no
// tables: two words, the caller's frame pointer and the return address.
func (w *walker) frameRecord(regs *Regs, p *place) (candidate, bool) {
	if p.row != nil {
		return candidate{}, false
	}
	fp, ok := regs.Get(w.arch.fp)
	if !ok || fp < regs.SP() || fp-regs.SP() > farWindow || fp%8 != 0 {
		return candidate{}, false
	}
	up, err := w.mem.load(fp, 8)
	raw, err2 := w.mem.load(fp+8, 8)
	if err != nil || err2 != nil || up != 0 && up <= fp {
		return candidate{}, false
	}
	ra := regs.strip(raw)
	c := candidate{cfa: fp + 16, grade: w.grade(ra, 0), guessed: true}
	if c.grade == none {
		return candidate{}, false
	}
	c.next, _ = w.without(regs, fp+8, ra)
	c.next.Set(w.arch.fp, up)
	c.ahead = w.lookahead(&c.next)
	return c, c.ahead > 0
}

// grade judges the call before ra: does it lead to the function at entry?
func (w *walker) grade(ra, entry uint64) grade {
	if _, ok := w.space.Find(ra - 1); !ok {
		return none
	}
	c := w.arch.call(&w.mem, ra)
	if !c.ok {
		// A signal handler, which any function can be, returns to code that did
		// not call it.
		if w.locate(ra, false).signal {
			return indirect
		}
		return none
	}
	if c.target == 0 || entry == 0 {
		return indirect
	}
	to := c.target
	if c.slot {
		var err error
		if to, err = w.mem.load(c.target, 8); err != nil {
			return none // such a call would have crashed
		}
	}
	switch w.leadsTo(to, entry) {
	case direct:
		return direct
	case none:
		return none
	}
	return elsewhere
}

// leadsTo follows stubs and jumps from addr to entry.
func (w *walker) leadsTo(addr, entry uint64) grade {
	for range 4 {
		if addr == entry {
			return direct
		}
		if _, ok := w.space.Find(addr); !ok {
			return none // no code there: that was not a call
		}
		next, ok := w.arch.hop(&w.mem, addr)
		if !ok {
			break
		}
		addr = next
	}
	return elsewhere
}

// entry is where the function at p is called, 0 where that is not known: the
// cold part of a function has tables of its own, but is jumped to. At a place
// where functions are entered the frame address is still that of the call.
func (w *walker) entry(p *place) uint64 {
	if p.fde == nil {
		return p.start
	}
	row, err := p.fde.RowAt(p.fde.Start)
	if err != nil || row.CFA.Kind != cfi.Register || int(row.CFA.Reg) != w.arch.sp {
		return 0
	}
	pushed := int64(8)
	if w.arch.leaf {
		pushed = 0
	}
	if row.CFA.Off != pushed {
		return 0
	}
	return p.start
}

// maxAhead is how many steps from a supposed caller are tried.
const maxAhead = 6

// lookahead steps on from a supposed caller. It returns 0 where a step fails,
// else how many steps fit, at most maxAhead, which it also returns where the end
// of the stack was reached.
func (w *walker) lookahead(regs *Regs) int {
	r, flaws := *regs, 0
	exact := false
	for step := 1; step < maxAhead; step++ {
		p := w.locate(r.PC(), exact)
		if p.mod == nil {
			return 0
		}
		if p.fde == nil && !p.signal {
			return step
		}
		next, _, err := w.caller(&r, &p)
		switch {
		case errors.Is(err, errEnd):
			return maxAhead - flaws
		case errors.Is(err, cfi.ErrUnknown):
			return step
		case err != nil || w.plausible(&r, &next, &p) != nil:
			return 0
		}
		if !p.signal {
			switch w.grade(next.PC(), w.entry(&p)) {
			case none:
				return 0
			case elsewhere:
				// The function that was called may have jumped here, but it is
				// more likely that it was not.
				flaws = 1
			}
		}
		r, exact = next, p.signal
	}
	return maxAhead - flaws
}
