// Package forkserver recognises pre-fork servers from what /proc tells: which
// process is the master, which are its workers, and from which process each
// worker's memory was really copied.
//
// A server is found in two ways. A list of recognisers, one file each, knows
// gunicorn, uWSGI, Celery, php-fpm, Puma, Unicorn, Pitchfork, PostgreSQL,
// Apache and nginx by the names that they give themselves. Any other process
// is a "pre-fork server" where it has children that run its own program image
// and have not called execve since they were forked; the kernel itself tells
// that, see ForkedWithoutExec. Programs that fork like this and are no servers
// (shells, login programs, build tools) are left out by a list, see generic.go.
package forkserver

import (
	"slices"
	"strings"
	"time"

	"forkproof/internal/proc"
)

// The kinds of server. Generic is a pre-fork server that no recogniser knows.
const (
	Gunicorn   = "gunicorn"
	UWSGI      = "uwsgi"
	Celery     = "celery"
	PHPFPM     = "php-fpm"
	Puma       = "puma"
	Unicorn    = "unicorn"
	Pitchfork  = "pitchfork"
	PostgreSQL = "postgresql"
	Apache     = "apache"
	Nginx      = "nginx"
	Generic    = "pre-fork server"
)

// Role says what a process is to its server.
type Role string

// The roles, as finding.Target.Role spells them.
const (
	Master Role = "master"
	Worker Role = "worker"
)

// Server is one pre-fork server.
type Server struct {
	// Kind is one of the constants above.
	Kind string
	// Name is for people, for example "gunicorn (gthread workers)".
	Name string
	// Master is where the workers come from. Its PID is 0 where it is gone: there
	// is then one worker, which it left behind.
	Master Process
	// Workers are all processes that were forked from the master or, in Puma
	// and Pitchfork, from one another, in the order in which they started.
	// Process.Title tells what each one does: PostgreSQL's checkpointer and
	// nginx's cache manager are workers too. It may be empty: a master that
	// hangs inside fork has none.
	Workers []Process
	// Template is the process from which new workers are copied: the master,
	// Pitchfork's mold, or Puma's worker 0 in fork_worker mode.
	Template Process
	// Traits is what is known of this kind of server, adapted to the
	// arguments of this one.
	Traits Traits

	origin map[int]Process // by worker's PID, where it is not the master
}

// ForkedFrom returns the process whose memory worker is a copy of.
func (s Server) ForkedFrom(worker Process) Process {
	if p, ok := s.origin[worker.ID.PID]; ok {
		return p
	}
	return s.Master
}

// Process returns the process of this server that has the given PID.
func (s Server) Process(pid int) (Process, Role, bool) {
	if s.Master.ID.PID == pid {
		return s.Master, Master, true
	}
	for _, w := range s.Workers {
		if w.ID.PID == pid {
			return w, Worker, true
		}
	}
	return Process{}, "", false
}

// PIDs lists the master and the workers.
func (s Server) PIDs() []int {
	var pids []int
	if s.Master.ID.PID != 0 {
		pids = append(pids, s.Master.ID.PID)
	}
	for _, w := range s.Workers {
		pids = append(pids, w.ID.PID)
	}
	return pids
}

// A Recogniser knows one kind of server. All functions but Match may be nil.
type Recogniser struct {
	Kind string
	// Match says whether a process is one of such a server's, master or
	// worker alike, by its name, arguments and program alone.
	Match func(p *Process) bool
	// Deep says the same by what is costlier to read. It is asked only about
	// a process with forked children that no Match knows.
	Deep func(fs proc.FS, p *Process) bool
	// Title says what a worker does, "worker" where the function is nil.
	Title func(p *Process) string
	// Adopts says whether process p, which worker forked, belongs to the same
	// server (Puma's fork_worker mode).
	Adopts func(worker, p *Process) bool
	// Origin returns the process of s that w was copied from; ok is false for
	// the usual one, the parent.
	Origin func(s *Server, w *Process) (from Process, ok bool)
	// Describe fills in Name, Template and Traits where they differ from the
	// usual ones, once the server's processes are known.
	Describe func(fs proc.FS, s *Server)
	Traits   Traits
}

// Recognisers returns the servers that are known by name, in the order in which
// they are tried.
func Recognisers() []Recogniser {
	return []Recogniser{
		gunicorn(), uwsgi(), celery(), phpfpm(), puma(), pitchfork(), unicorn(),
		postgresql(), apache(), nginx(),
	}
}

// Find returns all pre-fork servers among processes, in the order in which
// their masters started. Generic servers leave out forkproof itself, the
// process that runs it, the programs in notServers, children younger than
// youngest, and a single child younger than lonely.
func Find(fs proc.FS, processes []Process) []Server {
	a := analyse(fs, processes)
	a.youngest, a.lonely = youngest, lonely
	var found []Server
	for i := range a.all {
		if s, ok := a.server(i); ok {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(x, y Server) int { return byAge(x.Master, y.Master) })
	return found
}

// Of returns the server that the process with the given PID belongs to, and as
// what. A worker which is itself the master of others counts as a worker. Of
// tells of any process that was asked for by number, also of those that Find
// leaves out.
func Of(fs proc.FS, processes []Process, pid int) (Server, Role, bool) {
	a := analyse(fs, processes)
	a.asked = true
	i, ok := a.byPID[pid]
	if !ok {
		return Server{}, "", false
	}
	if m, ok := a.owner(i); ok {
		if s, ok := a.server(m); ok {
			if _, role, ok := s.Process(pid); ok {
				return s, role, true
			}
		}
	}
	if s, ok := a.server(i); ok {
		_, role, ok := s.Process(pid)
		return s, role, ok
	}
	return Server{}, "", false
}

func byAge(x, y Process) int {
	if x.ID.Start != y.ID.Start {
		if x.ID.Start < y.ID.Start {
			return -1
		}
		return 1
	}
	return x.ID.PID - y.ID.PID
}

// A process that is about to call execve looks like a worker, for milliseconds
// as a rule and for longer where the machine is busy. Many programs of every
// machine fork one copy of themselves that does one thing and ends (perl and
// Python scripts, package managers); a server's only worker lives long.
const (
	youngest = time.Second
	lonely   = 10 * time.Second
)

// shortTitle cuts what a process calls itself to a length fit for a report.
func shortTitle(s string) string {
	const limit = 80
	s = strings.TrimSpace(s)
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}
