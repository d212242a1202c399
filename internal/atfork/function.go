package atfork

import (
	"slices"

	"forkproof/internal/disasm"
)

// function is one function, with the calls that it makes.
type function struct {
	start, end uint64
	sites      []site
	// bad counts bytes that could not be decoded.
	bad int
	// problem says why nothing is known of the function, empty for most.
	problem string
}

// site is one call, or one jump out of the function, which is a call at its end.
type site struct {
	at   uint64
	tail bool
	// direct is where a direct one goes, 0 for one through a value.
	direct uint64
	value  value
	// offset is where in a table of pointers the value was, for isField.
	args [6]value
}

// maxInsts bounds the instructions of one function whose values are followed;
// in larger ones each block is looked at by itself.
const maxInsts = 60_000

// function analyses the function that begins at addr.
func (b *image) function(addr uint64) *function {
	if f, ok := b.functions[addr]; ok {
		return f
	}
	f := b.analyse(addr)
	b.functions[addr] = f
	return f
}

func (b *image) analyse(addr uint64) *function {
	f := &function{start: addr}
	start, end, ok := b.bounds(addr)
	if !ok || start != addr && addr >= end {
		end = b.guessEnd(addr)
	}
	f.end = end
	if end <= addr {
		f.problem = "there is no code"
		return f
	}
	code, err := b.code(addr, end)
	if err != nil {
		f.problem = err.Error()
		return f
	}
	w := &flow{b: b, f: f, code: code}
	w.decode()
	w.run()
	return f
}

// guessEnd is the end of a function of which nothing tells it: behind a
// return, jump or trap that no jump leads beyond.
func (b *image) guessEnd(addr uint64) uint64 {
	buf := make([]byte, 64<<10)
	n, _ := b.file.ReadVAddr(buf, addr)
	if !b.executable(addr) {
		return addr
	}
	furthest := addr
	for at := 0; at < n; {
		in := disasm.Decode(b.arch, buf[at:n], addr+uint64(at))
		if in.Kind == disasm.Bad {
			return in.Addr
		}
		if in.Kind == disasm.Branch && in.Target > furthest && in.Target < addr+uint64(n) {
			furthest = in.Target
		}
		at += in.Len
		switch in.Kind {
		case disasm.Return, disasm.Stop, disasm.Jump:
			if in.Kind == disasm.Jump && !in.Indirect && in.Target > in.Addr && in.Target <= furthest {
				continue
			}
			if in.End() > furthest {
				return in.End()
			}
		}
	}
	return addr + uint64(n)
}

// flow follows values through one function.
type flow struct {
	b      *image
	f      *function
	code   []byte
	insts  []disasm.Inst
	blocks []block
	// starts has the index of the block that begins at an address.
	starts map[uint64]int
}

type block struct {
	from, to int // instructions
	in       *state
	visits   int
}

// decode finds instructions and blocks.
func (w *flow) decode() {
	leaders := []uint64{w.f.start}
	inside := func(a uint64) bool { return a >= w.f.start && a < w.f.end }
	for at := 0; at < len(w.code); {
		in := disasm.Decode(w.b.arch, w.code[at:], w.f.start+uint64(at))
		if in.Kind == disasm.Bad {
			w.f.bad++
		}
		w.insts = append(w.insts, in)
		at += in.Len
		switch in.Kind {
		case disasm.Jump, disasm.Branch:
			if !in.Indirect && inside(in.Target) {
				leaders = append(leaders, in.Target)
			}
			leaders = append(leaders, in.End())
		case disasm.Return, disasm.Stop, disasm.Bad:
			leaders = append(leaders, in.End())
		}
	}
	slices.Sort(leaders)
	leaders = slices.Compact(leaders)
	w.starts = make(map[uint64]int, len(leaders))
	l := 0
	for i := range w.insts {
		// A leader within an instruction (a jump behind a LOCK prefix, say) is
		// taken for one at the next.
		split := false
		for l < len(leaders) && leaders[l] <= w.insts[i].Addr {
			w.starts[leaders[l]] = len(w.blocks)
			split = true
			l++
		}
		if split || i == 0 {
			if n := len(w.blocks); n > 0 {
				w.blocks[n-1].to = i
			}
			w.blocks = append(w.blocks, block{from: i})
		}
	}
	if n := len(w.blocks); n > 0 {
		w.blocks[n-1].to = len(w.insts)
	}
}

