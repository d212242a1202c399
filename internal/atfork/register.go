package atfork

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"forkproof/internal/disasm"
)

// registrar is a function by which handlers are registered: libc's, or one of
// this file that passes on what it gets.
type registrar struct {
	// args are what the handlers are: arguments of the function, or what it
	// passes itself.
	args [3]value
	via  []string
}

// Bounds of the search for functions that pass handlers on.
const (
	maxPasses     = 4
	maxRegistrars = 64
	maxPlaces     = 20_000
)

// register finds all registrations. own are functions of this file that are
// called like libc's.
func (a *analysis) register(own []uint64) error {
	direct := registrar{}
	for i := range direct.args {
		direct.args[i] = value{kind: isParam, n: 1, a: [4]uint64{uint64(i)}}
	}
	// known has each function that registers; those of libc are known by name.
	known := make(map[uint64]registrar)
	var fresh []uint64
	for _, addr := range own {
		known[addr] = direct
		fresh = append(fresh, addr)
	}
	seen := make(map[uint64]bool) // addresses of calls
	for pass := 0; pass == 0 || len(fresh) > 0; pass++ {
		if pass == maxPasses {
			a.note("handlers are passed on through more than %d functions; the outermost were not followed", maxPasses)
			break
		}
		functions, err := a.callers(slices.Concat(a.slotsFor(fresh), fresh))
		if err == nil && pass == 0 {
			var imported []uint64
			imported, err = a.importCallers(registrars)
			functions = append(functions, imported...)
		}
		if err != nil {
			return err
		}
		fresh = nil
		for _, start := range functions {
			f := a.function(start)
			if f.problem != "" {
				a.note("handlers may be registered in %s, which cannot be read: %s", a.name(start), f.problem)
			}
			for _, s := range f.sites {
				r, ok := a.registrarOf(s, direct, known)
				if !ok || seen[s.at] {
					continue
				}
				seen[s.at] = true
				args := r.apply(s)
				if !passesOn(args) {
					a.registration(start, s, args, r.via)
					continue
				}
				if _, ok := known[start]; ok || len(known) >= maxRegistrars {
					continue
				}
				known[start] = registrar{args: args, via: append([]string{a.name(start)}, r.via...)}
				fresh = append(fresh, start)
			}
		}
	}
	slices.SortFunc(a.report.Registrations, func(x, y Registration) int { return cmp.Compare(x.Addr, y.Addr) })
	return nil
}

