package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

func itoa(n int) string { return strconv.Itoa(n) }

// capabilities are the effective capabilities of this process.
type capabilities uint64

func (c capabilities) has(bit int) bool { return c&(1<<bit) != 0 }

// wanted are the capabilities that change what forkproof can see.
var wanted = [...]struct {
	bit  int
	name string
}{
	{unix.CAP_SYS_PTRACE, "SYS_PTRACE"}, {unix.CAP_SYS_ADMIN, "SYS_ADMIN"}, {unix.CAP_CHECKPOINT_RESTORE, "CHECKPOINT_RESTORE"},
	{unix.CAP_DAC_READ_SEARCH, "DAC_READ_SEARCH"},
}

// view checks that /proc is there and counts as we do.
func (p *patient) view() []Check {
	c := Check{Name: "/proc", State: OK, Found: "mounted, and of this PID namespace"}
	if err := p.fs.Own(); err != nil {
		c.State, c.Found, c.Without = Missing, err.Error(), "no process can be looked at"
		c.Do = "enter the namespaces together (nsenter --target PID --mount --pid), or mount one: mount -t proc proc /proc"
	}
	return []Check{c}
}

func (p *patient) capabilities() Check {
	c := Check{Name: "capabilities", State: OK}
	st, err := p.fs.Status(os.Getpid())
	if err != nil {
		c.State, c.Found = Unknown, err.Error()
		return c
	}
	p.caps = capabilities(st.CapEff)
	var have, lack []string
	for _, w := range wanted {
		if p.caps.has(w.bit) {
			have = append(have, w.name)
		} else {
			lack = append(lack, w.name)
		}
	}
	c.Found = fmt.Sprintf("user %d", p.euid)
	if len(have) > 0 {
		c.Found += " with " + strings.Join(have, ", ")
	}
	if len(lack) > 0 {
		c.Found += "; without " + strings.Join(lack, ", ")
	}
	if !p.caps.has(unix.CAP_SYS_PTRACE) {
		c.State = Limited
		c.Without = "without SYS_PTRACE only processes of the same user can be looked at, if at all"
		c.Do = p.instead()
	}
	return c
}

func (p *patient) seccomp() Check {
	c := Check{Name: "seccomp", State: OK, Found: "no filter"}
	b, err := os.ReadFile(p.fs.Path(os.Getpid(), "status"))
	if err != nil {
		c.State, c.Found = Unknown, err.Error()
		return c
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Seccomp:"); ok {
			p.filter, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	if p.filter != 0 {
		// A filter cannot be asked what it forbids: the trials below find out.
		c.Found = "forkproof runs under a filter; what it forbids shows below"
	}
	return c
}

func (p *patient) yamaScope() Check {
	c := Check{Name: "Yama", State: OK}
	b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if errors.Is(err, fs.ErrNotExist) {
		c.Found = "not in this kernel"
		return c
	}
	if err != nil {
		c.State, c.Found = Unknown, err.Error()
		return c
	}
	p.yama = strings.TrimSpace(string(b))
	c.Found = "kernel.yama.ptrace_scope is " + p.yama
	privileged := p.caps.has(unix.CAP_SYS_PTRACE)
	switch {
	case p.yama == "0":
	case p.yama == "3":
		c.State, c.Without = Limited, "nobody may read another process's memory until the next boot"
		c.Do = "set kernel.yama.ptrace_scope to 2 or less in /etc/sysctl.d and boot anew"
	case privileged:
		c.Found += ", which SYS_PTRACE overrules"
	default:
		c.State, c.Without = Limited, "processes that forkproof did not start itself cannot be read, not even of the same user"
		c.Do = "sudo forkproof inspect ...  (or: sudo sysctl kernel.yama.ptrace_scope=0)"
	}
	return c
}

func (p *patient) hidden() Check {
	c := Check{Name: "hidepid", State: OK, Found: "/proc shows the processes of all users"}
	if h := p.fs.HidePID(); h != "" {
		c.Found = "/proc is mounted with hidepid=" + h
		if p.euid != 0 && !p.caps.has(unix.CAP_SYS_PTRACE) {
			c.State, c.Without = Limited, "processes of other users are not found by --all, --name, --unit and --container"
			c.Do = "sudo forkproof inspect ..."
		}
	}
	return c
}

// initialPIDs is the number of the PID namespace that the kernel makes at boot
// (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const initialPIDs = "pid:[4026531836]"

func (p *patient) namespace() Check {
	c := Check{Name: "PID namespace", State: OK, Found: "the machine's own"}
	link, err := p.fs.Namespace(os.Getpid(), "pid")
	switch {
	case err != nil:
		c.State, c.Found = Unknown, err.Error()
	case link != initialPIDs:
		p.inner = true
		c.State, c.Found = Limited, "one of its own, as in a container"
		c.Without = "only processes of this namespace exist here, under its own numbers; a master outside of it is not seen"
	}
	return c
}

// others tries to read one process of another user.
func (p *patient) others() Check {
	c := Check{Name: "other users' processes", State: Unknown, Found: "there is none to try it on"}
	pids, err := p.fs.PIDs()
	if err != nil {
		c.Found = err.Error()
		return c
	}
	var refused error
	tried := 0
	for _, pid := range pids {
		st, err := p.fs.Stat(pid)
		if err != nil || st.Kthread() || st.State == 'Z' || pid == os.Getpid() {
			continue
		}
		status, err := p.fs.Status(pid)
		if err != nil || status.UID == p.euid {
			continue
		}
		if tried++; tried > 8 {
			break
		}
		if _, err := p.fs.Syscall(pid, pid); err == nil {
			c.State, c.Found = OK, fmt.Sprintf("process %d of user %d can be read", pid, status.UID)
			return c
		} else if !proc.IsGone(err) {
			refused = fmt.Errorf("process %d of user %d cannot: %w", pid, status.UID, err)
		}
	}
	switch {
	case refused != nil:
		c.State, c.Found = Limited, refused.Error()
		c.Without, c.Do = "inspect can look at processes of its own user only", p.instead()
	case p.caps.has(unix.CAP_SYS_PTRACE):
		c.State, c.Found = OK, "there is none to try it on; SYS_PTRACE allows it"
	default:
		c.State, c.Without, c.Do = Limited, "without SYS_PTRACE they could not be read", p.instead()
	}
	return c
}
