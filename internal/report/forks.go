package report

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/finding"
)

// forkView is a place that makes processes, as visible text.
type forkView struct {
	Title, Class string
	// Says are the facts, a line each.
	Says     []string
	Stack    []row
	Locks    []string
	Handlers []string
	// Threads are those that the children do not have, with what they were doing.
	Threads []threadView
	// Alone: no other thread was there and no lock was held, so that nothing can
	// have been left locked.
	Alone bool
	// Forks is how many there were, AtOnce how many children executed a program at once.
	Forks, AtOnce int
}

// traced sums up what trace saw.
func traced(doc *finding.Document) summary {
	forks, locks := 0, 0
	for _, f := range doc.Findings {
		if f.Rule == finding.OrphanedLock {
			locks++
		}
	}
	for i := range doc.Forks {
		forks += doc.Forks[i].Count
	}
	switch {
	case forks == 0:
		return summary{"NO FORK SEEN", "no process was made while it was traced", plain}
	case locks > 0:
		return summary{"LOCKS HELD AT FORKS", fmt.Sprintf("%s left locked in children, in %s at %s", plural(locks, "lock"), plural(forks, "fork"), plural(len(doc.Forks), "place")), warn}
	case len(doc.Findings) > 0:
		return summary{"FORKS WITH OTHER THREADS", fmt.Sprintf("%s at %s; no lock was seen held", plural(forks, "fork"), plural(len(doc.Forks), "place")), warn}
	}
	return summary{"NO LOCK HELD AT A FORK", fmt.Sprintf("%s at %s", plural(forks, "fork"), plural(len(doc.Forks), "place")), good}
}