// entry is what is known where the function is called.
func (w *flow) entry() *state {
	s := &state{}
	for i, r := range w.b.arch.Args() {
		s.regs[r] = value{kind: isParam, n: 1, a: [4]uint64{uint64(i)}}
	}
	s.regs[w.b.arch.Stack()] = value{kind: isStack, n: 1}
	return s
}

// maxVisits bounds how often a block is looked at before what is known at its
// beginning is forgotten.
const maxVisits = 12

func (w *flow) run() {
	if len(w.blocks) == 0 {
		return
	}
	if len(w.insts) > maxInsts || w.b.steps == 0 {
		nothing := &state{}
		for i := range w.blocks {
			w.blocks[i].in = nothing
		}
		w.blocks[0].in = w.entry()
		w.collect()
		return
	}
	w.blocks[0].in = w.entry()
	w.propagate([]int{0}, nil)
	// What is left is padding, or reached by a jump table or by unwinding: from
	// the jumps of this function that lead somewhere unknown, else from nowhere
	// known. The latter takes nothing away from what is known of the rest.
	var through *state
	for i := range w.blocks {
		if w.blocks[i].in == nil {
			continue
		}
		if last := &w.insts[w.blocks[i].to-1]; last.Kind == disasm.Jump && last.Indirect {
			s := w.blocks[i].in.clone()
			w.replay(i, s, nil)
			if through == nil {
				through = s
			} else {
				through.join(s)
			}
		}
	}
	var kept []bool
	if through == nil {
		through = &state{}
		kept = make([]bool, len(w.blocks))
		for i := range w.blocks {
			kept[i] = w.blocks[i].in != nil
		}
	}
	for i := range w.blocks {
		if w.blocks[i].in == nil && !w.padding(i) {
			w.blocks[i].in = through.clone()
			w.propagate([]int{i}, kept)
		}
	}
	w.collect()
}

// padding reports whether block i does nothing.
func (w *flow) padding(i int) bool {
	return !slices.ContainsFunc(w.insts[w.blocks[i].from:w.blocks[i].to], func(in disasm.Inst) bool {
		return in.Kind != disasm.Next && in.Kind != disasm.Stop || in.Writes != 0
	})
}

// propagate goes from the blocks in work on until nothing changes. Those of
// kept, if given, stay as they are.
func (w *flow) propagate(work []int, kept []bool) {
	for len(work) > 0 {
		i := work[len(work)-1]
		work = work[:len(work)-1]
		if w.b.steps == 0 {
			return
		}
		s := w.blocks[i].in.clone()
		w.replay(i, s, nil)
		for _, next := range w.successors(i) {
			n := &w.blocks[next]
			if kept != nil && kept[next] {
				continue
			}
			if n.in == nil {
				n.in = s.clone()
				work = append(work, next)
				continue
			}
			if n.in.join(s) {
				if n.visits++; n.visits > maxVisits {
					if n.visits > 2*maxVisits {
						continue
					}
					*n.in = state{}
				}
				work = append(work, next)
			}
		}
	}
}

func (w *flow) successors(i int) []int {
	last := &w.insts[w.blocks[i].to-1]
	var next []int
	if last.Kind == disasm.Jump || last.Kind == disasm.Branch {
		if !last.Indirect {
			if n, ok := w.starts[last.Target]; ok && last.Target >= w.f.start && last.Target < w.f.end {
				next = append(next, n)
			}
		}
	}
	switch last.Kind {
	case disasm.Next, disasm.Call, disasm.Branch, disasm.Bad:
		if i+1 < len(w.blocks) {
			next = append(next, i+1)
		}
	}
	return next
}

// collect notes the calls, with what is known at each.
func (w *flow) collect() {
	for i := range w.blocks {
		if w.blocks[i].in == nil {
			continue // padding
		}
		w.replay(i, w.blocks[i].in.clone(), func(s site) { w.f.sites = append(w.f.sites, s) })
	}
}

