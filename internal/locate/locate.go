// Package locate finds processes by the names that people know them by: a
// pattern of the command line, a systemd unit, a container. It reads /proc alone
// and asks no daemon.
package locate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"forkproof/internal/proc"
	"forkproof/internal/target"
)

// ErrNone is the error for a name that no process goes by.
var ErrNone = errors.New("no such process")

// ErrName is the error for a name that cannot be one.
var ErrName = errors.New("not a usable name")

// fault is an error of one of these kinds that says it in its own words.
type fault struct {
	kind error
	text string
}

func (f *fault) Error() string        { return f.text }
func (f *fault) Is(target error) bool { return target == f.kind }

func none(format string, args ...any) error { return &fault{ErrNone, fmt.Sprintf(format, args...)} }
func bad(format string, args ...any) error  { return &fault{ErrName, fmt.Sprintf(format, args...)} }

// poll is how often Await looks at the list of processes. A look at 500 of them
// takes about 5 ms.
const poll = 100 * time.Millisecond

// Machine is the processes that one mounted proc file system shows.
type Machine struct {
	fs proc.FS
	// own are forkproof and those that started it, whose command lines name what
	// is looked for: "sudo forkproof inspect --name gunicorn".
	own map[int]bool
}

// New returns the machine that the proc file system at root shows, usually "/proc".
func New(root string) *Machine {
	m := &Machine{fs: proc.New(root), own: make(map[int]bool)}
	for pid := os.Getpid(); pid > 1 && !m.own[pid]; {
		m.own[pid] = true
		st, err := m.fs.Stat(pid)
		if err != nil {
			break
		}
		pid = st.PPID
	}
	return m
}

// Name returns the processes whose command line or name matches, in ascending
// order. Threads of the kernel, zombies, forkproof and its own ancestors are left
// out. The error is ErrNone where nothing matches.
func (m *Machine) Name(re *regexp.Regexp) ([]int, error) {
	pids, err := m.fs.PIDs()
	if err != nil {
		return nil, fmt.Errorf("list the processes of this machine: %w", err)
	}
	var out []int
	for _, pid := range pids {
		if m.matches(pid, re) {
			out = append(out, pid)
		}
	}
	if len(out) == 0 {
		return nil, m.hint(none("no process has a command line that matches %q", re))
	}
	return out, nil
}

func (m *Machine) matches(pid int, re *regexp.Regexp) bool {
	if m.own[pid] {
		return false
	}
	st, err := m.fs.Stat(pid)
	if err != nil || st.Kthread() || st.State == 'Z' || st.State == 'X' {
		return false
	}
	if re.MatchString(st.Comm) {
		return true
	}
	args, err := m.fs.Cmdline(pid)
	return err == nil && re.MatchString(strings.Join(args, " "))
}