// forkViews are the places of a document: first those where a lock was held,
// then those with other threads, last those where nothing can go wrong.
func forkViews(doc *finding.Document) []forkView {
	names := make(map[int]string)
	for _, t := range doc.Targets {
		names[t.PID] = t.Name
	}
	var out []forkView
	for i := range doc.Forks {
		out = append(out, forkViewOf(&doc.Forks[i], names))
	}
	rank := func(v forkView) int {
		switch {
		case v.Class == warn:
			return 0
		case !v.Alone:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(out, func(a, b forkView) int { return rank(a) - rank(b) })
	return out
}

func forkViewOf(s *finding.ForkSite, names map[int]string) forkView {
	v := forkView{Class: plain, Stack: merged(s.Native, s.Python), Alone: len(s.Threads) == 0 && len(s.Locks) == 0, Forks: s.Count, AtOnce: s.AtOnce}
	who := fmt.Sprintf("process %d", s.PID)
	if n := names[s.PID]; n != "" {
		who = fmt.Sprintf("%s (%d)", name(n), s.PID)
	}
	v.Title = fmt.Sprintf("%s by %s", plural(s.Count, s.Call), who)
	says := func(format string, args ...any) { v.Says = append(v.Says, prose(fmt.Sprintf(format, args...))) }
	switch {
	case s.Call == "vfork" && s.Executed == s.Count:
		says("all children executed a program: harmless")
	case s.Executed == s.Count && s.AtOnce == s.Count:
		says("all children executed a program at once: harmless")
	case s.Executed > 0:
		says("%d of %d children executed a program, %d of them at once", s.Executed, s.Count, s.AtOnce)
	default:
		says("no child executed another program")
	}
	if len(s.Programs) > 0 {
		says("executed: %s", strings.Join(s.Programs, ", "))
	}
	if len(s.Calls) > 0 {
		says("the first child's system calls: %s", strings.Join(runs(s.Calls), ", "))
	}
	says("children: %s", numbers(s.Children))
	says("the forking thread stood still for %s as a rule, %s at most; the child for %s and %s", micros(s.MedianMicros), micros(s.MaxMicros), micros(s.ChildMedianMicros), micros(s.ChildMaxMicros))
	for _, l := range s.LeftOut {
		says("left out: %s", l)
	}
	for i := range s.Locks {
		l := &s.Locks[i]
		text := lockLine(&l.Lock) + fmt.Sprintf(", at %d of %s", l.Forks, plural(s.Count, "fork"))
		switch {
		case l.Survivor:
			text += "; the thread that forked holds it, and may release it"
		case l.Reset:
			text += "; it is made anew in the child"
		}
		if l.Owner != nil {
			text += "; held by thread " + threadName(l.Owner.Name, l.Owner.TID)
		}
		v.Locks = append(v.Locks, text)
		if !l.Survivor && !l.Reset && s.AtOnce < s.Count {
			v.Class = warn
		}
	}
	for _, h := range s.Handlers {
		var parts []string
		for _, p := range [][2]string{{"before", h.Prepare}, {"in the parent", h.Parent}, {"in the child", h.Child}} {
			if p[1] != "" {
				parts = append(parts, p[0]+": "+name(p[1]))
			}
		}
		if len(h.ChildCalls) > 0 {
			calls := make([]string, len(h.ChildCalls))
			for i, c := range h.ChildCalls {
				calls[i] = name(c)
			}
			parts = append(parts, "which called "+strings.Join(calls, ", "))
		}
		v.Handlers = append(v.Handlers, name(filepath.Base(h.Library))+": "+strings.Join(parts, ", "))
	}
	for i := range s.Threads {
		t := &s.Threads[i]
		title := fmt.Sprintf("thread %s: %s", threadName(t.Name, t.TID), name(t.State))
		if t.Moved {
			title += ", moved since the fork"
		}
		v.Threads = append(v.Threads, threadView{title, merged(t.Native, t.Python)})
	}
	return v
}

// runs writes what comes several times in a row once, with the number.
func runs(calls []string) []string {
	var out []string
	for i := 0; i < len(calls); {
		n := 1
		for i+n < len(calls) && calls[i+n] == calls[i] {
			n++
		}
		s := name(calls[i])
		if n > 1 {
			s = fmt.Sprintf("%s (%d times)", s, n)
		}
		out = append(out, s)
		i += n
	}
	return out
}

func micros(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d µs", n)
	}
	return fmt.Sprintf("%.1f ms", float64(n)/1000)
}

// forks lists the places that make processes. Shells and scripts have many where
// nothing can go wrong: these are counted.
func (p *printer) forks(doc *finding.Document) {
	views := forkViews(doc)
	if first := slices.IndexFunc(views, func(v forkView) bool { return v.Alone }); !p.verbose && first >= 0 && len(views)-first > 1 {
		folded, atOnce, places := 0, 0, len(views)-first
		for _, v := range views[first:] {
			folded, atOnce = folded+v.Forks, atOnce+v.AtOnce
		}
		executed := fmt.Sprintf("%d of the children executed a program at once", atOnce)
		if atOnce == folded {
			executed = "all children executed a program at once: harmless"
		}
		more := ""
		if first > 0 {
			more = "more "
		}
		defer func() {
			p.line("")
			p.wrap(fmt.Sprintf("%s at %d %splaces had no other thread beside them: nothing can have been left locked. %s%s (-v shows each)",
				plural(folded, "fork"), places, more, strings.ToUpper(executed[:1]), executed[1:]), "", 0, "", "  ")
		}()
		views = views[:first]
	}
	for _, v := range views {
		p.line("")
		p.wrap(v.Title, p.of(v.Class), len(v.Title), "", "  ")
		p.stack(2, v.Stack)
		p.list("seen", v.Says)
		p.list("locks", v.Locks)
		p.list("hooks", v.Handlers)
		for i, t := range v.Threads {
			if i == 8 && !p.verbose {
				p.field("", fmt.Sprintf("%s (-v shows all)", plural(len(v.Threads)-i, "more thread")))
				break
			}
			p.field("beside", t.Title)
			p.stack(label+4, t.Rows)
		}
	}
}