// replay carries s through block i, and calls found, if any, at each call.
func (w *flow) replay(i int, s *state, found func(site)) {
	w.b.steps -= min(w.b.steps, uint64(w.blocks[i].to-w.blocks[i].from))
	for k := w.blocks[i].from; k < w.blocks[i].to; k++ {
		in := &w.insts[k]
		switch in.Kind {
		case disasm.Call:
			if found != nil {
				found(w.site(in, s))
			}
			w.called(s)
			continue
		case disasm.Jump, disasm.Branch:
			if found != nil {
				w.leaving(in, s, found)
			}
		}
		w.step(in, s)
	}
}

// leaving notes a jump that leaves the function.
func (w *flow) leaving(in *disasm.Inst, s *state, found func(site)) {
	if !in.Indirect {
		if in.Target < w.f.start || in.Target >= w.f.end {
			c := w.site(in, s)
			c.tail = true
			found(c)
		}
		return
	}
	c := w.site(in, s)
	c.tail = true
	switch c.value.kind {
	case isComputed, isNear:
		return // a jump table
	case isTable:
		// A table of places within this function, or of other functions.
		if !slices.ContainsFunc(w.b.table(c.value.a[0]), func(a uint64) bool { return a < w.f.start || a >= w.f.end }) {
			return
		}
	case isAddr:
		if a, ok := c.value.constant(); ok && a >= w.f.start && a < w.f.end {
			return
		}
	case unknown:
		// A table of addresses that is indexed in the jump itself.
		if in.Mem && in.Idx != disasm.NoReg {
			return
		}
	}
	found(c)
}

func (w *flow) site(in *disasm.Inst, s *state) site {
	c := site{at: in.Addr, direct: in.Target}
	if in.Indirect {
		c.direct = 0
		if in.Mem {
			if !in.Segment {
				c.value = w.load(s, w.effective(in, s))
			}
		} else {
			c.value = s.regs[in.Src&31]
		}
	}
	for i, r := range w.b.arch.Args()[:len(c.args)] {
		c.args[i] = s.regs[r]
	}
	return c
}

// called forgets what a called function may change.
func (w *flow) called(s *state) {
	for r := range s.regs {
		if w.b.arch.CallClobbers()&(1<<r) != 0 {
			s.regs[r] = value{}
		}
	}
}

// effective is the address of the memory operand.
func (w *flow) effective(in *disasm.Inst, s *state) value {
	var base value
	switch {
	case in.Src == disasm.NoReg:
		base = address(uint64(in.Imm))
	default:
		base = s.regs[in.Src&31].plus(in.Imm)
		if base.kind == unknown {
			// An offset within an object that is not known leaves of it that it is one.
			if p := s.regs[in.Src&31]; p.kind == isParam || p.kind == isField {
				base = value{kind: isParam, n: 1, a: p.a}
			}
		}
	}
	if in.Idx != disasm.NoReg {
		if base.kind == isAddr && base.lowest() != 0 {
			return value{kind: isNear, n: 1, a: [4]uint64{base.lowest()}}
		}
		if base.kind == isNear {
			return base
		}
		if i := s.regs[in.Idx&31]; i.kind == isAddr && i.n == 1 && w.b.mapped(i.a[0]) {
			return value{kind: isNear, n: 1, a: i.a}
		}
		return value{}
	}
	return base
}

func (b *image) mapped(addr uint64) bool {
	_, ok := b.segment(addr)
	return ok
}

// load is what is known of the 8 bytes at an address.
func (w *flow) load(s *state, at value) value {
	switch at.kind {
	case isStack:
		return s.stack[int64(at.a[0])]
	case isNear:
		return value{kind: isTable, n: 1, a: at.a}
	case isParam, isField:
		return value{kind: isField, n: 1, a: at.a}
	case isAddr:
		var out value
		for i, a := range at.addrs() {
			v, ok := w.b.pointer(a)
			if !ok {
				if at.n == 1 && w.b.mapped(a) {
					return value{kind: isCell, n: 1, a: [4]uint64{a}}
				}
				return value{}
			}
			if i == 0 {
				out = v
			} else {
				out = out.join(v)
			}
		}
		return out
	}
	return value{}
}

