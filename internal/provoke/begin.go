package provoke

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
)

// begin starts the target, finds out what it is, and learns.
func (p *provoker) begin(ctx context.Context) error {
	p.asker.command = p.req.ForkBy
	var err error
	if p.req.PID != 0 {
		p.kind, _ = recognise(p.fs, p.req.PID)
		p.server = true
	}
	p.progress("starting")
	if p.r, err = p.start(func(*engine) {}); err != nil {
		return err
	}
	if p.req.PID == 0 {
		if err := p.ready(ctx); err != nil {
			return err
		}
	}
	if !p.server {
		return p.learnRuns(ctx)
	}
	if t, ok := triggers[p.kind]; ok && p.asker.command == "" {
		p.asker.trigger = &t
	}
	p.made.Forks = p.how()
	if !p.asker.known() && p.req.PID != 0 && p.kind == "" {
		p.note("it is no server that forkproof knows how to ask for a fork: its own forks are awaited; --fork-by says how to make it")
	}
	return p.learnServer(ctx)
}

// how says how the process comes to fork.
func (p *provoker) how() string {
	switch {
	case p.asker.command != "":
		return "by the command " + p.asker.command
	case !p.asker.trigger.known():
		return "by itself"
	case p.asker.trigger.add != 0:
		return fmt.Sprintf("by %s to its master (%s)", unix.SignalName(p.asker.trigger.add), p.kind)
	}
	return fmt.Sprintf("by %s to a worker, which its master replaces (%s)", unix.SignalName(p.asker.trigger.replace), p.kind)
}

func (p *provoker) start(prepare func(*engine)) (*running, error) {
	r, err := start(p.req, p.files, p.book, prepare)
	if err != nil {
		return nil, fmt.Errorf("provoke %s: %w", p.name(), err)
	}
	return r, nil
}

// learning prepares an engine for learning.
func (p *provoker) learning(g *engine) {
	g.learning = true
	g.want = func(*point) bool { return true }
}

// sliceTime is a slice of time in learning; see hitsPerSlice.
const sliceTime = 50 * time.Millisecond

// startTime is how long a server may take to start.
const startTime = 90 * time.Second

// quiet is how long after its last fork a server has started, where no check says
// so. Celery ends if a process of its pool does before it has connected.
func quiet(kind string) time.Duration {
	if kind == forkserver.Celery {
		return 5 * time.Second
	}
	return 700 * time.Millisecond
}

// ready waits until a server has started, or a program has ended or shown that it
// is no server.
func (p *provoker) ready(ctx context.Context) error {
	end := time.Now().Add(startTime)
	for checkedAt := time.Now(); ; {
		if _, err := p.r.await(ctx, sliceTime, func(*engine) bool { return false }); err != nil {
			return err
		}
		var last time.Time
		forked := 0
		p.r.do(func(g *engine) { last, forked = g.lastFork, g.forked })
		ended, status := p.r.over()
		if ended {
			if why := failure(status); why != "" && p.made.Plain.Outcome == "" {
				return fmt.Errorf("provoke %s: %w: it %s", p.name(), ErrFails, why)
			}
			p.made.Plain = finding.PlainFork{Outcome: finding.ProvokedHealthy, Detail: "the program ended well"}
			if forked == 0 {
				return fmt.Errorf("provoke %s: it ended without a fork: %w", p.name(), ErrNoFork)
			}
			return nil
		}
		if p.kind == "" || p.kind == forkserver.Generic {
			p.kind, _ = recognise(p.fs, p.r.pid)
		}
		known := p.req.ForkBy != "" || p.kind != "" && p.kind != forkserver.Generic
		switch {
		case known && time.Since(last) > quiet(p.kind) && time.Since(p.r.begun) > quiet(p.kind):
			if p.req.Check == "" {
				p.server = true
				return nil
			}
			if time.Since(checkedAt) < quiet("") {
				continue
			}
			c := p.check(ctx, 0)
			checkedAt = time.Now()
			if c.err == nil {
				p.server = true
				return nil
			}
			if time.Now().After(end) {
				return fmt.Errorf("provoke %s: %w: %w", p.name(), ErrFails, c.err)
			}
		case !known && time.Since(p.r.begun) > p.req.PerLock:
			return p.lasting(ctx, forked)
		case time.Now().After(end):
			return fmt.Errorf("provoke %s: it has not started within %s: %w", p.name(), startTime, ErrFails)
		}
	}
}

// lasting deals with a program that neither ends nor is a server that is known: it
// hangs already, or forks by itself.
func (p *provoker) lasting(ctx context.Context, forked int) error {
	for _, pid := range p.r.children(0) {
		v, err := p.proof(ctx, pid, nil)
		if err != nil {
			return err
		}
		if v.outcome != "" {
			p.plain(v, pid)
			return nil
		}
	}
	if forked == 0 {
		return fmt.Errorf("provoke %s: it has not forked within %s, and is no server that forkproof knows: say --fork-by: %w", p.name(), p.req.PerLock, ErrNoFork)
	}
	p.server = true
	return nil
}

