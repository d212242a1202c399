package replay

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// Predict returns what the model of a C library says can come of a run. It is one
// outcome where the turns decide all, more where a thread that waited for a lock
// goes on beside the one that let it go.
func Predict(r Run, l *libc.Libc) ([]Outcome, error) {
	g, err := newGuide(r, l)
	if err != nil {
		return nil, err
	}
	outcomes := make(map[Outcome]bool)
	seen := make(map[string]bool)
	todo := []*point{g.start()}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		rested, err := g.rest(at)
		if err != nil {
			return nil, err
		}
		for _, at := range rested {
			t := g.turn(at)
			if t < 0 {
				outcomes[g.outcome(at)] = true
				continue
			}
			todo = push(todo, seen, g.let(at, t))
		}
		if len(seen) > mostPoints {
			return nil, errWide
		}
	}
	return slices.Sorted(maps.Keys(outcomes)), nil
}

// start is the point from which all threads go.
func (g *guide) start() *point {
	n := len(g.p.Threads)
	return &point{state: g.m.Start(), began: make([][]scenario.Pos, n), forks: make([]int, n), standing: make([]bool, n), gone: -1}
}

// rest returns the points at which nothing moves any more, in all ways in which the
// threads that go can go on until they stand or sleep.
func (g *guide) rest(from *point) ([]*point, error) {
	var rested []*point
	seen := make(map[string]bool)
	todo := []*point{from}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		moved := false
		for t := range g.p.Threads {
			next, ok, err := g.step(at, t)
			if err != nil {
				return nil, err
			}
			if ok {
				moved = true
				todo = push(todo, seen, next)
			}
		}
		if !moved {
			rested = append(rested, at)
		}
		if len(seen) > mostPoints {
			return nil, errWide
		}
	}
	return rested, nil
}

// mostPoints bounds how many points of one run are looked at: turns leave little
// open.
const mostPoints = 200_000

var errWide = errors.New("the turns leave too much open")

// ErrTorn says that nothing can be predicted: a child uses the loader while a thread
// that it does not have was in the middle of loading a library. Fork makes the lock
// anew; what the lock guards is as that thread left it.
var ErrTorn = errors.New("a child uses the loader as a thread left it that was loading a library")

// guide takes the steps of a program in the order that a run demands.
type guide struct {
	run   Run
	m     *machine.Stepper
	p     *machine.Program
	verbs map[scenario.Pos]scenario.Verb
	loads int // the loader's lock, -1: it is never taken
}

// point is a state of the process and what led to it.
type point struct {
	state    []byte
	standing []bool // threads that stand at a stop
	began    [][]scenario.Pos
	forks    []int // that each thread has begun
	numbers  map[fork]int
	children []ProcessOutcome // of all of its forks, and theirs
	silent   int
	waited   int // children that were waited for
	turns    int // of the run's that were used up
	gone     int // the thread that ended the process by exit, -1: none did
	torn     bool
}

func push(todo []*point, seen map[string]bool, p *point) []*point {
	key := p.key()
	if seen[key] {
		return todo
	}
	seen[key] = true
	return append(todo, p)
}

func (p *point) key() string {
	var b bytes.Buffer
	b.Write(p.state)
	fmt.Fprint(&b, p.standing, p.began, p.forks, p.silent, p.waited, p.turns, p.gone, Compose(slices.Clone(p.children), 0))
	return b.String()
}

func (p *point) copy() *point {
	q := *p
	q.state = slices.Clone(p.state)
	q.standing = slices.Clone(p.standing)
	q.forks = slices.Clone(p.forks)
	q.began = slices.Clone(p.began)
	q.children = slices.Clip(p.children)
	return &q
}

// fork is a fork of one thread that goes on.
type fork struct {
	thread int
	pos    scenario.Pos
}

// begin notes that a thread goes into a call.
func (g *guide) begin(p *point, t int, pos scenario.Pos) {
	p.began[t] = append(slices.Clip(p.began[t]), pos)
	if g.verbs[pos] == scenario.ForkVerb {
		p.forks[t]++
		p.numbers = maps.Clone(p.numbers)
		if p.numbers == nil {
			p.numbers = make(map[fork]int)
		}
		p.numbers[fork{t, pos}] = p.forks[t]
	}
}

// step takes the next step of a thread that goes; false if there is none to take.
func (g *guide) step(at *point, t int) (*point, bool, error) {
	if at.standing[t] || at.gone >= 0 || g.m.Crash(at.state) >= 0 {
		return nil, false, nil
	}
	place := g.m.Place(at.state, t)
	in := g.p.Code[place]
	if in.Op == machine.Stop {
		next := at.copy()
		next.standing[t] = true
		return next, true, nil
	}
	if !g.m.Can(at.state, t) {
		return nil, false, nil
	}
	next := at.copy()
	if in.Op == machine.Clone {
		child := &point{state: slices.Clone(at.state), began: make([][]scenario.Pos, len(g.p.Threads)), forks: make([]int, len(g.p.Threads)), gone: -1, torn: g.loading(at, t)}
		g.m.Step(child.state, t, true)
		if err := g.alone(child, t); err != nil {
			return nil, false, err
		}
		next.adopt(child, g.childOutcome(child, t), forkNumber(t, at.numbers[fork{t, g.pos(place)}]))
	}
	if in.Op == machine.Exit {
		next.gone = t
	}
	g.m.Step(next.state, t, false)
	return next, true, nil
}

// usesLoader are the calls that go through what the loader knows of libraries.
var usesLoader = map[scenario.Verb]bool{scenario.DlopenVerb: true, scenario.DlcloseVerb: true, scenario.IterateVerb: true, scenario.ExitVerb: true}