// step carries s over one instruction that is no call.
func (w *flow) step(in *disasm.Inst, s *state) {
	reg := func(r disasm.Reg) value { return s.regs[r&31] }
	// What the instruction gives is told before what it overwrites is forgotten.
	var out, out2 value
	set := true
	switch in.Op {
	case disasm.Const, disasm.Page:
		out = address(uint64(in.Imm))
	case disasm.Move:
		out = reg(in.Src)
	case disasm.Select:
		out = reg(in.Src).join(reg(in.Idx))
	case disasm.Add:
		out = reg(in.Src).plus(in.Imm)
		if in.Src == in.Dst && out.kind == unknown {
			if p := reg(in.Src); p.kind == isComputed {
				out = p
			}
		}
	case disasm.Index:
		out = w.sum(in, s)
	case disasm.Load:
		out = w.load(s, w.effective(in, s))
	case disasm.LoadPair:
		at := w.effective(in, s)
		out, out2 = w.load(s, at), w.load(s, at.plus(8))
	case disasm.Pop:
		if sp := reg(w.b.arch.Stack()); sp.kind == isStack {
			out = s.stack[int64(sp.a[0])]
			s.regs[w.b.arch.Stack()] = sp.plus(8)
		}
		if in.Dst != disasm.NoReg {
			s.regs[in.Dst&31] = out
		}
		return
	case disasm.Push:
		if sp := reg(w.b.arch.Stack()); sp.kind == isStack {
			sp = sp.plus(-8)
			var v value
			if in.Dst != disasm.NoReg {
				v = reg(in.Dst)
			}
			s.store(int64(sp.a[0]), v)
			s.regs[w.b.arch.Stack()] = sp
		}
		return
	case disasm.Store, disasm.StorePair:
		w.stored(in, s)
		set = false
	default:
		set = false
		if w.leave(in, s) {
			return
		}
	}
	var moved value
	if in.PostAdd != 0 && in.Src != disasm.NoReg {
		moved = reg(in.Src).plus(in.PostAdd)
	}
	for bits, r := in.Writes, 0; bits != 0; bits, r = bits>>1, r+1 {
		if bits&1 != 0 {
			s.regs[r] = value{}
		}
	}
	if in.PostAdd != 0 && in.Src != disasm.NoReg {
		s.regs[in.Src&31] = moved
	}
	if set && in.Dst != disasm.NoReg && in.Kind == disasm.Next {
		s.regs[in.Dst&31] = out
	}
	if in.Op == disasm.LoadPair && in.Dst2 != disasm.NoReg {
		s.regs[in.Dst2&31] = out2
	}
}

// leave is LEAVE of x86-64: the frame pointer goes to the stack pointer, and
// what lies there to the frame pointer.
func (w *flow) leave(in *disasm.Inst, s *state) bool {
	if w.b.arch != disasm.AMD64 || in.Len != 1 || in.Writes != 1<<disasm.RSP|1<<disasm.RBP {
		return false
	}
	fp := s.regs[disasm.RBP]
	s.regs[disasm.RSP], s.regs[disasm.RBP] = fp.plus(8), value{}
	if fp.kind == isStack {
		s.regs[disasm.RBP] = s.stack[int64(fp.a[0])]
	}
	return true
}

func (w *flow) stored(in *disasm.Inst, s *state) {
	at := w.effective(in, s)
	if at.kind != isStack {
		return // nothing is believed of other memory that could have changed
	}
	get := func(r disasm.Reg) value {
		if w.b.arch == disasm.ARM64 && r == disasm.SP {
			return address(0) // the zero register
		}
		return s.regs[r&31]
	}
	s.store(int64(at.a[0]), get(in.Dst))
	if in.Op == disasm.StorePair {
		s.store(int64(at.a[0])+8, get(in.Dst2))
	}
}

// sum is a base with an index that is not known.
func (w *flow) sum(in *disasm.Inst, s *state) value {
	var vs [2]value
	if in.Src != disasm.NoReg {
		vs[0] = s.regs[in.Src&31]
	}
	if in.Idx != disasm.NoReg {
		vs[1] = s.regs[in.Idx&31]
	}
	for _, v := range vs {
		if v.kind == isNear {
			return v
		}
		if v.kind == isAddr && w.b.mapped(v.lowest()) {
			return value{kind: isNear, n: 1, a: [4]uint64{v.lowest()}}
		}
	}
	return value{kind: isComputed, n: 1}
}
