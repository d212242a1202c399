package ptrace

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// space is memory that processes share (vfork), with what was put into it.
type space struct {
	procs  map[*process]bool
	breaks map[uint64]patch
	// gone are the places of former breakpoints: a thread may have come to one
	// just before it was taken out.
	gone map[uint64]patch
	mem  *os.File
	// noted are the breakpoints in the journal, each with the process it was noted for.
	noted   map[uint64]int
	journal *Journal
	// armed is the page with a handler for SIGTRAP, 0 for none.
	armed uint64
	// used: it may have run, since there was no tracer for a while.
	used bool
	// passing is how many threads are being stepped over a breakpoint that is out
	// so long; late are threads that were made meanwhile, and wait for the end of it.
	passing int
	late    []*thread
}

// patch is what a breakpoint replaced.
type patch [breakSize]byte

// passing is the breakpoint that a thread is to pass, which a signal or a stop
// put off: it comes to it once more, with the same stack pointer.
type passing struct{ addr, sp uint64 }

// stepPatience is how long one instruction may take: it may have to read a page
// from a disk.
const stepPatience = 2 * time.Second

// joinSpace gives p its memory: the parent's, a copy of that, or (without parent) a new one.
func (s *Session) joinSpace(p, parent *process, shared bool) {
	if shared && parent != nil {
		p.space = parent.space
		p.space.procs[p] = true
		return
	}
	p.space = &space{procs: map[*process]bool{p: true}, breaks: make(map[uint64]patch), gone: make(map[uint64]patch), noted: make(map[uint64]int)}
	s.spaces[p.space] = true
	if parent != nil {
		// What was set and taken out since the fork is in the copy all the same.
		maps.Copy(p.space.breaks, parent.space.gone)
		maps.Copy(p.space.breaks, parent.space.breaks)
		p.space.armed = parent.space.armed
	}
}

func (s *Session) leaveSpace(p *process) {
	if p.space == nil {
		return
	}
	if p.space.armed != 0 {
		s.journal.disarmed(p.pid)
	}
	delete(p.space.procs, p)
	if len(p.space.procs) == 0 {
		delete(s.spaces, p.space)
		for addr := range p.space.noted {
			p.space.strike(addr)
		}
		if p.space.mem != nil {
			_ = p.space.mem.Close()
		}
	}
	p.space = nil
}

// clean takes the breakpoints out of a child that has copies of its parent's.
func (s *Session) clean(p *process) {
	if len(p.space.procs) > 1 {
		return
	}
	p.space.restore(p.space.breaks)
	clear(p.space.breaks)
}

// restore writes what was where a breakpoint is now.
func (sp *space) restore(all map[uint64]patch) {
	for addr, was := range all {
		var now patch
		if sp.read(addr, now[:]) == nil && now == breakInstruction {
			_ = sp.write(addr, was[:])
		}
	}
}

// scour does so where the parent is not known.
func (s *Session) scour(p *process) {
	for other := range s.spaces {
		p.space.restore(other.gone)
		p.space.restore(other.breaks)
	}
}

// open opens the memory by any process that has it.
func (sp *space) open() (*os.File, error) {
	if sp.mem != nil {
		return sp.mem, nil
	}
	err := error(proc.ErrGone)
	for p := range sp.procs {
		if sp.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_RDWR, 0); err == nil {
			return sp.mem, nil
		}
	}
	return nil, err
}

func (sp *space) read(addr uint64, b []byte) error {
	f, err := sp.open()
	if err == nil {
		_, err = f.ReadAt(b, int64(addr))
	}
	return err
}

// write writes code, which is mapped without the right to.
func (sp *space) write(addr uint64, b []byte) error {
	f, err := sp.open()
	if err == nil {
		_, err = f.WriteAt(b, int64(addr))
	}
	return err
}

// strike takes a breakpoint out of the journal.
func (sp *space) strike(addr uint64) {
	if pid, ok := sp.noted[addr]; ok {
		sp.journal.strike(pid, addr)
		delete(sp.noted, addr)
	}
}

func (s *Session) process(pid int) (*process, error) {
	if p := s.procs[pid]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("process %d: %w", pid, ErrUnknown)
}

