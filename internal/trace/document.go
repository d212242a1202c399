package trace

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"forkproof/internal/finding"
)

// group is all forks of one call site.
type group struct {
	site         finding.ForkSite
	forks        []*Fork
	stood, child []time.Duration
}

// key tells call sites apart: the stack of whoever forked, without line numbers
// of Python's loop, and how.
func key(f *Fork) string {
	var b strings.Builder
	fmt.Fprint(&b, f.VFork, f.Name)
	for _, p := range f.Python {
		fmt.Fprint(&b, "|", p.File, p.Function)
	}
	if len(f.Python) == 0 {
		for _, n := range f.Native {
			fmt.Fprint(&b, "|", n.Object, n.Function)
			if n.Function == "" {
				fmt.Fprint(&b, n.Offset)
			}
		}
	}
	return b.String()
}

// groups puts forks together by where they were made, in the order of the first.
func groups(forks []*Fork) []*group {
	var all []*group
	by := make(map[string]*group)
	for _, f := range forks {
		k := key(f)
		g := by[k]
		if g == nil {
			g = &group{site: finding.ForkSite{PID: f.Parent, Call: "fork", Native: f.Native, Python: f.Python}}
			if f.VFork {
				g.site.Call = "vfork"
			}
			by[k] = g
			all = append(all, g)
		}
		g.add(f)
	}
	for _, g := range all {
		g.site.MedianMicros, g.site.MaxMicros = spread(g.stood)
		g.site.ChildMedianMicros, g.site.ChildMaxMicros = spread(g.child)
	}
	return all
}

func (g *group) add(f *Fork) {
	s := &g.site
	g.forks = append(g.forks, f)
	g.stood, g.child = append(g.stood, f.Stood), append(g.child, f.ChildStood)
	s.Count++
	if len(s.Children) < 64 {
		s.Children = append(s.Children, f.Child)
	}
	if f.Executed != "" {
		s.Executed++
		if f.AtOnce {
			s.AtOnce++
		}
		if len(s.Programs) < 16 && !slices.Contains(s.Programs, f.Executed) {
			s.Programs = append(s.Programs, f.Executed)
		}
	}
	if len(s.Calls) == 0 {
		s.Calls = f.Calls
	}
	if len(f.Threads) >= len(s.Threads) {
		s.Threads = f.Threads
	}
	if len(f.Handlers) > 0 {
		s.Handlers = f.Handlers
	}
	for _, o := range f.LeftOut {
		if !slices.Contains(s.LeftOut, o) && len(s.LeftOut) < 8 {
			s.LeftOut = append(s.LeftOut, o)
		}
	}
	for _, l := range f.Locks {
		i := slices.IndexFunc(s.Locks, func(o finding.HeldLock) bool { return o.Address == l.Address && o.Where == l.Where })
		if i < 0 {
			s.Locks = append(s.Locks, l)
			continue
		}
		s.Locks[i].Forks++
		if s.Locks[i].Owner == nil {
			s.Locks[i].Owner, s.Locks[i].OwnerTID = l.Owner, l.OwnerTID
		}
	}
}

// spread returns the median and the longest, in microseconds.
func spread(all []time.Duration) (median, longest int64) {
	slices.Sort(all)
	return all[len(all)/2].Microseconds(), all[len(all)-1].Microseconds()
}

// document puts all into the report.
func (j *job) document(doc *finding.Document) {
	forkers := make(map[int]bool)
	for _, g := range groups(j.forks) {
		doc.Forks = append(doc.Forks, g.site)
		doc.Findings = append(doc.Findings, findings(g)...)
		for _, f := range g.forks {
			forkers[f.Parent] = true
		}
	}
	for _, pid := range j.roots {
		forkers[pid] = true
	}
	for pid := range forkers {
		doc.Targets = append(doc.Targets, j.target(pid))
	}
	slices.SortFunc(doc.Targets, func(a, b finding.Target) int { return a.PID - b.PID })
	doc.Notes = append(doc.Notes, j.notes...)
	if left := j.count - len(j.forks); left > 0 {
		doc.Notes = append(doc.Notes, fmt.Sprintf("of %d forks the first %d are told of", j.count, len(j.forks)))
	}
}

// target is a process that forked, or that was to be traced.
func (j *job) target(pid int) finding.Target {
	t := finding.Target{PID: pid, Role: "process", Name: j.names[pid], Verdict: "traced"}
	if args, err := j.fs.Cmdline(pid); err == nil && j.fs.Same(j.ids[pid]) {
		t.Command = strings.Join(args, " ")
	}
	if slices.Contains(j.roots, pid) && len(j.req.Command) > 0 {
		t.Command = strings.Join(j.req.Command, " ")
	}
	if st, ended := j.ends[pid]; ended {
		switch {
		case st.Signaled():
			t.Notes = append(t.Notes, fmt.Sprintf("it ended by signal %d (%v)", int(st.Signal()), st.Signal()))
		default:
			t.Notes = append(t.Notes, fmt.Sprintf("it ended with status %d", st.ExitStatus()))
		}
	}
	for _, f := range j.forks {
		if f.Child == pid {
			t.Parent = f.Parent
		}
	}
	return t
}

