package stress

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
	"forkproof/internal/procevent"
	"forkproof/internal/target"
)

// bootTime is how young a forked process is that "failed at boot".
const bootTime = 5 * time.Second

// follower counts what is forked below some processes. Where the kernel tells
// process events none is missed; else /proc is read often.
type follower struct {
	events *procevent.Listener // nil: /proc is read
	stop   chan struct{}
	done   chan struct{}

	mu    sync.Mutex
	alive map[int]*process
	// ended are those that ended last, by their numbers, which lasts keeps in order.
	ended map[int]ended
	lasts []int
	// over are the programs of keepers whose end was told.
	over  map[int]bool
	tally tally
	// frozen is when the count was over, by CLOCK_MONOTONIC; 0 before.
	frozen time.Duration
	// failed is why counting ended, or that it missed something.
	failed error
	// moved is when something was last forked or ended.
	moved time.Time
}

// tally is what was counted.
type tally struct {
	// made are all processes that were forked, execs those of them that called
	// execve.
	made, execs                 int
	ended, killed, failedAtBoot int
}

// ended is a process whose first thread ended, and what was counted for that.
type ended struct {
	*process
	counted tally
}

// mostEnded is how many of those are remembered.
const mostEnded = 4096

func (t tally) forks() int { return t.made - t.execs }

// process is one that is followed.
type process struct {
	pid    int
	parent int
	born   time.Time
	// number is which of all forks made it, counted from 1; 0 for a root.
	number int
	// execed: it is a program of its own, not a copy of its parent.
	execed bool
	// forked: it made processes itself.
	forked bool
	// late: it was made after the count was over.
	late bool
	// keeper: it is one of forkproof's own; what it forks does not count. Beside
	// the program that is one child with which os/exec tries the kernel.
	keeper bool
	// ours: forkproof killed it, or what it was part of.
	ours bool

	*watch
}

// follow begins to count. The reason for which the kernel tells no events is
// returned beside a follower that reads /proc.
func follow() (f *follower, why error) {
	f = &follower{stop: make(chan struct{}), done: make(chan struct{}), alive: make(map[int]*process), ended: make(map[int]ended), over: make(map[int]bool), moved: time.Now()}
	f.events, why = procevent.Listen()
	if f.events != nil {
		go f.listen()
	} else {
		go f.poll()
	}
	return f, why
}

func (f *follower) close() {
	close(f.stop)
	if f.events != nil {
		_ = f.events.Close() // it was only read
	}
	<-f.done
}

// start starts a command whose descendants are to be followed. What it forks at
// once waits in the kernel's queue until its own number is known.
func (f *follower) start(cmd *exec.Cmd) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	f.add(cmd.Process.Pid, 0, false).keeper = true
	return nil
}

// root follows a process that is there, and all that it has forked already,
// which do not count.
func (f *follower) root(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(pid, 0, false)
	var add func(int)
	add = func(parent int) {
		for _, child := range children(parent) {
			if f.alive[child] == nil {
				f.add(child, parent, false)
			}
			add(child)
		}
	}
	add(pid)
}

// add is called with the lock held.
func (f *follower) add(pid, parent int, counts bool) *process {
	return f.addAt(pid, parent, counts, monotonic())
}

// addAt is add for what happened at a given time.
func (f *follower) addAt(pid, parent int, counts bool, at time.Duration) *process {
	p := &process{pid: pid, parent: parent, born: time.Now(), execed: !counts, late: f.frozen != 0 && at > f.frozen, watch: new(watch)}
	if counts && !p.late {
		f.tally.made++
		p.number = f.tally.forks()
	}
	f.alive[pid] = p
	return p
}

func (f *follower) listen() {
	defer close(f.done)
	for {
		e, err := f.events.Next()
		f.mu.Lock()
		switch {
		case errors.Is(err, os.ErrClosed):
			f.mu.Unlock()
			return
		case errors.Is(err, procevent.ErrLost):
			f.failed = err
		case err != nil:
			f.failed = err
			f.mu.Unlock()
			return
		default:
			f.take(e)
		}
		f.mu.Unlock()
	}
}

// take is called with the lock held.
func (f *follower) take(e procevent.Event) {
	switch e.Kind {
	case procevent.Fork:
		delete(f.ended, e.PID) // the number is another's from now on
		f.revive(e.Parent)
		if parent := f.alive[e.Parent]; parent != nil {
			delete(f.over, e.PID)
			f.addAt(e.PID, e.Parent, !parent.keeper, e.At)
			parent.forked, f.moved = true, time.Now()
		}
	case procevent.Exec:
		f.revive(e.PID)
		if p := f.alive[e.PID]; p != nil {
			f.exec(p)
		}
	case procevent.Exit:
		if p := f.alive[e.PID]; p != nil {
			f.end(p, e.Status, true)
		}
	}
}

