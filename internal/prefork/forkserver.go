// Package prefork recognises pre-fork servers among the processes of a
// machine: a master that loaded an application, and workers forked from it.
package prefork

import (
	"regexp"
	"slices"
	"strings"

	"forkproof/internal/proc"
	"forkproof/internal/target"
)

// Process is one process as the recognisers see it.
type Process struct {
	ID      target.ID
	PPID    int
	Comm    string
	State   byte
	Threads int
	// Args are the arguments, or the title that the process gave itself.
	Args []string
}

// Title is the arguments in one line.
func (p Process) Title() string { return strings.Join(p.Args, " ") }

// Server is a master with its workers.
type Server struct {
	Traits
	Master  Process
	Workers []Process
}

// Traits is what is known of a kind of server.
type Traits struct {
	// Kind is the server's name, "pre-fork server" for a generic one.
	Kind string
	// Remedy says how one worker is replaced and where state is made anew
	// after the fork.
	Remedy []string
}

// recogniser tells by the command line or title of a parent and its children
// that they are a server of its kind.
type recogniser struct {
	Traits
	master *regexp.Regexp
}

// recognisers is the list of known servers; the first that fits wins. Sources:
// the titles that each server sets, read in gunicorn 20.1-26.2, uWSGI 2.0.21,
// Celery 5.2, php 8.2, Puma 5.6, Unicorn 6.1, PostgreSQL 15, Apache 2.4, nginx.
var recognisers = []recogniser{
	{Traits{"gunicorn", []string{
		"replace the worker: kill -KILL it, the master forks a new one (which may hang likewise); gunicorn itself kills it --timeout seconds (30) after its last sign of life",
		"start threads, pools and clients in the post_fork or post_worker_init hook and not while the application is imported, or run without --preload",
	}}, regexp.MustCompile(`(^|[ /])gunicorn([ :]|$)`)},
	{Traits{"uwsgi", []string{
		"replace the worker: kill -KILL it, the master forks a new one",
		"run with --py-call-uwsgi-fork-hooks (2.0.21 and later) so that Python repairs its own state after the fork, or with --lazy-apps so that each worker loads the application itself",
	}}, regexp.MustCompile(`(^|/)uwsgi[\w.-]*( |$)|^uWSGI master`)},
	{Traits{"celery", []string{
		"replace the child: kill -KILL it, the pool forks a new one",
		"make clients and threads in the worker_process_init signal and not when the tasks are imported",
	}}, regexp.MustCompile(`^\[celeryd: .*MainProcess|(^|[ /])celery .*\bworker\b`)},
	{Traits{"php-fpm", []string{"replace the worker: kill -QUIT it; request_terminate_timeout does so by itself"}}, regexp.MustCompile(`^php-fpm: master process`)},
	{Traits{"puma", []string{
		"replace the worker: kill -TERM it, the master forks a new one",
		"stop threads in before_fork and start them in before_worker_boot (on_worker_boot before Puma 7)",
	}}, regexp.MustCompile(`^puma \d|(^|[ /])puma( |$)`)},
	{Traits{"unicorn", []string{"replace the worker: kill -QUIT it", "start threads and connections in after_fork"}}, regexp.MustCompile(`^unicorn (master|-)|(^|[ /])unicorn( |$)`)},
	{Traits{"pitchfork", []string{"start threads and connections in after_worker_fork"}}, regexp.MustCompile(`^pitchfork `)},
	{Traits{"postgresql", []string{"a library in shared_preload_libraries must not start threads in the postmaster"}}, regexp.MustCompile(`(^|/)(postgres|postmaster)( |$)`)},
	{Traits{"apache", []string{"replace the worker: kill -TERM it"}}, regexp.MustCompile(`(^|/)(apache2|httpd)( |$)`)},
	{Traits{"nginx", []string{"replace the worker: kill -QUIT it"}}, regexp.MustCompile(`^nginx: master process`)},
}

// generic is any other parent whose children run its image without exec.
var generic = Traits{"pre-fork server", []string{"make threads, pools and connections anew in the child after the fork, or fork before they are made"}}

