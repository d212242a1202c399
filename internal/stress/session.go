package stress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/forkserver"
	"forkproof/internal/proc"
)

// How often things are done.
const (
	lookEvery = 100 * time.Millisecond
	findEvery = 200 * time.Millisecond
	// calm is how long nothing was forked and nothing ended after a reload before
	// the next one; impatient is after how long it comes anyhow.
	calm, impatient = 150 * time.Millisecond, 3 * time.Second
	// rested is at how many steps a worker has to be found asleep before it is
	// taken to have booted: one that is ended before that cannot hang.
	rested = 2
	// startTime bounds how long a server may take to answer its first request.
	startTime = 2 * time.Minute
	// settleTime bounds how long is waited at the end for the youngest to be
	// looked at, settled is when one is old enough for that.
	settleTime, settled = 3 * time.Second, 4 * lookEvery
)

// watch is what was seen of a process.
type watch struct {
	// looks is at how many looks in a row a thread of it was in a futex.
	looks int
	// rests is at how many steps it was found asleep.
	rests int
	// asked is how often inspect was asked about it, and next when it may be again.
	asked int
	next  time.Time
	// counted: it is known to hang, or suspected.
	counted bool
}

// session is one time in which a command runs, or, where it ends by itself, runs
// again and again.
type session struct {
	*trial
	fs     proc.FS
	follow *follower
	kept   *kept // nil with --pid
	server *forkserver.Server
	reload *reloader
	// earlier are the forks of the sessions before.
	earlier int
	until   time.Time
	// loading ends the load; nil while there is none.
	loading func()

	looked, found, reloaded time.Time
	begun                   time.Time // of the current run
	born                    int       // forks when it began
}

