package pylock

import (
	"strconv"
	"strings"

	"forkproof/internal/cpython"
)

// maxPath bounds a name: keys of dicts can be long.
const maxPath = 400

// path writes the way to a node as Python would.
func (h *Heap) path(at int32) string {
	var way []int32
	for at >= 0 && len(way) < 32 {
		way = append(way, at)
		at = h.graph.nodes[at].parent
	}
	var s strings.Builder
	for i := len(way) - 1; i >= 0; i-- {
		n := h.graph.nodes[way[i]]
		switch n.step {
		case stepModule:
			name, _ := h.str(n.key)
			s.WriteString(name)
		case stepAttribute:
			name, ok := h.str(n.key)
			if !ok {
				name = "?"
			}
			s.WriteByte('.')
			s.WriteString(name)
		case stepItem:
			s.WriteString("[" + h.repr(n.key) + "]")
		case stepIndex:
			s.WriteString("[" + strconv.FormatUint(n.key, 10) + "]")
		case stepBuffer:
			s.WriteString(".buffer")
		case stepReferent:
			s.WriteString("()")
		case stepFree:
			s.WriteString(".__closure__[" + strconv.FormatUint(n.key, 10) + "].cell_contents")
		}
		if s.Len() > maxPath {
			return s.String()[:maxPath] + "…"
		}
	}
	return tidy(s.String())
}

// tidy says getLogger where logging itself goes a long way.
func tidy(p string) string {
	const long = "logging.Logger.manager.loggerDict["
	if rest, ok := strings.CutPrefix(p, long); ok {
		if i := strings.Index(rest, "]"); i > 0 {
			return "logging.getLogger(" + rest[:i] + ")" + rest[i+1:]
		}
	}
	if rest, ok := strings.CutPrefix(p, "logging.Logger.root"); ok {
		return "logging.root" + rest
	}
	return p
}

// repr writes the key of a dict.
func (h *Heap) repr(key uint64) string {
	if s, ok := h.str(key); ok {
		return "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'", "\n", "\\n").Replace(s) + "'"
	}
	if n, ok := h.long(key); ok {
		return strconv.FormatUint(n, 10)
	}
	return "…"
}

// Name finds a way from a module to an object: a lock, or a file that has one.
// ok is false where there is none within the limits. The first call may take as
// long as Limits say; later ones take up what it found.
func (h *Heap) Name(object uint64) (Name, bool) {
	found := func() bool { _, ok := h.graph.byAddr[object]; return ok }
	for !found() && h.grow(found) {
	}
	at, ok := h.graph.byAddr[object]
	if !ok {
		return Name{Object: object}, false
	}
	n := Name{Path: h.path(at), Object: object}
	if p := h.graph.nodes[at].parent; p >= 0 {
		n.Type = h.typeName(p)
	}
	return n, true
}

// typeName names the type of what a name's last part belongs to: "queue.Queue".
// It is empty for a module.
func (h *Heap) typeName(at int32) string {
	n := h.graph.nodes[at]
	switch n.class {
	case classModule:
		return ""
	case classType:
		return "class " + h.qualified(h.typeAt(n.object))
	case classInstance, classText:
		t, ok := h.word(n.object + obType)
		if !ok {
			return ""
		}
		return h.qualified(h.typeAt(t))
	default:
		return ""
	}
}

// qualified is the name of a type with its module, which a class made in
// Python has in its dict only.
func (h *Heap) qualified(ti *typeInfo) string {
	if ti.flags&flagHeap == 0 || strings.Contains(ti.name, ".") {
		return ti.name
	}
	if v, ok := h.lookup(ti.dict, "__module__"); ok {
		if m, ok := h.str(v); ok && m != "" {
			return m + "." + ti.name
		}
	}
	return ti.name
}

// local is one slot of a frame.
type local struct {
	name  uint64 // a str; 0 on the stack of values
	value uint64
}

// Bounds on a frame.
const (
	maxLocals     = 1024
	maxValueStack = 256
)

