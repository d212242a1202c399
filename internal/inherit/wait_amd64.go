package inherit

import "golang.org/x/sys/unix"

// waitsOnFirst reports whether a system call sleeps on the descriptor that is
// its first argument.
func waitsOnFirst(nr int64) bool {
	switch nr {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_READ, unix.SYS_IO_URING_ENTER:
		return true
	}
	return false
}