// slotsOf are the places that the loader fills by a symbol for which is holds.
func (b *image) slotsOf(is func(dynSym) bool) []uint64 {
	syms := make(map[int]bool)
	for i, d := range b.dyn {
		if is(d) {
			syms[i] = true
		}
	}
	var out []uint64
	if len(syms) == 0 {
		return nil
	}
	for at, s := range b.slots {
		if syms[s.sym] {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	return out
}

// slotsFor are the places that the loader fills with one of the addresses.
func (b *image) slotsFor(addrs []uint64) []uint64 {
	out := b.slotsOf(func(d dynSym) bool { return d.value != 0 && slices.Contains(addrs, d.value) })
	for _, r := range b.relative {
		if slices.Contains(addrs, r.to) {
			out = append(out, r.at)
		}
	}
	return out
}

// callers are the starts of the functions that name one of targets: places that
// the loader fills, or functions. Calls by way of stubs count.
func (b *image) callers(targets []uint64) ([]uint64, error) {
	by, err := b.callersBy(targets)
	var out []uint64
	for _, functions := range by {
		out = append(out, functions...)
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

// callersBy is callers, apart for each target.
func (b *image) callersBy(targets []uint64) (map[uint64][]uint64, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	type place struct{ at, target uint64 }
	var places []place
	stubs := make(map[uint64]place)
	add := func(at, target uint64) {
		if len(places) < maxPlaces {
			places = append(places, place{at, target})
		}
	}
	err := b.sweep(targets, func(at, target uint64) {
		if s, ok := b.stubAt(at); ok {
			stubs[s] = place{at, target}
		} else {
			add(at, target)
		}
	})
	called := make(map[uint64]bool)
	if err == nil && len(stubs) > 0 {
		err = b.sweep(slices.Collect(maps.Keys(stubs)), func(at, target uint64) {
			called[target] = true
			add(at, stubs[target].target)
		})
	}
	if err != nil {
		return nil, err
	}
	for s, p := range stubs {
		// What nobody goes to is the end of a function that was compiled to need no
		// stubs, and looks like one.
		if !called[s] {
			add(p.at, p.target)
		}
	}
	out := make(map[uint64][]uint64)
	for _, p := range places {
		start, _, ok := b.bounds(p.at)
		if !ok {
			start = b.guessStart(p.at)
		}
		out[p.target] = append(out[p.target], start)
	}
	for t := range out {
		slices.Sort(out[t])
		out[t] = slices.Compact(out[t])
	}
	return out, nil
}

// stubAt is the start of the stub that the jump at addr belongs to, if it does.
func (b *image) stubAt(addr uint64) (uint64, bool) {
	if b.arch == disasm.ARM64 {
		for _, back := range []uint64{8, 4} { // BTI, ADRP, LDR; ADRP, LDR
			if _, ok := b.stubSlot(addr - back); ok {
				return addr - back, true
			}
		}
		return 0, false
	}
	var buf [2]byte
	if n, _ := b.file.ReadVAddr(buf[:], addr); n < 2 || buf != [2]byte{0xff, 0x25} {
		return 0, false
	}
	for _, back := range []uint64{5, 4, 1, 0} { // ENDBR64 and BND, either, none
		if _, ok := b.stubSlot(addr - back); ok {
			return addr - back, true
		}
	}
	return 0, false
}

// guessStart is where the function around addr may begin, where no table says
// it: behind the padding before it. What is passed in registers is told by the
// instructions before the call all the same.
func (b *image) guessStart(addr uint64) uint64 {
	const back = 512
	for a := addr &^ 15; a+back > addr && a > 0; a -= 16 {
		var buf [1]byte
		if n, _ := b.file.ReadVAddr(buf[:], a-1); n == 1 && (buf[0] == 0x90 || buf[0] == 0xcc || buf[0] == 0xc3 || buf[0] == 0) {
			return a
		}
	}
	return addr
}

// registrarOf tells whether a call is one of a function that registers.
func (a *analysis) registrarOf(s site, direct registrar, known map[uint64]registrar) (registrar, bool) {
	var c callee
	if s.direct != 0 {
		if r, ok := known[s.direct]; ok {
			return r, true
		}
		c = a.target(s.direct)
	} else {
		c = a.calleeOf(s.value)
	}
	if !c.ok {
		return registrar{}, false
	}
	if c.name != "" {
		return direct, slices.Contains(registrars, c.name)
	}
	r, ok := known[c.addr]
	return r, ok
}

// apply is what the handlers are in a call of r.
func (r registrar) apply(s site) [3]value {
	var out [3]value
	for i, v := range r.args {
		if v.kind == isParam && v.a[0] < uint64(len(s.args)) {
			out[i] = s.args[v.a[0]]
		} else {
			out[i] = v
		}
	}
	return out
}

func passesOn(args [3]value) bool {
	return slices.ContainsFunc(args[:], func(v value) bool { return v.kind == isParam })
}

func (a *analysis) registration(start uint64, s site, args [3]value, via []string) {
	r := Registration{Addr: s.at, In: a.name(start), Via: via}
	for i, h := range r.Handlers() {
		*h = a.handler([...]string{"prepare", "parent", "child"}[i], args[i])
	}
	a.report.Registrations = append(a.report.Registrations, r)
}

func (a *analysis) handler(role string, v value) Handler {
	h := Handler{Role: role}
	var roots []node
	switch v.kind {
	case isAddr:
		for _, addr := range v.addrs() {
			if addr == 0 {
				h.None = v.n == 1
				continue
			}
			c := a.target(addr)
			switch {
			case c.ok && c.name != "":
				h.Funcs = append(h.Funcs, Func{Name: c.name})
				roots = append(roots, node{name: c.name})
			case c.ok && a.startsFunction(c.addr):
				h.Funcs = append(h.Funcs, Func{Addr: c.addr, Name: a.name(c.addr)})
				roots = append(roots, node{image: a.image, addr: c.addr})
			default:
				h.Unknown = fmt.Sprintf("%#x is where no function begins", addr)
			}
		}
	case isImport:
		n := a.dyn[v.a[0]].name
		h.Funcs = append(h.Funcs, Func{Name: n})
		roots = append(roots, node{name: n})
	case isTable:
		for _, addr := range a.table(v.a[0]) {
			h.Funcs = append(h.Funcs, Func{Addr: addr, Name: a.name(addr)})
			roots = append(roots, node{image: a.image, addr: addr})
		}
		if len(h.Funcs) == 0 {
			h.Unknown = "an element of " + a.variable(v.a[0]) + ", which has no functions when the program starts"
		}
	default:
		h.Unknown = a.describe(v)
	}
	h.Reach = a.walk(roots)
	return h
}

// describe says what is known of a value that is no function.
func (b *image) describe(v value) string {
	switch v.kind {
	case isCell:
		return "what the variable " + b.variable(v.a[0]) + " has at that time"
	case isField:
		return fmt.Sprintf("what the object has that came as argument %d", v.a[0]+1)
	case isParam:
		return fmt.Sprintf("what came as argument %d", v.a[0]+1)
	case isTable:
		return "an element of " + b.variable(v.a[0])
	case isNear:
		return "an address within " + b.variable(v.a[0])
	}
	return "a value that is computed at run time"
}
