package ptrace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// A thread that comes to a breakpoint after its tracer was killed, and before the
// other process of the shelter has taken it out, would die of SIGTRAP. So a
// process that gets breakpoints gets a handler for that signal too, in a page of
// its own: it steps back and has the thread try again, until the breakpoint is
// gone. While there is a tracer it never runs. It is taken out when the process is
// let go, or comes to a SIGTRAP of its own; children have it as long. A program
// that has a handler of its own keeps that.

// handlerCode is, for the ucontext_t in rdx and the siginfo_t in rsi:
//
//	   cmp dword [rsi+8], 0x80        si_code is SI_KERNEL: an int3
//	   jne step
//	   mov rax, [rdx+168]             uc_mcontext.gregs[REG_RIP]
//	   dec rax
//	   lea rcx, [rip+table]
//	next:
//	   mov r8, [rcx]
//	   test r8, r8
//	   jz out                         none of ours, or stepped back already
//	   add rcx, 8
//	   cmp r8, rax
//	   jne next
//	   mov [rdx+168], rax
//	out:
//	   ret
//	step:
//	   and qword [rdx+176], ~0x100    the trap flag of gregs[REG_EFL]
//	   ret
var handlerCode = []byte{
	0x81, 0x7e, 0x08, 0x80, 0x00, 0x00, 0x00,
	0x75, 0x2a,
	0x48, 0x8b, 0x82, 0xa8, 0x00, 0x00, 0x00,
	0x48, 0xff, 0xc8,
	0x48, 0x8d, 0x0d, 0xe6, 0x01, 0x00, 0x00,
	0x4c, 0x8b, 0x01,
	0x4d, 0x85, 0xc0,
	0x74, 0x10,
	0x48, 0x83, 0xc1, 0x08,
	0x49, 0x39, 0xc0,
	0x75, 0xef,
	0x48, 0x89, 0x82, 0xa8, 0x00, 0x00, 0x00,
	0xc3,
	0x48, 0x81, 0xa2, 0xb0, 0x00, 0x00, 0x00, 0xff, 0xfe, 0xff, 0xff,
	0xc3,
}

// restorerCode is rt_sigreturn: mov eax, 15; syscall.
var restorerCode = []byte{0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05}

// Places in the memory of the handler.
const (
	restorerAt = 64
	ownAt      = 128 // struct kernel_sigaction of the handler
	defaultAt  = 192 // and of the default
	tableAt    = 512 // addresses of breakpoints, ended by 0
	pageSize   = 64 << 10

	saSiginfo  = 0x4
	saRestorer = 0x04000000
	saRestart  = 0x10000000
)

// armPatience is how long is waited for a thread that can be used.
const armPatience = 300 * time.Millisecond

var errNotArmed = errors.New("no thread could be used to put a handler in")

// arm puts the handler into a process.
func (s *Session) arm(p *process) error {
	if p.space.armed != 0 {
		return nil
	}
	return s.borrow(p, func(t *thread, call caller, scratch uint64) error {
		page, err := call(unix.SYS_MMAP, 0, pageSize, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
		if err != nil {
			return err
		}
		b := make([]byte, 256)
		copy(b, handlerCode)
		copy(b[restorerAt:], restorerCode)
		binary.LittleEndian.PutUint64(b[ownAt:], page)
		binary.LittleEndian.PutUint64(b[ownAt+8:], saSiginfo|saRestorer|saRestart)
		binary.LittleEndian.PutUint64(b[ownAt+16:], page+restorerAt)
		unmap := func() {
			_, _ = call(unix.SYS_MUNMAP, page, pageSize)
			s.journal.disarmed(p.pid)
		}
		s.journal.armed(p.pid, page)
		if err := p.space.write(page, b); err != nil {
			unmap()
			return err
		}
		if _, err := call(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), page+ownAt, scratch, 8); err != nil {
			unmap()
			return err
		}
		var old [32]byte
		if err := p.space.read(scratch, old[:]); err != nil || !bytes.Equal(old[:8], make([]byte, 8)) {
			// It has one of its own, or ignores the signal.
			_, _ = call(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), scratch, 0, 8)
			unmap()
			before := binary.LittleEndian.Uint64(old[:])
			code := make([]byte, len(handlerCode))
			if before%4096 == 0 && p.space.read(before, code) == nil && bytes.Equal(code, handlerCode) {
				// A tracer that was killed has left it.
				p.space.armed, p.space.used = before, true
				s.journal.armed(p.pid, before)
				return nil
			}
			return errNotArmed
		}
		p.space.armed = page
		return nil
	})
}

// tell lets the handler know a breakpoint. It never forgets one: a thread may have
// come to it just before it was taken out.
func (sp *space) tell(addr uint64) error {
	if sp.armed == 0 {
		return nil
	}
	b := make([]byte, pageSize-tableAt)
	if err := sp.read(sp.armed+tableAt, b); err != nil {
		return err
	}
	for i := 0; i+16 <= len(b); i += 8 {
		switch binary.LittleEndian.Uint64(b[i:]) {
		case addr:
			return nil
		case 0:
			return sp.write(sp.armed+tableAt+uint64(i), binary.LittleEndian.AppendUint64(nil, addr))
		}
	}
	return fmt.Errorf("more than %d breakpoints in one process", (pageSize-tableAt)/8-1)
}