// SetBreakpoint has every thread of process pid, and of those that share its
// memory, stop before the instruction at addr. Its threads may run meanwhile. A
// child has no breakpoints: they are taken out of its copy before it runs.
func (s *Session) SetBreakpoint(pid int, addr uint64) error {
	return s.ask(func() error {
		p, err := s.process(pid)
		if err != nil {
			return err
		}
		sp := p.space
		if _, ok := sp.breaks[addr]; ok {
			return nil
		}
		var was patch
		if err := sp.read(addr, was[:]); err != nil {
			return fmt.Errorf("read the code at 0x%x of process %d: %w", addr, pid, err)
		}
		if was == breakInstruction {
			return fmt.Errorf("set a breakpoint at 0x%x of process %d: there is one that is not ours", addr, pid)
		}
		if s.journal != nil {
			// Without it there is a risk, as there is where the program has a
			// handler of its own.
			_ = s.arm(p)
			if err := sp.tell(addr); err != nil {
				return fmt.Errorf("set a breakpoint at 0x%x of process %d: %w", addr, pid, err)
			}
		}
		// What follows tells the place from another one at the same address.
		var context [contextSize]byte
		_ = sp.read(addr+breakSize, context[:])
		for at, p := range sp.breaks {
			if at > addr && at < addr+breakSize+contextSize {
				copy(context[at-addr-breakSize:], p[:])
			}
		}
		if err := s.journal.note(pid, addr, was, context[:]); err != nil {
			return fmt.Errorf("set a breakpoint at 0x%x of process %d: %w", addr, pid, err)
		}
		sp.breaks[addr], sp.noted[addr], sp.journal = was, pid, s.journal
		if err := sp.write(addr, breakInstruction[:]); err != nil {
			delete(sp.breaks, addr)
			sp.strike(addr)
			return fmt.Errorf("set a breakpoint at 0x%x of process %d: %w", addr, pid, err)
		}
		delete(sp.gone, addr)
		return nil
	})
}

// ClearBreakpoint takes one out again.
func (s *Session) ClearBreakpoint(pid int, addr uint64) error {
	return s.ask(func() error {
		p, err := s.process(pid)
		if err != nil {
			return err
		}
		return p.space.remove(addr)
	})
}

// ClearAll takes all out of a process.
func (s *Session) ClearAll(pid int) error {
	return s.ask(func() error {
		p, err := s.process(pid)
		if err != nil {
			return err
		}
		return p.space.removeAll()
	})
}

func (sp *space) removeAll() (err error) {
	for addr := range sp.breaks {
		if e := sp.remove(addr); e != nil {
			err = e
		}
	}
	return err
}

func (sp *space) remove(addr uint64) error {
	was, ok := sp.breaks[addr]
	if !ok {
		return nil
	}
	if err := sp.write(addr, was[:]); err != nil {
		var now patch
		if sp.read(addr, now[:]) == nil && now == breakInstruction {
			return fmt.Errorf("take the breakpoint at 0x%x out: %w", addr, err)
		}
		// The code was unmapped meanwhile.
	}
	delete(sp.breaks, addr)
	sp.gone[addr] = was
	sp.strike(addr)
	return nil
}

// trapped handles SIGTRAP where it is our doing, and says whether it was. One
// that the program sent, or its own breakpoint instruction, is the program's.
func (s *Session) trapped(t *thread) bool {
	var info [128]byte
	if request(unix.PTRACE_GETSIGINFO, t.tid, 0, uintptr(unsafe.Pointer(&info))) != 0 {
		return false
	}
	code := *(*int32)(unsafe.Pointer(&info[8]))
	if t.how == unix.PTRACE_SINGLESTEP && stepCode(code) {
		t.signal = 0
		if t.proc.leaving {
			s.letGo(t)
		} else {
			s.tell(Event{Kind: Stepped, PID: t.proc.pid, TID: t.tid})
		}
		return true
	}
	ours := false
	defer func() {
		if !ours && t.proc.space.armed != 0 {
			// It is the program's, and would come to our handler.
			_ = s.disarm(t.proc, t)
			const setSiginfo = 0x4203
			request(setSiginfo, t.tid, 0, uintptr(unsafe.Pointer(&info)))
		}
	}()
	if code != breakCode {
		return false
	}
	var r Regs
	if regset(unix.PTRACE_GETREGSET, t.tid, &r) != nil {
		return false
	}
	addr := r.PC() - breakSkips
	sp := t.proc.space
	_, set := sp.breaks[addr]
	if _, former := sp.gone[addr]; !set && !former {
		return false
	}
	if !set {
		var now patch
		if sp.read(addr, now[:]) == nil && now == breakInstruction {
			return false // the program's own, where there was one of ours
		}
	}
	ours = true
	r.SetPC(addr)
	if breakSkips != 0 && regset(unix.PTRACE_SETREGSET, t.tid, &r) != nil {
		return true
	}
	t.signal = 0
	switch {
	case !set || t.proc.leaving:
		s.rest(t)
	default:
		s.park(t, addr, t.pass == passing{addr, SP(&r)})
	}
	return true
}

