package provoke

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
)

// Bounds of one attempt.
const (
	// maxMissed is how often a lock is held in vain, maxPlain how many forks go by.
	maxMissed = 25
	maxPlain  = 4
	// untaken is how long a lock is waited for that nobody takes.
	untaken = 4 * time.Second
	// straggler is after how long a child keeps its program from forking again.
	straggler = 3 * time.Second
)

// force makes a fork happen while a lock is held, and says what became of it.
func (p *provoker) force(ctx context.Context, c *class, row *finding.ProvokedLock) error {
	began := time.Now()
	defer func() { row.Seconds = time.Since(began).Seconds() }()
	row.Outcome, row.Detail = finding.ProvokedNotReached, "no thread took it"
	// Runs of a short program may end before the lock is met, one after the other:
	// they count as tries only once they have taken some time.
	for try := 0; (try < p.req.Tries || !p.server && time.Since(began) < shortRuns) && time.Since(began) < p.req.PerLock; try++ {
		row.Tries++
		a := &attempt{target: c}
		if s := p.schedule(c); s != nil {
			a.skip, a.skipForks = s.Taking-1, s.Fork-1
		} else if !p.server {
			a.skip = try % p.req.Tries
		}
		f, why, err := p.attempt(ctx, a)
		if err != nil {
			return err
		}
		if row.Name == "" || len(row.Native) == 0 {
			row.Name, row.Native, row.Python = c.name, c.native, c.python
		}
		if f == nil {
			row.Detail = why
			if p.server {
				p.retire(0, verdict{})
				break // it was waited for long enough
			}
			continue
		}
		var v verdict
		switch {
		case f.guarded:
			v.outcome, v.detail = finding.ProvokedGuarded, f.by
			if c.own != nil && c.own.fork != "" {
				v.outcome, v.detail = finding.ProvokedReset, p.book.family+": "+c.own.fork
			}
		case p.server:
			v, err = p.judgeServer(ctx, f.child, f)
		default:
			v, err = p.judgeProgram(ctx, p.r, f)
		}
		if err != nil {
			return err
		}
		p.conclude(row, f, v)
		break
	}
	if !p.server {
		return p.stop()
	}
	return nil
}

// shortRuns is for how long a program is run again whatever the number of tries.
const shortRuns = 3 * time.Second

// conclude writes the line of a lock, its schedule and what was found.
func (p *provoker) conclude(row *finding.ProvokedLock, f *forced, v verdict) {
	row.Outcome, row.Detail, row.Worker = v.outcome, v.detail, f.child
	row.Holder, row.HolderAt = f.hold.name, f.hold.at
	if len(row.Threads) == 0 && f.hold.name != "" {
		row.Threads = []string{f.hold.name}
	}
	row.Forced = f.held
	if f.held {
		line := fmt.Sprintf("process %d was forked while thread %s (%d) held %s: it stood still there, %s, until the fork was made, and in the memory of the new process the lock is held by a thread that this does not have",
			f.child, quoted(f.hold.name), f.hold.tid, row.Name, f.hold.at)
		for i := range v.found {
			v.found[i].Evidence = append([]string{line}, v.found[i].Evidence...)
		}
		if v.outcome == finding.ProvokedCheckFailed {
			v.found = append(v.found, finding.Finding{
				Rule: finding.CheckFailed, Severity: finding.Critical, Confidence: finding.Observed, PID: f.child,
				Lock:     &finding.Lock{Kind: row.Kind, Address: finding.Addr(f.lock.addr), Where: row.Name},
				Title:    fmt.Sprintf("the check fails for a worker that was forked while another thread held %s", row.Name),
				Why:      "The same check passes for a worker that is forked at another moment: " + v.detail + ".",
				Evidence: []string{line},
			})
		}
		p.sched.Found = append(p.sched.Found, Schedule{
			Lock: row.ID, Kind: row.Kind, Name: row.Name, Taking: f.taking, Fork: f.fork, Order: f.order, HolderAt: f.hold.at, Outcome: v.outcome, Stack: p.lines(row),
		})
	}
	p.add(v)
	if p.server && f.child != 0 {
		p.retire(f.child, v)
	}
}

func quoted(s string) string {
	if s == "" {
		return "without a name"
	}
	return s
}

