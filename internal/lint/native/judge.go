package native

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/atfork"
	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/symbol"
)

// judge makes findings of what one file does.
type judge struct {
	*Linter
	report *atfork.Report
	path   string
	notes  []string
}

// maxLines bounds the evidence of one finding.
const maxLines = 12

// name is what to call the file.
func (j *judge) name() string { return filepath.Base(j.path) }

func (j *judge) version() string { return j.opts.Versions[j.report.Libc] }

// libc is the C library in words: "glibc 2.36".
func (j *judge) libc() string {
	if j.report.Libc == "" {
		return "a C library that is not known"
	}
	if v := j.version(); v != "" {
		return j.report.Libc + " " + v
	}
	return j.report.Libc + " of a version that is not known"
}

func (j *judge) findings() []finding.Finding {
	var out []finding.Finding
	for _, g := range j.groups() {
		for _, h := range g.Handlers() {
			if h.Unknown != "" {
				j.notes = append(j.notes, fmt.Sprintf("the %s handler that is registered at %#x in %s is not known: it is %s", h.Role, g.Addr, g.In, h.Unknown))
			}
		}
		add := func(f finding.Finding, ok bool) {
			if ok {
				out = append(out, f)
			}
		}
		add(j.lockLeft(g))
		add(j.unsafe(g))
		add(j.reentry(g))
	}
	out = append(out, j.without()...)
	out = append(out, j.forks()...)
	for i := range out {
		out[i].Place = &finding.Place{File: j.path}
	}
	return out
}

// damaged is about a file that contradicts itself.
func damaged(path string, err error) finding.Finding {
	return finding.Finding{
		Rule: finding.UnreadableSource, Severity: finding.Warning, Confidence: finding.Inferred, Place: &finding.Place{File: path},
		Title:    filepath.Base(path) + " is a damaged program or library",
		Why:      "It was left out, and nothing is known of what it does.",
		Evidence: []string{err.Error()},
		Remedy:   []string{"Install it anew, or leave the file out."},
	}
}

// groups are the registrations, one for each three handlers: libraries register
// the same in several places.
func (j *judge) groups() []*atfork.Registration {
	seen := make(map[string]bool)
	var out []*atfork.Registration
	for i := range j.report.Registrations {
		g := &j.report.Registrations[i]
		key := ""
		for _, h := range g.Handlers() {
			key += fmt.Sprint(h.None, h.Unknown, h.Funcs, ";")
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, g)
		}
	}
	return out
}

// names are the functions that a handler may be.
func names(h *atfork.Handler) string {
	var all []string
	for _, f := range h.Funcs {
		all = append(all, f.Name)
	}
	return strings.Join(all, " or ")
}

// titled is a handler in a title: by its name, or by its role where it has none.
// Titles have no addresses, which change with each build: a baseline goes by them.
func titled(h *atfork.Handler) string {
	if slices.ContainsFunc(h.Funcs, func(f atfork.Func) bool { return strings.HasPrefix(f.Name, "0x") }) {
		return "the " + h.Role + " handler"
	}
	return "the " + h.Role + " handler " + names(h)
}

// registered says where a registration is.
func registered(g *atfork.Registration) string {
	s := fmt.Sprintf("registered at %#x in %s", g.Addr, g.In)
	if len(g.Via) > 0 {
		s += " through " + strings.Join(g.Via, ", ")
	}
	return s
}

// way is how a leaf is reached, in words.
func way(path []atfork.Step, to string) string {
	var parts []string
	for i, s := range path {
		p := s.Func
		if s.File != "" {
			p = s.File + "`" + p
		}
		if i == len(path)-1 {
			p += fmt.Sprintf(" (at %#x)", s.Addr)
		}
		parts = append(parts, p)
	}
	return strings.Join(append(parts, to), " -> ")
}

func called(l atfork.Leaf) string {
	n := symbol.Short(l.Name)
	if l.Lock != "" {
		n += "(" + l.Lock + ")"
	}
	return n
}

// call is a leaf with what is known of it.
type call struct {
	atfork.Leaf
	facts.ChildCall
}

// bad reports whether the call is worth a warning.
func (c call) bad(strict bool) bool {
	if strict {
		return c.Kind != facts.Listed && c.Kind != facts.Ends
	}
	return c.Kind == facts.Locked || c.Kind == facts.Waits || c.Kind == facts.Allocates
}

