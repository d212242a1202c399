package provoke

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
)

// verdict is what became of a fork.
type verdict struct {
	outcome finding.ProvokedOutcome
	detail  string
	// found are the findings about the worker, and targets the processes that they
	// are about.
	found   []finding.Finding
	targets []finding.Target
}

// looksAfter is when a new worker is looked at: soon, since most that hang do so at
// once, and then again.
var looksAfter = []time.Duration{150 * time.Millisecond, 250 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1500 * time.Millisecond}

// settled is how long a worker is looked at where there is no check that says when
// it has done what there is to do.
const settled = 2 * time.Second

// judgeServer says what became of a worker. f is nil for a fork that met no lock.
func (p *provoker) judgeServer(ctx context.Context, child int, f *forced) (verdict, error) {
	done := make(chan checked, 1)
	checking := p.req.Check != ""
	if checking {
		release := p.holdOthers(child)
		defer release()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	if checking {
		go func() { done <- p.check(ctx, child) }()
	}
	var last verdict
	for i := 0; ; i++ {
		select {
		case c := <-done:
			v, err := p.proof(ctx, child, f)
			if err != nil || v.outcome == finding.ProvokedDeadlock || v.outcome == finding.ProvokedHidden {
				return v, err
			}
			if c.err == nil {
				return p.well(child, f, "the check passed"), nil
			}
			// What hangs may yet have to come to rest.
			if err := pause(ctx, looksAfter[2]); err != nil {
				return v, err
			}
			if v, err = p.proof(ctx, child, f); err == nil && v.outcome == "" {
				v.outcome, v.detail = finding.ProvokedCheckFailed, c.err.Error()
			}
			return v, err
		case <-time.After(looksAfter[min(i, len(looksAfter)-1)]):
		case <-ctx.Done():
			return last, ctx.Err()
		}
		v, err := p.proof(ctx, child, f)
		if err != nil || v.outcome != "" {
			return v, err
		}
		last = v
		if !checking && time.Since(began) > settled {
			return p.well(child, f, "it was seen to run for a while; no --check was given"), nil
		}
	}
}

// well says why a worker is well that was forked while a lock was held.
func (p *provoker) well(child int, f *forced, why string) verdict {
	v := verdict{outcome: finding.ProvokedHealthy, detail: why}
	if f == nil {
		return v
	}
	v.outcome, v.detail = p.afterwards(child, f, why)
	return v
}

// afterwards reads the lock once more, in the child as it is now.
func (p *provoker) afterwards(child int, f *forced, why string) (finding.ProvokedOutcome, string) {
	c := f.class
	switch {
	case c != nil && c.own != nil && c.own.fork != "":
		return finding.ProvokedReset, p.book.family + ": " + c.own.fork
	case c != nil && c.mended:
		return finding.ProvokedReset, p.book.family + ": " + reset
	}
	s, err := f.lock.read(procmem.Open(child), p.book.family)
	switch {
	case err != nil:
		if f.lock.kind == kindStream {
			return finding.ProvokedReset, p.book.family + " resets the locks of streams in the child"
		}
		return finding.ProvokedHealthy, why + "; it has ended"
	case f.hold.owns(s) || s.held && f.lock.kind == kindLibc:
		return finding.ProvokedHealthy, why + "; its word is still set there: nothing wanted the lock, or it was made anew elsewhere"
	case f.lock.kind == kindStream:
		return finding.ProvokedReset, p.book.family + " resets the locks of streams in the child"
	case f.lock.kind == kindLibc:
		return finding.ProvokedReset, p.book.family + " makes it usable again in the child"
	}
	return finding.ProvokedReset, "it is made usable again in the child, by a fork handler or by who uses it"
}

// judgeProgram says what became of a program that made a fork: its end is the
// check.
func (p *provoker) judgeProgram(ctx context.Context, r *running, f *forced) (verdict, error) {
	child := 0
	if f != nil {
		child = f.child
	}
	end := time.Now().Add(p.req.PerLock)
	for i := 0; ; i++ {
		over, err := r.await(ctx, looksAfter[min(i, len(looksAfter)-1)], func(g *engine) bool { return g.ended })
		if err != nil {
			return verdict{}, err
		}
		if ended, status := r.over(); over || ended {
			if why := failure(status); why != "" {
				return verdict{outcome: finding.ProvokedCheckFailed, detail: "the program " + why}, nil
			}
			if p.req.Check != "" {
				if c := p.check(ctx, child); c.err != nil {
					return verdict{outcome: finding.ProvokedCheckFailed, detail: c.err.Error()}, nil
				}
			}
			return p.well(child, f, "the program ended well"), nil
		}
		for _, pid := range p.suspects(r, child) {
			v, err := p.proof(ctx, pid, f)
			if err != nil || v.outcome != "" {
				return v, err
			}
		}
		if time.Now().After(end) {
			return verdict{outcome: finding.ProvokedCheckFailed, detail: fmt.Sprintf("the program did not end within %s, and no deadlock is proven", p.req.PerLock)}, nil
		}
	}
}

// suspects are the children of a program that may hang, the one in question first.
func (p *provoker) suspects(r *running, child int) []int {
	var out []int
	if child != 0 {
		out = append(out, child)
	}
	return append(out, r.children(child)...)
}

// failure says how a program ended, empty for one that ended well.
func failure(s syscall.WaitStatus) string {
	switch {
	case s.Signaled():
		return "was ended by " + unix.SignalName(s.Signal())
	case s.ExitStatus() > 0:
		return fmt.Sprintf("ended with status %d", s.ExitStatus())
	}
	return ""
}

// proof asks inspect about a process. The outcome is empty where nothing is proven.
func (p *provoker) proof(ctx context.Context, pid int, f *forced) (verdict, error) {
	doc, err := p.req.Prove(ctx, pid)
	if err != nil {
		if ctx.Err() != nil {
			return verdict{}, ctx.Err()
		}
		return verdict{}, nil // it has ended, or cannot be read just now
	}
	var v verdict
	for i := range doc.Findings {
		d := &doc.Findings[i]
		if d.PID != pid || d.Severity != finding.Critical || d.Confidence != finding.Proven {
			continue
		}
		v.found = append(v.found, *d)
	}
	if len(v.found) == 0 {
		return v, nil
	}
	for _, t := range doc.Targets {
		if t.PID == pid {
			v.targets = append(v.targets, t)
		}
	}
	v.outcome = finding.ProvokedDeadlock
	if f == nil {
		return v, nil
	}
	if !slices.ContainsFunc(v.found, func(d finding.Finding) bool { return p.same(d.Lock, f) }) {
		v.outcome = finding.ProvokedHidden
		if l := v.found[0].Lock; l != nil {
			v.detail = "the worker hangs on another lock before it comes to this one: " + l.Where
		}
	}
	return v, nil
}

// same reports whether a lock that inspect found is the one that was held. Where
// that does not know its lock, no other can be meant.
func (p *provoker) same(l *finding.Lock, f *forced) bool {
	if l == nil {
		return true
	}
	if f.lock.covers(uint64(l.Address), procmem.Open(f.child), p.book.family) || uint64(l.Address) == f.lock.addr {
		return true
	}
	// An object of Python's, of which the lock is a part.
	return strings.HasPrefix(l.Kind, "python-") && f.class != nil && strings.HasPrefix(f.class.name, l.Where) && l.Where != ""
}

// checked is how a check ended.
type checked struct{ err error }

// check runs the user's check.
func (p *provoker) check(ctx context.Context, worker int) checked {
	ctx, cancel := context.WithTimeout(ctx, p.req.CheckTime)
	defer cancel()
	out, err := shell(ctx, p.req.Check, p.pid(), worker).CombinedOutput()
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
		return checked{}
	case ctx.Err() != nil:
		return checked{fmt.Errorf("the check did not end within %s", p.req.CheckTime)}
	case errors.As(err, &exit):
		text := strings.Join(strings.Fields(string(out)), " ")
		if len(text) > 160 {
			text = text[:160] + "..."
		}
		if text != "" {
			text = ": " + text
		}
		return checked{fmt.Errorf("the check ended with status %d%s", exit.ExitCode(), text)}
	}
	return checked{fmt.Errorf("the check could not be run: %w", err)}
}

// holdOthers has the other workers stand still, those too that are yet to come, so
// that the new one answers. It
// returns what lets them go on, which the kernel does too if forkproof ends.
func (p *provoker) holdOthers(child int) func() {
	var sessions []*ptrace.Session
	p.r.do(func(g *engine) { g.keep = true })
	for _, pid := range p.workers(child) {
		s, err := ptrace.Attach(pid)
		if err != nil {
			continue // it ended, or somebody traces it: the check may meet it
		}
		late, err := s.Freeze(freezeTime, s.Threads(pid)...)
		if err != nil || len(late) > 0 {
			p.note(fmt.Sprintf("worker %d could not be held while the check ran: the check may have been answered by it", pid))
		}
		sessions = append(sessions, s)
	}
	return func() {
		p.r.do(func(g *engine) { g.letKeptGo() })
		for _, s := range sessions {
			s.Close()
		}
	}
}

// freezeTime is how long a worker may take to stand still.
const freezeTime = 100 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
