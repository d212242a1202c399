package model

import (
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// steps compiles steps of the libc.
func (c *compiler) steps(all []libc.Step) {
	for _, s := range all {
		if c.err != nil {
			return
		}
		c.step(s)
	}
}

func (c *compiler) step(s libc.Step) {
	switch s.Do {
	case libc.Take:
		c.locking(machine.Lock, "take", s.What)
	case libc.Release:
		c.locking(machine.Unlock, "release", s.What)
	case libc.Renew:
		c.locking(machine.Reset, "renew", s.What)
	case libc.InTurn:
		for _, l := range c.locksOf(s.What) {
			name := c.p.Locks[l].Name
			c.emit(machine.Instr{Op: machine.Lock, A: l}, "take "+name)
			c.emit(machine.Instr{Op: machine.Unlock, A: l}, "release "+name)
		}
	case libc.Threaded:
		if c.threads && (c.fork.process == 0 || !c.l.Forgets) {
			c.steps(s.Steps)
		}
	case libc.IfOwner:
		i := c.emit(machine.Instr{Op: machine.IfOwner, A: c.locksOf(s.What)[0]}, "")
		not := c.emit(machine.Instr{Op: machine.Jump}, "")
		c.p.Code[i].To = c.here()
		c.steps(s.Steps)
		c.p.Code[not].Next = c.here()
	case libc.IfNot:
		i := c.emit(machine.Instr{Op: machine.IfOwner, A: c.locksOf(s.What)[0]}, "")
		c.steps(s.Steps)
		c.p.Code[i].To = c.here()
	case libc.Call:
		c.steps(c.l.Calls[s.What])
	case libc.Back:
		c.stopInside()
	case libc.Fails:
		n := slices.Index(c.p.Crashes, s.What)
		if n < 0 {
			n = len(c.p.Crashes)
			c.p.Crashes = append(c.p.Crashes, s.What)
		}
		c.emit(machine.Instr{Op: machine.Crash, A: uint8(machine.FirstCrash + n)}, "crash")
	case libc.Append:
		c.emit(machine.Instr{Op: machine.Register, A: uint8(c.handlerNumber(c.call.Arg))}, "put "+c.call.Arg+" on the list")
	case libc.Handlers:
		c.runHandlers()
	case libc.Pass:
		c.emit(machine.Instr{Op: machine.Pass}, "")
	case libc.End:
		c.emit(machine.Instr{Op: machine.Exit}, "the process ends")
	default:
		c.libraryStep(s)
	}
}

// stopsLocked reports whether the stop within the call that is compiled comes after
// its first lock, as with most: dlopen of glibc opens the file later, and others
// have the place told.
func (c *compiler) stopsLocked() bool {
	return (c.call.Verb != scenario.DlopenVerb || !c.l.Unloads) &&
		!slices.ContainsFunc(c.l.Calls[string(c.call.Verb)], func(s libc.Step) bool { return s.Do == libc.Back })
}

// stopInside is the stop within a call, if it is still to come.
func (c *compiler) stopInside() {
	if c.stopNext {
		c.stopNext = false
		c.emit(machine.Instr{Op: machine.Stop, A: 1}, "stop")
	}
}

func (c *compiler) locking(op machine.Op, verb, what string) {
	if c.l.Fork.SkipsEmpty && what == "fork handlers" && c.call.Verb == scenario.ForkVerb && !slices.Contains(c.listed, true) {
		return // fork looks first whether there is any handler
	}
	for _, l := range c.locksOf(what) {
		c.emit(machine.Instr{Op: op, A: l}, verb+" "+c.p.Locks[l].Name)
		if op == machine.Lock && c.stopsLocked() {
			c.stopInside()
		}
	}
}

// libraryStep compiles what dlopen and dlclose do with the library of the call.
func (c *compiler) libraryStep(s libc.Step) {
	n := c.libraryNumber(c.call.Arg)
	name, lib := c.call.Arg, uint8(n)
	has := slices.ContainsFunc(c.s.Handlers, func(h scenario.Handler) bool { return h.Library == name })
	switch s.Do {
	case libc.Remove:
		if has {
			c.emit(machine.Instr{Op: machine.Unregister, A: lib}, "take "+name+"'s handlers off the list")
		}
	case libc.Retire:
		if has {
			i := c.emit(machine.Instr{Op: machine.Retire, A: lib}, "unlink "+name+"'s handlers")
			c.steps(s.Steps)
			c.p.Code[i].To = c.here()
		}
	case libc.Unused:
		c.emit(machine.Instr{Op: machine.AwaitUnused, A: lib}, "wait until no fork uses "+name+"'s handlers")
	case libc.Deaf:
		c.emit(machine.Instr{Op: machine.AwaitUnused, A: lib, To: machine.Sleep}, "see whether a fork uses "+name+"'s handlers")
	case libc.Body:
		l := c.s.Libraries[n]
		before := c.library
		if s.What == "dlopen" {
			i := c.emit(machine.Instr{Op: machine.Open, A: lib}, "look for "+name)
			c.stopInside() // glibc opens the file only then; musl before it looks for the library
			c.steps(s.Steps)
			c.emit(machine.Instr{Op: machine.Loaded, A: lib}, name+" is loaded")
			c.library = name
			c.within("constructor of "+name, func() { c.body(l.Load) })
			c.p.Code[i].To = c.here()
		} else {
			i := c.emit(machine.Instr{Op: machine.Close, A: lib}, "let "+name+" go")
			c.library = name
			c.within("destructor of "+name, func() { c.body(l.Unload) })
			c.library = before
			c.steps(s.Steps)
			c.emit(machine.Instr{Op: machine.Unload, A: lib}, name+" is unloaded")
			c.p.Code[i].To = c.here()
		}
		c.library = before
	default:
		c.fail(fmt.Errorf("the model of %s has a step %d that nothing is known of", c.l.Name, s.Do))
	}
}

// forks compiles a fork: what comes before it, the system call, and what comes after
// it in both processes.
func (c *compiler) forks(call scenario.Call) {
	outer := c.fork
	c.fork = fork{frame: c.frame, process: c.process}
	c.p.Frames[c.thread] = max(c.p.Frames[c.thread], c.frame+1)

	c.fork.phase = machine.Prepare
	c.steps(c.l.Fork.Prepare)
	clone := c.emit(machine.Instr{Op: machine.Clone}, "the kernel copies the process")
	c.fork.phase = machine.Parent
	c.steps(c.l.Fork.InParent)
	over := c.emit(machine.Instr{Op: machine.Jump}, "")

	c.p.Code[clone].To = c.here()
	c.fork.phase = machine.Child
	c.process++
	c.steps(c.l.Fork.InChild)
	c.path = strings.TrimSuffix(c.path, "fork") + "child"
	c.body(call.Body)
	c.within("_exit", func() { c.emit(machine.Instr{Op: machine.Exit}, "the process ends") })
	c.process--
	c.p.Code[over].Next = c.here()
	c.fork = outer
}

var phases = [...]string{"prepare", "parent", "child"}

// runHandlers compiles the walk over the handlers in one phase of the fork.
func (c *compiler) runHandlers() {
	if !slices.Contains(c.listed, true) {
		return
	}
	phase := phases[c.fork.phase]
	table := uint8(len(c.p.Tables))
	if len(c.p.Tables) >= maxTables {
		c.fail(ErrSize)
		return
	}
	bodies := make([]uint16, len(c.p.Handlers))
	c.p.Tables = append(c.p.Tables, bodies)
	walk := machine.Instr{A: table, B: uint8(c.fork.frame), C: uint8(c.fork.phase)}

	walk.Op = machine.FirstHandler
	first := c.emit(walk, "look for the first "+phase+" handler")
	walk.Op = machine.NextHandler
	next := c.emit(walk, "look for the next "+phase+" handler")
	c.p.Says[first].Quiet, c.p.Says[next].Quiet = true, true
	for h := range bodies {
		bodies[h] = uint16(next)
		if !c.listed[h] {
			continue
		}
		start := c.here()
		c.handler(h)
		if c.here() == start {
			continue
		}
		bodies[h] = start
		i := c.emit(machine.Instr{Op: machine.Jump}, "")
		c.p.Code[i].Next = uint16(next)
	}
	c.p.Code[first].To, c.p.Code[next].To = c.here(), c.here()
}

// handler compiles the body of one handler in the phase of the fork.
func (c *compiler) handler(h int) {
	phase := c.fork.phase
	if h == c.own {
		m := c.l.Malloc
		c.within("malloc's own "+phases[phase]+" handler", func() {
			c.steps([][]libc.Step{m.Prepare, m.Parent, m.Child}[phase])
		})
		return
	}
	def := c.s.Handlers[h]
	body := [][]scenario.Call{def.Prepare, def.Parent, def.Child}[phase]
	if len(body) == 0 {
		return
	}
	c.steps(c.l.Fork.Before)
	library := c.library
	if def.Library != "" {
		c.library = def.Library
	}
	c.frame++
	c.handlers++
	c.within(strings.TrimSpace(phases[phase]+" handler "+def.Name), func() { c.body(body) })
	c.handlers--
	c.frame--
	c.library = library
	c.steps(c.l.Fork.After)
}