func (c call) says() string {
	s := way(c.Path, called(c.Leaf)) + ": "
	switch {
	case c.Kind == facts.Unlisted:
		s += "POSIX does not list it, and nothing else is known of it"
	case c.Kind == facts.Locked:
		s += c.Says + " (forkproof explain " + c.Fact + ")"
	case c.Kind == facts.Repaired:
		s += "POSIX does not list it, but this C library repairs it: " + c.Says
	case c.Excused():
		s += "POSIX does not list it, but it " + c.Says
	default:
		s += c.Says
	}
	if c.Soft {
		s += " (through a pointer that may have been changed since the start)"
	}
	return s
}

// unsafe is about what a child handler reaches that is not async-signal-safe.
func (j *judge) unsafe(g *atfork.Registration) (finding.Finding, bool) {
	h := &g.Child
	var calls []call
	for _, l := range h.Reach.Leaves {
		c := call{l, j.facts.InChild(l.Name, j.report.Libc, j.version())}
		switch {
		case c.Kind == facts.Listed, c.Kind == facts.Ends, c.Kind == facts.Reenters:
			continue // the last have a finding of their own
		case c.Kind == facts.Waits && l.Lock != "" && taken(&g.Prepare, l.Lock):
			// The prepare handler has it, so no other thread can.
			c.ChildCall = facts.ChildCall{Kind: facts.Idiom, Says: "is about a lock that the prepare handler holds at the fork", Fact: c.Fact, Sources: c.Sources}
		}
		calls = append(calls, c)
	}
	// That nothing but a standard's silence is against a call is no news of itself.
	if !slices.ContainsFunc(calls, func(c call) bool { return c.Kind != facts.Plain || j.opts.Strict }) {
		return finding.Finding{}, false
	}
	bad := func(c call) bool { return c.bad(j.opts.Strict) }
	slices.SortStableFunc(calls, func(x, y call) int { return cmp.Compare(rank(y, bad(y)), rank(x, bad(x))) })
	f := finding.Finding{Rule: finding.AtforkUnsafeCall, Severity: finding.Info, Confidence: finding.Inferred}
	var first []string
	for _, c := range calls {
		n := symbol.Short(c.Name)
		if c.Lock != "" && !strings.HasPrefix(c.Lock, "0x") {
			n = called(c.Leaf)
		}
		if len(first) < 3 && !slices.Contains(first, n) && bad(c) == bad(calls[0]) {
			first = append(first, n)
		}
	}
	f.Title = fmt.Sprintf("%s: %s reaches %s", j.name(), titled(h), strings.Join(first, ", "))
	if n := len(calls) - len(first); n > 0 {
		f.Title += fmt.Sprintf(" and %d more", n)
	}
	switch {
	case j.opts.Strict:
		f.Severity = finding.Warning
		f.Why = "POSIX lets the child of a process with threads call async-signal-safe functions alone, until it executes another program; its handlers of fork run in that child."
	case bad(calls[0]):
		f.Severity = finding.Warning
		f.Why = "In the child no other thread is there: what another one had locked at the fork stays locked, and a handler that wants it hangs in fork itself, before the program gets to run."
	default:
		f.Why = "POSIX does not list these functions as async-signal-safe. Nothing is known that makes them hang with " + j.libc() + "; elsewhere they may."
	}
	f.Evidence = append(f.Evidence, registered(g))
	for _, c := range calls {
		if len(f.Evidence) > maxLines {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%d calls more", len(calls)-maxLines))
			break
		}
		f.Evidence = append(f.Evidence, c.says())
	}
	f.Evidence = append(f.Evidence, limits(h)...)
	for _, c := range calls {
		if bad(c) || !bad(calls[0]) {
			f.Sources = sources(f.Sources, c.Sources)
		}
	}
	f.Sources = sources(f.Sources, j.facts.POSIX().Sources)
	if f.Fact = calls[0].Fact; strings.HasPrefix(f.Fact, "call-") {
		f.Fact = ""
	}
	f.Remedy = []string{"Let the child handler release what the prepare handler took and set flags, and do the rest at the next use: compare getpid() with a number that was kept.",
		"Where the library cannot be changed, load it in the workers after the fork."}
	return f, true
}

// rank orders calls: what is bad first, then by kind, the harmless last.
func rank(c call, bad bool) int {
	order := []facts.CallKind{facts.Ends, facts.Plain, facts.Idiom, facts.Repaired, facts.Unlisted, facts.Allocates, facts.Locked, facts.Waits}
	n := slices.Index(order, c.Kind)
	if bad {
		n += len(order)
	}
	return n
}

