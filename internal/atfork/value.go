package atfork

// kind is what is known of a value.
type kind uint8

const (
	unknown kind = iota
	// isAddr: one of the n constants in a. 0 is a null pointer.
	isAddr
	// isNear: derived from the address a[0] by adding something.
	isNear
	// isTable: loaded from an isNear address.
	isTable
	// isParam: what the function got as its argument number a[0].
	isParam
	// isImport: the address of the dynamic symbol number a[0].
	isImport
	// isStack: a[0] bytes from the stack pointer at entry.
	isStack
	// isCell: what the variable at a[0] has at that time.
	isCell
	// isField: loaded from an object that came as the argument number a[0].
	isField
	// isTLS: the function that finds a thread-local variable, which the loader
	// puts beside the variable's place (TLS descriptors).
	isTLS
	// isComputed: a sum of values that are not known, as of a jump table.
	isComputed
)

// value is what is known of a register or place of the stack. It is comparable.
type value struct {
	kind kind
	n    uint8
	// soft: it was the content of a writable variable when the program was made.
	soft bool
	a    [4]uint64
}

func address(v uint64) value { return value{kind: isAddr, n: 1, a: [4]uint64{v}} }

// constant is the only address that v can be.
func (v value) constant() (uint64, bool) { return v.a[0], v.kind == isAddr && v.n == 1 }

// addrs are the addresses that v can be.
func (v value) addrs() []uint64 {
	if v.kind != isAddr {
		return nil
	}
	return v.a[:v.n]
}

// join is what is known of a value that is v on one way and w on another.
func (v value) join(w value) value {
	switch {
	case v == w:
		return v
	case v.kind == isAddr && w.kind == isAddr:
		return v.union(w)
	case (v.kind == isAddr || v.kind == isNear) && (w.kind == isAddr || w.kind == isNear):
		lo := v.lowest()
		if o := w.lowest(); lo == 0 || o != 0 && o < lo {
			lo = o
		}
		return value{kind: isNear, n: 1, a: [4]uint64{lo}}
	}
	return value{}
}

func (v value) lowest() uint64 {
	lo := v.a[0]
	for _, a := range v.a[:v.n] {
		if lo == 0 || a != 0 && a < lo {
			lo = a
		}
	}
	return lo
}

func (v value) union(w value) value {
	out := v
	out.soft = v.soft || w.soft
next:
	for _, a := range w.a[:w.n] {
		for _, have := range out.a[:out.n] {
			if a == have {
				continue next
			}
		}
		if int(out.n) == len(out.a) {
			lo := v.lowest()
			if o := w.lowest(); lo == 0 || o != 0 && o < lo {
				lo = o
			}
			return value{kind: isNear, n: 1, a: [4]uint64{lo}}
		}
		out.a[out.n] = a
		out.n++
	}
	// In order, so that equal sets are equal values.
	s := out.a[:out.n]
	for i := 1; i < len(s); i++ {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return out
}

// plus is v with a constant added.
func (v value) plus(d int64) value {
	switch v.kind {
	case isAddr:
		for i := range v.a[:v.n] {
			v.a[i] += uint64(d)
		}
		return v
	case isStack:
		v.a[0] += uint64(d)
		return v
	case isNear:
		return v
	}
	if d == 0 {
		return v
	}
	return value{}
}

// state is what is known at one point of a function.
type state struct {
	regs  [32]value
	stack map[int64]value
}

func (s *state) clone() *state {
	c := &state{regs: s.regs}
	if len(s.stack) > 0 {
		c.stack = make(map[int64]value, len(s.stack))
		for k, v := range s.stack {
			c.stack[k] = v
		}
	}
	return c
}

// join takes into s what o leaves of it, and reports whether that changed s.
func (s *state) join(o *state) (changed bool) {
	for i := range s.regs {
		if j := s.regs[i].join(o.regs[i]); j != s.regs[i] {
			s.regs[i], changed = j, true
		}
	}
	for k, v := range s.stack {
		w, ok := o.stack[k]
		j := v.join(w)
		switch {
		case !ok || j.kind == unknown:
			delete(s.stack, k)
			changed = true
		case j != v:
			s.stack[k], changed = j, true
		}
	}
	return changed
}

// maxStack bounds how many places of a stack are remembered.
const maxStack = 256

func (s *state) store(at int64, v value) {
	if v.kind == unknown {
		delete(s.stack, at)
		return
	}
	if s.stack == nil {
		s.stack = make(map[int64]value)
	}
	if _, ok := s.stack[at]; ok || len(s.stack) < maxStack {
		s.stack[at] = v
	}
}
