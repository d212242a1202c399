package forkserver

import (
	"os"
	"slices"
	"strings"
	"time"

	"forkproof/internal/proc"
)

// analysis is one look at all processes. Processes are named by their index.
type analysis struct {
	fs       proc.FS
	list     []Recogniser
	all      []Process
	byPID    map[int]int
	children map[int][]int // by PID of the parent
	kinds    []int         // index into list; none, or unknown before kind asked
	copies   map[int]bool  // by index of the child: forked answered yes or no
	// youngest is the age a child of a generic server must have, lonely that
	// of an only one.
	youngest, lonely time.Duration
	// asked: a person asked for this process by number.
	asked bool
	now   time.Duration // since boot
}

const none = -1

func analyse(fs proc.FS, processes []Process) *analysis {
	a := &analysis{
		fs: fs, list: Recognisers(), all: processes,
		byPID: make(map[int]int, len(processes)), children: make(map[int][]int),
		kinds: make([]int, len(processes)), copies: make(map[int]bool),
		now: sinceBoot(),
	}
	for i := range a.all {
		p := &a.all[i]
		if !p.Running() {
			a.kinds[i] = none
			continue
		}
		a.byPID[p.ID.PID] = i
		a.children[p.PPID] = append(a.children[p.PPID], i)
		a.kinds[i] = slices.IndexFunc(a.list, func(r Recogniser) bool { return r.Match(p) })
	}
	return a
}

// forked reports whether process c is a copy of its parent p.
func (a *analysis) forked(p, c int) bool {
	if is, ok := a.copies[c]; ok {
		return is
	}
	is, err := ForkedWithoutExec(a.fs, a.all[p], a.all[c])
	if err != nil {
		// We may not look. The kernel's flag is shown to everybody, and two
		// processes that show the same server's name and such a flag are
		// master and worker.
		is = a.kinds[p] != none && a.kinds[p] == a.kinds[c] && a.all[c].image.noExec
	}
	a.copies[c] = is
	return is
}

// parent returns the process that c is a copy of.
func (a *analysis) parent(c int) (int, bool) {
	p, ok := a.byPID[a.all[c].PPID]
	// A recycled PID: a parent is never younger than its child.
	if !ok || p == c || a.all[p].StartTime > a.all[c].StartTime || !a.forked(p, c) {
		return 0, false
	}
	return p, true
}

// forkedChildren lists the children that are copies of process p, oldest first.
func (a *analysis) forkedChildren(p int) []int {
	var l []int
	for _, c := range a.children[a.all[p].ID.PID] {
		if q, ok := a.parent(c); ok && q == p {
			l = append(l, c)
		}
	}
	slices.SortFunc(l, func(x, y int) int { return byAge(a.all[x], a.all[y]) })
	return l
}

// kind returns the recogniser of process i, none for a generic server.
func (a *analysis) kind(i int) int {
	if a.kinds[i] == none && a.all[i].Running() && len(a.children[a.all[i].ID.PID]) > 0 {
		for k, r := range a.list {
			if r.Deep != nil && len(a.forkedChildren(i)) > 0 && r.Deep(a.fs, &a.all[i]) {
				a.kinds[i] = k
				break
			}
		}
	}
	return a.kinds[i]
}

// worker reports whether process i is a copy of a process of its own known kind:
// a worker, in the eyes of the recogniser.
func (a *analysis) worker(i int) bool {
	k := a.kind(i)
	p, ok := a.parent(i)
	return ok && k != none && a.kind(p) == k
}

// owner returns the master of the server that process i is a worker of.
func (a *analysis) owner(i int) (int, bool) {
	p, ok := a.parent(i)
	if !ok {
		return 0, false
	}
	// The loop goes up the tree; the bound is against a torn snapshot.
	for range len(a.all) {
		if k := a.kind(p); k == none || !a.worker(p) || a.list[k].Adopts == nil || !a.list[k].Adopts(&a.all[p], &a.all[i]) {
			return p, true
		}
		if p, ok = a.parent(p); !ok {
			return 0, false
		}
	}
	return 0, false
}