// Await waits until a process starts, or takes a command line, that matches, and
// returns it. Those that match already do not count.
func (m *Machine) Await(ctx context.Context, re *regexp.Regexp) (int, error) {
	before := make(map[target.ID]bool)
	for first := true; ; first = false {
		pids, err := m.fs.PIDs()
		if err != nil {
			return 0, fmt.Errorf("list the processes of this machine: %w", err)
		}
		for _, pid := range pids {
			if !m.matches(pid, re) {
				continue
			}
			id, err := m.fs.Identity(pid)
			switch {
			case err != nil: // it ended
			case first:
				before[id] = true
			case !before[id]:
				return pid, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(poll):
		}
	}
}

// Unit returns the processes of a systemd unit, in ascending order: those with a
// control group of its name in their path. A name without a type is a service.
func (m *Machine) Unit(unit string) ([]int, error) {
	if unit == "" || strings.ContainsAny(unit, "/ \n") {
		return nil, bad("%q is not the name of a systemd unit, such as gunicorn.service", unit)
	}
	if !typed(unit) {
		unit += ".service"
	}
	var out []int
	seen := false
	err := m.groups(func(pid int, components []string) {
		for _, c := range components {
			seen = seen || typed(c)
			// systemd puts an underscore before names that the kernel could
			// take for its own files (systemd, src/basic/cgroup-util.c,
			// cg_needs_escape).
			if c == unit || c == "_"+unit {
				out = append(out, pid)
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		if !seen {
			return nil, m.hint(none("no process of this machine belongs to any systemd unit (is this a container, or a machine without systemd?), so none to %s", unit))
		}
		return nil, m.hint(none("no process belongs to the systemd unit %s; 'systemctl status %s' says whether it runs", unit, unit))
	}
	return out, nil
}

// typed reports whether a name ends as those of units that have processes do.
func typed(s string) bool {
	return strings.HasSuffix(s, ".service") || strings.HasSuffix(s, ".scope") || strings.HasSuffix(s, ".slice")
}

// identifier is how container engines name a control group: Docker
// (docker/ID, docker-ID.scope), Podman (libpod-ID.scope), CRI-O (crio-ID.scope),
// containerd (cri-containerd-ID.scope, x:cri-containerd:ID), Kubernetes without
// systemd (podUID/ID). The monitors of Podman and CRI-O are outside of it.
var identifier = pattern(`(?:^|[-:])([0-9a-f]{64})(?:\.scope)?$`)

// hexadecimal is the beginning of an identifier.
var hexadecimal = pattern(`^[0-9a-f]{4,64}$`)

// Container returns the processes of the container whose ID begins so, in
// ascending order. A prefix must have four digits or more and fit one only.
func (m *Machine) Container(prefix string) ([]int, error) {
	prefix = strings.ToLower(prefix)
	if !hexadecimal().MatchString(prefix) {
		return nil, bad("%q is not the beginning of a container's ID (4 to 64 hexadecimal digits): 'docker ps', 'podman ps' or 'crictl ps' show it", prefix)
	}
	found := make(map[string][]int)
	any := false
	err := m.groups(func(pid int, components []string) {
		for _, id := range containers(components) {
			any = true
			if strings.HasPrefix(id, prefix) && !slices.Contains(found[id], pid) {
				found[id] = append(found[id], pid)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	switch len(found) {
	case 0:
		if !any {
			return nil, m.hint(none("no process of this machine is seen in a container, so none in %s", prefix))
		}
		return nil, m.hint(none("no process is in a container whose ID begins with %s", prefix))
	case 1:
		for _, pids := range found {
			return pids, nil
		}
	}
	var ids []string
	for id := range found {
		ids = append(ids, id[:min(len(id), len(prefix)+8)])
	}
	slices.Sort(ids)
	return nil, bad("%d containers have an ID that begins with %s (%s): give more of it", len(ids), prefix, strings.Join(ids, ", "))
}

// containers returns the IDs in the path of a control group.
func containers(components []string) []string {
	var ids []string
	for _, c := range components {
		if strings.Contains(c, "conmon") {
			continue
		}
		if f := identifier().FindStringSubmatch(c); f != nil {
			ids = append(ids, f[1])
		}
	}
	return ids
}

// maxGroups bounds one /proc/PID/cgroup: version 1 has a line for each of about
// a dozen controllers, and a path has at most 4096 bytes.
const maxGroups = 256 << 10

// groups calls fn with the components of the control groups of each process,
// once a process.
func (m *Machine) groups(fn func(pid int, components []string)) error {
	pids, err := m.fs.PIDs()
	if err != nil {
		return fmt.Errorf("list the processes of this machine: %w", err)
	}
	read := 0
	var refused error
	for _, pid := range pids {
		if m.own[pid] && pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(m.fs.Path(pid, "cgroup"))
		if err != nil {
			if !proc.IsGone(err) && !errors.Is(err, os.ErrNotExist) {
				refused = err
			}
			continue
		}
		read++
		fn(pid, parseGroups(string(b[:min(len(b), maxGroups)])))
	}
	if read == 0 && refused != nil {
		return fmt.Errorf("read the control groups of processes: %w", refused)
	}
	return nil
}

// parseGroups returns the distinct components of all paths in a cgroup file,
// whose lines have the form hierarchy:controllers:path (cgroups(7)).
func parseGroups(s string) []string {
	var out []string
	for _, line := range strings.Split(s, "\n") {
		_, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		_, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for _, c := range strings.Split(path, "/") {
			if c != "" && c != ".." && !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

// hint adds to an error why a process may be there and not be seen.
func (m *Machine) hint(err error) error {
	if own := m.fs.Own(); own != nil {
		return own
	}
	if h := m.fs.HidePID(); h != "" && os.Geteuid() != 0 {
		return fmt.Errorf("%w (/proc is mounted with hidepid=%s, so that other users' processes are not seen: run as root)", err, h)
	}
	return err
}

// pattern compiles a regular expression when it is first asked for: most runs
// never ask, and the larger ones take as long as reading a hundred processes.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