// disarm takes it out again, by thread t or, where that is nil, by any.
func (s *Session) disarm(p *process, t *thread) error {
	page := p.space.armed
	if page == 0 {
		return nil
	}
	work := func(t *thread, call caller, scratch uint64) error {
		p.space.armed = 0
		if _, err := call(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), 0, scratch, 8); err != nil {
			return err
		}
		var now [8]byte
		if err := p.space.read(scratch, now[:]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(now[:]) == page {
			if _, err := call(unix.SYS_RT_SIGACTION, uint64(unix.SIGTRAP), page+defaultAt, 0, 8); err != nil {
				return err
			}
		}
		s.journal.disarmed(p.pid)
		if p.space.used {
			return nil // a thread may be in it
		}
		_, err := call(unix.SYS_MUNMAP, page, pageSize)
		return err
	}
	if t != nil {
		return s.lend(t, work)
	}
	return s.borrow(p, work)
}

// caller makes a system call in a target.
type caller func(nr uint64, args ...uint64) (uint64, error)

// borrow finds a thread that can be used for system calls, and has it back to
// what it did afterwards.
func (s *Session) borrow(p *process, work func(t *thread, call caller, scratch uint64) error) error {
	// One that came to a breakpoint just now has to be given the signal for that
	// first, and one that stands still within a system call has to end that.
	fit := func(t *thread) bool {
		return t.stopped && !t.group && !t.within && t.signal == 0 && t.ending == nil && t.birth == nil && !t.passes && !pendingTrap(t.tid)
	}
	fs := proc.New("/proc")
	for end := time.Now().Add(armPatience); time.Now().Before(end) && len(p.threads) > 0; {
		var next *thread
		for _, t := range p.threads {
			if fit(t) {
				return s.lend(t, work)
			}
			if t.stopped || t.once != nil {
				continue
			}
			// One that sleeps would be woken with an error from some system calls.
			st, err := fs.TaskStat(p.pid, t.tid)
			if err == nil && (next == nil || st.State == 'R') && st.State != 'D' {
				next = t
			}
		}
		if next == nil {
			nap(100 * time.Microsecond)
			s.drain()
			continue
		}
		was := next.frozen
		next.frozen = true
		late := s.halt([]*thread{next}, stepPatience)
		alive := s.threads[next.tid] == next
		var err error
		done := alive && len(late) == 0 && fit(next)
		if done {
			err = s.lend(next, work)
		}
		next.frozen = was
		if alive {
			_ = s.goOn(next)
		}
		if done {
			return err
		}
		s.drain()
	}
	return errNotArmed
}

// lend has a thread that stands still make system calls, and puts all of it back.
func (s *Session) lend(t *thread, work func(t *thread, call caller, scratch uint64) error) error {
	at, err := syscallInstruction(t.proc.pid)
	if err != nil {
		return err
	}
	var was Regs
	if err := regset(unix.PTRACE_GETREGSET, t.tid, &was); err != nil {
		return err
	}
	// No other signal may come in between; SIGTRAP must, since that is how a step ends.
	var mask, all uint64
	all = ^uint64(1 << (unix.SIGTRAP - 1))
	const getSigmask, setSigmask = 0x420a, 0x420b
	if errno := request(getSigmask, t.tid, 8, uintptr(unsafe.Pointer(&mask))); errno != 0 {
		return errno
	}
	if errno := request(setSigmask, t.tid, 8, uintptr(unsafe.Pointer(&all))); errno != 0 {
		return errno
	}
	passes := t.passes
	t.passes = true
	defer func() {
		t.passes = passes
		_ = regset(unix.PTRACE_SETREGSET, t.tid, &was)
		request(setSigmask, t.tid, 8, uintptr(unsafe.Pointer(&mask)))
	}()
	call := func(nr uint64, args ...uint64) (uint64, error) {
		r := was
		r.Rip, r.Rax, r.Orig_rax = at, nr, ^uint64(0)
		for i, a := range args {
			*[]*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9}[i] = a
		}
		if err := regset(unix.PTRACE_SETREGSET, t.tid, &r); err != nil {
			return 0, err
		}
		for end := time.Now().Add(stepPatience); ; {
			status, errno := s.stepOnce(t, end)
			if errno != 0 {
				return 0, errno
			}
			if status.StopSignal() == unix.SIGTRAP && int(status)>>16 == unix.PTRACE_EVENT_STOP {
				continue
			}
			if status.StopSignal() != unix.SIGTRAP || int(status)>>16 != 0 {
				return 0, errNotArmed
			}
			break
		}
		if err := regset(unix.PTRACE_GETREGSET, t.tid, &r); err != nil {
			return 0, err
		}
		if n := int64(r.Rax); n < 0 && n > -4096 {
			return 0, syscall.Errno(-n)
		}
		return r.Rax, nil
	}
	// Below the red zone nobody keeps anything.
	return work(t, call, (was.Rsp-512)&^15)
}

// syscallInstruction finds a syscall instruction in the kernel's own code in a
// process, which every process has.
func syscallInstruction(pid int) (uint64, error) {
	maps, err := proc.New("/proc").Maps(pid)
	if err != nil {
		return 0, err
	}
	for _, m := range maps {
		if m.Path != "[vdso]" {
			continue
		}
		b := make([]byte, min(m.End-m.Start, 64<<10))
		local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
		if _, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(m.Start), Len: len(b)}}, 0); err != nil {
			return 0, err
		}
		if i := bytes.Index(b, []byte{0x0f, 0x05}); i >= 0 {
			return m.Start + uint64(i), nil
		}
	}
	return 0, fmt.Errorf("process %d: %w", pid, errNotArmed)
}
