package ptrace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

var (
	// ErrOver is the error of Next when no process is left to follow.
	ErrOver = errors.New("nothing is left to trace")
	// ErrUnknown is the error for a thread or process that the session does not follow.
	ErrUnknown = errors.New("it is not followed")
	// ErrRunning is the error for a request that needs a thread to stand still.
	ErrRunning = errors.New("it does not stand still")
)

// Session follows whole processes: all their threads, and every process and
// thread that these make. Threads run at native speed and stop only where they
// fork, execute a program, get a signal (which they are given at once) or come
// to what the session was asked for.
//
// What has to be answered at once, such as signals, stops by SIGSTOP and new
// threads, is answered by a thread of the session's own, whether or not anybody
// waits in Next. All methods may be called from any goroutine.
//
// If forkproof ends in whatever way, all threads go on untraced: the kernel sees
// to that. Breakpoints would stay: [Shelter] takes care of them.
type Session struct {
	work     chan func()
	tracer   int // thread id
	ended    chan struct{}
	children chan os.Signal

	// What follows belongs to the tracer's thread.
	threads map[int]*thread
	procs   map[int]*process
	early   map[int]unix.WaitStatus // first stops of children whose parent has not told yet
	spaces  map[*space]bool
	report  [Gone + 1]bool
	hook    func(Event) bool
	closing bool
	journal *Journal
	soon    time.Time // until when a stop is so near that sleeping does not pay

	mu     sync.Mutex
	queue  []Event
	over   bool
	wakeUp chan struct{}
}

// thread is one that we trace.
type thread struct {
	tid     int
	proc    *process
	stopped bool           // in a stop that we know of
	held    bool           // an event of it was told, and awaits an answer
	frozen  bool           // by Freeze
	passes  bool           // it is being stepped over a breakpoint
	wanted  bool           // Interrupt wants its stop told
	group   bool           // the stop is that of its process by a signal
	within  bool           // the stop is within a system call, which goes on after it
	signal  syscall.Signal // what it is given when it goes on
	how     int            // the request by which it goes on
	fresh   bool           // it is a new process and has not run
	birth   *Event         // to be told when its first stop is there
	pass    passing
	ending  *syscall.WaitStatus   // set at its exit stop
	once    func(unix.WaitStatus) // called at its next stop instead of all else
}

// process is one whose threads we trace.
type process struct {
	pid      int
	threads  map[int]*thread
	space    *space
	launched bool
	ours     bool                // a child of ours that somebody else awaits
	leaving  bool                // each thread is let go for good at its next stop
	status   *syscall.WaitStatus // of one of ours whose first thread was let go to end
}

// newSession starts the tracer's thread.
func newSession() *Session {
	s := &Session{
		work: make(chan func()), ended: make(chan struct{}), children: make(chan os.Signal, 1),
		threads: make(map[int]*thread), procs: make(map[int]*process), early: make(map[int]unix.WaitStatus),
		spaces: make(map[*space]bool), wakeUp: make(chan struct{}, 1),
	}
	for k := range s.report {
		s.report[k] = Kind(k) != Exit && Kind(k) != Signal
	}
	signal.Notify(s.children, unix.SIGCHLD)
	started := make(chan int)
	go s.serve(started)
	s.tracer = <-started
	return s
}

// serve is the tracer's thread: it ends with the session.
func (s *Session) serve(started chan<- int) {
	runtime.LockOSThread()
	// The first thread of a process cannot end alone; and one that has started
	// children would be told of their ends, which others wait for.
	if unix.Gettid() == unix.Getpid() || parent() {
		other := make(chan int)
		go s.serve(other)
		started <- <-other
		runtime.UnlockOSThread()
		return
	}
	urgent()
	started <- unix.Gettid()
	defer close(s.ended)
	for {
		s.drain()
		if time.Now().Before(s.soon) {
			select {
			case f := <-s.work:
				f()
			default:
				nap(5 * time.Microsecond)
			}
			continue
		}
		if s.closing {
			return
		}
		select {
		case f := <-s.work:
			f()
		case <-s.children:
		}
	}
}

// parent reports whether the calling thread has children.
func parent() bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, unix.P_ALL, 0, 0, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG|unix.WALL|unix.WNOTHREAD, 0, 0)
	return errno != unix.ECHILD
}

// near says that a stop is about to come: for so long the tracer looks for it
// again and again, since waking up takes longer than most stops take to come.
func (s *Session) near() { s.soon = time.Now().Add(100 * time.Microsecond) }

