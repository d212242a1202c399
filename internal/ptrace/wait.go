package ptrace

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// drain handles all that threads have come to. It asks for those of this thread
// alone (__WNOTHREAD): what other goroutines started or trace is not its business.
func (s *Session) drain() {
	for {
		var status unix.WaitStatus
		tid, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&status)),
			unix.WNOHANG|unix.WALL|unix.WNOTHREAD, 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || tid == 0 {
			return
		}
		s.came(int(tid), status)
	}
}

// came handles one change of a thread.
func (s *Session) came(tid int, status unix.WaitStatus) {
	t := s.threads[tid]
	switch {
	case !status.Stopped():
		delete(s.early, tid)
		if t != nil {
			s.end(t, syscall.WaitStatus(status))
		}
		s.orphans()
	case t == nil && int(status)>>16 == unix.PTRACE_EVENT_EXEC:
		// The first thread had ended; its number passes to this one.
		var former uint64
		request(unix.PTRACE_GETEVENTMSG, tid, 0, uintptr(unsafe.Pointer(&former)))
		if t = s.threads[int(former)]; t == nil {
			request(unix.PTRACE_DETACH, tid, 0, 0)
			return
		}
		s.drop(t)
		t.tid, t.stopped = tid, true
		s.threads[tid], t.proc.threads[tid] = t, t
		s.exec(t)
	case t == nil:
		// A child stops before its parent tells of it, or the other way round.
		s.early[tid] = status
	default:
		t.stopped = true
		if f := t.once; f != nil {
			t.once = nil
			f(status)
			return
		}
		s.stopped(t, status)
	}
}

// end takes a thread out that ended.
func (s *Session) end(t *thread, status syscall.WaitStatus) {
	if t.birth != nil { // killed before its first instruction
		e := *t.birth
		t.birth = nil
		defer s.tell(e)
	}
	s.drop(t)
	switch {
	case t.tid == t.proc.pid:
		s.lose(t.proc, status)
	case t.proc.status != nil && len(t.proc.threads) == 0:
		s.lose(t.proc, *t.proc.status)
	}
}

func (s *Session) drop(t *thread) {
	delete(s.threads, t.tid)
	delete(t.proc.threads, t.tid)
}

// lose takes a process out, and tells of it.
func (s *Session) lose(p *process, status syscall.WaitStatus) {
	if s.procs[p.pid] != p {
		return
	}
	delete(s.procs, p.pid)
	s.leaveSpace(p)
	s.tell(Event{Kind: Gone, PID: p.pid, TID: p.pid, Status: status})
	s.isOver()
}

// isOver ends what Next waits for when no process is left.
func (s *Session) isOver() {
	if len(s.procs) > 0 {
		return
	}
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.wake()
}

// stopped handles the stop of a thread that we know.
func (s *Session) stopped(t *thread, status unix.WaitStatus) {
	sig, event := status.StopSignal(), int(status)>>16
	t.group = false
	t.within = event != 0 && event != unix.PTRACE_EVENT_STOP || sig == unix.SIGTRAP|0x80
	if t.fresh {
		t.fresh = false
		s.clean(t.proc)
		if sp := t.proc.space; sp.armed != 0 && len(sp.procs) == 1 {
			// It keeps the handler as long as it is followed: to make system calls in
			// each child would be one more moment at which we must not die.
			s.journal.armed(t.proc.pid, sp.armed)
		}
	}
	if t.birth != nil {
		e := *t.birth
		t.birth = nil
		t.held = true
		s.tell(e)
		return
	}
	switch event {
	case unix.PTRACE_EVENT_FORK, unix.PTRACE_EVENT_VFORK, unix.PTRACE_EVENT_CLONE:
		s.child(t, event)
		return
	case unix.PTRACE_EVENT_EXEC:
		s.exec(t)
		return
	case unix.PTRACE_EVENT_EXIT:
		s.exit(t)
		return
	case unix.PTRACE_EVENT_STOP:
		// A stop of the whole process, or one that we asked for, or the end of
		// the former.
		t.group = sig != unix.SIGTRAP
		s.rest(t)
		return
	case 0:
	default:
		s.rest(t)
		return
	}
	switch {
	case sig == unix.SIGTRAP|0x80:
		s.call(t)
	case sig == unix.SIGTRAP && s.trapped(t):
	default:
		t.signal = sig
		if s.report[Signal] && !t.proc.leaving {
			s.tell(Event{Kind: Signal, PID: t.proc.pid, TID: t.tid, Signal: sig})
			return
		}
		s.rest(t)
	}
}

// rest is for a stop that is no event of its own.
func (s *Session) rest(t *thread) {
	switch {
	case t.proc.leaving:
		s.letGo(t)
	case t.wanted:
		s.stop(t)
	default:
		_ = s.goOn(t)
	}
}

