package pylock

import (
	_ "embed"
	"strings"
	"sync"
	"time"
)

// step is how one object is reached from another.
type step uint8

const (
	stepModule    step = iota // key: the name in sys.modules
	stepAttribute             // key: a str; also a module's global
	stepItem                  // key: the key in a dict
	stepIndex                 // key: the index in a list or tuple
	stepBuffer                // TextIOWrapper.buffer
	stepReferent              // of a weakref
	stepFree                  // key: index of a free variable of a function
)

// node is an object of the graph and the way to it.
type node struct {
	parent int32 // -1 for a module
	step   step
	class  class
	depth  uint8 // steps that may still be made
	key    uint64
	object uint64
}

// graph is the part of the objects that was looked at, the nearest to the
// modules first. It grows phase by phase, as far as it is needed.
type graph struct {
	limits  Limits
	nodes   []node
	queue   []int32 // nodes whose children were not looked at
	seen    map[uint64]struct{}
	later   []int32          // functions: names that lead through one are the last resort
	locks   []int32          // nodes that are locks, in the order found
	byAddr  map[uint64]int32 // the first node of each lock
	phase   int
	modules []module
	looked  int
	spent   time.Duration
	full    bool // a limit was reached
}

// origin says where the code of a module comes from.
type origin uint8

const (
	fromApp origin = iota
	fromSite
	fromStdlib
)

type module struct {
	name   string
	key    uint64 // the str in sys.modules
	object uint64
	origin origin
}

// Truncated reports whether the search for names reached one of its limits, so
// that an object that was not found may have a name all the same.
func (h *Heap) Truncated() bool { return h.graph.full }

// Phases of the search. Names of the first are those that people know.
const (
	phaseModules   = iota
	phaseWellKnown // sys.stdout and the like, logging, imports in progress
	phaseApp
	phaseSite
	phaseClosures // of the functions met so far
	phaseStdlib
	phaseDone
)

// Depths: how many steps from a module's global each phase makes. In logging
// it is Logger.manager.loggerDict['x'].handlers[0].stream.buffer.
const (
	depthLogging = 8
	depthApp     = 5
	depthSite    = 3
	depthStdlib  = 3
	depthSys     = 2
)

// grow does one more phase and reports whether there was one. done is asked
// after each object; true ends the phase early, to be taken up again.
func (h *Heap) grow(done func() bool) bool {
	g := &h.graph
	if g.full {
		return false
	}
	start := time.Now()
	defer func() { g.spent += time.Since(start) }()
	if len(g.queue) > 0 {
		h.drain(start, done)
		return true
	}
	if g.phase >= phaseDone {
		return false
	}
	switch g.phase {
	case phaseModules:
		g.seen = make(map[uint64]struct{}, 4096)
		g.byAddr = make(map[uint64]int32)
		h.listModules()
	case phaseWellKnown:
		h.wellKnown()
	case phaseApp:
		h.roots(fromApp, depthApp)
	case phaseSite:
		h.roots(fromSite, depthSite)
	case phaseClosures:
		g.queue = g.later
	case phaseStdlib:
		h.roots(fromStdlib, depthStdlib)
	}
	g.phase++
	h.drain(start, done)
	return true
}

// drain looks at the children of the objects in the queue, breadth first, so
// that the shortest name is found first.
func (h *Heap) drain(start time.Time, done func() bool) {
	g := &h.graph
	for n := 0; len(g.queue) > 0; n++ {
		if done != nil && done() {
			return
		}
		if g.looked >= g.limits.Objects || n%64 == 63 && g.spent+time.Since(start) > g.limits.Time {
			g.full = true
			return
		}
		at := g.queue[0]
		g.queue = g.queue[1:]
		h.expand(at)
	}
	g.queue = nil
}