// Site says in a few words where a fork was made.
func Site(native []finding.NativeFrame, python []finding.PythonFrame) string {
	for _, p := range python {
		// What os.fork and subprocess call is told by who called them.
		switch base := filepath.Base(p.File); {
		case base == "subprocess.py", base == "os.py", base == "popen_fork.py", base == "process.py", base == "context.py", base == "pty.py":
			continue
		}
		return fmt.Sprintf("%s at %s:%d", p.Function, p.File, p.Line)
	}
	for _, n := range native {
		if n.Function == "" || libcPart(n.Object) {
			continue
		}
		return fmt.Sprintf("%s in %s", n.Function, n.Object)
	}
	for _, n := range native {
		if n.Object != "" && !libcPart(n.Object) {
			return fmt.Sprintf("%s+0x%x", n.Object, n.Offset)
		}
	}
	return "an unknown place"
}

// findings are what a call site gives reason to say.
func findings(g *group) []finding.Finding {
	s := &g.site
	// A child that executes a program at once has nothing of what it inherited.
	risky := 0
	var first *Fork
	for _, f := range g.forks {
		if f.Executed == "" || !f.AtOnce {
			if len(f.Threads) > 0 {
				risky++
				if first == nil {
					first = f
				}
			}
		}
	}
	if risky == 0 {
		return nil
	}
	where := Site(s.Native, s.Python)
	var out []finding.Finding
	for _, l := range s.Locks {
		if l.Survivor || l.Reset || l.Owner == nil && l.Kind != "libc-internal" {
			continue
		}
		lock := l.Lock
		f := finding.Finding{
			Rule: finding.OrphanedLock, Severity: finding.Warning, Confidence: finding.Observed, PID: first.Child, Others: []int{s.PID}, Lock: &lock,
			Title: fmt.Sprintf("%s forked a child with %s locked", what(first), l.Where),
			Why:   "Its owner does not exist in the child. The first thread that wants the lock there will wait for ever, unless the program makes the lock anew after the fork.",
			Evidence: []string{
				fmt.Sprintf("the child's memory was read before its first instruction: the lock was held there, at %d of %s made by %s", l.Forks, count(s.Count, "fork", "forks"), where),
			},
			Remedy: remedies(),
		}
		if l.Owner != nil {
			f.Title += fmt.Sprintf(" by thread %s (%d)", l.Owner.Name, l.Owner.TID)
			if l.Owner.Basis == finding.HeldThen {
				f.Evidence = append(f.Evidence, "the lock records no owner: "+strings.TrimPrefix(l.State, "held, "))
			} else {
				f.Evidence = append(f.Evidence, "the lock records its owner")
			}
		} else {
			f.Evidence = append(f.Evidence, "the lock records no owner; the thread that forked was in no function of the C library that takes it")
		}
		out = append(out, f)
	}
	f := finding.Finding{
		Rule: finding.ForkWithThreads, Severity: finding.Warning, Confidence: finding.Observed, PID: s.PID,
		Title:  fmt.Sprintf("%s forks with %s running that the child does not have", what(first), count(len(s.Threads), "other thread", "other threads")),
		Why:    "Whatever lock one of them holds at the instant of a fork stays locked in the child.",
		Remedy: remedies(),
		Evidence: []string{
			fmt.Sprintf("%s by %s; %s did not execute another program at once", count(s.Count, "fork", "forks"), where, count(risky, "child", "children")),
		},
	}
	for i, t := range s.Threads {
		if i == 8 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("and %d more", len(s.Threads)-i))
			break
		}
		f.Evidence = append(f.Evidence, Doing(t))
	}
	return append(out, f)
}

// Doing says what a thread of the parent did at the fork.
func Doing(t finding.ForkThread) string {
	line := fmt.Sprintf("thread %s (%d) was in %s", t.Name, t.TID, t.State)
	switch {
	case len(t.Python) > 0:
		line += fmt.Sprintf(", %s at %s:%d", t.Python[0].Function, t.Python[0].File, t.Python[0].Line)
	case len(t.Native) > 0:
		line += ", " + Site(t.Native, nil)
	}
	if t.Moved {
		line += "; its native stack has moved since"
	}
	return line
}

func what(f *Fork) string { return fmt.Sprintf("%s (%d)", f.Name, f.Parent) }

func remedies() []string {
	return []string{
		"start threads in each worker after the fork, or fork before they are started",
		"what has to be there before must take its locks in a fork handler (pthread_atfork, os.register_at_fork) and release or make them anew in the child",
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