// Do runs f on the tracer's thread. Within f, requests take no detour through
// that thread, and no other event is handled.
func (s *Session) Do(f func()) error {
	if unix.Gettid() == s.tracer {
		f()
		return nil
	}
	done := make(chan struct{})
	select {
	case s.work <- func() { defer close(done); f() }:
		<-done
		return nil
	case <-s.ended:
		return ErrOver
	}
}

// ask is Do for what can fail.
func (s *Session) ask(f func() error) (err error) {
	if gone := s.Do(func() { err = f() }); gone != nil {
		return gone
	}
	return err
}

// Report has Next tell of events of these kinds too.
func (s *Session) Report(kinds ...Kind) error {
	return s.ask(func() error {
		for _, k := range kinds {
			s.report[k] = true
		}
		for tid, t := range s.threads {
			if t.stopped {
				request(unix.PTRACE_SETOPTIONS, tid, 0, s.options(t.proc))
			}
		}
		return nil
	})
}

// Hook has f see each event on the tracer's thread as it comes. Where f returns
// true it has dealt with the event, resumed the thread included, and Next does
// not tell of it.
func (s *Session) Hook(f func(Event) bool) { _ = s.Do(func() { s.hook = f }) }

// Next waits for the next event. When no process is left, its error is ErrOver.
func (s *Session) Next(ctx context.Context) (Event, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			e := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return e, nil
		}
		over := s.over
		s.mu.Unlock()
		if over {
			return Event{}, ErrOver
		}
		select {
		case <-s.wakeUp:
		case <-s.ended:
			s.mu.Lock()
			s.over = true
			s.mu.Unlock()
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// tell hands an event on; the thread stands still until it is answered.
func (s *Session) tell(e Event) {
	if t := s.threads[e.TID]; t != nil && e.Kind != Gone {
		t.held = true
	}
	if t := s.threads[e.Child]; t != nil {
		t.held = true
	}
	if s.hook != nil && s.hook(e) {
		return
	}
	s.mu.Lock()
	s.queue = append(s.queue, e)
	s.mu.Unlock()
	s.wake()
}

func (s *Session) wake() {
	select {
	case s.wakeUp <- struct{}{}:
	default:
	}
}

// options are those of a thread of p. TRACEEXIT holds up the end of each thread
// and is asked for only where it is needed.
func (s *Session) options(p *process) uintptr {
	o := unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESYSGOOD
	if s.report[Exit] || p.ours {
		o |= unix.PTRACE_O_TRACEEXIT
	}
	return uintptr(o)
}

// find returns a thread, for a request that needs it to stand still.
func (s *Session) find(tid int) (*thread, error) {
	t := s.threads[tid]
	switch {
	case t == nil:
		return nil, fmt.Errorf("thread %d: %w", tid, ErrUnknown)
	case !t.stopped:
		return nil, fmt.Errorf("thread %d: %w", tid, ErrRunning)
	}
	return t, nil
}

// answer lets a thread that was told of go on by the request how.
func (s *Session) answer(tid, how int) error {
	return s.ask(func() error {
		t, err := s.find(tid)
		if err != nil {
			return err
		}
		t.held, t.how = false, how
		switch {
		case t.ending != nil:
			s.finish(t)
			return nil
		case t.wanted:
			s.stop(t)
			return nil
		}
		return s.goOn(t)
	})
}

// Resume lets the thread of an event go on. One that was frozen waits for Thaw.
func (s *Session) Resume(tid int) error { return s.answer(tid, unix.PTRACE_CONT) }

// Step lets it make one instruction; a Stepped event follows. Where a signal is
// due, that instruction is the first of the signal's handler.
func (s *Session) Step(tid int) error { return s.answer(tid, unix.PTRACE_SINGLESTEP) }

// Syscalls lets it go on to the entry or the exit of its next system call.
func (s *Session) Syscalls(tid int) error { return s.answer(tid, unix.PTRACE_SYSCALL) }

// goOn resumes a stopped thread unless somebody holds it.
func (s *Session) goOn(t *thread) error {
	if !t.stopped || t.held || t.frozen || t.passes || t.birth != nil {
		return nil
	}
	var errno syscall.Errno
	if t.group {
		// It stays stopped, and tells when SIGCONT ends that.
		errno = request(unix.PTRACE_LISTEN, t.tid, 0, 0)
	} else {
		errno = request(t.how, t.tid, 0, uintptr(t.signal))
		if t.how == unix.PTRACE_SINGLESTEP {
			s.near()
		}
	}
	t.stopped = false
	switch errno {
	case 0:
		t.signal, t.group = 0, false
		return nil
	case unix.ESRCH: // killed: it tells so itself
		return proc.ErrGone
	}
	return errno
}

// Interrupt asks threads to stop, each of which tells by a Stopped event. A
// thread that stands still by another event does so after that was answered.
func (s *Session) Interrupt(tids ...int) error {
	return s.ask(func() error {
		for _, tid := range tids {
			t := s.threads[tid]
			if t == nil {
				return fmt.Errorf("thread %d: %w", tid, ErrUnknown)
			}
			t.wanted = true
			switch {
			case !t.stopped:
				request(unix.PTRACE_INTERRUPT, tid, 0, 0)
				s.near()
			case !t.held && t.birth == nil:
				s.stop(t)
			}
		}
		return nil
	})
}

// stop tells of a thread that Interrupt wanted to stop, and has.
func (s *Session) stop(t *thread) {
	t.wanted = false
	s.tell(Event{Kind: Stopped, PID: t.proc.pid, TID: t.tid})
}

// Freeze stops threads, without events, until Thaw. It returns when all stand
// still, or after within those that do not: they are let go on. A thread that
// comes to another event meanwhile stands still by that; its event is told as
// ever, and it goes on only after it was answered and thawed.
func (s *Session) Freeze(within time.Duration, tids ...int) (late []int, err error) {
	err = s.ask(func() error {
		var all []*thread
		for _, tid := range tids {
			t := s.threads[tid]
			if t == nil {
				late = append(late, tid)
				continue
			}
			t.frozen = true
			all = append(all, t)
		}
		for _, t := range s.halt(all, within) {
			late = append(late, t.tid)
			t.frozen = false
		}
		return nil
	})
	return late, err
}

// halt waits until all stand still, and returns those that do not in time. A
// thread that must not go on has to be marked as frozen or held before.
func (s *Session) halt(all []*thread, within time.Duration) (late []*thread) {
	for _, t := range all {
		if !t.stopped {
			request(unix.PTRACE_INTERRUPT, t.tid, 0, 0)
		}
	}
	end := time.Now().Add(within)
	for pause := time.Duration(0); ; pause = min(pause+5*time.Microsecond, 50*time.Microsecond) {
		s.drain()
		late = late[:0]
		for _, t := range all {
			if !t.stopped && s.threads[t.tid] == t {
				late = append(late, t)
			}
		}
		if len(late) == 0 || time.Now().After(end) {
			return late
		}
		if pause > 0 {
			nap(pause)
		}
	}
}

// Thaw lets frozen threads go on, unless an event of theirs awaits its answer.
func (s *Session) Thaw(tids ...int) error {
	return s.ask(func() error {
		for _, tid := range tids {
			if t := s.threads[tid]; t != nil && t.frozen {
				t.frozen = false
				_ = s.goOn(t)
			}
		}
		return nil
	})
}

// Processes lists the processes that are followed, in no order.
func (s *Session) Processes() (pids []int) {
	_ = s.Do(func() {
		for pid := range s.procs {
			pids = append(pids, pid)
		}
	})
	return pids
}

// Threads lists the threads of a process that are followed, in no order.
func (s *Session) Threads(pid int) (tids []int) {
	_ = s.Do(func() {
		if p := s.procs[pid]; p != nil {
			for tid := range p.threads {
				tids = append(tids, tid)
			}
		}
	})
	return tids
}

// Regs returns the general registers of a thread that stands still.
func (s *Session) Regs(tid int) (r Regs, err error) {
	err = s.ask(func() error {
		if _, err := s.find(tid); err != nil {
			return err
		}
		return regset(unix.PTRACE_GETREGSET, tid, &r)
	})
	return r, err
}

// SetRegs sets them.
func (s *Session) SetRegs(tid int, r Regs) error {
	return s.ask(func() error {
		if _, err := s.find(tid); err != nil {
			return err
		}
		return regset(unix.PTRACE_SETREGSET, tid, &r)
	})
}

func regset(what, tid int, r *Regs) error {
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(r))}
	iov.SetLen(int(unsafe.Sizeof(*r)))
	switch errno := request(what, tid, unix.NT_PRSTATUS, uintptr(unsafe.Pointer(&iov))); errno {
	case 0:
		return nil
	case unix.ESRCH:
		return fmt.Errorf("registers of thread %d: %w", tid, proc.ErrGone)
	default:
		return fmt.Errorf("registers of thread %d: %w", tid, errno)
	}
}