// limits say what was not followed.
func limits(h *atfork.Handler) []string {
	var out []string
	if n := len(h.Reach.Unresolved); n > 0 {
		u := h.Reach.Unresolved[0]
		s := fmt.Sprintf("not followed: %s -> %s", way(u.Path, "a pointer"), u.What)
		if n > 1 {
			s += fmt.Sprintf(", and %d more calls through pointers", n-1)
		}
		out = append(out, s)
	}
	if h.Reach.Cut != "" {
		out = append(out, h.Reach.Cut)
	}
	return out
}

func sources(have []string, more []facts.Source) []string {
	for _, s := range more {
		if t := s.String(); !slices.Contains(have, t) && len(have) < 6 {
			have = append(have, t)
		}
	}
	return have
}

// takers and givers of locks in static memory, as names of leaves.
func takes(name string) bool {
	return strings.HasPrefix(name, "pthread_") && strings.HasSuffix(name, "lock") && !strings.HasSuffix(name, "unlock") && !strings.Contains(name, "try") || name == "mtx_lock" || name == "sem_wait"
}

func gives(name string) bool {
	return strings.HasSuffix(name, "unlock") || strings.HasSuffix(name, "_init") || name == "sem_post"
}

// taken reports whether a handler takes a lock.
func taken(h *atfork.Handler, lock string) bool {
	return slices.ContainsFunc(h.Reach.Leaves, func(l atfork.Leaf) bool { return l.Lock == lock && takes(l.Name) })
}

// lockLeft is about a lock which the prepare handler takes for good and the
// child handler does not give back. It is said only where all calls of the
// child handler, and all of its locks, are known.
func (j *judge) lockLeft(g *atfork.Registration) (finding.Finding, bool) {
	p, c := &g.Prepare, &g.Child
	if p.Unknown != "" || c.Unknown != "" || c.Reach.Cut != "" || len(c.Reach.Unresolved) > 0 {
		return finding.Finding{}, false
	}
	var left []atfork.Leaf
	for _, l := range p.Reach.Leaves {
		if l.Lock == "" || !takes(l.Name) {
			continue
		}
		given := func(o atfork.Leaf) bool { return gives(o.Name) && (o.Lock == l.Lock || o.Lock == "") }
		// One that prepare itself gives back is not held at the fork.
		if !slices.ContainsFunc(c.Reach.Leaves, given) && !slices.ContainsFunc(p.Reach.Leaves, given) {
			left = append(left, l)
		}
	}
	if len(left) == 0 {
		return finding.Finding{}, false
	}
	what := left[0].Lock
	if strings.HasPrefix(what, "0x") {
		what = "a lock"
	}
	f := finding.Finding{
		Rule: finding.AtforkLockLeft, Severity: finding.Warning, Confidence: finding.Inferred,
		Title:    fmt.Sprintf("%s: %s takes %s, and no child handler gives it back", j.name(), titled(p), what),
		Why:      "The prepare handler runs before each fork, in the thread that forks. What it locks is copied locked, so the first thread of the child that wants it waits for ever, unless something else gives it back.",
		Evidence: []string{registered(g)},
		Remedy:   []string{"Unlock it in the child handler, as in the parent handler, or make it anew there."},
		Sources:  []string{"POSIX.1-2024, pthread_atfork"},
	}
	for _, l := range left[:min(len(left), maxLines)] {
		f.Evidence = append(f.Evidence, way(l.Path, called(l)))
	}
	if c.None {
		f.Evidence = append(f.Evidence, "there is no child handler")
	} else {
		f.Evidence = append(f.Evidence, "the child handler is "+names(c))
	}
	return f, true
}

