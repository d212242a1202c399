package forkserver

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"

	"forkproof/internal/proc"
	"forkproof/internal/target"
)

// Process is one process as Snapshot saw it.
type Process struct {
	ID   target.ID
	PPID int
	Comm string
	// Args are the arguments, or the title that the process wrote over them,
	// as one string. Empty where the process has none (a zombie).
	Args []string
	// Exe is the path of the program in the process's own mount namespace,
	// without the " (deleted)" of a replaced file; empty where we may not look.
	Exe string
	// StartTime is ID.Start: clock ticks (100 per second) since boot.
	StartTime uint64
	Threads   int
	// State is the letter of /proc/PID/stat: R, S, D, T, t, Z, X, I.
	State byte
	// Title says what the process does in its server: "master", "worker",
	// "checkpointer". Snapshot leaves it empty.
	Title string

	image image
}

// image is what one call of execve laid out in a process's memory, and fork
// copies: the kernel chooses these addresses at random at each execve.
type image struct {
	// noExec is the kernel's PF_FORKNOEXEC: no execve since the fork.
	noExec bool
	// Start of the program's code, of the stack and of the heap (start_code,
	// start_stack and start_brk of the kernel's mm_struct); 0 where the
	// kernel does not tell us for want of permission.
	code, stack, brk uint64
}

// forkNoExec is PF_FORKNOEXEC of the kernel's include/linux/sched.h: set by
// fork, cleared by execve, and shown to everybody in field 9 of stat.
const forkNoExec = 0x40

// Running reports whether the process is neither a zombie nor gone.
func (p *Process) Running() bool { return p.State != 'Z' && p.State != 'X' }

// Command returns the arguments joined by blanks, or the title that the process
// wrote over them, or the name in brackets where there are none.
func (p *Process) Command() string {
	if s := p.title(); s != "" {
		return s
	}
	return "[" + p.Comm + "]"
}

// exeBase is the base name of the program file.
func (p *Process) exeBase() string {
	if p.Exe == "" {
		return ""
	}
	return path.Base(p.Exe)
}

// Snapshot reads all processes once, in ascending order of their PIDs. Threads
// of the kernel and processes that end meanwhile are left out. An error means
// that nothing could be read at all.
func Snapshot(fs proc.FS) ([]Process, error) {
	pids, err := fs.PIDs()
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	all := make([]Process, len(pids))
	found := make([]bool, len(pids))
	// Two readers at once: most of the time goes into the kernel.
	var wait sync.WaitGroup
	const readers = 2
	for r := range readers {
		wait.Go(func() {
			for i := r; i < len(pids); i += readers {
				p, err := read(fs, pids[i])
				all[i], found[i] = p, err == nil
			}
		})
	}
	wait.Wait()
	processes := all[:0]
	for i := range all {
		if found[i] {
			processes = append(processes, all[i])
		}
	}
	if len(processes) == 0 && len(pids) > 0 {
		_, err := read(fs, pids[0])
		if !errors.Is(err, errKernel) {
			return nil, fmt.Errorf("read the processes: %w", err)
		}
	}
	return processes, nil
}

var errKernel = errors.New("a thread of the kernel")

func read(fs proc.FS, pid int) (Process, error) {
	b, err := fs.Read(pid, "stat")
	if err != nil {
		return Process{}, err
	}
	st, err := proc.ParseStat(b)
	if err != nil {
		return Process{}, err
	}
	if st.Kthread() {
		return Process{}, errKernel
	}
	p := Process{
		ID:   target.ID{PID: pid, Start: st.StartTime},
		PPID: st.PPID, Comm: st.Comm, StartTime: st.StartTime,
		Threads: st.NumThreads, State: st.State,
		image: parseImage(b, st.Flags),
	}
	if !p.Running() {
		return p, nil
	}
	// What cannot be read stays empty: another user's program is hidden from
	// us, and its arguments and name are not.
	p.Args, _ = fs.Cmdline(pid)
	p.Exe, _, _ = fs.Exe(pid)
	return p, nil
}

// parseImage takes the addresses from a line that ParseStat accepted. Without
// the permission to look into the process the kernel writes 0 or 1 instead.
func parseImage(stat []byte, flags uint64) image {
	im := image{noExec: flags&forkNoExec != 0}
	line := string(stat)
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	// Field numbers as proc(5) counts them.
	num := func(i int) uint64 {
		if i -= 3; i >= len(fields) {
			return 0
		}
		v, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil || v == 1 {
			return 0
		}
		return v
	}
	im.code, im.stack, im.brk = num(26), num(28), num(47)
	return im
}