// child handles that a thread made a process or a thread.
func (s *Session) child(t *thread, event int) {
	var msg uint64
	if request(unix.PTRACE_GETEVENTMSG, t.tid, 0, uintptr(unsafe.Pointer(&msg))) != 0 {
		return // killed meanwhile; orphans finds the child
	}
	tid := int(msg)
	c := &thread{tid: tid, how: unix.PTRACE_CONT}
	s.threads[tid] = c
	first, here := s.early[tid]
	delete(s.early, tid)
	// What the child is only its process can tell, not the event: clone makes
	// both. A signal that is none asks whether there is such a thread.
	if _, _, errno := unix.RawSyscall(unix.SYS_TGKILL, uintptr(t.proc.pid), uintptr(tid), 0); errno == 0 {
		c.proc = t.proc
		c.proc.threads[tid] = c
		c.proc.space.await(c)
		if here {
			s.came(tid, first)
		}
		s.rest(t)
		return
	}
	e := Event{Kind: Fork, PID: t.proc.pid, TID: t.tid, Child: tid}
	if event == unix.PTRACE_EVENT_VFORK {
		e.Kind = VFork
	}
	shared, err := proc.SharesMemory(t.proc.pid, tid)
	e.Shared = shared || err != nil && e.Kind == VFork
	s.adopt(c, t.proc, e.Shared)
	if e.Shared {
		c.proc.space.await(c)
	}
	c.birth = &e
	t.held = true
	if t.proc.leaving {
		// It was made while its parent was let go.
		c.birth, t.held, c.proc.leaving = nil, false, true
		s.rest(t)
	}
	if here {
		s.came(tid, first)
	}
}

// adopt makes c the first thread of a new process, made by parent.
func (s *Session) adopt(c *thread, parent *process, shared bool) {
	p := &process{pid: c.tid, threads: map[int]*thread{c.tid: c}}
	c.proc, c.fresh = p, true
	s.procs[p.pid] = p
	s.joinSpace(p, parent, shared)
}

// orphans takes up new processes whose parent was killed before it could tell of
// them: they would stand still for ever.
func (s *Session) orphans() {
	fs := proc.New("/proc")
	for tid := range s.early {
		st, err := fs.Status(tid)
		if err == nil && (s.procs[st.PPID] != nil || s.procs[st.TGID] != nil) {
			continue // the one that made it may yet tell
		}
		delete(s.early, tid)
		if err != nil {
			continue
		}
		c := &thread{tid: tid, how: unix.PTRACE_CONT, stopped: true}
		s.threads[tid] = c
		s.adopt(c, nil, false)
		c.fresh = false
		s.scour(c.proc)
		_ = s.goOn(c)
	}
}

// exec handles that a process runs another program. The thread that called
// execve has the number of the first one now; all others are gone.
func (s *Session) exec(t *thread) {
	var msg uint64
	request(unix.PTRACE_GETEVENTMSG, t.tid, 0, uintptr(unsafe.Pointer(&msg)))
	for _, other := range t.proc.threads {
		if other != t {
			s.drop(other)
		}
	}
	*t = thread{tid: t.tid, proc: t.proc, stopped: true, how: unix.PTRACE_CONT}
	s.leaveSpace(t.proc)
	s.joinSpace(t.proc, nil, false)
	if t.proc.leaving {
		s.letGo(t)
		return
	}
	s.tell(Event{Kind: Exec, PID: t.proc.pid, TID: t.tid, Former: int(msg)})
}

// exit handles a thread that is about to end.
func (s *Session) exit(t *thread) {
	var msg uint64
	request(unix.PTRACE_GETEVENTMSG, t.tid, 0, uintptr(unsafe.Pointer(&msg)))
	status := syscall.WaitStatus(msg)
	t.ending = &status
	if s.report[Exit] && !t.proc.leaving {
		s.tell(Event{Kind: Exit, PID: t.proc.pid, TID: t.tid, Status: status})
		return
	}
	s.finish(t)
}

// finish lets a thread end. The first thread of a child of ours is let go of: to
// collect it is the business of whoever started it.
func (s *Session) finish(t *thread) {
	if !t.proc.ours || t.tid != t.proc.pid {
		s.rest(t)
		return
	}
	request(unix.PTRACE_DETACH, t.tid, 0, 0)
	s.drop(t)
	if t.proc.status = t.ending; len(t.proc.threads) == 0 {
		s.lose(t.proc, *t.ending)
	}
}

// call handles the stop at a system call's entry or exit.
func (s *Session) call(t *thread) {
	// struct ptrace_syscall_info (linux/ptrace.h): op, then from byte 24 on nr and
	// args at an entry, or the result at an exit.
	var b [88]byte
	const getSyscallInfo = 0x420e
	request(getSyscallInfo, t.tid, uintptr(len(b)), uintptr(unsafe.Pointer(&b)))
	e := Event{PID: t.proc.pid, TID: t.tid}
	switch b[0] {
	case 1:
		e.Kind = SyscallEntry
		e.Call.Number = binary.LittleEndian.Uint64(b[24:])
		for i := range e.Call.Args {
			e.Call.Args[i] = binary.LittleEndian.Uint64(b[32+8*i:])
		}
	case 2:
		e.Kind = SyscallExit
		e.Call.Result = int64(binary.LittleEndian.Uint64(b[24:]))
	}
	if e.Kind == 0 || t.how != unix.PTRACE_SYSCALL || t.proc.leaving {
		s.rest(t)
		return
	}
	s.tell(e)
}
