package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"forkproof/internal/finding"
)

// block is one thing to say: findings that differ in nothing but the process and
// thread they are about. Thirty-two hung workers are one block.
type block struct {
	// Finding is the first of them, which stands for all.
	*finding.Finding
	all []*finding.Finding
	// pids are the processes, each once, in the order of the document.
	pids []int
	// target and thread are those of the first finding, nil where the document
	// does not have them.
	target *finding.Target
	thread *finding.Thread
	// least and most are how long the threads have not run, in seconds; 0 where
	// that is unknown.
	least, most float64
	// alike: evidence and explanation differ in numbers of processes only.
	alike bool
}

// blocks groups the findings of a document, keeping the order in which each
// block first appears.
func blocks(doc *finding.Document) []*block {
	targets := make(map[int]*finding.Target, len(doc.Targets))
	for i := range doc.Targets {
		targets[doc.Targets[i].PID] = &doc.Targets[i]
	}
	byKey := make(map[string]*block)
	var out []*block
	for i := range doc.Findings {
		f := &doc.Findings[i]
		t := targets[f.PID]
		if f.Place != nil {
			t = nil // it is about a source, whatever serves it
		}
		th := threadOf(t, f.TID)
		k := key(f, th)
		b, ok := byKey[k]
		if !ok {
			b = &block{Finding: f, target: t, thread: th, alike: true}
			byKey[k] = b
			out = append(out, b)
		}
		b.all = append(b.all, f)
		if f.PID != 0 && !slices.Contains(b.pids, f.PID) {
			b.pids = append(b.pids, f.PID)
		}
		b.alike = b.alike && said(f) == said(b.Finding)
		if th != nil && th.SinceSeconds > 0 {
			if b.least == 0 || th.SinceSeconds < b.least {
				b.least = th.SinceSeconds
			}
			b.most = max(b.most, th.SinceSeconds)
		}
	}
	return out
}

func threadOf(t *finding.Target, tid int) *finding.Thread {
	if t == nil || tid == 0 {
		return nil
	}
	for i := range t.Threads {
		if t.Threads[i].TID == tid {
			return &t.Threads[i]
		}
	}
	return nil
}

// key is the same for findings that belong into one block.
func key(f *finding.Finding, th *finding.Thread) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\x00%d\x00%d\x00%s\x00", f.Rule, f.Severity, f.Confidence, impersonal(f, f.Title))
	if f.Place != nil {
		fmt.Fprintf(&b, "%s\x00", at(f.Place))
	}
	if l := f.Lock; l != nil {
		// A name says more than an address: interpreters that wait on the stack
		// have another one in each thread.
		where := l.Where
		if where == "" {
			where = l.Address.String()
		}
		fmt.Fprintf(&b, "%s\x00%s\x00%d\x00", l.Kind, where, l.OwnerTID)
		if o := l.Owner; o != nil {
			fmt.Fprintf(&b, "%d\x00%d\x00%t\x00%s\x00", o.PID, o.TID, o.Alive, o.Basis)
		}
	}
	if th != nil {
		for _, p := range th.Python {
			fmt.Fprintf(&b, "%s\x00%s\x00%d\x00", p.Function, p.File, p.Line)
		}
		if len(th.Python) == 0 {
			for _, n := range th.Native {
				fmt.Fprintf(&b, "%s\x00%s\x00%d\x00", n.Object, n.Function, n.Offset)
			}
		}
	}
	for _, r := range f.Remedy {
		b.WriteString(impersonal(f, r) + "\x00")
	}
	return b.String()
}

var number = regexp.MustCompile(`\d+`)

// impersonal takes the finding's own process and thread out of a sentence.
func impersonal(f *finding.Finding, s string) string {
	pid, tid := fmt.Sprint(f.PID), fmt.Sprint(f.TID)
	return number.ReplaceAllStringFunc(s, func(n string) string {
		if n != "0" && (n == pid || n == tid) {
			return "#"
		}
		return n
	})
}

func said(f *finding.Finding) string {
	return impersonal(f, f.Why+"\x00"+strings.Join(f.Evidence, "\x00")+"\x00"+strings.Join(f.Sources, "\x00"))
}

