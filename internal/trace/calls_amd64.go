package trace

import "golang.org/x/sys/unix"

// oldCalls are those that only this processor has.
var oldCalls = map[uint64]string{
	unix.SYS_DUP2: "dup2", unix.SYS_OPEN: "open", unix.SYS_PIPE: "pipe", unix.SYS_FORK: "fork", unix.SYS_VFORK: "vfork", unix.SYS_ACCESS: "access", unix.SYS_STAT: "stat", unix.SYS_LSTAT: "lstat",
	unix.SYS_GETPGRP: "getpgrp", unix.SYS_CHMOD: "chmod", unix.SYS_UNLINK: "unlink", unix.SYS_READLINK: "readlink", unix.SYS_GETRLIMIT: "getrlimit", unix.SYS_SELECT: "select", unix.SYS_POLL: "poll",
	unix.SYS_EPOLL_WAIT: "epoll_wait", unix.SYS_PAUSE: "pause", unix.SYS_ARCH_PRCTL: "arch_prctl", unix.SYS_TIME: "time",
}
