package replay

import (
	"errors"
	"fmt"
	"slices"

	"forkproof/internal/model"
	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// ErrNone says that no order of turns leads to what was looked for: either nothing
// does, or only one in which a thread stops where a real one cannot be stopped.
var ErrNone = errors.New("no order of turns leads there")

// ErrMany says that there are too many orders of turns to look at all.
var ErrMany = errors.New("too many orders of turns")

// Search looks for the shortest order of turns after which the model says that a
// process hangs or crashes: the scenario's own, or if child is set one of its
// children.
func Search(s *scenario.Scenario, l *libc.Libc, child bool) (Run, error) {
	run := Run{Name: s.Name, Scenario: s, Within: make(map[scenario.Pos]bool)}
	for c := range Calls(s) {
		run.Within[c.Pos] = HasStop(*c)
	}
	if _, _, err := encode(run); err != nil {
		return run, err
	}
	g, err := newGuide(run, l)
	if err != nil {
		return run, err
	}
	type node struct {
		at    *point
		turns []int
	}
	seen := make(map[string]bool)
	rested, err := g.rest(g.start())
	if err != nil {
		return run, err
	}
	var todo []node
	reach := func(points []*point, turns []int) {
		// Where several things can come of the same turns, the real one may choose
		// another.
		if len(points) != 1 || seen[points[0].key()] {
			return
		}
		seen[points[0].key()] = true
		todo = append(todo, node{points[0], turns})
	}
	reach(rested, nil)
	for i := 0; i < len(todo); i++ {
		n := todo[i]
		if len(seen) > mostPoints {
			return run, ErrMany
		}
		if g.bad(n.at, child) {
			run.Turns = n.turns
			return run, nil
		}
		for t := range g.p.Threads {
			if !n.at.standing[t] || !g.alive(n.at) {
				continue
			}
			rested, err := g.rest(g.let(n.at, t))
			if errors.Is(err, ErrTorn) {
				continue
			}
			if err != nil {
				return run, err
			}
			reach(rested, append(slices.Clip(n.turns), t))
		}
	}
	return run, ErrNone
}

// bad reports whether a point is what is searched for: in the scenario's own process
// no thread is left that could go on, for that a child hangs is known as soon as it
// does.
func (g *guide) bad(at *point, child bool) bool {
	if child {
		return at.silent > 0 || slices.ContainsFunc(at.children, func(c ProcessOutcome) bool { return c.End == Stuck || c.End == Crashed })
	}
	if g.m.Crash(at.state) >= 0 {
		return true
	}
	if at.gone >= 0 || slices.Contains(at.standing, true) {
		return false
	}
	for t := range g.p.Threads {
		if !g.m.Ended(at.state, t) && g.m.Place(at.state, t) != machine.Sleep {
			return true
		}
	}
	return false
}

// alive reports whether the scenario's own process still runs.
func (g *guide) alive(at *point) bool { return at.gone < 0 && g.m.Crash(at.state) < 0 }

// newGuide makes the guide of a run.
func newGuide(run Run, l *libc.Libc) (*guide, error) {
	p, err := model.CompileStops(run.Scenario, l, run.Within)
	if err != nil {
		return nil, err
	}
	m, err := machine.NewStepper(p)
	if err != nil {
		return nil, fmt.Errorf("run %s in turns: %w", run.Name, err)
	}
	g := &guide{run: run, m: m, p: p, verbs: make(map[scenario.Pos]scenario.Verb)}
	g.loads = slices.IndexFunc(p.Locks, func(k machine.LockKind) bool { return k.Name == "loader" })
	for c := range Calls(run.Scenario) {
		g.verbs[c.Pos] = c.Verb
	}
	return g, nil
}

// Turn is one turn of a run.
type Turn struct {
	Thread int
	Call   string // that it goes into, or goes on with
	Line   int    // in the scenario
	Within bool   // it had stopped within the call
}

// Told lists what a run does turn by turn.
func Told(run Run, l *libc.Libc) ([]Turn, error) {
	g, err := newGuide(run, l)
	if err != nil {
		return nil, err
	}
	names := calls(run.Scenario)
	var told []Turn
	at := g.start()
	for {
		rested, err := g.rest(at)
		if err != nil {
			return nil, err
		}
		at = rested[0]
		t := g.turn(at)
		if t < 0 {
			return told, nil
		}
		place := g.m.Place(at.state, t)
		pos := g.pos(place)
		told = append(told, Turn{t, names[pos], pos.Line, !g.begins(g.p.Code[place])})
		at = g.let(at, t)
	}
}
