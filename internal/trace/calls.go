package trace

import (
	"fmt"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
	"forkproof/internal/ptrace"
)

// names are the system calls that a child makes between its fork and a program.
var callNames = map[uint64]string{
	unix.SYS_SET_ROBUST_LIST: "set_robust_list", unix.SYS_RT_SIGPROCMASK: "rt_sigprocmask", unix.SYS_RT_SIGACTION: "rt_sigaction", unix.SYS_CLOSE: "close",
	unix.SYS_DUP: "dup", unix.SYS_DUP3: "dup3", unix.SYS_CLOSE_RANGE: "close_range", unix.SYS_SETSID: "setsid", unix.SYS_CHDIR: "chdir", unix.SYS_FCHDIR: "fchdir",
	unix.SYS_EXECVE: "execve", unix.SYS_EXECVEAT: "execveat", unix.SYS_OPENAT: "openat", unix.SYS_READ: "read", unix.SYS_WRITE: "write", unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap",
	unix.SYS_MPROTECT: "mprotect", unix.SYS_BRK: "brk", unix.SYS_MADVISE: "madvise", unix.SYS_FUTEX: "futex", unix.SYS_GETPID: "getpid", unix.SYS_GETPPID: "getppid", unix.SYS_GETTID: "gettid", unix.SYS_FCNTL: "fcntl",
	unix.SYS_PRCTL: "prctl", unix.SYS_SETPGID: "setpgid", unix.SYS_EXIT_GROUP: "exit_group", unix.SYS_EXIT: "exit", unix.SYS_WAIT4: "wait4", unix.SYS_CLONE: "clone", unix.SYS_CLONE3: "clone3",
	unix.SYS_PRLIMIT64: "prlimit64", unix.SYS_SETUID: "setuid", unix.SYS_SETGID: "setgid", unix.SYS_SETGROUPS: "setgroups", unix.SYS_GETUID: "getuid", unix.SYS_GETEUID: "geteuid", unix.SYS_GETGID: "getgid",
	unix.SYS_GETRANDOM: "getrandom", unix.SYS_PIPE2: "pipe2", unix.SYS_SOCKET: "socket", unix.SYS_CONNECT: "connect", unix.SYS_IOCTL: "ioctl", unix.SYS_LSEEK: "lseek", unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHOWN: "fchown",
	unix.SYS_GETDENTS64: "getdents64", unix.SYS_NEWFSTATAT: "newfstatat", unix.SYS_FSTAT: "fstat", unix.SYS_EPOLL_CREATE1: "epoll_create1", unix.SYS_EPOLL_CTL: "epoll_ctl", unix.SYS_UTIMENSAT: "utimensat",
	unix.SYS_CLOCK_NANOSLEEP: "clock_nanosleep", unix.SYS_PSELECT6: "pselect6", unix.SYS_PPOLL: "ppoll", unix.SYS_ACCEPT4: "accept4", unix.SYS_TGKILL: "tgkill", unix.SYS_KILL: "kill",
}

// calls are the first system calls of a child.
type calls struct {
	names []string
	full  bool
}

// called notes the system call that a new child is about to make. It works on
// the tracer's thread: the child should not wait for anybody else.
func (j *job) called(e ptrace.Event) bool {
	mu.Lock()
	c := j.first[e.PID]
	more := c != nil && !c.full
	if more && e.Kind == ptrace.SyscallEntry {
		c.names = append(c.names, callName(e.Call.Number))
		c.full = len(c.names) == maxCalls
		more = !c.full
	}
	mu.Unlock()
	if more {
		_ = j.s.Syscalls(e.TID)
	} else {
		_ = j.s.Resume(e.TID)
	}
	return true
}

// settled returns what a child has called, and whether that is all.
func (j *job) settled(pid int) (names []string, all bool) {
	mu.Lock()
	defer mu.Unlock()
	c := j.first[pid]
	delete(j.first, pid)
	if c == nil {
		return nil, false
	}
	return c.names, !c.full
}

func callName(nr uint64) string {
	if n, ok := callNames[nr]; ok {
		return n
	}
	if n, ok := oldCalls[nr]; ok {
		return n
	}
	return fmt.Sprintf("system call %d", nr)
}

// stateName is what a thread did, in a word.
func stateName(t *seen) string {
	switch t.state {
	case 'R':
		return "running"
	case 'T':
		return "stopped"
	case 'D':
		return "uninterruptible"
	case 'Z', 'X':
		return "zombie"
	}
	if t.call == (proc.Syscall{}) || t.call.Running {
		return "running"
	}
	if t.call.Outside {
		return "sleeping"
	}
	if t.call.Nr == unix.SYS_FUTEX {
		return "futex-wait"
	}
	return callName(uint64(t.call.Nr))
}
