package trace

import (
	"path/filepath"

	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/symbol"
)

// registrarSize is how much of the registrar's code is looked at.
const registrarSize = 512

// readHandlers reads the fork handlers that were registered out of the child.
func (l *look) readHandlers() {
	for _, at := range l.lists() {
		if list, ok := libc.ForkHandlers(l.v.libc.Family, l.mem, at, l.code); ok {
			l.handlers = list
			return
		}
	}
}

// lists are the places where the list of fork handlers may be.
func (l *look) lists() []uint64 {
	if l.f.memory.lists != nil {
		return l.f.memory.lists
	}
	name := libc.Registrar(l.v.libc.Family)
	if name == "" {
		return nil
	}
	for _, mod := range l.v.libcs {
		if libc.Named(filepath.Base(mod.Name)) == "" {
			continue
		}
		s, ok := mod.Table.ByName(name)
		if !ok {
			continue
		}
		n := int(s.Size)
		if n == 0 || n > registrarSize {
			n = registrarSize
		}
		code, err := procmem.Bytes(l.mem, s.Value+mod.Bias, n, registrarSize)
		if err != nil {
			continue
		}
		for _, at := range libc.HandlerLists(arch, code, s.Value+mod.Bias) {
			if m, ok := proc.Find(l.v.maps, at); ok && m.Write {
				l.f.memory.lists = append(l.f.memory.lists, at)
			}
		}
	}
	return l.f.memory.lists
}

// code reports whether an address is one of code.
func (l *look) code(addr uint64) bool {
	m, ok := proc.Find(l.v.maps, addr)
	return ok && m.Exec
}

// nameHandlers puts the handlers into words.
func (l *look) nameHandlers() {
	for i, h := range l.handlers {
		o := finding.ForkHandler{Prepare: l.v.function(h.Prepare), Parent: l.v.function(h.Parent), Child: l.v.function(h.Child)}
		for _, at := range []uint64{h.Prepare, h.Parent, h.Child} {
			if mod, ok := l.v.module(at); ok && at != 0 {
				o.Library = mod.Name
				break
			}
		}
		if l.called != nil {
			o.ChildCalls = l.called[i]
		}
		l.f.Handlers = append(l.f.Handlers, o)
	}
}

// function names the function at an address, empty for none.
func (v *view) function(addr uint64) string {
	if addr == 0 {
		return ""
	}
	mod, ok := v.module(addr)
	if !ok {
		return finding.Addr(addr).String()
	}
	if s, ok := mod.Table.Lookup(addr - mod.Bias); ok && s.Value == addr-mod.Bias {
		return symbol.Demangle(s.Name)
	}
	return filepath.Base(mod.Name) + "+" + finding.Addr(addr-mod.Bias).String()
}
