// Package replay runs a scenario on a real C library, thread by thread as it is
// told. It is what the model of fork is measured by, and what shows that a deadlock
// which the model found is one.
//
// The program that does it is in C (src) and part of this package, built for the
// processors and kinds of libc that forkproof knows. It runs nothing but itself: a
// scenario's threads stop before each call, and within some calls while libc holds a
// lock of its own; one is let go at a time, and the next when nothing moves any
// more. Chance has no part in it.
package replay

import (
	"embed"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"forkproof/internal/model/scenario"
)

// The programs, made by `make probes`.
//
//go:embed bin
var binaries embed.FS

// Binary returns the program for a kind of libc, glibc or musl, and this machine's
// processor.
func Binary(family string) ([]byte, error) {
	b, err := binaries.ReadFile("bin/replay-" + family + "-" + runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("no scenario can be run on %s of %s: forkproof has the program for glibc and musl on amd64 and arm64", family, runtime.GOARCH)
	}
	return b, nil
}

// Run is one run of a scenario.
type Run struct {
	Name     string
	Scenario *scenario.Scenario
	// Within are the calls, by where they stand in the scenario, that stop once
	// more after they have taken their lock: see Within.
	Within map[scenario.Pos]bool
	// Turns name the threads in the order in which they go, each from one stop to
	// the next; the turn of a thread that waits for a lock or has ended is passed
	// over. After them the first thread that can goes, until none can.
	Turns []int
}

// HasStop reports whether a call can stop within: libc calls back there, or makes a
// system call, under the lock of its own that the call is known for.
func HasStop(c scenario.Call) bool {
	switch c.Verb {
	case scenario.MallocVerb, scenario.PrintfVerb, scenario.GetlineVerb, scenario.IterateVerb, scenario.LocaltimeVerb, scenario.DlopenVerb:
		return true
	case scenario.FflushVerb:
		return c.Arg == ""
	}
	return false
}

// runnable are the verbs that the program knows by the same name.
var runnable = map[scenario.Verb]bool{
	scenario.LockVerb: true, scenario.UnlockVerb: true, scenario.InitVerb: true, scenario.PostVerb: true, scenario.AwaitVerb: true,
	scenario.JoinVerb: true, scenario.CallVerb: true, scenario.ForkVerb: true, scenario.WaitVerb: true, scenario.ExitVerb: true,
	scenario.QuickExitVerb: true, scenario.AtforkVerb: true, scenario.DlopenVerb: true, scenario.DlcloseVerb: true, scenario.FflushVerb: true,
	scenario.FlockfileVerb: true, scenario.FunlockVerb: true, scenario.GetlineVerb: true, scenario.MallocVerb: true, scenario.FreeVerb: true,
	scenario.ReallocVerb: true, scenario.PrintfVerb: true, scenario.WriteVerb: true, scenario.IterateVerb: true, scenario.SetenvVerb: true,
	scenario.LocaltimeVerb: true, scenario.RandomVerb: true, scenario.SetlocaleVerb: true, scenario.GettextVerb: true, scenario.AtexitVerb: true,
}

// encoder writes a run as the line that src/parse.c reads: its name, and words
// KEY=VALUE. Functions (f=LIBRARY,CALL,...) and whatever else there can be several
// of are numbered in their order; "-" is none.
type encoder struct {
	run       Run
	functions [][]scenario.Pos // where each call of each function stands
	lines     []string
	named     map[string]int // functions of the scenario
	err       error
}

// encode returns the line, and where the calls of its functions stand.
func encode(r Run) (string, [][]scenario.Pos, error) {
	e := encoder{run: r, named: make(map[string]int)}
	s := r.Scenario
	if strings.ContainsAny(r.Name, " =\n") || r.Name == "" {
		return "", nil, fmt.Errorf("a run cannot be named %q", r.Name)
	}
	words := []string{r.Name, "arenas=" + strconv.Itoa(max(s.Arenas, 1))}
	add := func(key, value string) { words = append(words, key+"="+value) }
	var locks strings.Builder
	for _, l := range s.Locks {
		locks.WriteByte(l.Kind[0])
	}
	if locks.Len() > 0 {
		add("locks", locks.String())
	}
	add("semaphores", strconv.Itoa(len(s.Semaphores)))
	add("streams", strconv.Itoa(len(s.Streams)))
	var threads []int
	for _, t := range s.Threads {
		threads = append(threads, e.function(t.Body, -1))
	}
	add("threads", numbers(threads))
	for _, l := range s.Libraries {
		loaded := 0
		if l.Loaded {
			loaded = 1
		}
		n := e.library(l.Name)
		add("library", fmt.Sprintf("%d:%s:%s", loaded, e.body(l.Load, n), e.body(l.Unload, n)))
	}
	for _, h := range s.Handlers {
		n := e.library(h.Library)
		add("handler", fmt.Sprintf("%s:%s:%s:%s", number(n), e.body(h.Prepare, n), e.body(h.Parent, n), e.body(h.Child, n)))
	}
	var registered []int
	for _, name := range s.Atfork {
		if name != scenario.Malloc {
			registered = append(registered, slices.IndexFunc(s.Handlers, func(h scenario.Handler) bool { return h.Name == name }))
		}
	}
	if len(registered) > 0 {
		add("atfork", numbers(registered))
	}
	if len(r.Turns) > 0 {
		add("turns", numbers(r.Turns))
	}
	for _, l := range e.lines {
		add("f", l)
	}
	return strings.Join(words, " "), e.functions, e.err
}