// server returns the server whose master is process m, if it is one.
func (a *analysis) server(m int) (Server, bool) {
	if !a.all[m].Running() {
		return Server{}, false
	}
	k := a.kind(m)
	if a.worker(m) {
		// What a worker forked itself, and its server does not adopt, is the
		// work of the application.
		return a.nested(m)
	}
	kids := a.forkedChildren(m)
	if k == none {
		return a.generic(m, kids)
	}
	r := a.list[k]
	if len(kids) == 0 && a.all[m].image.noExec && !strings.Contains(a.all[m].Command(), "master") {
		// A master was started by execve, or has made itself a daemon and has
		// workers, or says that it is one (php-fpm may have no worker for a while):
		// this process is a copy of a master that is gone.
		s := Server{Kind: r.Kind, Name: r.Kind, Traits: r.Traits, origin: make(map[int]Process)}
		s.add(r, a.all[m])
		return s, true
	}
	s := Server{Kind: r.Kind, Name: r.Kind, Master: a.all[m], Traits: r.Traits}
	s.Master.Title = string(Master)
	s.origin = make(map[int]Process)
	for _, c := range kids {
		s.add(r, a.all[c])
		if r.Adopts == nil {
			continue
		}
		for _, g := range a.forkedChildren(c) {
			if r.Adopts(&a.all[c], &a.all[g]) {
				s.add(r, a.all[g])
				s.origin[a.all[g].ID.PID] = a.all[c]
			}
		}
	}
	slices.SortStableFunc(s.Workers, byAge)
	s.Template = s.Master
	if r.Describe != nil {
		r.Describe(a.fs, &s)
	}
	if r.Origin != nil {
		for i := range s.Workers {
			if from, ok := r.Origin(&s, &s.Workers[i]); ok {
				s.origin[s.Workers[i].ID.PID] = from
			}
		}
	}
	for pid, from := range s.origin {
		if p, _, ok := s.Process(from.ID.PID); ok {
			s.origin[pid] = p // with its title
		}
	}
	return s, true
}

func (s *Server) add(r Recogniser, w Process) {
	w.Title = string(Worker)
	if r.Title != nil {
		w.Title = r.Title(&w)
	}
	s.Workers = append(s.Workers, w)
}

// nested returns the generic server of processes that a worker of another
// server forked: a multiprocessing pool within a gunicorn worker.
func (a *analysis) nested(m int) (Server, bool) {
	r := a.list[a.kind(m)]
	var kids []int
	for _, c := range a.forkedChildren(m) {
		if r.Adopts == nil || !r.Adopts(&a.all[m], &a.all[c]) {
			kids = append(kids, c)
		}
	}
	s, ok := a.generic(m, kids)
	if ok {
		s.Name = "processes forked by a " + r.Kind + " worker"
	}
	return s, ok
}

// generic returns the server of a master that no recogniser knows.
func (a *analysis) generic(m int, kids []int) (Server, bool) {
	master := a.all[m]
	if !a.asked {
		if notServer(&master) || master.ID.PID == os.Getpid() || master.ID.PID == os.Getppid() {
			return Server{}, false
		}
		kids = slices.DeleteFunc(slices.Clone(kids), func(c int) bool { return a.younger(c, a.youngest) })
		if len(kids) == 1 && a.younger(kids[0], a.lonely) {
			return Server{}, false
		}
	}
	kids = slices.DeleteFunc(slices.Clone(kids), func(c int) bool {
		// A child of vfork runs in its parent's own memory for a moment.
		shared, err := proc.SharesMemory(master.ID.PID, a.all[c].ID.PID)
		return err == nil && shared
	})
	if len(kids) == 0 {
		return Server{}, false
	}
	s := Server{Kind: Generic, Name: genericName(&master), Master: master, Traits: genericTraits()}
	s.Master.Title = string(Master)
	for _, c := range kids {
		s.add(Recogniser{}, a.all[c])
	}
	s.Template = s.Master
	return s, true
}

// younger reports whether a process was forked less than age ago.
func (a *analysis) younger(c int, age time.Duration) bool {
	is := a.now - time.Duration(a.all[c].StartTime)*tick
	return is >= 0 && is < age
}
