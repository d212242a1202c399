// Package ptrace stops threads of other processes. It is the only room that
// traces; whoever can do without, should. A [Tracer] stops one thread for an
// instant and reads its registers; a [Session] follows whole processes.
//
// A thread is seized (PTRACE_SEIZE) and interrupted, which sends it no signal,
// and let go as soon as it was looked at. Whatever happens to forkproof, SIGKILL
// included, the kernel then lets the thread go on: seized threads are detached
// when the thread that traces them ends. Nothing else of the target is touched.
//
// What a stop can do to a target is what a signal that is ignored can: a few
// system calls end early with EINTR (signal(7) lists them; epoll_wait(2) is the
// one that servers use). [Tracer.StopRunning] therefore leaves alone a thread
// that sleeps. And a program with the set-user-ID bit that is executed in the
// very instant gets no privileges where forkproof itself has none.
package ptrace

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// Errors of Stop, told apart with errors.Is. A thread that ended is [proc.ErrGone].
var (
	// ErrTraced: a debugger, strace or the like has the thread already.
	ErrTraced = errors.New("another process traces it")
	// ErrDenied: the kernel does not let us (capability SYS_PTRACE, Yama, a
	// seccomp filter of the container).
	ErrDenied = errors.New("tracing is not permitted")
	// ErrBusy: the thread did not stop in time. It is in the kernel
	// uninterruptibly (state D), or gets no processor. It was let go without
	// having been stopped.
	ErrBusy = errors.New("it did not stop in time")
	// ErrAsleep: StopRunning found it asleep.
	ErrAsleep = errors.New("it does not run")
)

// Patience is how long a thread may take to stop before it is let go.
const Patience = 3 * time.Millisecond

// Regs are the general registers of a stopped thread.
type Regs = unix.PtraceRegs

// Stop tells of one stop that has ended.
type Stop struct {
	// Took is the time from the request to stop until the thread was let go: an
	// upper bound of how long it stood still.
	Took time.Duration
	// Signal is one that arrived just then; the thread has been given it.
	Signal syscall.Signal
	// Grouped: the thread was stopped already, with its process, by a signal
	// such as SIGSTOP. It still is.
	Grouped bool
}

// Tracer stops threads, one at a time. It may be used by many goroutines.
//
// The kernel knows the tracer as one thread of this process, so all requests
// are made by one goroutine that stays on it.
type Tracer struct {
	mu     sync.Mutex
	work   chan func() (goOn bool)
	thread int
}

// New returns a tracer. It starts nothing before the first use.
func New() *Tracer { return &Tracer{} }

// Close ends the tracer's thread.
func (t *Tracer) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// end lets the thread end and waits until the kernel has detached what it traced.
func (t *Tracer) end() {
	if t.work == nil {
		return
	}
	close(t.work)
	t.work = nil
	await(t.thread)
}

// await waits for the end of a thread of ours.
func await(tid int) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		if unix.Tgkill(unix.Getpid(), tid, 0) == unix.ESRCH {
			return
		}
	}
}

// do runs f on the tracer's thread. Where f returns false that thread is ended,
// which detaches all that it traced; the next call gets a new one.
func (t *Tracer) do(f func() (goOn bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.work == nil {
		t.work = make(chan func() bool)
		started := make(chan int)
		go serve(t.work, started)
		t.thread = <-started
	}
	done := make(chan bool)
	t.work <- func() bool { goOn := f(); done <- goOn; return goOn }
	if !<-done {
		t.end()
	}
}

// serve runs what comes in on one thread, which ends with it: a goroutine that
// returns with its thread locked takes it along. Only the process's first
// thread cannot end so, and is held while another one is found.
func serve(work <-chan func() bool, started chan<- int) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		other := make(chan int)
		go serve(work, other)
		started <- <-other
		runtime.UnlockOSThread()
		return
	}
	urgent()
	started <- unix.Gettid()
	for f := range work {
		f()
	}
}

// urgent has the calling thread get a processor at once. While a target stands
// still, neither the timer nor another program should keep us from letting it
// go: on a machine whose processors are all in use we would lose ours for as
// long as a hundred milliseconds. The thread does nothing else. Not everybody
// may do so, and some will have to do without.
func urgent() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0)
}

// Urgently runs f on a thread that gets a processor at once, as long as it runs:
// for what is to be read while a target stands still, and that is bounded.
func Urgently(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.SchedGetAttr(0, 0)
	urgent()
	f()
	if err == nil {
		_ = unix.SchedSetAttr(0, was, 0)
	}
}

// Stop stops a thread, lets look see its registers, and lets it go on. While
// look runs the target stands still: it should do no more than copy memory, and
// must not use the tracer.
func (t *Tracer) Stop(tid int, look func(*Regs)) (Stop, error) {
	return t.stop(tid, look, func() error { return nil })
}

// StopRunning is Stop for a thread of process pid that is running when it is
// seized; one that sleeps, and so could be woken with an error, is not stopped
// (ErrAsleep).
func (t *Tracer) StopRunning(pid, tid int, look func(*Regs)) (Stop, error) {
	fs := proc.New("/proc")
	return t.stop(tid, look, func() error {
		st, err := fs.TaskStat(pid, tid)
		if err != nil {
			return err
		}
		if st.State != 'R' {
			return ErrAsleep
		}
		return nil
	})
}

