package inspect

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"forkproof/internal/proc"
)

// timed reports whether a timer may send the process one of the signals in
// caught, a set as in /proc/PID/status: a handler may then be its limit for a wait.
// Timers of timer_create are listed by the kernel, those of alarm and setitimer
// are not, so that SIGALRM counts unless no process of the machine has one.
func (p *process) timed(caught uint64) bool {
	const alarm = 14
	if caught&(1<<(alarm-1)) != 0 && p.j.fs.AlarmPossible() {
		return true
	}
	signals, err := p.j.fs.TimerSignals(p.pid)
	if err != nil {
		// Kernels without CONFIG_CHECKPOINT_RESTORE have no such list: there it
		// is taken for empty, or no proof would be left.
		return !errors.Is(err, proc.ErrGone)
	}
	for _, n := range signals {
		if n > 0 && n <= 64 && n != 32 && caught&(1<<(n-1)) != 0 { // 32 is the C library's own
			return true
		}
	}
	return false
}

// ringed reports whether the process has an io_uring, open or mapped, or may have one
// since its files cannot be listed.
func (p *process) ringed() bool {
	const name = "anon_inode:[io_uring]"
	for _, m := range p.maps {
		if strings.HasSuffix(m.Path, name) {
			return true
		}
	}
	dir := p.j.fs.Path(p.pid, "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, f := range files {
		if to, err := os.Readlink(dir + "/" + f.Name()); err == nil && to == name {
			return true
		}
	}
	return false
}
