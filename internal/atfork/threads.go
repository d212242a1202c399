package atfork

import (
	"slices"
	"strings"
)

// lockers take a lock that comes as their first argument.
var lockers = []string{"pthread_mutex_lock", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_spin_lock", "mtx_lock"}

// Bounds of what is told of threads and locks.
const (
	maxLocks         = 5
	maxLockFunctions = 400
	maxCalls         = 20
	// maxWay is how many functions further than the one that forks an exec is
	// looked for.
	maxWay = 300
)

// threads finds the calls that start threads, static locks, and forks.
func (a *analysis) threads() error {
	starts := a.imports(starters...)
	if starts {
		calls, err := a.calls(starters, maxCalls)
		if err != nil {
			return err
		}
		a.report.Threads = calls
	}
	if a.imports(lockers...) {
		if err := a.locks(); err != nil {
			return err
		}
	}
	if starts && a.imports(forks...) {
		return a.forks()
	}
	return nil
}

// calls are the calls of imported functions, at most limit.
func (a *analysis) calls(names []string, limit int) ([]Call, error) {
	functions, err := a.importCallers(names)
	if err != nil {
		return nil, err
	}
	var out []Call
	for _, start := range functions {
		for _, s := range a.function(start).sites {
			if c := a.resolve(s); len(out) < limit && c.name != "" && slices.Contains(names, c.name) {
				out = append(out, Call{c.name, s.at, a.name(start)})
			}
		}
	}
	return out, nil
}

// importCallers are the functions that name one of the imported functions. All
// names that are ever asked for are searched for at once.
func (a *analysis) importCallers(names []string) ([]uint64, error) {
	if a.named == nil {
		all := slices.Concat(registrars, starters, lockers, forks)
		bySlot, err := a.callersBy(a.slotsOf(func(d dynSym) bool { return d.value == 0 && slices.Contains(all, d.name) }))
		if err != nil {
			return nil, err
		}
		a.named = make(map[string][]uint64)
		for slot, functions := range bySlot {
			n := a.dyn[a.slots[slot].sym].name
			a.named[n] = append(a.named[n], functions...)
		}
	}
	var out []uint64
	for _, n := range names {
		out = append(out, a.named[n]...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// resolve is what one call leads to.
func (b *image) resolve(s site) callee {
	if s.direct != 0 {
		return b.target(s.direct)
	}
	return b.calleeOf(s.value)
}

// locks finds static locks: calls that take a lock at a constant place.
func (a *analysis) locks() error {
	functions, err := a.importCallers(lockers)
	if err != nil {
		return err
	}
	for i, start := range functions {
		if i >= maxLockFunctions || len(a.report.Locks) >= maxLocks {
			a.report.LocksMore = true
			break
		}
		for _, s := range a.function(start).sites {
			c := a.resolve(s)
			addr, ok := s.args[0].constant()
			if !ok || !slices.Contains(lockers, c.name) || !a.writable(addr) {
				continue
			}
			if slices.ContainsFunc(a.report.Locks, func(l Lock) bool { return l.Addr == addr }) {
				continue
			}
			a.report.Locks = append(a.report.Locks, Lock{addr, a.variable(addr), Call{c.name, s.at, a.name(start)}})
		}
	}
	return nil
}

// forks finds the calls of fork after which no exec can be seen: neither in the function, nor in what it calls, nor in those that
// call it.
func (a *analysis) forks() error {
	functions, err := a.importCallers(forks)
	if err != nil {
		return err
	}
	for _, start := range functions {
		for _, s := range a.function(start).sites {
			c := a.resolve(s)
			if !slices.Contains(forks, c.name) || len(a.report.Forks) >= maxCalls {
				continue
			}
			leads, err := a.leadsToExec(start)
			if err != nil {
				return err
			}
			if !leads {
				a.report.Forks = append(a.report.Forks, Call{c.name, s.at, a.name(start)})
			}
			break
		}
	}
	return nil
}

// leadsToExec looks around the function at start: what it reaches, and what its
// callers reach, up to three calls out.
func (a *analysis) leadsToExec(start uint64) (bool, error) {
	level, seen := []uint64{start}, map[uint64]bool{start: true}
	for range 4 {
		for _, f := range level {
			if a.reachesExec(f) {
				return true, nil
			}
		}
		callers, err := a.callers(slices.Concat(level, a.slotsFor(level)))
		if err != nil {
			return false, err
		}
		level = nil
		for _, c := range callers {
			if !seen[c] && len(seen) < maxWay {
				seen[c] = true
				level = append(level, c)
			}
		}
		if len(level) == 0 {
			break
		}
	}
	return false, nil
}

func (a *analysis) reachesExec(start uint64) bool {
	queue, seen := []uint64{start}, map[uint64]bool{start: true}
	for len(queue) > 0 {
		f := queue[0]
		queue = queue[1:]
		for _, s := range a.function(f).sites {
			c := a.resolve(s)
			if c.name != "" && isExec(c.name) {
				return true
			}
			if c.ok && c.name == "" && !seen[c.addr] && len(seen) < maxWay {
				seen[c.addr] = true
				queue = append(queue, c.addr)
			}
		}
	}
	return false
}

// isExec reports whether a function makes another program of the process.
func isExec(name string) bool {
	name = strings.TrimLeft(name, "_")
	return strings.HasPrefix(name, "exec") || name == "fexecve"
}