func number(n int) string {
	if n < 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func numbers(list []int) string {
	var s []string
	for _, n := range list {
		s = append(s, strconv.Itoa(n))
	}
	return strings.Join(s, ",")
}

func (e *encoder) library(name string) int {
	return slices.IndexFunc(e.run.Scenario.Libraries, func(l scenario.Library) bool { return l.Name == name })
}

// body is function for what may not be there at all.
func (e *encoder) body(calls []scenario.Call, library int) string {
	if calls == nil {
		return "-"
	}
	return strconv.Itoa(e.function(calls, library))
}

// function adds a function and returns its number.
func (e *encoder) function(calls []scenario.Call, library int) int {
	n := len(e.lines)
	e.lines = append(e.lines, "")
	e.functions = append(e.functions, nil)
	words := []string{number(library)}
	var places []scenario.Pos
	for _, c := range written(calls) {
		words = append(words, e.call(c, library))
		places = append(places, c.Pos)
	}
	e.lines[n], e.functions[n] = strings.Join(words, ","), places
	return n
}

// written writes out the repeats of a body.
func written(calls []scenario.Call) []scenario.Call {
	var out []scenario.Call
	for _, c := range calls {
		if c.Verb != scenario.RepeatVerb {
			out = append(out, c)
			continue
		}
		for range c.Times {
			out = append(out, written(c.Body)...)
		}
	}
	return out
}

// call writes one call, which stands in the code of a library.
func (e *encoder) call(c scenario.Call, library int) string {
	s := e.run.Scenario
	find := func(n int) string { return ":" + strconv.Itoa(n) }
	word := string(c.Verb)
	if !runnable[c.Verb] && e.err == nil {
		e.err = fmt.Errorf("%s (line %d) cannot be run in steps on a real libc: no replay of this scenario", c.Verb, c.Pos.Line)
	}
	switch c.Verb {
	case scenario.LockVerb, scenario.UnlockVerb, scenario.InitVerb:
		word += find(slices.IndexFunc(s.Locks, func(l scenario.Lock) bool { return l.Name == c.Arg }))
	case scenario.PostVerb, scenario.AwaitVerb:
		word += find(slices.Index(s.Semaphores, c.Arg))
	case scenario.JoinVerb:
		word += find(slices.IndexFunc(s.Threads, func(t scenario.Thread) bool { return t.Name == c.Arg }))
	case scenario.AtforkVerb:
		word += find(slices.IndexFunc(s.Handlers, func(h scenario.Handler) bool { return h.Name == c.Arg }))
	case scenario.DlopenVerb, scenario.DlcloseVerb:
		word += find(e.library(c.Arg))
	case scenario.ForkVerb:
		word += find(e.function(c.Body, library))
	case scenario.CallVerb:
		word += find(e.callee(c.Arg))
	case scenario.FlockfileVerb, scenario.FunlockVerb, scenario.GetlineVerb, scenario.FflushVerb:
		if c.Arg == "" {
			word += "-all"
			break
		}
		n := slices.Index(s.Streams, c.Arg)
		if n < 0 {
			n = len(s.Streams) + slices.Index([]string{"stdin", "stdout", "stderr"}, c.Arg)
		}
		word += find(n)
	}
	if e.run.Within[c.Pos] {
		word += "!"
	}
	return word
}

// callee is the number of a function of the scenario, which is added where it is
// called first.
func (e *encoder) callee(name string) int {
	if n, ok := e.named[name]; ok {
		return n
	}
	i := slices.IndexFunc(e.run.Scenario.Functions, func(f scenario.Function) bool { return f.Name == name })
	f := e.run.Scenario.Functions[i]
	n := e.function(f.Body, e.library(f.Library))
	e.named[name] = n
	return n
}