// plain notes what became of a fork without help.
func (p *provoker) plain(v verdict, child int) {
	p.made.Plain = finding.PlainFork{Outcome: v.outcome, Detail: v.detail}
	for i := range v.found {
		v.found[i].Evidence = append([]string{fmt.Sprintf("process %d was forked without help: no lock was held on purpose", child)}, v.found[i].Evidence...)
		if p.made.Plain.Detail == "" && v.found[i].Lock != nil {
			p.made.Plain.Detail = "the worker hangs on " + v.found[i].Lock.Where
		}
	}
	p.add(v)
}

// learnRuns learns from a program that ends: from some runs of it, which take
// longer than others, and may hang for that alone. One that has shown nothing is
// not the last.
func (p *provoker) learnRuns(ctx context.Context) error {
	p.made.Forks = "by itself"
	const most = 4
	more := func(i int, spent time.Duration) bool {
		if len(p.book.found()) == 0 {
			return i < most || spent < p.req.Learn // a short program may be over before its thread comes to a lock
		}
		return i < most && spent < p.req.Learn/2
	}
	for i, began := 0, time.Now(); p.req.Replay == nil && more(i, time.Since(began)); i++ {
		p.progress("learning: run %d", i+1)
		var err error
		if p.r, err = p.start(p.learning); err != nil {
			return err
		}
		for ended := false; !ended && time.Since(p.r.begun) < p.req.Learn; ended, _ = p.r.over() {
			if _, err := p.r.await(ctx, sliceTime, func(*engine) bool { return false }); err != nil {
				return err
			}
			p.r.do(func(g *engine) { g.slice() })
		}
		// What was found is read only when nobody adds to it any more.
		if err := p.stop(); err != nil {
			return err
		}
	}
	return nil
}

// stop ends a run of the program.
func (p *provoker) stop() error {
	if p.r == nil {
		return nil
	}
	err := p.r.stop()
	p.r = nil
	return err
}

// learnServer learns from a server that runs, after a fork without help.
func (p *provoker) learnServer(ctx context.Context) error {
	if p.req.Replay != nil {
		return nil
	}
	if p.asker.known() {
		p.progress("a fork without help")
		if err := p.plainFork(ctx); err != nil {
			return err
		}
	}
	if p.hopeless {
		return nil
	}
	p.progress("learning for %s", p.req.Learn)
	var err error
	p.r.do(func(g *engine) {
		if err = g.look(); err == nil {
			g.learning = true
			err = g.set(func(*point) bool { return true })
		}
	})
	if err != nil {
		return fmt.Errorf("learn the locks of %s: %w", p.name(), err)
	}
	for end := time.Now().Add(p.req.Learn); time.Now().Before(end); {
		if _, err := p.r.await(ctx, sliceTime, func(*engine) bool { return false }); err != nil {
			return err
		}
		p.r.do(func(g *engine) { g.slice() })
	}
	p.r.do(func(g *engine) { g.learning = false; g.clear() })
	if ended, _ := p.r.over(); ended {
		return fmt.Errorf("learn the locks of %s: it has ended: %w", p.name(), ErrFails)
	}
	return nil
}

// plainFork has the server fork while no lock is held on purpose.
func (p *provoker) plainFork(ctx context.Context) error {
	if p.req.Check != "" {
		if c := p.check(ctx, 0); c.err != nil {
			return fmt.Errorf("provoke %s: %w, before any fork: %w", p.name(), ErrFails, c.err)
		}
	}
	f, _, err := p.attempt(ctx, &attempt{})
	if err != nil {
		return err
	}
	if ended, _ := p.r.over(); ended {
		return fmt.Errorf("ask %s for a fork (%s): it ended: %w", p.name(), p.made.Forks, ErrFails)
	}
	if f == nil {
		return fmt.Errorf("ask %s for a fork (%s): none came within %s: %w", p.name(), p.made.Forks, p.req.PerLock, ErrNoFork)
	}
	v, err := p.judgeServer(ctx, f.child, nil)
	if err != nil {
		return err
	}
	if v.outcome == finding.ProvokedCheckFailed {
		v.found = []finding.Finding{{
			Rule: finding.CheckFailed, Severity: finding.Critical, Confidence: finding.Observed, PID: f.child,
			Title: "the check fails for a worker that was forked at any moment", Why: "The same check passes for the workers that were there before: " + v.detail + ".",
		}}
	}
	p.plain(v, f.child)
	p.retire(f.child, v)
	if v.outcome == finding.ProvokedCheckFailed {
		p.hopeless = true
		p.note("no lock was tried: a worker that is forked at any moment fails the check")
	}
	return nil
}