// title is the block's headline.
func (b *block) title() string {
	if len(b.pids) < 2 {
		return prose(b.Title)
	}
	if b.Confidence == finding.Proven && b.Lock != nil && strings.HasPrefix(string(b.Rule), "deadlock-") {
		t := fmt.Sprintf("%s are deadlocked: they wait for %s", plural(len(b.pids), b.noun()), prose(lockName(b.Lock)))
		if o := b.Lock.Owner; o != nil && o.Name != "" {
			who := fmt.Sprintf("thread %s of process %d", threadName(o.Name, o.TID), o.PID)
			switch {
			case b.Lock.Kind == "thread-join":
				t += ": " + who
			case o.Basis == finding.Recorded, o.Basis == finding.HeldThen:
				t += ", which " + who + " held at the fork"
			case o.Basis == finding.HoldsNow:
				t += ", which " + who + " holds there"
			}
		}
		return t
	}
	if rest, ok := strings.CutPrefix(b.Title, fmt.Sprintf("%s %d was ", b.noun(), b.PID)); ok && !strings.Contains(rest, " it ") {
		return plural(len(b.pids), b.noun()) + " were " + prose(rest)
	}
	return fmt.Sprintf("%s (and %s alike)", prose(b.Title), plural(len(b.pids)-1, "more process"))
}

// remedy lists what to do about all processes of the block: a command that names
// the process names them all.
func (b *block) remedy() []string {
	out := make([]string, len(b.Remedy))
	for i, r := range b.Remedy {
		if len(b.pids) > 1 {
			r = number.ReplaceAllStringFunc(r, func(n string) string {
				if n == fmt.Sprint(b.PID) {
					return numbers(b.pids)
				}
				return n
			})
		}
		out[i] = prose(r)
	}
	return out
}

// noun says what the processes of the block are, in the singular.
func (b *block) noun() string {
	t := b.target
	if t == nil {
		return "process"
	}
	if t.Server == "" || t.Role == "" {
		return cmp.Or(name(t.Role), "process")
	}
	return name(t.Server + " " + t.Role)
}

func lockName(l *finding.Lock) string {
	if l.Where != "" {
		return l.Where
	}
	return fmt.Sprintf("a %s at %s", l.Kind, l.Address)
}

// lockLine describes a lock: what, where, in which state.
func lockLine(l *finding.Lock) string {
	s := fmt.Sprintf("%s at %s", l.Kind, l.Address)
	if l.Where != "" {
		s = l.Where + ", " + s
	}
	if l.State != "" {
		s += ", " + l.State
	}
	return prose(s)
}

func threadName(n string, tid int) string {
	if n == "" {
		return fmt.Sprint(tid)
	}
	return fmt.Sprintf("%d (%s)", tid, name(n))
}

// waits says who waits and since when.
func (b *block) waits(doc *finding.Document) string {
	var s string
	switch {
	case len(b.all) > 1 && b.thread != nil:
		s = fmt.Sprintf("%s of %s", plural(len(b.all), "thread"), plural(len(b.pids), "process"))
	case b.thread != nil:
		s = "thread " + threadName(b.thread.Name, b.thread.TID)
	case b.TID != 0:
		return fmt.Sprintf("thread %d", b.TID)
	default:
		return ""
	}
	if b.Lock != nil && b.Lock.Kind == "gil" {
		if len(b.all) > 1 {
			return s + ", which wake every few milliseconds and find the lock held"
		}
		return s + ", which wakes every few milliseconds and finds the lock held"
	}
	if b.most == 0 {
		return s
	}
	has := "has"
	if len(b.all) > 1 {
		has = "have"
	}
	s += fmt.Sprintf(", %s not run for %s", has, age(b.most))
	if age(b.least) != age(b.most) {
		s = strings.TrimSuffix(s, age(b.most)) + age(b.least) + " to " + age(b.most)
	}
	if at, err := time.Parse(time.RFC3339, doc.Time); err == nil {
		// The kernel's clock of a sleep stands still while the machine itself
		// sleeps: the time is the latest that it can be.
		since := at.Add(-time.Duration(b.most * float64(time.Second)))
		form := "15:04"
		if since.Format(time.DateOnly) != at.Format(time.DateOnly) {
			form = "2006-01-02 15:04"
		}
		word := "since"
		if age(b.least) != age(b.most) {
			word = "the first since"
		}
		s += fmt.Sprintf(" (%s %s UTC, or earlier if the machine was suspended)", word, since.UTC().Format(form))
	}
	return s
}

// age writes seconds as a person says them, in at most two units.
func age(seconds float64) string {
	if seconds < 60 {
		return fmt.Sprintf("%.1f s", seconds)
	}
	d := int64(seconds)
	switch {
	case d < 3600:
		return fmt.Sprintf("%d min %d s", d/60, d%60)
	case d < 86400:
		return fmt.Sprintf("%d h %d min", d/3600, d%3600/60)
	}
	return fmt.Sprintf("%d d %d h", d/86400, d%86400/3600)
}