// notServers are programs that fork copies of themselves without being servers.
var notServers = []string{"sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "systemd", "(sd-pam)", "sshd", "login", "su", "sudo", "make", "tmux", "screen", "forkproof"}

// Snapshot reads all processes but the kernel's own threads and zombies.
func Snapshot(fs proc.FS) ([]Process, error) {
	pids, err := fs.PIDs()
	if err != nil {
		return nil, err
	}
	out := make([]Process, 0, len(pids))
	for _, pid := range pids {
		st, err := fs.Stat(pid)
		if err != nil || st.Kthread() || st.State == 'Z' || st.State == 'X' {
			continue // it ended, or hides: either way not ours to see
		}
		args, _ := fs.Cmdline(pid)
		out = append(out, Process{
			ID: target.ID{PID: pid, Start: st.StartTime}, PPID: st.PPID, Comm: st.Comm,
			State: st.State, Threads: st.NumThreads, Args: args,
		})
	}
	return out, nil
}

// Find returns the servers among the processes. A server is a process with at
// least one child that was forked from it and never ran another program. Where
// only is given, just the families of those PIDs are looked at: comparing
// mappings is what takes the time.
func Find(fs proc.FS, all []Process, only ...int) []Server {
	if len(only) > 0 {
		all = relatives(all, only)
	}
	byPID := make(map[int]Process, len(all))
	children := make(map[int][]Process)
	for _, p := range all {
		byPID[p.ID.PID] = p
		children[p.PPID] = append(children[p.PPID], p)
	}
	forked := make(map[int]bool) // by child
	maps := make(map[int][]proc.Mapping)
	read := func(pid int) []proc.Mapping {
		m, ok := maps[pid]
		if !ok {
			m, _ = fs.Maps(pid) // a process that ended is like no other
			maps[pid] = m
		}
		return m
	}
	for _, c := range all {
		if p, ok := byPID[c.PPID]; ok && c.PPID > 1 && alike(p, c) {
			forked[c.ID.PID] = copied(read(p.ID.PID), read(c.ID.PID))
		}
	}
	var out []Server
	for _, p := range all {
		var workers []Process
		for _, c := range children[p.ID.PID] {
			if forked[c.ID.PID] {
				workers = append(workers, c)
			}
		}
		if len(workers) == 0 || slices.Contains(notServers, p.Comm) {
			continue
		}
		// A worker with children of its own (Puma's fork_worker, a task that
		// forks) is no master of a known kind unless nobody above it is.
		out = append(out, Server{Traits: kindOf(p), Master: p, Workers: workers})
	}
	return out
}

// relatives keeps the named processes, their parents, children and siblings.
func relatives(all []Process, only []int) []Process {
	near := make(map[int]bool)
	for _, p := range all {
		if slices.Contains(only, p.ID.PID) {
			near[p.ID.PID] = true
			if p.PPID > 1 {
				near[p.PPID] = true
			}
		}
	}
	var out []Process
	for _, p := range all {
		if near[p.ID.PID] || near[p.PPID] {
			out = append(out, p)
		}
	}
	return out
}

func kindOf(p Process) Traits {
	title := p.Title()
	for _, r := range recognisers {
		if r.master.MatchString(title) {
			return r.Traits
		}
	}
	return generic
}

// alike is a quick test that spares the comparison of maps for most pairs: a
// forked child keeps its parent's name unless it sets a title of its own.
func alike(p, c Process) bool {
	return p.Comm == c.Comm || slices.Equal(p.Args, c.Args) || strings.Contains(c.Title(), ": ")
}

// ForkedWithoutExec reports whether child is a copy of parent's memory: the
// same program, loader and libraries at the same addresses. exec draws new
// addresses, unless randomisation is off; then the stack's and heap's top
// still differ in practice, but equal programs may be taken for copies.
func ForkedWithoutExec(fs proc.FS, parent, child int) bool {
	a, err := fs.Maps(parent)
	if err != nil {
		return false
	}
	b, err := fs.Maps(child)
	if err != nil {
		return false
	}
	return copied(a, b)
}

func copied(a, b []proc.Mapping) bool {
	type place struct {
		start, inode uint64
	}
	code := make(map[place]bool)
	for _, m := range a {
		if m.Exec && m.File() {
			code[place{m.Start, m.Inode}] = true
		}
	}
	same, other := 0, 0
	for _, m := range b {
		if m.Exec && m.File() {
			if code[place{m.Start, m.Inode}] {
				same++
			} else {
				other++
			}
		}
	}
	// The vdso's and stack's places are drawn at each exec: they alone settle
	// it for programs that share every library.
	return same > 0 && same >= other && stack(a) == stack(b)
}

// stack is where the kernel put the vdso, which every exec draws anew.
func stack(maps []proc.Mapping) uint64 {
	for _, m := range maps {
		if m.Path == "[vdso]" {
			return m.Start
		}
	}
	return 0
}

// Of returns the server that a process belongs to, as master or worker.
func Of(servers []Server, pid int) (s Server, role string, ok bool) {
	for _, s := range servers {
		if s.Master.ID.PID == pid {
			return s, "master", true
		}
	}
	for _, s := range servers {
		for _, w := range s.Workers {
			if w.ID.PID == pid {
				return s, "worker", true
			}
		}
	}
	return Server{}, "process", false
}
