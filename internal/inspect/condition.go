package inspect

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"forkproof/internal/proc"
	"forkproof/internal/target"
)

// check says of a PID that was asked for why it cannot be looked at.
func (j *job) check(pid int) error {
	st, err := j.fs.Stat(pid)
	switch {
	case proc.IsGone(err):
		if h := j.fs.HidePID(); h != "" && os.Geteuid() != 0 {
			return fmt.Errorf("no process %d is visible: /proc is mounted with hidepid=%s, so it may be another user's; run as root: %w", pid, h, ErrNothing)
		}
		hint := j.inside(pid)
		if hint == "" {
			hint = "it may have ended; inside a container the PIDs are the container's own"
		}
		return fmt.Errorf("no process %d on this machine (%s): %w", pid, hint, ErrNothing)
	case err != nil:
		return permission(pid, err)
	case st.Kthread():
		hint := j.inside(pid)
		if hint != "" {
			hint = " (" + hint + ")"
		}
		return fmt.Errorf("process %d (%s) is a thread of the kernel, which has no memory of its own to look at%s: %w", pid, st.Comm, hint, ErrNothing)
	case pid == j.self:
		return fmt.Errorf("process %d is forkproof itself: %w", pid, ErrNothing)
	}
	// The kernel answers for the number of a thread as for that of a process.
	if s, err := j.fs.Status(pid); err == nil && s.TGID != pid {
		return fmt.Errorf("%d is a thread (%s) of process %d, not a process: name that one: %w", pid, s.Name, s.TGID, ErrNothing)
	}
	return living(st)
}

// living says why a process that is still listed cannot be read any more.
func living(st proc.Stat) error {
	switch {
	case st.State != 'Z' && st.State != 'X':
		return nil
	case st.NumThreads > 1:
		return fmt.Errorf("the first thread of process %d (%s) has ended and its others go on: by the number of such a process the kernel shows its memory to nobody, gdb -p with the number of another thread can look at it: %w",
			st.PID, st.Comm, ErrNothing)
	}
	return fmt.Errorf("process %d (%s) has ended and waits for its parent %d to collect it (a zombie): %w", st.PID, st.Comm, st.PPID, ErrNothing)
}

// inside names the processes that have this number in a PID namespace of their
// own: somebody may have read it within a container. It is empty where there are
// none.
func (j *job) inside(pid int) string {
	const most = 4
	// PIDs are checked before the processes of the machine are read.
	pids, err := j.fs.PIDs()
	if err != nil {
		return ""
	}
	var out []string
	for _, p := range pids {
		st, err := j.fs.Status(p)
		if err != nil || len(st.NSPID) < 2 || !slices.Contains(st.NSPID[1:], pid) {
			continue
		}
		if len(out) == most {
			out[most-1] = "others"
			break
		}
		out = append(out, fmt.Sprintf("%d (%s)", p, st.Name))
	}
	if len(out) == 0 {
		return ""
	}
	return fmt.Sprintf("%d is the number inside a container of what is process %s here: name it so", pid, strings.Join(out, " or "))
}

// present returns an error where id names no process any more, or only what is
// left of one.
func (j *job) present(id target.ID) error {
	st, err := j.fs.Stat(id.PID)
	if err != nil {
		return err
	}
	if st.StartTime != id.Start {
		return proc.ErrGone
	}
	if err := living(st); err != nil {
		if st.NumThreads > 1 {
			return err
		}
		return proc.ErrGone
	}
	return nil
}

// machine is the kind of program that this build can read.
var machine = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]

// foreign returns an error for a program of another kind than forkproof: its
// system calls have other numbers and its locks other forms. What cannot be told
// is left to those who read on.
func (j *job) foreign(pid int) error {
	p, err := j.fs.Program(pid)
	if err != nil || p.Bits == 64 && p.Machine == machine {
		return nil
	}
	return fmt.Errorf("process %d runs a %s program, whose locks and stacks this build of forkproof (for 64-bit %s) cannot read: gdb -p %d -batch -ex 'thread apply all bt' shows where it hangs: %w",
		pid, p, runtime.GOARCH, pid, ErrNothing)
}