// loading reports whether another thread than the one that forks is loading a library.
func (g *guide) loading(at *point, forks int) bool {
	for t, began := range at.began {
		if t != forks && len(began) > 0 && g.verbs[began[len(began)-1]] == scenario.DlopenVerb && slices.Contains(g.m.Holds(at.state, t), g.loads) {
			return true
		}
	}
	return false
}

// adopt adds a child that has come to rest and its own children.
func (p *point) adopt(child *point, own ProcessOutcome, fork int) {
	if own.End == Stuck && len(own.Threads) == 0 {
		p.silent++
	} else {
		p.children = append(p.children, prefixed(own, fork))
	}
	p.silent += child.silent
	for _, c := range child.children {
		p.children = append(p.children, prefixed(c, fork))
	}
}

// forkNumber tells the forks of one process apart: by the thread and how many it had
// begun.
func forkNumber(t, n int) int { return 1000*t + n }

func prefixed(o ProcessOutcome, fork int) ProcessOutcome {
	o.Path = "." + strconv.Itoa(fork) + o.Path
	return o
}

// mostSteps bounds what a child does by itself.
const mostSteps = 100_000

// alone runs the one thread of a child until it ends or waits for ever.
func (g *guide) alone(child *point, t int) error {
	for range mostSteps {
		if child.gone >= 0 || g.m.Crash(child.state) >= 0 {
			return nil
		}
		place := g.m.Place(child.state, t)
		in := g.p.Code[place]
		switch in.Op {
		case machine.Stop:
			if g.begins(in) {
				pos := g.pos(place)
				g.begin(child, t, pos)
				if child.torn && usesLoader[g.verbs[pos]] {
					return ErrTorn
				}
				if g.verbs[pos] == scenario.WaitVerb && !child.wait() {
					return nil
				}
			}
			g.m.Step(child.state, t, false)
			continue
		case machine.Clone:
			grandchild := &point{state: slices.Clone(child.state), began: make([][]scenario.Pos, len(g.p.Threads)), forks: make([]int, len(g.p.Threads)), gone: -1, torn: child.torn}
			g.m.Step(grandchild.state, t, true)
			if err := g.alone(grandchild, t); err != nil {
				return err
			}
			child.adopt(grandchild, g.childOutcome(grandchild, t), forkNumber(t, child.numbers[fork{t, g.pos(place)}]))
		case machine.Exit:
			child.gone = t
		}
		if !g.m.Can(child.state, t) {
			child.gone = -1
			return nil
		}
		g.m.Step(child.state, t, false)
	}
	return errors.New("a child of the run does not come to an end")
}

// begins reports whether a stop is that before a call, not one within.
func (g *guide) begins(in machine.Instr) bool { return in.A == 0 }

func (g *guide) pos(place uint16) scenario.Pos {
	n := g.p.Says[place]
	return scenario.Pos{Line: n.Line, Column: n.Column}
}

// wait takes a child that has ended; false if there is none but some that hang.
func (p *point) wait() bool {
	ended, hang := 0, p.silent > 0
	for _, c := range p.children {
		if strings.Count(c.Path, ".") != 1 {
			continue
		}
		if c.End == Stuck {
			hang = true
		} else {
			ended++
		}
	}
	if ended > p.waited {
		p.waited++
		return true
	}
	return !hang
}

// turn is the thread that goes next from a point where nothing moves, -1: none can.
// It counts the run's turns on.
func (g *guide) turn(at *point) int {
	if at.gone >= 0 || g.m.Crash(at.state) >= 0 {
		return -1
	}
	for ; at.turns < len(g.run.Turns); at.turns++ {
		if t := g.run.Turns[at.turns]; at.standing[t] {
			at.turns++
			return t
		}
	}
	return slices.Index(at.standing, true)
}

// let lets a thread go from the stop where it stands.
func (g *guide) let(at *point, t int) *point {
	next := at.copy()
	place := g.m.Place(at.state, t)
	next.standing[t] = false
	if g.begins(g.p.Code[place]) {
		pos := g.pos(place)
		g.begin(next, t, pos)
		if g.verbs[pos] == scenario.WaitVerb && !next.wait() {
			// It waits for a child that hangs.
			g.m.Sleep(next.state, t)
			return next
		}
	}
	g.m.Step(next.state, t, false)
	return next
}

// outcome of the scenario's own process and of all that came of it.
func (g *guide) outcome(at *point) Outcome {
	own := g.threads(at)
	switch {
	case g.m.Crash(at.state) >= 0:
		own.End = Crashed
	case at.gone >= 0:
		own.End = Exited
	default:
		own.End = Done
		for _, t := range own.Threads {
			if t.Blocked {
				own.End = Stuck
			}
		}
	}
	return Compose(append(slices.Clone(at.children), own), at.silent)
}

func (g *guide) threads(at *point) ProcessOutcome {
	o := ProcessOutcome{Threads: make(map[int]ThreadOutcome)}
	alive := at.gone < 0 && g.m.Crash(at.state) < 0
	for t := range g.p.Threads {
		o.Threads[t] = ThreadOutcome{Began: at.began[t], Blocked: alive && !g.m.Ended(at.state, t)}
	}
	return o
}

// childOutcome is that of a child that has come to rest, whose one thread is t.
func (g *guide) childOutcome(child *point, t int) ProcessOutcome {
	o := ProcessOutcome{End: Stuck, Threads: make(map[int]ThreadOutcome)}
	switch {
	case g.m.Crash(child.state) >= 0:
		o.End = Crashed
	case child.gone >= 0 || g.m.Ended(child.state, t):
		o.End = Exited
	}
	if len(child.began[t]) > 0 {
		o.Threads[t] = ThreadOutcome{Began: child.began[t], Blocked: o.End == Stuck}
	}
	return o
}
