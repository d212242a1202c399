package doctor

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// try tries on a process of our own user everything that inspect uses.
func (p *patient) try(pid int) []Check {
	maps, err := p.fs.Maps(pid)
	all := []Check{p.trial("mappings", "/proc/PID/maps", err, Missing, "memory cannot be made sense of")}
	_, err = p.fs.Syscall(pid, pid)
	all = append(all, p.trial("system calls", "/proc/PID/syscall", err, Missing, "it cannot be seen what a thread waits for"))
	all = append(all, p.memory(pid, maps), p.pagemap(pid, maps), p.mapFiles(pid, maps))
	_, err = proc.SharesMemory(os.Getpid(), pid)
	all = append(all, p.trial("kcmp", "kcmp(2)", err, Limited, "it cannot be known whether another process shares the memory, so that nothing is called proven"))
	_, err = proc.RobustList(pid)
	all = append(all, p.trial("get_robust_list", "get_robust_list(2)", err, Limited, "the thread that survived a fork cannot be told, so that no owner is called gone"))
	_, err = p.fs.RunTime(pid, pid)
	all = append(all, p.trial("processor time", "/proc/PID/task/TID/schedstat", err, Limited, "that a thread stood still is told by context switches alone"))
	err = nil
	if _, ok := p.fs.LastRan(pid, pid); !ok {
		err = errors.New("there is no se.exec_start in /proc/PID/task/TID/sched (CONFIG_SCHED_DEBUG)")
	}
	all = append(all, p.trial("last run", "/proc/PID/task/TID/sched", err, Limited, "it cannot be said since when a thread waits"))
	_, err = os.ReadDir(p.fs.Path(pid, "fd"))
	all = append(all, p.trial("descriptors", "/proc/PID/fd", err, Limited, "shared connections and queues are not found"))
	return all
}

// trial is the outcome of one attempt.
func (p *patient) trial(name, what string, err error, otherwise State, without string) Check {
	if err == nil {
		return Check{Name: name, State: OK, Found: what + " works"}
	}
	c := Check{Name: name, State: otherwise, Found: fmt.Sprintf("%s: %v", what, err), Without: without}
	switch {
	case errors.Is(err, unix.ENOSYS):
		c.Do = "this kernel, or a seccomp filter, does not have it"
	case proc.IsPermission(err):
		c.Do = p.instead()
		if p.filter != 0 && p.caps.has(unix.CAP_SYS_PTRACE) {
			c.Do = "a seccomp filter may forbid it: docker run --security-opt seccomp=unconfined --cap-add SYS_PTRACE ..."
		}
	}
	return c
}

// memory reads a few bytes in both ways there are. One is enough.
func (p *patient) memory(pid int, maps []proc.Mapping) Check {
	const name, without = "memory", "neither locks nor stacks can be read"
	for _, m := range maps {
		if !m.Read || m.Path == "[vvar]" {
			continue
		}
		b := make([]byte, 16)
		local := []unix.Iovec{{Base: &b[0]}}
		local[0].SetLen(len(b))
		n, fast := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(m.Start), Len: len(b)}}, 0)
		if fast == nil && n == len(b) {
			return Check{Name: name, State: OK, Found: "process_vm_readv(2) works"}
		}
		f, err := os.Open(p.fs.Path(pid, "mem"))
		if err == nil {
			_, err = f.ReadAt(b, int64(m.Start))
			_ = f.Close()
		}
		if err == nil {
			return Check{Name: name, State: OK, Found: fmt.Sprintf("/proc/PID/mem works; process_vm_readv(2) does not: %v", fast)}
		}
		return p.trial(name, "process_vm_readv(2), /proc/PID/mem", errors.Join(fast, err), Missing, without)
	}
	return p.trial(name, "process_vm_readv(2)", errors.New("not tried: no mappings were seen"), Missing, without)
}

// pageScan is struct pm_scan_arg of Linux 6.7 (include/uapi/linux/fs.h).
type pageScan struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages   uint64
	categoryInverted, categoryMask, categoryAnyOf, returnMask uint64
}

// pagemapScan is PAGEMAP_SCAN, _IOWR('f', 16, struct pm_scan_arg).
const (
	pagemapScan = 0xc0606610
	pagePresent = 1 << 3
)

func (p *patient) pagemap(pid int, maps []proc.Mapping) Check {
	const name = "page map"
	f, err := os.Open(p.fs.Path(pid, "pagemap"))
	if err != nil {
		return p.trial(name, "/proc/PID/pagemap", err, Limited, "memory that was never touched is read as well, which is slow")
	}
	defer f.Close()
	for _, m := range maps {
		if !m.Read {
			continue
		}
		var region [3]uint64
		arg := pageScan{start: m.Start, end: m.End, vec: uint64(uintptr(unsafe.Pointer(&region))), vecLen: 1, categoryMask: pagePresent, returnMask: pagePresent}
		arg.size = uint64(unsafe.Sizeof(arg))
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		if errno == 0 {
			return Check{Name: name, State: OK, Found: "PAGEMAP_SCAN works"}
		}
		var word [8]byte
		if _, err := f.ReadAt(word[:], int64(m.Start/uint64(os.Getpagesize())*8)); err == nil {
			return Check{Name: name, State: OK, Found: fmt.Sprintf("/proc/PID/pagemap works; PAGEMAP_SCAN (Linux 6.7) does not: %v", errno)}
		}
		break
	}
	return p.trial(name, "/proc/PID/pagemap", errors.New("no word of it can be read"), Limited, "memory that was never touched is read as well, which is slow")
}

func (p *patient) mapFiles(pid int, maps []proc.Mapping) Check {
	const name, without = "mapped files", "a program or library that was replaced since its start cannot be read: its functions stay without names"
	for _, m := range maps {
		if !m.File() || !m.Exec {
			continue
		}
		f, err := os.Open(p.fs.Path(pid, "map_files", fmt.Sprintf("%x-%x", m.Start, m.End)))
		if err != nil {
			return p.trial(name, "/proc/PID/map_files", err, Limited, without)
		}
		_ = f.Close()
		return Check{Name: name, State: OK, Found: "/proc/PID/map_files works"}
	}
	return p.trial(name, "/proc/PID/map_files", errors.New("not tried: no mappings were seen"), Limited, without)
}