// permission turns a refusal into what the user can do.
func permission(pid int, err error) error {
	if !proc.IsPermission(err) {
		return err
	}
	euid := os.Geteuid()
	hint := "run forkproof as root or as the process's own user"
	if euid == 0 {
		hint = "root was refused: in a container the capability SYS_PTRACE is needed (docker run --cap-add SYS_PTRACE; kubectl debug --profile=sysadmin)"
	} else if b, e := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); e == nil && strings.TrimSpace(string(b)) != "0" {
		hint = "kernel.yama.ptrace_scope is " + strings.TrimSpace(string(b)) + ": run forkproof as root"
	} else if st, e := proc.New("/proc").Status(pid); e == nil && st.UID == euid {
		hint = "it is of the same user, but closed to it, as one that has changed its user or group is: run forkproof as root"
	}
	return fmt.Errorf("look at process %d: permission denied; %s (%w)", pid, hint, err)
}

// blind turns what kept a process from being read into words for the report.
func blind(pid int, err error) error {
	if proc.IsGone(err) {
		return fmt.Errorf("process %d ended while it was looked at: %w", pid, ErrNothing)
	}
	return permission(pid, err)
}

// halted says what keeps the process from running on, as far as it is nothing of
// its own.
func (p *process) halted() []string {
	var stopped, held bool
	tracer := 0
	for _, g := range p.looks[1] {
		stopped = stopped || g.status.State == 'T'
		held = held || g.status.State == 't'
		tracer = max(tracer, g.status.TracerPID)
	}
	var out []string
	if tracer != 0 {
		by := fmt.Sprintf("process %d", tracer)
		if st, err := p.j.fs.Status(tracer); err == nil { // of the thread that traces
			by = fmt.Sprintf("process %d (%s)", st.TGID, st.Name)
		}
		how := "is traced by " + by
		if held {
			how = "is held by a debugger, " + by + ": what it would do by itself shows when that lets it go"
		}
		out = append(out, fmt.Sprintf("process %d %s", p.pid, how))
	}
	if stopped && !held {
		out = append(out, fmt.Sprintf("process %d is stopped by a signal: kill -CONT %d lets it go on, and then it can be judged", p.pid, p.pid))
	}
	return out
}

// damage says which of the files that make up the process are not what they were,
// and which could not be read.
func (p *process) damage(exe string) []string {
	if p.space == nil {
		return nil
	}
	missing := p.space.Missing()
	var out []string
	seen := make(map[string]bool)
	for _, m := range p.maps {
		// Not memfd and other memory that was never a file on a disk.
		if !m.Deleted || !m.Exec || seen[m.Path] || m.Path == exe || m.Major == 0 && strings.HasPrefix(m.Path, "/memfd:") {
			continue
		}
		seen[m.Path] = true
		if _, ok := p.module(m.Start); ok {
			out = append(out, fmt.Sprintf("the library %s was replaced or removed since process %d mapped it; what is said of it was read from the old one", m.Path, p.pid))
		}
	}
	for _, tid := range p.tids {
		for _, f := range p.stacks[tid] {
			if f.Damage == nil || f.Module == nil || seen[f.Module.Name+" tables"] {
				continue
			}
			seen[f.Module.Name+" tables"] = true
			out = append(out, fmt.Sprintf("process %d: the tables for unwinding of %s are damaged (%v), so that the callers of its functions are searched for in the stack", p.pid, f.Module.Name, f.Damage))
		}
	}
	names := make([]string, 0, len(missing))
	for name := range missing {
		if !strings.HasPrefix(name, "[") { // the kernel's own, which has no file
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		err := missing[name]
		text := fmt.Sprintf("process %d: %s could not be read (%v), so that stacks through it are guessed or end there", p.pid, name, err)
		if errors.Is(err, proc.ErrReplaced) && os.Geteuid() != 0 {
			text += "; root can read the old file"
		}
		out = append(out, text)
	}
	return out
}