// reentry is about handlers that come back to the list of handlers.
func (j *judge) reentry(g *atfork.Registration) (finding.Finding, bool) {
	f := finding.Finding{Rule: finding.AtforkReentry, Severity: finding.Info, Confidence: finding.Inferred}
	var what []string
	for _, h := range g.Handlers() {
		for _, l := range h.Reach.Leaves {
			c := j.facts.InChild(l.Name, j.report.Libc, j.version())
			if c.Kind != facts.Reenters {
				continue
			}
			f.Evidence = append(f.Evidence, h.Role+": "+way(l.Path, called(l)))
			if n := called(l); !slices.Contains(what, n) {
				what = append(what, n)
			}
		}
	}
	if len(what) == 0 {
		return f, false
	}
	if len(f.Evidence) > maxLines {
		f.Evidence = append(f.Evidence[:maxLines], fmt.Sprintf("%d calls more", len(f.Evidence)-maxLines))
	}
	f.Evidence = append([]string{registered(g)}, f.Evidence...)
	f.Title = fmt.Sprintf("%s: its fork handlers call %s", j.name(), strings.Join(what, ", "))
	f.Why = "glibc 2.28 to 2.35 holds the list of handlers locked while they run: to load or unload a library, to register a handler, or to fork in one hangs there, in the master or in the child."
	f.Remedy = []string{"Do it outside of the handler: note in it that a fork happened, and act at the next use."}
	d, ok := j.facts.Defect("BZ-24595")
	if !ok {
		return f, true
	}
	f.Fact, f.Sources = d.ID, sources(nil, d.Sources)
	holds := j.report.Libc == "glibc" && (j.version() == "" || slices.ContainsFunc(d.Ranges, func(r facts.Range) bool { return r.Holds(j.version()) }))
	switch {
	case holds || j.opts.Strict:
		f.Severity = finding.Warning
	default:
		f.Why += " With " + j.libc() + " it does not; the same file may run with another."
	}
	return f, true
}

// without is about files that start threads, or have locks, and no handler.
func (j *judge) without() []finding.Finding {
	r := j.report
	if r.Registers() || len(r.Threads) == 0 && len(r.Locks) == 0 {
		return nil
	}
	kind := "library"
	if r.Program {
		kind = "program"
	}
	f := finding.Finding{
		Rule: finding.LibraryNoAtfork, Severity: finding.Info, Confidence: finding.Inferred,
		Remedy:  []string{"Use it after the fork alone, where it is loaded in a master that forks.", "Its authors can take its locks in a prepare handler (pthread_atfork), give them back in both others, and note in the child that its threads are gone."},
		Sources: []string{"POSIX.1-2024, pthread_atfork, rationale"},
	}
	locks := count(len(r.Locks), r.LocksMore, "static lock", "static locks")
	switch {
	case len(r.Threads) > 0 && len(r.Locks) > 0:
		f.Title = fmt.Sprintf("%s starts threads, has %s, and registers no fork handler", j.name(), locks)
		f.Why = "A thread of this " + kind + " may hold one of its locks when the process forks. In the child the lock stays locked and the thread is missing."
	case len(r.Threads) > 0:
		f.Title = fmt.Sprintf("%s starts threads and registers no fork handler", j.name())
		f.Why = "The threads of this " + kind + " are missing in a child, and it does not learn of that: what it hands them there is never done."
	default:
		f.Title = fmt.Sprintf("%s has %s, and registers no fork handler", j.name(), locks)
		f.Why = "Where threads of the program use this " + kind + ", one may hold its lock when the process forks. In the child it stays locked."
	}
	for _, t := range r.Threads[:min(len(r.Threads), 3)] {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s -> %s (at %#x)", t.In, symbol.Short(t.Name), t.Addr))
	}
	for _, l := range r.Locks {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s -> %s(%s) (at %#x)", l.Taken.In, l.Taken.Name, l.Name, l.Taken.Addr))
	}
	return []finding.Finding{f}
}

func count(n int, more bool, one, many string) string {
	switch {
	case more:
		return fmt.Sprintf("%d or more %s", n, many)
	case n == 1:
		return "a " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// forks is about forks without exec in what starts threads.
func (j *judge) forks() []finding.Finding {
	var out []finding.Finding
	for _, c := range j.report.Forks {
		where := c.In
		if strings.HasPrefix(where, "0x") {
			where = "a function of it"
		}
		out = append(out, finding.Finding{
			Rule: finding.ForkWithoutExec, Severity: finding.Warning, Confidence: finding.Inferred,
			Title: fmt.Sprintf("%s starts threads, and %s forks without executing another program", j.name(), where),
			Why:   "The child goes on with this program's locks as they were at the fork, held by threads that it does not have. Only async-signal-safe functions are sure to work there.",
			Evidence: []string{fmt.Sprintf("%s -> %s (at %#x)", c.In, c.Name, c.Addr),
				"nothing that leads to exec was found in this function, in what it calls, or in what calls it"},
			Remedy:  []string{"Use posix_spawn, or fork before any thread is started."},
			Sources: []string{"POSIX.1-2024, fork"},
		})
	}
	return out
}