// locals reads the local variables of a frame and the objects that it is
// working with. The latter may be stale: the top of the stack is not known
// while a function runs.
func (h *Heap) locals(f cpython.Frame) []local {
	l := &h.lay.frame
	if !aligned(f.Addr) || !aligned(f.Code) {
		return nil
	}
	count, names := h.localNames(f.Code)
	stack, ok := h.word(f.Code + uint64(l.stackSize))
	if !ok {
		return nil
	}
	size := int(min(stack&0xffffffff, maxValueStack))
	raw := make([]byte, 8*count)
	if !h.read(raw, f.Addr+uint64(l.localsplus)) {
		return nil
	}
	var all []local
	for i := range count {
		v := local{value: u64(raw, 8*i) &^ l.tag}
		if i < len(names) {
			v.name = names[i]
		}
		if ti := h.objectType(v.value); ti != nil && ti.class == classCell && v.name != 0 {
			if inner, ok := h.word(v.value + cellRef); ok {
				v.value = inner
			}
		}
		if aligned(v.value) {
			all = append(all, v)
		}
	}
	at := f.Addr + uint64(l.localsplus) + 8*uint64(count)
	if l.valueStack != 0 {
		if at, ok = h.word(f.Addr + uint64(l.valueStack)); !ok {
			return all
		}
	}
	raw = make([]byte, 8*size)
	if !h.read(raw, at) {
		return all
	}
	for i := range size {
		if v := u64(raw, 8*i) &^ l.tag; aligned(v) {
			all = append(all, local{value: v})
		}
	}
	return all
}

// localNames returns how many slots a frame of this code has before its stack,
// and their names.
func (h *Heap) localNames(code uint64) (int, []uint64) {
	l := &h.lay.frame
	var names []uint64
	collect := func(off int) {
		t, ok := h.word(code + uint64(off))
		if ti := h.objectType(t); ok && ti != nil && ti.class == classTuple {
			h.items(t, classTuple, func(_ int, v uint64) bool {
				names = append(names, v)
				return true
			})
		}
	}
	if l.valuesCountField != 0 {
		n, _ := h.word(code + uint64(l.valuesCountField))
		collect(l.names)
		return int(min(n&0xffffffff, maxLocals)), names
	}
	collect(l.names)
	collect(l.cellvars)
	collect(l.frees)
	return min(len(names), maxLocals), names
}

// localName finds an object among the local variables of a frame and the
// attributes of what they refer to.
func (h *Heap) localName(f cpython.Frame, object uint64) (Name, bool) {
	slots := h.locals(f)
	for _, s := range slots {
		if s.name != 0 && s.value == object {
			if name, ok := h.str(s.name); ok {
				return Name{Local: name, In: f.Function, Object: object}, true
			}
		}
	}
	for _, s := range slots {
		if s.name == 0 {
			continue
		}
		ti := h.objectType(s.value)
		if ti == nil {
			continue
		}
		name, ok := h.str(s.name)
		if !ok {
			continue
		}
		if p, of, ok := h.within(s.value, ti, object, 2); ok {
			return Name{Local: name + p, In: f.Function, Type: of, Object: object}, true
		}
	}
	return Name{}, false
}

// within finds an object among the attributes of another, down to a depth.
func (h *Heap) within(in uint64, ti *typeInfo, object uint64, depth int) (way, of string, ok bool) {
	if ti.class == classText {
		if b, _ := h.word(in + textBuffer); b == object {
			return ".buffer", ti.name, true
		}
		return "", "", false
	}
	if ti.class != classInstance {
		return "", "", false
	}
	type child struct{ key, value uint64 }
	var next []child
	h.attributes(in, ti, func(key, value uint64) bool {
		if value == object {
			name, good := h.str(key)
			way, of, ok = "."+name, h.qualified(ti), good
			return false
		}
		next = append(next, child{key, value})
		return len(next) < 200
	})
	if ok || depth == 0 {
		return way, of, ok
	}
	for _, c := range next {
		t := h.objectType(c.value)
		if t == nil {
			continue
		}
		if p, o, found := h.within(c.value, t, object, depth-1); found {
			name, good := h.str(c.key)
			return "." + name + p, o, good
		}
	}
	return "", "", false
}