func (t *Tracer) stop(tid int, look func(*Regs), fit func() error) (s Stop, err error) {
	t.do(func() bool {
		s, err = seize(tid, look, fit)
		return err == nil
	})
	if err != nil {
		err = fmt.Errorf("stop thread %d: %w", tid, err)
	}
	return s, err
}

// seize does all of it. After an error the thread may still be seized.
func seize(tid int, look func(*Regs), fit func() error) (s Stop, err error) {
	// No options: above all not EXITKILL.
	if errno := request(unix.PTRACE_SEIZE, tid, 0, 0); errno != 0 {
		return s, refusal(tid, errno)
	}
	if err := fit(); err != nil {
		return s, err
	}
	regs := new(Regs)
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(regs))}
	iov.SetLen(int(unsafe.Sizeof(*regs)))
	began := time.Now()
	if errno := request(unix.PTRACE_INTERRUPT, tid, 0, 0); errno != 0 {
		return s, refusal(tid, errno)
	}
	var stopped event
	for pause := time.Duration(0); ; pause = min(pause+5*time.Microsecond, 50*time.Microsecond) {
		if stopped, err = poll(tid); err != nil {
			return s, err
		}
		if stopped.code != 0 {
			break
		}
		if time.Since(began) > Patience {
			return s, ErrBusy
		}
		if pause > 0 {
			nap(pause)
		}
	}
	if stopped.exited {
		bury(tid)
		return s, proc.ErrGone
	}
	errno := request(unix.PTRACE_GETREGSET, tid, unix.NT_PRSTATUS, uintptr(unsafe.Pointer(&iov)))
	if errno == 0 {
		look(regs)
	}
	// A thread that came to a signal before our request stops with that, and is
	// given it when it is let go, with all that was sent along.
	signal := uintptr(0)
	switch {
	case stopped.status>>8 == 0:
		s.Signal = syscall.Signal(stopped.status)
		signal = uintptr(stopped.status)
	case stopped.status&0xff != int32(unix.SIGTRAP):
		s.Grouped = true
	}
	gone := request(unix.PTRACE_DETACH, tid, 0, signal)
	s.Took = time.Since(began)
	switch {
	case errno != 0:
		return s, refusal(tid, errno)
	case gone != 0:
		return s, refusal(tid, gone)
	}
	return s, nil
}

// refusal turns an error of the kernel into ours.
func refusal(tid int, errno syscall.Errno) error {
	switch errno {
	case unix.ESRCH:
		return proc.ErrGone
	case unix.EPERM, unix.EACCES:
		fs := proc.New("/proc")
		st, err := fs.Status(tid)
		switch {
		// A thread that is about to vanish is refused in the same way.
		case proc.IsGone(err), err == nil && (st.State == 'Z' || st.State == 'X'):
			return proc.ErrGone
		case err == nil && st.TracerPID != 0:
			// What is noted is the thread that traces.
			if by, err := fs.Status(st.TracerPID); err == nil {
				return fmt.Errorf("%w (process %d)", ErrTraced, by.TGID)
			}
			return ErrTraced
		}
		return fmt.Errorf("%w: %w", ErrDenied, errno)
	}
	return errno
}

// request makes one request of ptrace(2). Here and below the calls are raw: the
// scheduler of Go, told of a call, might give the processor to other goroutines
// while the target stands still. What data points to must not move while the
// kernel writes there, as the stack of a goroutine may.
//
//go:uintptrescapes
func request(what, tid int, addr, data uintptr) syscall.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(what), uintptr(tid), addr, data, 0, 0)
	return errno
}

// event is what waitid(2) tells of a thread; code is 0 where it has not stopped.
type event struct {
	code   int32
	status int32 // of a stop: the signal, and above it the event of ptrace
	exited bool
}

// poll asks for a change of the thread, and leaves one that ended to be collected.
func poll(tid int) (event, error) {
	// siginfo_t: si_signo, si_errno, si_code, and for SIGCHLD si_pid, si_uid and
	// si_status from byte 16 on (asm-generic/siginfo.h, 64 bits).
	var info [128]byte
	_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid), uintptr(unsafe.Pointer(&info)),
		unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WNOHANG|unix.WALL, 0, 0)
	switch errno {
	case 0:
	case unix.ECHILD:
		return event{}, proc.ErrGone
	default:
		return event{}, errno
	}
	e := event{code: *(*int32)(unsafe.Pointer(&info[8])), status: *(*int32)(unsafe.Pointer(&info[24]))}
	e.exited = e.code == cldExited || e.code == cldKilled || e.code == cldDumped
	return e, nil
}

// Codes of SIGCHLD for an end (asm-generic/siginfo.h).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// bury collects a thread that ended under our hands, so that its parent hears of
// it; not one of our own children, which whoever started it awaits.
func bury(tid int) {
	if st, err := proc.New("/proc").Stat(tid); err == nil && st.PPID == unix.Getpid() {
		return
	}
	_, _ = unix.Wait4(tid, nil, unix.WNOHANG|unix.WALL, nil)
}

func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}
