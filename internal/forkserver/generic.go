package forkserver

import (
	"path"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// notServers are programs that fork copies of themselves and serve nobody with
// them. They are left out of what Find returns by the base name of the program
// file, or of the name where the file is hidden from us. Of still tells about
// them.
//
//   - shells: a subshell is a copy of its shell. A script that is started by its
//     own name has that for its name, and the shell for its program;
//   - systemd (sd-pam) and programs that keep a copy of themselves to wait for a
//     session or a job, or to give up rights: login, sshd, su, sudo, cron, at,
//     screen, tmux, script, chronyd, dhcpcd, avahi-daemon, dnsmasq, virtiofsd;
//   - what starts containers, whose first process is a copy for a moment;
//   - package managers, build tools and tracers, whose children are copies while
//     they unpack or before they call execve, at times for long.
var notServers = pattern(`^(` +
	`a?sh|bash|dash|ksh(93)?|[mlo]ksh|pdksh|rbash|zsh([0-9.-]*)|fish|t?csh|yash|busybox|toybox|` +
	`systemd|systemd-.*|\(sd-pam\)|init|tini|dumb-init|catatonit|s6-.*|runit|runsv.*|openrc.*|start-stop-daemon|udevd|eudev|` +
	`login|agetty|getty|mingetty|sshd|sshd-.*|ssh|ssh-agent|gpg-agent|dropbear|mosh-server|su|sudo|doas|runuser|setpriv|pkexec|polkit.*|` +
	`cron|crond|anacron|atd|fcron|` +
	`screen|SCREEN|tmux(: .*)?|zellij|dtach|abduco|script|expect|unshare|nsenter|bwrap|firejail|flatpak.*|timeout|` +
	`containerd.*|docker.*|runc|crun|youki|conmon|podman|buildah|pause|lxc.*|lxd|incus.*|kubelet|virtiofsd|` +
	`chronyd|ntpd|dhcpcd|dhclient|avahi-daemon|dnsmasq|lldpd|rpc\..*|wpa_supplicant|` +
	`gdm.*|lightdm|sddm|xdm|dbus-daemon|dbus-broker.*|` +
	`apt|apt-get|aptitude|aptd|dpkg|dpkg-.*|rpm|dnf.*|yum|zypper|apk|pacman|snapd?|packagekitd|mandb|man|` +
	`g?make|ninja|samu|cmake|cc1.*|([a-z0-9_]+-)*(gcc|cc|[gc]\+\+)(-[0-9]+)?|clang.*|ld|gold|lld|tar|[xp]?gz(ip)?|zstd|` +
	`strace|ltrace|gdb|perf|rsync|git|git-.*|forkproof` +
	`)$`)

// notScripts is the same for the scripts of interpreters: package tools in Perl
// and Python. Others in these languages may well be servers.
var notScripts = pattern(`^(` +
	`mmdebstrap|debootstrap|frontend|debconf.*|dpkg-.*|apt-.*|dh_.*|needrestart|unattended-upgrade(s|-shutdown)?|dnf.*|yum|` +
	`ansible.*|parallel|scons|meson` +
	`)$`)

func notServer(p *Process) bool {
	name := p.exeBase()
	if name == "" {
		name = p.Comm
	}
	if notServers().MatchString(name) {
		return true
	}
	// Desktop browsers fork their tabs from a process made for that.
	r := program(p)
	return r.has("--type=zygote", "-contentproc") || r.name != path.Base(p.arg0()) && notScripts().MatchString(r.name)
}

func (p *Process) arg0() string {
	if len(p.Args) == 0 {
		return ""
	}
	return p.Args[0]
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

// pattern compiles a regular expression when it is first asked for: most runs
// never ask, and the larger ones take as long as reading a hundred processes.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
