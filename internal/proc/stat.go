package proc

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Stat is what /proc/PID/stat says.
type Stat struct {
	PID   int
	Comm  string
	State byte
	PPID  int
	Flags uint64
	// UTime and STime are processor time in clock ticks of 10 ms.
	UTime, STime uint64
	NumThreads   int
	// VSize is the size of the address space in bytes.
	VSize uint64
	// StartTime is in clock ticks since boot.
	StartTime uint64
}

// kthread is PF_KTHREAD of the kernel's include/linux/sched.h.
const kthread = 0x00200000

// Kthread reports whether this is a thread of the kernel itself.
func (s Stat) Kthread() bool { return s.Flags&kthread != 0 }

// exiting is PF_EXITING of the kernel's include/linux/sched.h.
const exiting = 0x00000004

// Exiting reports whether the thread is on its way out: it runs no code of its
// program any more.
func (s Stat) Exiting() bool { return s.Flags&exiting != 0 }

// Stat reads /proc/PID/stat.
func (f FS) Stat(pid int) (Stat, error) { return readStat(f.Path(pid, "stat")) }

// TaskStat reads /proc/PID/task/TID/stat.
func (f FS) TaskStat(pid, tid int) (Stat, error) { return readStat(f.taskPath(pid, tid, "stat")) }

func readStat(path string) (Stat, error) {
	b, err := read(path)
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(b)
}

// ParseStat parses the line of a stat file. The name may hold spaces and
// brackets: it ends at the last bracket.
func ParseStat(b []byte) (Stat, error) {
	var s Stat
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || shut < open {
		return s, fmt.Errorf("stat: %w: %.80q", ErrParse, b)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	if err != nil {
		return s, fmt.Errorf("stat: %w: %.80q", ErrParse, b)
	}
	fields := strings.Fields(string(b[shut+1:]))
	if len(fields) < 21 || len(fields[0]) != 1 {
		return s, fmt.Errorf("stat: %w: %.80q", ErrParse, b)
	}
	s.PID, s.Comm, s.State = pid, string(b[open+1:shut]), fields[0][0]
	num := func(i int) uint64 {
		v, e := strconv.ParseUint(fields[i-3], 10, 64)
		if e != nil && err == nil {
			err = e
		}
		return v
	}
	// Field numbers as proc(5) counts them.
	s.PPID = int(num(4))
	s.Flags, s.UTime, s.STime = num(9), num(14), num(15)
	s.NumThreads = int(num(20))
	s.StartTime, s.VSize = num(22), num(23)
	if err != nil {
		return s, fmt.Errorf("stat: %w: %.80q", ErrParse, b)
	}
	return s, nil
}

// Status is what /proc/PID/status says, as far as we need it.
type Status struct {
	Name                           string
	State                          byte
	TGID, PID, PPID, TracerPID     int
	NSTGID, NSPID                  []int
	Threads                        int
	UID                            int
	SigBlk, SigIgn, SigCgt, CapEff uint64
	// Switches counts voluntary and involuntary context switches together: a
	// thread that sleeps does not add to it.
	Switches uint64
}

// InnerPID is the id in the thread's own PID namespace.
func (s Status) InnerPID() int {
	if n := len(s.NSPID); n > 0 {
		return s.NSPID[n-1]
	}
	return s.PID
}

// Status reads /proc/PID/status.
func (f FS) Status(pid int) (Status, error) { return readStatus(f.Path(pid, "status")) }

// TaskStatus reads /proc/PID/task/TID/status.
func (f FS) TaskStatus(pid, tid int) (Status, error) {
	return readStatus(f.taskPath(pid, tid, "status"))
}

func readStatus(path string) (Status, error) {
	b, err := read(path)
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(b)
}

// ParseStatus parses a status file.
func ParseStatus(b []byte) (Status, error) {
	var s Status
	var err error
	atoi := func(v string) int {
		n, e := strconv.Atoi(v)
		if e != nil && err == nil {
			err = e
		}
		return n
	}
	hex := func(v string) uint64 {
		n, e := strconv.ParseUint(v, 16, 64)
		if e != nil && err == nil {
			err = e
		}
		return n
	}
	list := func(v string) []int {
		var l []int
		for _, w := range strings.Fields(v) {
			l = append(l, atoi(w))
		}
		return l
	}
	for line := range strings.Lines(string(b)) {
		k, v, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		v = strings.TrimSpace(v)
		switch k {
		case "Name":
			s.Name = v
		case "State":
			if v != "" {
				s.State = v[0]
			}
		case "Tgid":
			s.TGID = atoi(v)
		case "Pid":
			s.PID = atoi(v)
		case "PPid":
			s.PPID = atoi(v)
		case "TracerPid":
			s.TracerPID = atoi(v)
		case "Uid":
			if w := strings.Fields(v); len(w) > 0 {
				s.UID = atoi(w[0])
			}
		case "NStgid":
			s.NSTGID = list(v)
		case "NSpid":
			s.NSPID = list(v)
		case "Threads":
			s.Threads = atoi(v)
		case "SigBlk":
			s.SigBlk = hex(v)
		case "SigIgn":
			s.SigIgn = hex(v)
		case "SigCgt":
			s.SigCgt = hex(v)
		case "CapEff":
			s.CapEff = hex(v)
		case "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches":
			s.Switches += uint64(atoi(v))
		}
	}
	if err != nil || s.State == 0 || s.PID == 0 {
		return s, fmt.Errorf("status: %w: %.80q", ErrParse, b)
	}
	return s, nil
}