// park has a thread that came to a breakpoint stop once more, without the signal
// for that, and then tells of it: from the first stop the kernel would let it go
// on with the signal, which kills, if we were to die. Where it is known already
// it is passed instead, and goes on.
func (s *Session) park(t *thread, addr uint64, known bool) {
	request(unix.PTRACE_INTERRUPT, t.tid, 0, 0)
	t.stopped = false
	t.once = func(status unix.WaitStatus) {
		t.group, t.within = status.StopSignal() != unix.SIGTRAP, false
		if t.proc.leaving {
			s.letGo(t)
			return
		}
		if known {
			var r Regs
			_, set := t.proc.space.breaks[addr]
			if regset(unix.PTRACE_GETREGSET, t.tid, &r) == nil && (!set || r.PC() != addr || s.stepOver(t, addr, &r) == nil) {
				s.rest(t)
			}
			return
		}
		s.tell(Event{Kind: Breakpoint, PID: t.proc.pid, TID: t.tid, Addr: addr})
	}
	request(unix.PTRACE_CONT, t.tid, 0, 0)
	s.near()
}

// PassBreakpoint has a thread that stands at a breakpoint make the instruction
// under it; the thread stands still behind it then, and awaits its Resume. Where
// a signal or SIGSTOP comes first, it stays where it is, and passes silently
// when it comes to the breakpoint after that.
func (s *Session) PassBreakpoint(tid int) error {
	return s.ask(func() error {
		t, err := s.find(tid)
		if err != nil {
			return err
		}
		var r Regs
		if err := regset(unix.PTRACE_GETREGSET, tid, &r); err != nil {
			return err
		}
		if _, ok := t.proc.space.breaks[r.PC()]; !ok {
			return nil // it has been taken out
		}
		return s.stepOver(t, r.PC(), &r)
	})
}

// stepOver makes the instruction under the breakpoint at addr.
func (s *Session) stepOver(t *thread, addr uint64, r *Regs) error {
	sp := t.proc.space
	was := sp.breaks[addr]
	t.pass = passing{}
	var code [16]byte
	n := copy(code[:], was[:])
	// What follows may be another breakpoint; only the first instruction counts.
	_ = sp.read(addr+uint64(n), code[n:])
	for at, p := range sp.breaks {
		if at > addr && at < addr+uint64(len(code)) {
			copy(code[at-addr:], p[:])
		}
	}
	if emulate(code[:], r, sp.write) {
		return regset(unix.PTRACE_SETREGSET, t.tid, r)
	}

	// From here on until all is as it was, no thread but this one runs.
	sp.passing++
	var others []*thread
	for p := range sp.procs {
		for _, o := range p.threads {
			if o != t && !o.frozen {
				o.frozen = true
				others = append(others, o)
			}
		}
	}
	// One that is late in the kernel is left there; one that only waits for a
	// processor could run past the breakpoint while it is out.
	late := s.halt(others, Patience)
	for end := time.Now().Add(stepPatience); len(late) > 0 && time.Now().Before(end); late = s.halt(late, Patience) {
		if late = slices.DeleteFunc(late, asleep); len(late) == 0 {
			break
		}
	}
	t.passes = true
	defer func() {
		t.passes = false
		if sp.passing--; sp.passing == 0 {
			others = append(others, sp.late...)
			sp.late = nil
		}
		for _, o := range others {
			o.frozen = false
			_ = s.goOn(o)
		}
	}()
	if _, ok := sp.breaks[addr]; !ok {
		return nil
	}
	defer func() {
		if _, ok := sp.breaks[addr]; ok {
			_ = sp.write(addr, breakInstruction[:])
		}
	}()
	end := time.Now().Add(stepPatience)
	for {
		if err := sp.write(addr, was[:]); err != nil {
			return fmt.Errorf("pass the breakpoint at 0x%x: %w", addr, err)
		}
		status, errno := s.stepOnce(t, end)
		if errno != 0 {
			if errno == unix.ESRCH {
				return proc.ErrGone
			}
			return fmt.Errorf("pass the breakpoint at 0x%x: %w", addr, errno)
		}
		sig := status.StopSignal()
		switch event := int(status) >> 16; {
		case event == unix.PTRACE_EVENT_STOP && sig == unix.SIGTRAP:
			continue // an interruption for nobody
		case event == unix.PTRACE_EVENT_STOP:
			t.group, t.pass = true, passing{addr, SP(r)}
		case event != 0:
			s.stopped(t, status)
		case sig == unix.SIGTRAP && s.stepCame(t):
		case sig == unix.SIGTRAP && s.brokeAgain(t, addr):
			continue
		default:
			t.signal, t.pass = sig, passing{addr, SP(r)}
		}
		return nil
	}
}