// lines is a stack for people.
func (p *provoker) lines(row *finding.ProvokedLock) []string {
	var out []string
	for _, f := range row.Python {
		out = append(out, fmt.Sprintf("%s at %s:%d", f.Function, f.File, f.Line))
	}
	for _, f := range row.Native {
		if f.Function != "" {
			out = append(out, f.Function+" in "+f.Object)
		}
	}
	return out[:min(len(out), 16)]
}

// attempt makes one attempt: on the server that runs, or on a new run of the
// program. It returns nil, and why, where no fork met the lock.
func (p *provoker) attempt(ctx context.Context, a *attempt) (*forced, string, error) {
	a.pending, a.returns, a.holders = make(map[int]*pending), make(map[uint64]int), make(map[uint64]*hold)
	var err error
	if p.server {
		p.r.do(func(g *engine) {
			g.clear()
			if err = g.look(); err != nil {
				return
			}
			g.a = a
			a.asks = p.asker.known()
			a.wantsFork = a.target == nil
			if a.target != nil {
				err = g.set(a.wants)
			}
		})
	} else {
		if err := p.stop(); err != nil {
			return nil, "", err
		}
		p.r, err = p.start(func(g *engine) { g.a, g.want = a, a.wants })
	}
	if err != nil {
		return nil, "", fmt.Errorf("provoke %s: %w", p.name(), err)
	}
	why, err := p.watch(ctx, a)
	var f *forced
	p.r.do(func(g *engine) {
		f = a.result
		a.release(g)
		g.a, g.want = nil, nil
		g.clear()
	})
	return f, why, err
}

// watch looks after an attempt until it has come to an end, and says why it did
// where that is not what was wanted.
func (p *provoker) watch(ctx context.Context, a *attempt) (string, error) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	began := time.Now()
	failed := make(chan error, 1)
	for {
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case err := <-failed:
			return "", err
		case <-tick.C:
		case <-p.r.g.changed:
		}
		var over, ask bool
		why := ""
		p.r.do(func(g *engine) {
			a.tick(g)
			if a.wantsFork {
				a.wantsFork, ask = false, true
				a.asked = time.Now()
				p.asks++
			}
			switch {
			case a.done:
				over = true
			case g.ended:
				over, why = true, "the program ended before"
			case a.missed >= maxMissed:
				over, why = true, fmt.Sprintf("held %d times, but the fork came only after it was given back: the two seem to exclude each other", a.missed)
			case a.plain >= maxPlain && p.server:
				over, why = true, fmt.Sprintf("%d forks came while nobody held it", a.plain)
			case !p.server && a.plain > 0 && time.Since(g.lastFork) > straggler:
				over, why = true, "a fork came while nobody held it, and its child did not end"
			case a.idle >= maxIdle:
				over, why = true, fmt.Sprintf("its functions were called %d times without taking it", a.idle)
			case p.server && a.target != nil && a.seen == 0 && time.Since(began) > untaken:
				over, why = true, fmt.Sprintf("no thread took it within %s", untaken)
			case time.Since(began) > p.req.PerLock:
				over, why = true, fmt.Sprintf("no fork met it within %s", p.req.PerLock)
			}
		})
		if over {
			return why, nil
		}
		if ask {
			pid, workers := p.r.pid, p.workers(0)
			go func() {
				if err := p.asker.ask(ctx, pid, workers); err != nil {
					failed <- err
				}
			}()
		}
	}
}

// retire gives the server back the number of workers that it had. One that hangs
// because of us is ended: the server may never notice.
func (p *provoker) retire(child int, v verdict) {
	for t := p.asker.trigger; p.asks > 0 && t.known() && t.retire != 0; p.asks-- {
		if err := unix.Kill(p.r.pid, t.retire); err != nil {
			p.note(fmt.Sprintf("process %d could not be told to give up a worker: %v", p.r.pid, err))
		}
	}
	if v.outcome != finding.ProvokedDeadlock && v.outcome != finding.ProvokedHidden {
		return
	}
	for _, id := range p.r.made() {
		if id.PID == child && p.fs.Same(id) {
			_ = unix.Kill(child, unix.SIGKILL) // gone is as good
		}
	}
}