// revive takes back the end of a process that goes on: its first thread alone
// ended, by itself or since another thread called execve. It is called with the
// lock held.
func (f *follower) revive(pid int) {
	e, ok := f.ended[pid]
	if !ok {
		return
	}
	delete(f.ended, pid)
	delete(f.over, pid)
	f.alive[pid] = e.process
	f.tally.ended -= e.counted.ended
	f.tally.killed -= e.counted.killed
	f.tally.failedAtBoot -= e.counted.failedAtBoot
}

// exec is called with the lock held.
func (f *follower) exec(p *process) {
	if !p.execed && p.number != 0 {
		f.tally.execs++
	}
	p.execed = true
}

// freeze ends the count: what is forked from now on is followed, so that it can be
// ended, and is neither counted nor looked at.
func (f *follower) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen == 0 {
		f.frozen = monotonic()
	}
}

func monotonic() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return time.Duration(t.Nano())
}

// drain waits until the end of all that was followed was told, which has ended.
func (f *follower) drain() {
	for end := time.Now().Add(time.Second); time.Now().Before(end) && len(f.living()) > 0 && f.err() == nil; {
		time.Sleep(time.Millisecond)
	}
}

// told reports whether the end of a keeper's program has been told: all
// that it did before has then, too.
func (f *follower) told(pid int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.events == nil || f.failed != nil {
		return f.alive[pid] == nil
	}
	return f.over[pid]
}

// end is called with the lock held.
func (f *follower) end(p *process, status unix.WaitStatus, known bool) {
	delete(f.alive, p.pid)
	f.moved = time.Now()
	if k := f.alive[p.parent]; k != nil && k.keeper {
		f.over[p.pid] = true
	}
	var counted tally
	if !p.execed && p.number != 0 {
		counted = counts(p, status, known)
	}
	f.tally = f.tally.plus(counted)
	f.ended[p.pid] = ended{p, counted}
	f.lasts = append(f.lasts, p.pid)
	if over := len(f.lasts) - mostEnded; over > mostEnded {
		for _, pid := range f.lasts[:over] {
			delete(f.ended, pid)
		}
		f.lasts = slices.Clone(f.lasts[over:])
	}
}

// counts is what the end of a process adds to the tally.
func counts(p *process, status unix.WaitStatus, known bool) tally {
	t := tally{ended: 1}
	if !known || p.ours {
		return t
	}
	if s := status.Signal(); status.Signaled() && (s == unix.SIGABRT || s == unix.SIGKILL) {
		t.killed = 1
	}
	if failed(status) && time.Since(p.born) < bootTime {
		t.failedAtBoot = 1
	}
	return t
}

// failed reports whether a process ended with an error: neither by itself with
// status 0 nor by a signal that asks for the end, as a server sends it.
func failed(status unix.WaitStatus) bool {
	switch {
	case status.Exited():
		return status.ExitStatus() != 0
	case status.Signaled():
		switch status.Signal() {
		case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGKILL, unix.SIGUSR1, unix.SIGUSR2:
			return false
		}
	}
	return true
}

// pollEvery is how often /proc is read where there are no events.
const pollEvery = 2 * time.Millisecond

// forkNoExec is PF_FORKNOEXEC of the kernel's include/linux/sched.h: set by fork,
// cleared by execve.
const forkNoExec = 0x40

func (f *follower) poll() {
	defer close(f.done)
	fs := proc.New("/proc")
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		f.mu.Lock()
		for _, p := range slices.Collect(maps.Values(f.alive)) {
			st, err := fs.Stat(p.pid)
			if err != nil || st.State == 'Z' {
				f.end(p, 0, false)
				continue
			}

			if st.Flags&forkNoExec == 0 {
				f.exec(p)
			}
			for _, child := range children(p.pid) {
				if f.alive[child] != nil {
					continue
				}
				if st, err := fs.Stat(child); err == nil && st.State != 'Z' {
					f.add(child, p.pid, !p.keeper)
					p.forked, f.moved = true, time.Now()
				}
			}
		}
		f.mu.Unlock()
	}
}

// living returns the processes that there are now, as copies that have the same
// watch.
func (f *follower) living() []process {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]process, 0, len(f.alive))
	for _, p := range f.alive {
		all = append(all, *p)
	}
	return all
}

func (f *follower) count() tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tally
}

// quiet is how long nothing was forked and nothing ended.
func (f *follower) quiet() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.moved)
}

// err says why the count is not exact; nil where it is.
func (f *follower) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return fmt.Errorf("count forks: %w", f.failed)
	}
	return nil
}

// ours says that what is alive now is ended by forkproof.
func (f *follower) ours() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.alive {
		p.ours = true
	}
}

// own says that of one process.
func (f *follower) own(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.alive[pid]; p != nil {
		p.ours = true
	}
}

// kill ends one process, if it is still the one that was looked at.
func kill(id target.ID) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !proc.New("/proc").Same(id) {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}