// await has a new thread wait while another one is stepped over a breakpoint.
func (sp *space) await(t *thread) {
	if sp.passing > 0 {
		t.frozen = true
		sp.late = append(sp.late, t)
	}
}

// asleep reports whether a thread is in the kernel and does not run there.
func asleep(t *thread) bool {
	st, err := proc.New("/proc").TaskStat(t.proc.pid, t.tid)
	return err != nil || st.State != 'R'
}

// stepOnce lets a thread make an instruction and waits for the stop after it.
func (s *Session) stepOnce(t *thread, end time.Time) (status unix.WaitStatus, errno syscall.Errno) {
	if errno := request(unix.PTRACE_SINGLESTEP, t.tid, 0, 0); errno != 0 {
		return 0, errno
	}
	t.stopped = false
	done := false
	t.once = func(st unix.WaitStatus) { status, done = st, true }
	for pause := time.Duration(0); !done; pause = min(pause+2*time.Microsecond, 50*time.Microsecond) {
		s.drain()
		if s.threads[t.tid] != t {
			return 0, unix.ESRCH
		}
		if time.Now().After(end) {
			t.once = nil
			return 0, unix.ETIMEDOUT
		}
		if pause > 0 && !done {
			nap(pause)
		}
	}
	return status, 0
}

func (s *Session) siginfo(t *thread) int32 {
	var info [128]byte
	if request(unix.PTRACE_GETSIGINFO, t.tid, 0, uintptr(unsafe.Pointer(&info))) != 0 {
		return 0
	}
	return *(*int32)(unsafe.Pointer(&info[8]))
}

func (s *Session) stepCame(t *thread) bool { return stepCode(s.siginfo(t)) }

// brokeAgain: another thread's passing has put the breakpoint back meanwhile.
func (s *Session) brokeAgain(t *thread, addr uint64) bool {
	var r Regs
	if s.siginfo(t) != breakCode || regset(unix.PTRACE_GETREGSET, t.tid, &r) != nil || r.PC()-breakSkips != addr {
		return false
	}
	r.SetPC(addr)
	return regset(unix.PTRACE_SETREGSET, t.tid, &r) == nil
}

// trapPending says whether a thread that stands still came to a former
// breakpoint, and the signal for that is yet to be given to it.
func (s *Session) trapPending(t *thread) bool {
	sp := t.proc.space
	if len(sp.gone) == 0 {
		return false
	}
	var r Regs
	if regset(unix.PTRACE_GETREGSET, t.tid, &r) != nil {
		return false
	}
	if _, ok := sp.gone[r.PC()-breakSkips]; !ok {
		return false
	}
	return pendingTrap(t.tid)
}

// pendingTrap says whether a thread that stands still has yet to be given the
// signal of a breakpoint instruction.
func pendingTrap(tid int) bool {
	// struct ptrace_peeksiginfo_args: offset, flags, number.
	args := struct {
		off   uint64
		flags uint32
		nr    int32
	}{nr: 8}
	var infos [8][128]byte
	n, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_PEEKSIGINFO, uintptr(tid), uintptr(unsafe.Pointer(&args)), uintptr(unsafe.Pointer(&infos)), 0, 0)
	if errno != 0 {
		return false
	}
	for i := range infos[:n] {
		if *(*int32)(unsafe.Pointer(&infos[i])) == int32(unix.SIGTRAP) && *(*int32)(unsafe.Pointer(&infos[i][8])) == breakCode {
			return true
		}
	}
	return false
}