// session lets the command fork until so many forks were made in all, or for the
// time given.
func (t *trial) session(ctx context.Context, forks int, d time.Duration) (err error) {
	if ctx.Err() != nil {
		return nil
	}
	s := &session{trial: t, fs: proc.New("/proc"), earlier: t.tally.forks(), begun: time.Now(), until: time.Now().Add(d)}
	var why error
	s.follow, why = follow()
	if why != nil {
		t.inexact = true
		t.note("short-lived children may have been missed, and nothing is known of how they ended, since /proc was read instead of the kernel's process events: %v", why)
	}
	defer func() {
		s.stopLoad()
		s.follow.freeze()
		s.follow.ours()
		if s.kept != nil {
			s.kept.end()
			s.sweep()
			s.follow.drain()
		}
		if e := s.follow.err(); e != nil {
			t.inexact = true
			t.note("%v", e)
		}
		s.follow.close()
		t.tally = t.tally.plus(s.follow.count())
		t.took += time.Since(s.until.Add(-d))
	}()
	if t.req.PID != 0 {
		if _, err := s.fs.Identity(t.req.PID); err != nil {
			return fmt.Errorf("--pid %d: %w", t.req.PID, err)
		}
		s.follow.root(t.req.PID)
	} else if err := s.start(); err != nil {
		return err
	}
	for err == nil && ctx.Err() == nil && s.forks() < forks && time.Now().Before(s.until) {
		err = s.step(ctx)
		if t.req.Progress != nil {
			t.req.Progress(s.forks(), forks, t.count())
		}
	}
	if err == nil && ctx.Err() == nil {
		s.follow.freeze()
		s.stopLoad()
		err = s.settle(ctx)
	}
	if err == nil && ctx.Err() == nil && s.forks() == 0 {
		err = fmt.Errorf("%s: %w in %s%s", t.called(), ErrNoForks, d, s.hint())
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (t *trial) called() string {
	if t.req.PID != 0 {
		return fmt.Sprintf("process %d", t.req.PID)
	}
	return t.name
}

func (s *session) hint() string {
	if s.server == nil && s.req.Reload == "" {
		return "; it is no server that is known: say --reload COMMAND, or --load URL for one that forks per connection"
	}
	return ""
}

func (a tally) plus(b tally) tally {
	return tally{a.made + b.made, a.execs + b.execs, a.ended + b.ended, a.killed + b.killed, a.failedAtBoot + b.failedAtBoot}
}

// forks are those of all sessions of this command.
func (s *session) forks() int { return s.earlier + s.follow.count().forks() + s.inFork }

func (s *session) start() error {
	s.server, s.begun, s.born = nil, time.Now(), s.forks()
	k, err := launch(s.req.Self, s.command, s.req.Output, s.follow)
	if err != nil {
		return err
	}
	s.kept = k
	s.starts++
	return nil
}

// again ends the program, with all that is left of it, and starts it anew.
func (s *session) again() error {
	s.follow.ours()
	s.kept.kill()
	s.sweep()
	s.follow.drain()
	return s.start()
}

// sweep ends what outlived its keeper, which only a killed keeper leaves behind.
func (s *session) sweep() {
	for _, p := range s.follow.living() {
		if id, err := s.fs.Identity(p.pid); err == nil {
			_ = kill(id) // gone is what it should be
		}
	}
}

// step does what is due, and sleeps until something may be.
func (s *session) step(ctx context.Context) error {
	now := time.Now()
	if s.kept != nil {
		select {
		case <-s.kept.ended:
			if over, err := s.over(); over || err != nil {
				return err
			}
		default:
		}
	}
	if now.Sub(s.found) >= findEvery && s.server == nil {
		s.found = now
		if err := s.find(ctx); err != nil {
			return err
		}
	}
	if now.Sub(s.looked) >= lookEvery {
		s.looked = now
		if again, err := s.look(ctx); err != nil {
			return err
		} else if again {
			return s.again()
		}
	}
	if err := s.drive(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-s.ended():
		// At once: a small program may take no longer than a millisecond.
	case <-time.After(20 * time.Millisecond):
	}
	return nil
}

// ended is when the program ends; never, where there is none or it has.
func (s *session) ended() <-chan struct{} {
	if s.kept == nil {
		return nil
	}
	select {
	case <-s.kept.ended:
		return nil
	default:
		return s.kept.ended
	}
}

// over is what to do when the program has ended: nothing as long as something is
// left of it, which may be a daemon, or hang; else it is started anew.
func (s *session) over() (over bool, err error) {
	if !s.follow.told(s.kept.pid) {
		return false, nil
	}
	for _, p := range s.follow.living() {
		// A process whose first thread ended before others tells its end to nobody.
		if st, err := s.fs.Stat(p.pid); err == nil && st.State != 'Z' && p.number != 0 && !p.execed {
			return false, nil
		}
	}
	status := s.kept.status
	if s.server != nil && s.reload != nil {
		return true, fmt.Errorf("%s ended by itself (%s); it wrote last:\n%s", s.server.Name, said(status), s.kept.output.last(10))
	}
	if status != 0 {
		s.failures++
	}
	if s.forks() == s.born {
		return true, fmt.Errorf("%s ended (%s) and made no fork: %w; it wrote last:\n%s", s.name, said(status), ErrNoForks, s.kept.output.last(10))
	}
	return true, s.again()
}

func said(status unix.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// find looks for a server among the processes, and begins with load and reloads
// when it is there.
func (s *session) find(ctx context.Context) error {
	mine := make(map[int]bool)
	for _, p := range s.follow.living() {
		mine[p.pid] = true
	}
	all, err := forkserver.Snapshot(s.fs)
	if err != nil {
		return err
	}
	var best *forkserver.Server
	for _, p := range all {
		if !mine[p.ID.PID] {
			continue
		}
		sv, role, ok := forkserver.Of(s.fs, all, p.ID.PID)
		if !ok || role != forkserver.Master || len(sv.Workers) == 0 {
			continue
		}
		if best == nil || best.Kind == forkserver.Generic && sv.Kind != forkserver.Generic {
			best = &sv
		}
	}
	if best == nil {
		return nil
	}
	way := s.req.Reload
	if way == "" {
		way = ways[best.Kind]
	}
	if best.Kind == forkserver.Generic && way == "" && len(s.req.Load) == 0 && s.req.LoadCmd == "" {
		return nil // a program that forks by itself
	}
	if len(s.req.Load) > 0 && !s.requests.answers(ctx) {
		if time.Since(s.begun) > startTime {
			return fmt.Errorf("%s does not answer %s; it wrote last:\n%s", best.Name, s.req.Load[0], s.wrote())
		}
		return nil
	}
	s.server = best
	if best.Kind != forkserver.Generic {
		s.trial.server = best.Kind
	}
	if s.name == "" {
		s.name = best.Master.Command()
	}
	if way != "" {
		s.reload = &reloader{way: way}
		s.trial.reload = s.reload.name()
	}
	s.reloaded = time.Now()
	return s.startLoad(ctx)
}

func (s *session) wrote() string {
	if s.kept == nil {
		return ""
	}
	return s.kept.output.last(10)
}

// drive reloads when the last reload is over, and tells a program that stands
// still.
func (s *session) drive(ctx context.Context) error {
	quiet := s.follow.quiet()
	if s.server == nil || s.reload == nil {
		if s.kept == nil || s.server != nil || quiet < s.req.Timeout {
			return nil
		}
		if s.forks() == s.born {
			if quiet > startTime {
				return fmt.Errorf("%s: %w in %s%s", s.name, ErrNoForks, startTime, s.hint())
			}
			return nil
		}
		s.suspected++
		return s.again()
	}
	var workers []int
	booted := true
	for _, p := range s.follow.living() {
		if p.parent != s.server.Master.ID.PID || p.execed || p.counted {
			continue
		}
		workers = append(workers, p.pid)
		if st, err := s.fs.Stat(p.pid); err == nil && st.State == 'S' {
			p.rests++
		}
		booted = booted && p.rests >= rested
	}
	since := time.Since(s.reloaded)
	if since < calm || (quiet < calm || !booted) && since < impatient {
		return nil
	}
	s.reloaded = time.Now()
	err := s.reload.do(s.server.Master.ID.PID, workers)
	if err != nil && !s.fs.Same(s.server.Master.ID) {
		if s.kept == nil {
			return fmt.Errorf("master %d ended: %w", s.server.Master.ID.PID, err)
		}
		return nil // the next step sees that
	}
	return err
}

// settle lets the youngest processes grow old enough to be looked at.
func (s *session) settle(ctx context.Context) error {
	for end := time.Now().Add(settleTime); time.Now().Before(end) && ctx.Err() == nil; {
		open := false
		for _, p := range s.follow.living() {
			open = open || !p.counted && !p.execed && !p.late && p.number != 0 && (time.Since(p.born) < settled || p.looks == 1)
		}
		if !open {
			return nil
		}
		again, err := s.look(ctx)
		if again || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
	return nil
}

// startLoad begins with the load, both kinds of it.
func (s *session) startLoad(ctx context.Context) error {
	if s.loading != nil || len(s.req.Load) == 0 && s.req.LoadCmd == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var command *kept
	if s.req.LoadCmd != "" {
		var err error
		if command, err = launch(s.req.Self, []string{"sh", "-c", s.req.LoadCmd}, s.req.Output, nil); err != nil {
			cancel()
			return err
		}
	}
	go func() {
		defer close(done)
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			if len(s.req.Load) > 0 {
				s.requests.run(ctx, s.req.Connections)
			}
		}()
		for command != nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-command.gone:
				select { // one that fails at once is no busy loop
				case <-ctx.Done():
				case <-time.After(lookEvery):
				}
				if next, err := launch(s.req.Self, []string{"sh", "-c", s.req.LoadCmd}, s.req.Output, nil); err == nil {
					command = next
				}
			}
		}
		if command != nil {
			command.end()
		}
		<-asked
	}()
	s.loading = func() {
		cancel()
		<-done
	}
	return nil
}

func (s *session) stopLoad() {
	if s.loading != nil {
		s.loading()
		s.loading = nil
	}
}