// add makes a node of an object, unless it was met before or holds nothing.
func (h *Heap) add(parent int32, s step, key, object uint64, depth uint8) {
	g := &h.graph
	if _, ok := g.seen[object]; ok || g.looked >= g.limits.Objects {
		return
	}
	g.looked++
	ti := h.objectType(object)
	if ti == nil {
		return
	}
	switch ti.class {
	case classOther, classModule, classBad:
		return
	case classCell:
		inner, ok := h.word(object + cellRef)
		if !ok {
			return
		}
		if t := h.objectType(inner); t != nil && t.class != classCell {
			h.add(parent, s, key, inner, depth)
		}
		return
	case classWeakref:
		if s != stepItem && s != stepIndex || depth == 0 {
			return
		}
		inner, ok := h.word(object + weakrefObject)
		if t := h.objectType(inner); !ok || t == nil || t.class == classWeakref {
			return
		}
		g.nodes = append(g.nodes, node{parent: parent, step: s, class: ti.class, depth: depth, key: key, object: object})
		h.add(int32(len(g.nodes)-1), stepReferent, 0, inner, depth-1)
		return
	case classFunction:
		// Only closures of functions that a module or a class has itself.
		if s != stepAttribute || depth < 2 || g.phase > phaseSite {
			return
		}
		if c, ok := h.word(object + uint64(h.lay.funcClosure)); !ok || c == 0 {
			return
		}
		g.seen[object] = struct{}{}
		g.nodes = append(g.nodes, node{parent: parent, step: s, class: ti.class, depth: depth, key: key, object: object})
		g.later = append(g.later, int32(len(g.nodes)-1))
		return
	case classLock, classRLock, classBuffered, classQueue:
		g.seen[object] = struct{}{}
		g.nodes = append(g.nodes, node{parent: parent, step: s, class: ti.class, depth: depth, key: key, object: object})
		id := int32(len(g.nodes) - 1)
		g.locks = append(g.locks, id)
		g.byAddr[object] = id
		return
	}
	if depth == 0 && ti.class != classText {
		// It may be found again by a way that has steps left.
		return
	}
	g.seen[object] = struct{}{}
	g.nodes = append(g.nodes, node{parent: parent, step: s, class: ti.class, depth: depth, key: key, object: object})
	g.queue = append(g.queue, int32(len(g.nodes)-1))
}

// expand adds the children of a node.
func (h *Heap) expand(at int32) {
	n := h.graph.nodes[at]
	if n.class == classText {
		if b, ok := h.word(n.object + textBuffer); ok {
			h.add(at, stepBuffer, 0, b, 1)
		}
		return
	}
	depth := n.depth - 1
	switch n.class {
	case classDict:
		h.dict(n.object, func(key, value uint64) bool {
			h.add(at, stepItem, key, value, depth)
			return true
		})
	case classList, classTuple:
		h.items(n.object, n.class, func(i int, value uint64) bool {
			h.add(at, stepIndex, uint64(i), value, depth)
			return true
		})
	case classType:
		// The types of C are static, and most of them have no attribute of interest.
		if ti := h.typeAt(n.object); ti.flags&flagHeap != 0 {
			h.dict(ti.dict, func(key, value uint64) bool {
				h.add(at, stepAttribute, key, value, depth)
				return true
			})
		}
	case classInstance:
		if ti := h.objectType(n.object); ti != nil {
			h.attributes(n.object, ti, func(key, value uint64) bool {
				h.add(at, stepAttribute, key, value, depth)
				return true
			})
		}
	case classFunction:
		closure, ok := h.word(n.object + uint64(h.lay.funcClosure))
		if ti := h.objectType(closure); ok && ti != nil && ti.class == classTuple {
			h.items(closure, classTuple, func(i int, cell uint64) bool {
				h.add(at, stepFree, uint64(i), cell, depth)
				return i < 32
			})
		}
	}
}

// listModules reads sys.modules.
func (h *Heap) listModules() {
	g := &h.graph
	if h.start.Modules == 0 {
		return
	}
	h.dict(h.start.Modules, func(key, value uint64) bool {
		if name, ok := h.str(key); ok {
			g.modules = append(g.modules, module{name: name, key: key, object: value})
		}
		return true
	})
	// A module in a package comes from where the package does, and the standard
	// library is known by name: reading __file__ of hundreds of modules would
	// touch as many pages of the process.
	known := make(map[string]origin)
	for i := range g.modules {
		m := &g.modules[i]
		top, _, _ := strings.Cut(m.name, ".")
		from, ok := known[top]
		if !ok {
			from = h.originOf(top)
			known[top] = from
		}
		m.origin = from
	}
}

