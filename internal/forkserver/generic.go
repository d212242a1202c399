package forkserver

import (
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// notServers are programs that fork copies of themselves and serve nobody with
// them. They are left out of what Find returns by the base name of the program
// file, or of the name where the file is hidden from us. Of still tells about
// them.
//
//   - shells: a subshell is a copy of its shell;
//   - systemd (sd-pam) and programs that keep a copy of themselves to wait for a
//     session or a job: login, sshd, su, sudo, cron, at, screen, script;
//   - build tools and tracers, whose children are copies for the moment before
//     they call execve, at times a long one.
var notServers = regexp.MustCompile(`^(` +
	`a?sh|bash|dash|ksh(93)?|[mlo]ksh|pdksh|rbash|zsh([0-9.-]*)|fish|t?csh|yash|busybox|toybox|` +
	`systemd|systemd-.*|\(sd-pam\)|init|tini|dumb-init|catatonit|s6-.*|runit|runsv.*|` +
	`login|agetty|getty|sshd|sshd-.*|dropbear|su|sudo|doas|runuser|setpriv|pkexec|` +
	`cron|crond|anacron|atd|fcron|` +
	`screen|SCREEN|tmux(: .*)?|script|expect|unshare|nsenter|bwrap|` +
	`gdm.*|lightdm|sddm|xdm|dbus-daemon|dbus-broker.*|` +
	`g?make|ninja|samu|cc1.*|ld|gold|lld|` +
	`strace|ltrace|gdb|perf|rsync|git|forkproof` +
	`)$`)

func notServer(p *Process) bool {
	name := p.exeBase()
	if name == "" {
		name = p.Comm
	}
	return notServers.MatchString(name)
}

// tick is the unit of start times: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// genericName names a server by the script that its interpreter runs, or by
// its program.
func genericName(p *Process) string {
	name := program(p).name
	if name == "" {
		name = p.exeBase()
	}
	if name == "" {
		name = p.Comm
	}
	return Generic + " (" + shortTitle(name) + ")"
}

func genericTraits() Traits {
	return Traits{
		RestartWorker: "kill -TERM WORKER",
		Hooks: []Hook{
			{Name: "pthread_atfork child handler", In: "worker", Use: "put locks of C code into their first state"},
			{Name: "os.register_at_fork(after_in_child=...) in Python, Process._fork in Ruby", In: "worker", Use: "make new locks, threads and connections"},
		},
		Notes: []string{
			"whether the master replaces a worker that is ended is not known: look at its documentation first",
		},
	}
}

// oneOf reports whether s is one of list.
func oneOf(s string, list ...string) bool { return slices.Contains(list, s) }
