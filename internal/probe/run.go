package probe

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"forkproof/internal/proc"
)

// Request says what to measure.
type Request struct {
	// Root is a folder with another system, Libc the file of a C library (within
	// Root where both are given); without either, this machine's libc is measured.
	Root, Libc string
	// Preload lists libraries that are loaded before libc.
	Preload []string
	Probes  []Probe
	// Forks and Time bound how long a probe goes on that finds nothing: up to so
	// many forks, and for so long.
	Forks int
	Time  time.Duration
	// GiveUp is after how long without any motion a probe counts as hanging that
	// no proof was found for.
	GiveUp time.Duration
	// Prove reads a process that stands still and says what it waits for, and
	// whether it follows that it can never go on; nil where nothing was found.
	Prove func(ctx context.Context, pid int) (*Proof, error)
	// Self is the command line that calls Enter with what follows as argument.
	Self []string
	// Progress, if any, is told of each probe before it runs.
	Progress func(done, all int, name string)
}

// again is how long to wait before a process is looked at once more that stood
// still and could not be proven to hang.
const again = 150 * time.Millisecond

// Run measures. What a probe comes to is part of the report; an error means that
// the libc could not be measured at all, or that ctx has ended.
func Run(ctx context.Context, req Request) (*Report, error) {
	began := time.Now()
	p, err := locate(req.Root, req.Libc)
	if err != nil {
		return nil, err
	}
	r := &Report{Schema: SchemaV1, Time: stamp(began), Arch: runtime.GOARCH, Root: req.Root, Preload: req.Preload, Notes: p.notes}
	_, r.Kernel = proc.Machine()
	s, err := start(ctx, p, req.Preload, req.Self)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if r.Libc, err = s.identify(p, req.Preload); err != nil {
		return nil, err
	}
	w := watcher{server: s, req: req}
	for i, probe := range req.Probes {
		if req.Progress != nil {
			req.Progress(i, len(req.Probes), probe.Name)
		}
		res, err := w.run(ctx, probe)
		if err != nil {
			return nil, err
		}
		r.Results = append(r.Results, res)
	}
	if w.blind != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("nothing could be proven, so a time-out decided: %v", w.blind))
	}
	r.Milliseconds = time.Since(began).Milliseconds()
	return r, nil
}

// watcher runs probes and decides what their standing still means.
type watcher struct {
	server *server
	req    Request
	// blind is why no process could be read, nil as long as they can be.
	blind error
}

// run runs one probe.
func (w *watcher) run(ctx context.Context, p Probe) (Result, error) {
	began := time.Now()
	res := Result{Probe: p.Name, Group: p.Group, Title: p.Title, Claim: p.Claim}
	if err := w.server.say("%s %d %d", p.Name, w.req.Forks, w.req.Time.Milliseconds()); err != nil {
		return res, err
	}
	var (
		subject int
		still   event     // the last one, kind empty while things move
		since   time.Time // when it came
		proof   *Proof    // of still
		look    <-chan time.Time
		doing   string // what still did when it was given up
		outside bool   // and whether it waits for something else than a thread
		asked   bool   // the server was told to stop the probe
	)
	stop := func() error {
		asked, look = true, nil
		return w.server.say("stop")
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return res, ctx.Err()
		case e, ok := <-w.server.events:
			if !ok {
				return res, w.server.ended()
			}
			switch e.kind {
			case "begin":
				subject = e.pid
			case "still":
				still, since, proof = e, time.Now(), nil
				look = time.After(0)
			case "moving":
				still, look = event{}, nil
			case "end":
				finish(&res, e, still, proof, subject)
				if res.Outcome == Hangs && !res.Proven {
					res.Text = doing
					if outside {
						res.Outcome, res.Proof = NotReached, nil
					}
				}
				res.Milliseconds = time.Since(began).Milliseconds()
				return res, nil
			}
		case <-look:
			if proof, err = w.prove(ctx, still.pid); err != nil {
				return res, err
			}
			look = time.After(again)
			if proof.proven() {
				err = stop()
			} else if time.Since(since) > w.req.GiveUp {
				doing, outside = motion(still.pid)
				err = stop()
			}
		}
		if err != nil && !asked {
			return res, err
		}
	}
}

// motion says in a word what a process does that was given up, and whether it
// waits for something outside, such as an answer of a name server: that says
// nothing of fork.
func motion(pid int) (doing string, outside bool) {
	fs := proc.New("/proc")
	st, err := fs.Stat(pid)
	if err != nil {
		return "", false
	}
	if st.State == 'R' {
		return "it runs without end", false
	}
	threads, err := fs.Threads(pid)
	if err != nil {
		return "", false
	}
	if n := len(threads); n > 1 {
		return fmt.Sprintf("it sleeps, and has %d threads", n), false
	}
	at, err := fs.Wchan(pid, pid)
	if err == nil && (strings.Contains(at, "poll") || strings.Contains(at, "nanosleep")) {
		return "it waits for something outside or for a time (" + at + "), which says nothing of fork", true
	}
	return "it sleeps", false
}

// prove asks for a proof, until it is known that none can be had here.
func (w *watcher) prove(ctx context.Context, pid int) (*Proof, error) {
	if w.req.Prove == nil || w.blind != nil {
		return nil, nil
	}
	proof, err := w.req.Prove(ctx, pid)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, ErrBlind):
		w.blind = err
		return nil, nil
	}
	return proof, nil // others than ErrBlind: it went on, and is gone
}

// ErrBlind is wrapped by what Prove returns where processes cannot be read here.
var ErrBlind = errors.New("the probes' processes cannot be read")

// finish says what a probe came to from what the server and the proof say.
func finish(res *Result, e, still event, proof *Proof, subject int) {
	res.Forks, res.Reached, res.Signal, res.Text = e.forks, e.reached, e.signal, e.text
	switch e.result {
	case "stopped":
		// A number that the server had not collected was nobody else's meanwhile:
		// what was read is the process that stood still.
		if still.kind == "" || e.pid != still.pid || e.forks != still.forks {
			res.Outcome, res.Text = NotReached, fmt.Sprintf("went on after it had stood still for long, at fork %d", e.forks)
			return
		}
		res.Outcome, res.Proof, res.Parent = Hangs, proof, e.pid == subject
		res.Proven = proof.proven()
	case "unsafe":
		res.Outcome, res.Signal = NotReached, 0
		res.Text = "threads that call it at once break the process without any fork"
	case "overdue":
		res.Outcome, res.Text = NotReached, "out of time while things still moved"
	case "crashes":
		res.Outcome = Crashes
		res.Text, res.Parent = strings.CutPrefix(e.text, "the parent")
		res.Text = strings.TrimPrefix(res.Text, ": ")
	case "works":
		res.Outcome = Works
	case "differs":
		res.Outcome = Differs
	case "not-reached":
		res.Outcome = NotReached
	case "absent":
		res.Outcome = Absent
	default:
		res.Outcome = Refused
	}
}