//go:embed stdlib.txt
var stdlibText string

// stdlibNames are the top-level modules of the standard library.
var stdlibNames = sync.OnceValue(func() map[string]struct{} {
	names := make(map[string]struct{})
	for line := range strings.Lines(stdlibText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, n := range strings.Fields(line) {
			names[n] = struct{}{}
		}
	}
	return names
})

// originOf tells where a top-level module comes from.
func (h *Heap) originOf(name string) origin {
	if name == "__main__" {
		return fromApp
	}
	if _, ok := stdlibNames()[name]; ok || strings.HasPrefix(name, "_") {
		return fromStdlib
	}
	m, ok := h.module(name)
	if !ok {
		return fromApp
	}
	dict := h.moduleDict(m)
	switch f := h.moduleFile(dict); {
	case strings.Contains(f, "-packages/"):
		return fromSite
	case f == "" && dict != 0:
		return fromStdlib // one that is built in
	}
	return fromApp
}

// moduleDict returns the dict of a module's globals, 0 for a stand-in that some
// libraries put into sys.modules.
func (h *Heap) moduleDict(m module) uint64 {
	if ti := h.objectType(m.object); ti == nil || ti.class != classModule {
		return 0
	}
	d, _ := h.word(m.object + moduleDict)
	return d
}

// moduleFile reads __file__ of a module: its dict has it among the first.
func (h *Heap) moduleFile(dict uint64) string {
	var file uint64
	seen := 0
	h.dict(dict, func(key, value uint64) bool {
		seen++
		if h.fileK == 0 {
			if s, _ := h.str(key); s == "__file__" {
				h.fileK = key
			}
		}
		if key == h.fileK && key != 0 {
			file = value
			return false
		}
		return seen < 16
	})
	s, _ := h.str(file)
	return s
}

func (h *Heap) module(name string) (module, bool) {
	for _, m := range h.graph.modules {
		if m.name == name {
			return m, true
		}
	}
	return module{}, false
}

// root adds a module as a node and returns its number.
func (h *Heap) root(m module) int32 {
	g := &h.graph
	g.nodes = append(g.nodes, node{parent: -1, step: stepModule, class: classModule, key: m.key, object: m.object})
	return int32(len(g.nodes) - 1)
}

// globals adds the globals of a module. only limits them to some names.
func (h *Heap) globals(m module, depth uint8, only ...string) {
	at := h.root(m)
	dict := h.moduleDict(m)
	if dict == 0 {
		h.graph.seen[m.object] = struct{}{}
		if ti := h.objectType(m.object); ti != nil && ti.class == classInstance {
			h.attributes(m.object, ti, func(key, value uint64) bool {
				h.add(at, stepAttribute, key, value, depth)
				return true
			})
		}
		return
	}
	h.dict(dict, func(key, value uint64) bool {
		if len(only) > 0 {
			name, _ := h.str(key)
			for _, o := range only {
				if o == name {
					h.add(at, stepAttribute, key, value, depth)
				}
			}
			return true
		}
		h.add(at, stepAttribute, key, value, depth)
		return true
	})
}

func (h *Heap) wellKnown() {
	if m, ok := h.module("sys"); ok {
		h.globals(m, depthSys, "stdout", "stderr", "stdin", "__stdout__", "__stderr__", "__stdin__")
	}
	if m, ok := h.module("logging"); ok {
		h.globals(m, depthLogging, "root", "_lock", "Logger")
	}
	if m, ok := h.module("threading"); ok {
		h.globals(m, 1, "_active_limbo_lock", "_shutdown_locks_lock")
	}
}

// roots adds the modules of one origin, __main__ first.
func (h *Heap) roots(from origin, depth uint8) {
	if m, ok := h.module("__main__"); ok && from == fromApp {
		h.globals(m, depth)
	}
	for _, m := range h.graph.modules {
		if m.origin == from && m.name != "__main__" {
			h.globals(m, depth)
		}
	}
}
