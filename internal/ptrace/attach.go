package ptrace

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// Command is a program to launch.
type Command struct {
	Path  string   // looked for in PATH where it has no slash
	Args  []string // all, the name first
	Env   []string
	Dir   string
	Files [3]*os.File // standard input, output and error
}

// Launch starts a program and follows it. Its first event is the Exec of the
// program. The process is a child of this one, in the same process group and
// session; its end is told by Gone. Whoever closes the session before that has
// to wait for it.
//
// It does not ask to be traced: a copy of forkproof waits in its place until it
// is, then becomes the program ([Reenter]).
func Launch(c Command) (*Session, int, error) {
	path, err := exec.LookPath(c.Path)
	if err != nil {
		return nil, 0, fmt.Errorf("run %s: %w", c.Path, err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	us, them := os.NewFile(uintptr(pair[0]), "launch"), os.NewFile(uintptr(pair[1]), "launch")
	defer us.Close()
	defer them.Close()
	files := make([]uintptr, 0, 4)
	for i, f := range c.Files {
		if f == nil {
			return nil, 0, fmt.Errorf("run %s: no file for its descriptor %d", path, i)
		}
		files = append(files, f.Fd())
	}
	files = append(files, them.Fd())
	pid, err := syscall.ForkExec("/proc/self/exe", append([]string{stub, path}, c.Args...), &syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files})
	if err != nil {
		return nil, 0, fmt.Errorf("run %s: %w", path, err)
	}
	_ = them.Close()
	fail := func(err error) (*Session, int, error) {
		_ = us.Close()
		_, _ = syscall.Wait4(pid, nil, 0, nil)
		return nil, 0, fmt.Errorf("run %s: %w", path, err)
	}
	// It is itself, and has its final number of threads only now.
	if _, err := io.ReadFull(us, make([]byte, 1)); err != nil {
		return fail(fmt.Errorf("the process that should become it ended: %w", err))
	}
	s := newSession()
	if err := s.Do(func() { err = s.take(pid, true) }); err != nil {
		return fail(err)
	}
	if err != nil {
		s.Close()
		return fail(err)
	}
	if _, err := us.Write([]byte{1}); err != nil {
		s.Close()
		return fail(err)
	}
	if why, _ := io.ReadAll(us); len(why) > 0 {
		s.Close()
		_, _ = syscall.Wait4(pid, nil, 0, nil)
		return nil, 0, fmt.Errorf("run %s: %s", path, bytes.TrimSpace(why))
	}
	return s, pid, nil
}

// stub is the first argument of a copy of forkproof that is to become another program.
const stub = "forkproof-launch"

// Reenter is called first thing by every program that uses Launch. It returns
// unless this process is one that was started to become something else.
func Reenter() {
	if len(os.Args) < 3 || os.Args[0] != stub {
		return
	}
	f := os.NewFile(3, "launch")
	unix.CloseOnExec(3)
	_, err := f.Write([]byte{1})
	if err == nil {
		_, err = io.ReadFull(f, make([]byte, 1))
	}
	if err == nil {
		err = syscall.Exec(os.Args[1], os.Args[2:], os.Environ())
		fmt.Fprint(f, err)
	}
	os.Exit(127)
}

// Attach follows running processes, with all their threads. Where one cannot be
// followed, none is; its error is ErrTraced, ErrDenied or [proc.ErrGone].
func Attach(pids ...int) (*Session, error) {
	s := newSession()
	var err error
	gone := s.Do(func() {
		for _, pid := range pids {
			if s.procs[pid] != nil {
				continue
			}
			if err = s.take(pid, false); err != nil {
				err = fmt.Errorf("trace process %d: %w", pid, err)
				return
			}
		}
	})
	if err = errors.Join(gone, err); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// take seizes all threads of a process.
func (s *Session) take(pid int, launched bool) error {
	fs := proc.New("/proc")
	st, err := fs.Stat(pid)
	if err != nil {
		return err
	}
	p := &process{pid: pid, threads: make(map[int]*thread), launched: launched, ours: !launched && st.PPID == unix.Getpid()}
	s.procs[pid] = p
	s.joinSpace(p, nil, false)
	for more := true; more; {
		more = false
		tids, err := fs.Threads(pid)
		if err != nil {
			return s.untaken(p, err)
		}
		for _, tid := range tids {
			if s.threads[tid] != nil {
				continue
			}
			switch errno := request(unix.PTRACE_SEIZE, tid, 0, s.options(p)); errno {
			case 0:
				t := &thread{tid: tid, proc: p, how: unix.PTRACE_CONT}
				s.threads[tid], p.threads[tid] = t, t
				more = true
			default:
				if st, err := fs.TaskStatus(pid, tid); err == nil && st.TracerPID == s.tracer {
					continue // made by a thread that we had already, which will tell
				}
				if err := refusal(tid, errno); !errors.Is(err, proc.ErrGone) {
					return s.untaken(p, err)
				}
			}
		}
		s.drain()
	}
	if len(p.threads) == 0 {
		return s.untaken(p, proc.ErrGone)
	}
	return nil
}

// untaken gives up a process that could not be taken as a whole.
func (s *Session) untaken(p *process, err error) error {
	s.detach(p)
	return err
}

// patience of Detach: a thread that is longer in the kernel than this, such as
// one that waits in vfork, is let go by the end of the tracer's thread.
const detachPatience = time.Second

// Detach lets a process go on by itself: its breakpoints are taken out, signals
// that have come are given to it, and if it is stopped by SIGSTOP it stays so.
// Events of it that were not fetched yet are dropped. A thread that is in the
// kernel and cannot stop is let go when it comes back, or when the session ends.
func (s *Session) Detach(pid int) error {
	return s.ask(func() error {
		p, err := s.process(pid)
		if err != nil {
			return err
		}
		return s.detach(p)
	})
}

func (s *Session) detach(p *process) error {
	err := p.space.removeAll()
	if p.space.armed != 0 && len(p.space.procs) == 1 && !p.leaving {
		s.quiet(p)
		if s.procs[p.pid] != p {
			return err // it ended meanwhile
		}
	}
	p.leaving = true
	s.mu.Lock()
	kept := s.queue[:0]
	for _, e := range s.queue {
		if e.PID != p.pid || e.Kind == Gone {
			kept = append(kept, e)
		}
	}
	s.queue = kept
	s.mu.Unlock()
	all := make([]*thread, 0, len(p.threads))
	for _, t := range p.threads {
		all = append(all, t)
	}
	for _, t := range all {
		// Telling of one thread's event can have had another one answered, which
		// went on, ended, or was let go as the last of its process.
		if s.threads[t.tid] != t || p.space == nil {
			continue
		}
		if t.birth != nil { // its parent waits for the event to be answered
			e := *t.birth
			t.birth = nil
			s.tell(e)
		}
		t.held, t.frozen, t.wanted = false, false, false
		if t.stopped {
			s.letGo(t)
		} else {
			request(unix.PTRACE_INTERRUPT, t.tid, 0, 0)
		}
	}
	end := time.Now().Add(detachPatience)
	for pause := time.Duration(0); len(p.threads) > 0 && time.Now().Before(end); pause = min(pause+10*time.Microsecond, time.Millisecond) {
		s.drain()
		if pause > 0 {
			nap(pause)
		}
	}
	return err
}

// quiet takes the handler for SIGTRAP out of a process when none of its threads
// can need it any more: all stand still, and none has yet to be given the signal
// of a breakpoint that it came to. Where that takes too long the handler stays.
func (s *Session) quiet(p *process) {
	for end := time.Now().Add(detachPatience); time.Now().Before(end) && s.procs[p.pid] == p; {
		var all []*thread
		for _, t := range p.threads {
			t.frozen = true
			all = append(all, t)
		}
		late := s.halt(all, time.Until(end))
		pending := false
		for _, t := range p.threads {
			if !t.frozen || t.stopped && (t.within && !t.held || pendingTrap(t.tid)) {
				pending = true
				t.frozen = false
				_ = s.goOn(t)
			}
		}
		if len(late) > 0 {
			return
		}
		if !pending && s.procs[p.pid] == p {
			_ = s.disarm(p, nil)
			return
		}
		nap(50 * time.Microsecond)
	}
}

// letGo detaches a thread that stands still.
func (s *Session) letGo(t *thread) {
	if s.threads[t.tid] != t || t.proc.space == nil {
		return // it was let go already
	}
	if s.trapPending(t) {
		// The signal would kill it: it has to come out first.
		t.how, t.stopped = unix.PTRACE_CONT, false
		request(unix.PTRACE_CONT, t.tid, 0, 0)
		return
	}
	request(unix.PTRACE_DETACH, t.tid, 0, uintptr(t.signal))
	s.drop(t)
	if len(t.proc.threads) == 0 && s.procs[t.proc.pid] == t.proc {
		delete(s.procs, t.proc.pid)
		s.leaveSpace(t.proc)
		s.isOver()
	}
}

// Close lets all processes go on by themselves, and ends the session.
func (s *Session) Close() {
	err := s.Do(func() {
		// Children may be made meanwhile.
		for end := time.Now().Add(detachPatience); len(s.procs) > 0 && time.Now().Before(end); s.drain() {
			for _, p := range s.procs {
				_ = s.detach(p)
			}
		}
		s.closing = true
		if s.journal != nil {
			s.journal.disown()
		}
	})
	if err != nil {
		return
	}
	<-s.ended
	signal.Stop(s.children)
	await(s.tracer)
}

// Signal sends a signal to a process that the session has launched.
func (s *Session) Signal(pid int, sig syscall.Signal) error {
	return s.ask(func() error {
		p, err := s.process(pid)
		if err != nil {
			return err
		}
		if !p.launched {
			return fmt.Errorf("process %d: it was not launched here", pid)
		}
		return unix.Kill(pid, sig)
	})
}