// seenIn says which process the evidence of a block of several is about.
func seenIn(b *block) string {
	if b.alike {
		return fmt.Sprintf("in process %d, alike in the others:", b.PID)
	}
	return fmt.Sprintf("in process %d; --format json has what was seen in the others:", b.PID)
}

// ownerLine says who left the lock behind and what became of it; empty where
// the lock names nobody.
func ownerLine(l *finding.Lock) string {
	switch o := l.Owner; {
	case o == nil && l.OwnerTID != 0:
		return fmt.Sprintf("thread %d, as the lock records", l.OwnerTID)
	case o == nil && len(l.Suspects) > 0:
		s := "not recorded by the lock; the process it was forked from has " + plural(len(l.Suspects), "thread") + " that "
		if len(l.Suspects) == 1 {
			return s + "was there at the fork and is not in the worker:"
		}
		return s + "were there at the fork and are not in the worker:"
	case o == nil:
		return ""
	case o.Basis == finding.HeldThen:
		return fmt.Sprintf("thread %s of process %d; the lock does not record it, but it was seen to hold the lock at the fork", threadName(o.Name, o.TID), o.PID)
	case o.Basis == finding.HoldsNow:
		return "thread " + ownerOf(o) + "; the lock does not record it, but the thread holds the same lock there now"
	default:
		return "thread " + ownerOf(o)
	}
}

func ownerOf(o *finding.Owner) string {
	s := fmt.Sprintf("%s of process %d", threadName(o.Name, o.TID), o.PID)
	switch {
	case !o.Alive:
		return s + ", which has ended since"
	case o.State == "":
		return s + ", alive there"
	}
	return s + ", alive there, now in state " + name(o.State)
}

// row is one line of a stack.
type row struct {
	// Text is the whole line; Function, File and Line are set for Python.
	Text     string
	Function string
	File     string
	Line     int
	Python   bool
	named    bool
}

// merged mixes native and Python frames, innermost first: each Python frame
// stands where the interpreter's loop that runs it stands. Where the loops have no
// names, all stand before the function that the program's own code is run by.
func merged(native []finding.NativeFrame, python []finding.PythonFrame) []row {
	var out []row
	next := 0
	for i, n := range native {
		shown := false
		if n.Function == "PyEval_EvalCode" && next < len(python) && python[next].Native < 0 {
			for ; next < len(python) && python[next].Native < 0; next++ {
				out = append(out, pythonRow(python[next]))
			}
		}
		for next < len(python) && python[next].Native == i {
			out = append(out, pythonRow(python[next]))
			next++
			shown = true
		}
		if shown {
			continue
		}
		r := row{named: n.Function != ""}
		switch {
		case n.Function != "" && n.Object != "":
			r.Text = fmt.Sprintf("%s+0x%x in %s", name(n.Function), n.Offset, name(n.Object))
		case n.Function != "":
			r.Text = fmt.Sprintf("%s+0x%x", name(n.Function), n.Offset)
		case n.Object != "":
			r.Text = fmt.Sprintf("%s+0x%x", name(n.Object), n.Offset)
		default:
			r.Text = n.IP.String()
		}
		if n.Guessed {
			r.Text += " (found by search)"
		}
		out = append(out, r)
	}
	for ; next < len(python); next++ {
		out = append(out, pythonRow(python[next]))
	}
	return out
}

func pythonRow(f finding.PythonFrame) row {
	r := row{Function: name(f.Function), File: name(f.File), Line: f.Line, Python: true, named: true}
	switch {
	case f.Line > 0:
		r.Text = fmt.Sprintf("%s at %s:%d", r.Function, r.File, f.Line)
	default:
		r.Text = fmt.Sprintf("%s in %s, line unknown", r.Function, r.File)
	}
	return r
}

// Limits of a stack that is shown in short.
const (
	shortRows = 14
	innerRows = 3
)

// brief leaves out of a stack what does not help at a glance: native frames
// without a name above Python's, and everything beyond the first rows. It
// returns how many it left out.
func brief(all []row) (out []row, left int) {
	python := slices.IndexFunc(all, func(r row) bool { return r.Python })
	inner := 0
	for i, r := range all {
		switch {
		case len(out) >= shortRows:
		case python < 0 || r.Python:
			out = append(out, r)
		case i < python && r.named && inner < innerRows:
			inner++
			out = append(out, r)
		}
	}
	return out, len(all) - len(out)
}
