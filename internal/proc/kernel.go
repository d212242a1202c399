package proc

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Values of kcmp(2), include/uapi/linux/kcmp.h.
const (
	kcmpFile = 0
	kcmpVM   = 1
)

func kcmp(a, b, kind int, x, y uintptr) (bool, error) {
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), uintptr(kind), x, y, 0)
	if errno != 0 {
		return false, gone(errno)
	}
	return r == 0, nil
}

// Machine returns the machine's name and its kernel's release, both empty where the
// kernel does not tell.
func Machine() (name, kernel string) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "", ""
	}
	return unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Release[:])
}

// SharesMemory reports whether two processes share one address space, as after
// clone with CLONE_VM or vfork. A thread of either may then wake the other.
func SharesMemory(a, b int) (bool, error) { return kcmp(a, b, kcmpVM, 0, 0) }

// SameFile reports whether two descriptors are one open file description.
func SameFile(pidA, fdA, pidB, fdB int) (bool, error) {
	return kcmp(pidA, pidB, kcmpFile, uintptr(fdA), uintptr(fdB))
}

// RobustList returns the head of a thread's list of robust futexes, 0 where it
// has none. The head lies at a fixed place within the C library's thread
// control block, which is how a thread pointer is had without stopping anybody.
func RobustList(tid int) (uint64, error) {
	var head uint64
	var size uintptr
	_, _, errno := unix.Syscall(unix.SYS_GET_ROBUST_LIST, uintptr(tid), uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, gone(errno)
	}
	return head, nil
}
