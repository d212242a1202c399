// Package model turns a scenario and a C library into a program, lets machine go
// through all of its interleavings, and says what can go wrong: a deadlock, a lock
// that stays locked in the child, a handler that runs twice or not at all, code that
// was unloaded.
package model

import (
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// Unread says that a scenario has a call about which nothing was read in a libc.
type Unread struct {
	Libc string
	Verb scenario.Verb
	Pos  scenario.Pos
}

func (e *Unread) Error() string {
	return fmt.Sprintf("line %d: what %s does in %s was not read, so the model cannot run the scenario there", e.Pos.Line, e.Verb, e.Libc)
}

// ErrSize says that a scenario is too large.
var ErrSize = fmt.Errorf("the scenario is too large: with its forks, handlers and repeats written out it has more than %d steps, %d locks or %d walks over the handlers", machine.MaxCode, machine.MaxLocks, maxTables)

// maxTables is how many walks over the handlers there can be: each fork has three.
const maxTables = 256

// deepest is how many handlers a fork may stand within: a handler that forks would
// run itself again, and every real one sees to it that it does not do so for ever.
const deepest = 2

// Compile writes the program of a scenario on a libc. The scenario is as Read
// returns it. *Unread is the error if the libc lacks one of its calls.
func Compile(s *scenario.Scenario, l *libc.Libc) (*machine.Program, error) {
	return compile(&compiler{s: s, l: l, p: &machine.Program{}, locks: make(map[string]uint8), threads: len(s.Threads) > 1})
}

// CompileStops is Compile with a stop before each call, and one more in those whose
// places are given, after they have taken their first lock.
func CompileStops(s *scenario.Scenario, l *libc.Libc, within map[scenario.Pos]bool) (*machine.Program, error) {
	return compile(&compiler{s: s, l: l, p: &machine.Program{}, locks: make(map[string]uint8), threads: len(s.Threads) > 1, stops: true, stopWithin: within})
}

func compile(c *compiler) (*machine.Program, error) {
	s := c.s
	c.declare()
	for i := machine.FirstFree; i > 0; i-- {
		c.p.Says = append(c.p.Says, machine.Note{})
	}
	c.p.Code = []machine.Instr{{Op: machine.End}, {Op: machine.Gone}, {Op: machine.Never}}
	c.p.Says[machine.Sleep] = machine.Note{Step: "sleep, and nobody wakes it"}
	for i, t := range s.Threads {
		c.thread, c.frame = i, 0
		c.p.Threads = append(c.p.Threads, machine.Thread{Name: t.Name, Start: c.here()})
		c.body(t.Body)
		c.emit(machine.Instr{Op: machine.Jump}, "")
		c.p.Code[len(c.p.Code)-1].Next = 0
		if c.err != nil {
			return nil, c.err
		}
	}
	c.dropUnlocked()
	return c.p, nil
}

type compiler struct {
	s       *scenario.Scenario
	l       *libc.Libc
	p       *machine.Program
	locks   map[string]uint8 // by key: what kind of thing, a colon, its name
	threads bool             // the process has more than one
	own     int              // number of malloc's own handlers; -1: there are none
	streams []string         // in use
	listed  []bool           // handlers that are ever registered
	err     error

	// Where the compiler is.
	thread   int
	process  int    // children of children
	frame    int    // forks that this code stands within
	handlers int    // bodies of handlers that it stands within
	path     string // calls that lead here, outermost first
	line     int
	column   int
	library  string // whose code it is
	call     scenario.Call
	fork     fork // the innermost

	stops      bool
	stopWithin map[scenario.Pos]bool
	stopNext   bool // after the next lock that is taken
}

// fork is what the steps of one fork have to know.
type fork struct {
	phase   machine.Phase
	frame   int
	process int // that forks
}

func (c *compiler) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// declare sets up what is there before any thread runs.
func (c *compiler) declare() {
	s, p := c.s, c.p
	p.Frames = make([]int, len(s.Threads))
	p.Semaphores = s.Semaphores
	for _, l := range s.Libraries {
		p.Libraries = append(p.Libraries, l.Name)
		p.Loaded = append(p.Loaded, l.Loaded)
	}
	for _, h := range s.Handlers {
		p.Handlers = append(p.Handlers, machine.Handler{Name: h.Name, Library: c.libraryNumber(h.Library), Has: [3]bool{len(h.Prepare) > 0, len(h.Parent) > 0, len(h.Child) > 0}})
	}
	c.own = -1
	if c.l.Malloc != nil {
		c.own = len(p.Handlers)
		p.Handlers = append(p.Handlers, machine.Handler{Name: "malloc", Library: -1, Has: [3]bool{true, true, true}})
	}
	c.listed = make([]bool, len(p.Handlers))
	atfork := s.Atfork
	if c.own >= 0 && c.l.Malloc.First {
		atfork = append([]string{scenario.Malloc}, slices.DeleteFunc(slices.Clone(atfork), func(n string) bool { return n == scenario.Malloc })...)
	}
	for _, name := range atfork {
		n := c.own
		if name != scenario.Malloc {
			n = c.handlerNumber(name)
		}
		if n >= 0 {
			p.Registered = append(p.Registered, uint8(n))
			c.listed[n] = true
		}
	}
	c.streams = s.Streams
	each(s, func(call scenario.Call) {
		name := call.Arg
		switch call.Verb {
		case scenario.PrintfVerb:
			name = "stdout"
		case scenario.FflushVerb, scenario.FlockfileVerb, scenario.FunlockVerb, scenario.GetlineVerb:
		case scenario.AtforkVerb:
			c.listed[c.handlerNumber(call.Arg)] = true
			return
		default:
			return
		}
		if name != "" && !slices.Contains(c.streams, name) {
			c.streams = append(slices.Clone(c.streams), name)
		}
	})
	p.List = map[libc.Walk]machine.ListKind{libc.Counted: machine.Counted, libc.Indexed: machine.Indexed, libc.Numbered: machine.Numbered, libc.Linked: machine.Linked, libc.Cursor: machine.Cursor}[c.l.Fork.List]
	p.InChild = map[libc.Elision]machine.Mode{libc.Kept: machine.Real, libc.Once: machine.Once, libc.Dropped: machine.Plain}[c.l.Fork.Elision]
	if !c.threads {
		p.Start = machine.Plain
	}
	p.JoinHangs = c.l.JoinHangs
}

// each calls do with every call that stands anywhere in a scenario.
func each(s *scenario.Scenario, do func(scenario.Call)) {
	var body func([]scenario.Call)
	body = func(calls []scenario.Call) {
		for _, c := range calls {
			do(c)
			body(c.Body)
		}
	}
	for _, f := range s.Functions {
		body(f.Body)
	}
	for _, l := range s.Libraries {
		body(l.Load)
		body(l.Unload)
	}
	for _, h := range s.Handlers {
		body(h.Prepare)
		body(h.Parent)
		body(h.Child)
	}
	for _, t := range s.Threads {
		body(t.Body)
	}
}

func (c *compiler) libraryNumber(name string) int {
	return slices.IndexFunc(c.s.Libraries, func(l scenario.Library) bool { return l.Name == name })
}

func (c *compiler) handlerNumber(name string) int {
	return slices.IndexFunc(c.s.Handlers, func(h scenario.Handler) bool { return h.Name == name })
}

func (c *compiler) here() uint16 { return uint16(len(c.p.Code)) }

// emit appends an instruction that goes on with the next one.
func (c *compiler) emit(in machine.Instr, step string) int {
	if len(c.p.Code) >= machine.MaxCode {
		c.fail(ErrSize)
		return len(c.p.Code) - 1
	}
	in.Next = uint16(len(c.p.Code) + 1)
	c.p.Code = append(c.p.Code, in)
	c.p.Says = append(c.p.Says, machine.Note{Call: c.path, Step: step, Line: c.line, Column: c.column})
	return len(c.p.Code) - 1
}

// lock is the number of a lock, which it gets where it is first met.
func (c *compiler) lock(key string) uint8 {
	if n, ok := c.locks[key]; ok {
		return n
	}
	if len(c.p.Locks) >= machine.MaxLocks {
		c.fail(ErrSize)
		return 0
	}
	kind, name, _ := strings.Cut(key, ":")
	k := machine.LockKind{Name: name}
	switch kind {
	case "lock":
		k.Name = "lock " + name
		i := slices.IndexFunc(c.s.Locks, func(l scenario.Lock) bool { return l.Name == name })
		switch c.s.Locks[i].Kind {
		case scenario.Recursive:
			k.Recursive, k.Refuses, k.ByNumber = true, true, !c.l.Renumbers
		case scenario.Errorcheck:
			k.Checked, k.Refuses, k.ByNumber = true, true, !c.l.Renumbers
		}
	case "stream":
		t := c.l.Traits[libc.Stream]
		k.Name = "stream " + name
		k.Recursive, k.ByNumber = t.Recursive, t.ByNumber
	case "arena":
	default:
		k.Name = name + " lock"
		t := c.l.Traits[name]
		k.Recursive, k.ByNumber, k.Elided = t.Recursive, t.ByNumber, t.Elided
	}
	n := uint8(len(c.p.Locks))
	c.p.Locks = append(c.p.Locks, k)
	c.locks[key] = n
	return n
}

// locksOf are the locks that a name in a step stands for, in order.
func (c *compiler) locksOf(what string) []uint8 {
	switch what {
	case libc.Arena:
		return []uint8{c.lock(c.arena(min(c.thread, c.s.Arenas-1)))}
	case libc.Arenas:
		var all []uint8
		for i := range c.s.Arenas {
			all = append(all, c.lock(c.arena(i)))
		}
		return all
	case libc.Stream:
		return []uint8{c.lock("stream:" + c.call.Arg)}
	case libc.Streams, libc.Standard, libc.Opened:
		var all []uint8
		for _, s := range c.streams {
			if opened := slices.Contains(c.s.Streams, s); what == libc.Streams || opened == (what == libc.Opened) {
				all = append(all, c.lock("stream:"+s))
			}
		}
		return all
	case libc.Stdout:
		return []uint8{c.lock("stream:stdout")}
	}
	return []uint8{c.lock("libc:" + what)}
}

func (c *compiler) arena(i int) string {
	if i == 0 {
		return "arena:main arena"
	}
	return fmt.Sprintf("arena:arena %d", i)
}

// within does something one call deeper.
func (c *compiler) within(name string, do func()) {
	if c.err != nil {
		return
	}
	before := c.path
	if c.path != "" {
		c.path += " > "
	}
	c.path += name
	do()
	c.path = before
}

// body compiles calls of the scenario.
func (c *compiler) body(calls []scenario.Call) {
	for i, call := range calls {
		if c.err != nil {
			return
		}
		if i > 0 {
			c.present()
		}
		line, column, before := c.line, c.column, c.call
		c.line, c.column, c.call = call.Pos.Line, call.Pos.Column, call
		if c.stops && call.Verb != scenario.RepeatVerb && (call.Verb != scenario.ForkVerb || c.handlers < deepest) {
			c.emit(machine.Instr{Op: machine.Stop}, "stop")
		}
		c.stopNext = c.stopWithin[call.Pos]
		c.one(call)
		c.stopNext = false
		c.line, c.column, c.call = line, column, before
	}
	if len(calls) > 0 {
		c.present() // it returns into that code
	}
}

// present looks whether the code that runs is still there, if it can be unloaded.
func (c *compiler) present() {
	if c.library == "" || !c.l.Unloads {
		return
	}
	n := c.libraryNumber(c.library)
	unloaded := !c.s.Libraries[n].Loaded
	each(c.s, func(call scenario.Call) {
		unloaded = unloaded || call.Verb == scenario.DlcloseVerb && call.Arg == c.library
	})
	if unloaded {
		c.emit(machine.Instr{Op: machine.Present, A: uint8(n)}, "go on in "+c.library)
	}
}

func text(call scenario.Call) string {
	if call.Arg == "" {
		return string(call.Verb)
	}
	return string(call.Verb) + " " + call.Arg
}

func (c *compiler) one(call scenario.Call) {
	switch call.Verb {
	case scenario.LockVerb:
		c.within(text(call), func() { c.emit(machine.Instr{Op: machine.Lock, A: c.lock("lock:" + call.Arg)}, "") })
	case scenario.UnlockVerb:
		c.within(text(call), func() { c.emit(machine.Instr{Op: machine.Unlock, A: c.lock("lock:" + call.Arg)}, "") })
	case scenario.InitVerb:
		c.within(text(call), func() { c.emit(machine.Instr{Op: machine.Reset, A: c.lock("lock:" + call.Arg)}, "") })
	case scenario.PostVerb, scenario.AwaitVerb:
		op := machine.Post
		if call.Verb == scenario.AwaitVerb {
			op = machine.Await
		}
		n := slices.Index(c.s.Semaphores, call.Arg)
		c.within(text(call), func() { c.emit(machine.Instr{Op: op, A: uint8(n)}, "") })
	case scenario.JoinVerb:
		if _, ok := c.l.Calls["join"]; !ok {
			c.fail(&Unread{c.l.Name, call.Verb, call.Pos})
			return
		}
		n := slices.IndexFunc(c.s.Threads, func(t scenario.Thread) bool { return t.Name == call.Arg })
		c.within(text(call), func() { c.emit(machine.Instr{Op: machine.Join, A: uint8(n)}, "") })
	case scenario.CallVerb:
		i := slices.IndexFunc(c.s.Functions, func(f scenario.Function) bool { return f.Name == call.Arg })
		c.function(c.s.Functions[i])
	case scenario.RepeatVerb:
		for range call.Times {
			c.body(call.Body)
			if c.err != nil {
				return
			}
		}
	case scenario.ForkVerb:
		if c.handlers < deepest {
			c.within("fork", func() { c.forks(call) })
		}
	case scenario.WaitVerb:
		// The child is explored by itself: whether it ends is said of the child.
	case scenario.AtforkVerb:
		// Whose a handler is depends on whose code registers it.
		before := c.library
		if h := c.s.Handlers[c.handlerNumber(call.Arg)]; h.Library != "" {
			c.library = h.Library
			c.within(text(call), c.present)
			c.libcCall(call)
			c.within(text(call), c.present)
		} else {
			c.libcCall(call)
		}
		c.library = before
	default:
		c.libcCall(call)
	}
}

func (c *compiler) function(f scenario.Function) {
	c.within(f.Name, func() {
		before := c.library
		if f.Library != "" {
			c.library = f.Library
			c.present()
		}
		c.body(f.Body)
		c.library = before
	})
}

// libcCall compiles a call whose steps the libc has.
func (c *compiler) libcCall(call scenario.Call) {
	verb := string(call.Verb)
	if call.Verb == scenario.FflushVerb && call.Arg == "" {
		verb = "fflush all"
	}
	s, ok := c.l.Calls[verb]
	if !ok {
		c.fail(&Unread{c.l.Name, call.Verb, call.Pos})
		return
	}
	name := text(call)
	if verb == "fflush all" {
		name = "fflush(NULL)"
	}
	c.within(name, func() { c.steps(s) })
}

// dropUnlocked removes what is done to locks that nothing ever takes: a fork renews
// many.
func (c *compiler) dropUnlocked() {
	taken := make([]bool, len(c.p.Locks))
	for _, in := range c.p.Code {
		if in.Op == machine.Lock {
			taken[in.A] = true
		}
	}
	for i := range c.p.Code {
		if in := &c.p.Code[i]; (in.Op == machine.Unlock || in.Op == machine.Reset) && !taken[in.A] {
			in.Op = machine.Jump
		}
	}
}
