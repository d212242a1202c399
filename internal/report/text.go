package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"forkproof/internal/finding"
)

// theme holds terminal escapes; its zero value prints none.
type theme struct{ bad, warn, good, bold, dim, off string }

var colours = theme{bad: "\x1b[1;31m", warn: "\x1b[33m", good: "\x1b[32m", bold: "\x1b[1m", dim: "\x1b[2m", off: "\x1b[0m"}

type printer struct {
	*bufio.Writer
	theme
}

func (p *printer) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p, format+"\n", args...) // bufio keeps the first error for Flush
}

// Text writes the document for a person: the verdict first.
func Text(w io.Writer, doc *finding.Document, opts Options) error {
	p := &printer{Writer: bufio.NewWriter(w)}
	if opts.Colour {
		p.theme = colours
	}
	p.verdict(doc)
	for i := range doc.Findings {
		p.finding(doc, &doc.Findings[i])
	}
	p.targets(doc, opts)
	if len(doc.Targets) == 0 {
		p.host(doc)
	}
	for _, n := range doc.Notes {
		p.line("note: %s", clean(n))
	}
	return p.Flush()
}

func (p *printer) verdict(doc *finding.Document) {
	count := make(map[string]int)
	for _, t := range doc.Targets {
		count[t.Verdict]++
	}
	n := len(doc.Targets)
	switch {
	case n == 0:
		p.line("%sNO PRE-FORK SERVER FOUND%s on this machine", p.bold, p.off)
	case count["deadlocked"] > 0:
		p.line("%sDEADLOCKED%s, proven: %d of %s", p.bad, p.off, count["deadlocked"], plural(n, "process", "processes"))
	case count["suspected"] > 0:
		p.line("%sSUSPECTED%s: %d of %s sleep and may never wake", p.warn, p.off, count["suspected"], plural(n, "process", "processes"))
	case count["unreadable"] == n:
		p.line("%sCOULD NOT LOOK%s at %s", p.warn, p.off, plural(n, "process", "processes"))
	default:
		p.line("%sNO DEADLOCK%s in %s", p.good, p.off, plural(n, "process", "processes"))
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func (p *printer) finding(doc *finding.Document, f *finding.Finding) {
	mark := p.dim
	switch f.Severity {
	case finding.Critical:
		mark = p.bad
	case finding.Warning:
		mark = p.warn
	}
	p.line("")
	p.line("%s%s%s %s [%s, %s]", mark, strings.ToUpper(f.Severity.String()), p.off, clean(f.Title), f.Rule, f.Confidence)
	p.line("  why: %s", clean(f.Why))
	if l := f.Lock; l != nil {
		s := fmt.Sprintf("%s at %s", l.Kind, l.Address)
		if l.Where != "" {
			s = clean(l.Where) + ", a " + s
		}
		if l.State != "" {
			s += ", " + l.State
		}
		if l.OwnerTID != 0 {
			s += fmt.Sprintf(", owner %d", l.OwnerTID)
		}
		p.line("  lock: %s", s)
	}
	if t, ok := thread(doc, f.PID, f.TID); ok {
		since := ""
		if t.SinceSeconds > 0 {
			since = fmt.Sprintf(", has not run for %s", age(t.SinceSeconds))
		}
		p.line("  waits: thread %d (%s)%s", t.TID, clean(t.Name), since)
		p.stack("    ", t.Native, t.Python)
	}
	if l := f.Lock; l != nil && l.Owner != nil {
		o := l.Owner
		if !o.Alive {
			p.line("  owner: thread %d of master %d, which has ended since", o.TID, o.PID)
		} else {
			p.line("  owner: thread %d (%s) of process %d, alive there; now %s", o.TID, clean(o.Name), o.PID, o.State)
			p.stack("    ", o.Native, o.Python)
		}
	}
	for _, e := range f.Evidence {
		p.line("  seen: %s", clean(e))
	}
	for _, r := range f.Remedy {
		p.line("  do: %s", clean(r))
	}
	for _, s := range f.Sources {
		p.line("  source: %s", clean(s))
	}
}

func thread(doc *finding.Document, pid, tid int) (*finding.Thread, bool) {
	for i := range doc.Targets {
		if doc.Targets[i].PID != pid {
			continue
		}
		for k := range doc.Targets[i].Threads {
			if doc.Targets[i].Threads[k].TID == tid {
				return &doc.Targets[i].Threads[k], true
			}
		}
	}
	return nil, false
}

// stack prints native and Python frames mixed: each Python frame stands where
// the evaluation loop that runs it stands.
func (p *printer) stack(indent string, native []finding.NativeFrame, python []finding.PythonFrame) {
	next := 0
	for i, n := range native {
		shown := false
		for next < len(python) && python[next].Native == i {
			p.python(indent, python[next])
			next++
			shown = true
		}
		if shown {
			continue
		}
		name := n.Function
		if name == "" {
			name = "?"
		}
		guessed := ""
		if n.Guessed {
			guessed = " (found by search)"
		}
		p.line("%s%s%s+0x%x in %s%s%s", indent, p.dim, clean(name), n.Offset, clean(n.Object), guessed, p.off)
	}
	for ; next < len(python); next++ {
		p.python(indent, python[next])
	}
}

func (p *printer) python(indent string, f finding.PythonFrame) {
	p.line("%s%s at %s:%d", indent, clean(f.Function), clean(f.File), f.Line)
}

func (p *printer) targets(doc *finding.Document, opts Options) {
	if len(doc.Targets) > 0 {
		p.line("")
	}
	for _, t := range doc.Targets {
		who := t.Role
		if t.Server != "" {
			who = t.Server + " " + t.Role
		}
		p.line("%-10s %s %d  %s", t.Verdict, who, t.PID, clean(short(t.Command, t.Name)))
		if opts.Verbose {
			for _, th := range t.Threads {
				p.line("    thread %d (%s) %s", th.TID, clean(th.Name), th.State)
				p.stack("        ", th.Native, th.Python)
			}
		}
		for _, n := range t.Notes {
			p.line("    note: %s", clean(n))
		}
	}
}

func (p *printer) host(doc *finding.Document) {
	l := doc.Host.Libc
	if l == nil {
		return
	}
	name := l.Family + " " + l.Version
	if l.Package != "" {
		name += " (" + l.Package + ")"
	}
	p.line("A server started here would use %s:", strings.TrimSpace(name))
	for _, m := range doc.Host.LibcMeans {
		p.line("  - %s", m)
	}
}

func short(command, name string) string {
	if command == "" {
		command = "[" + name + "]"
	}
	if len(command) > 100 {
		command = command[:100] + "..."
	}
	return command
}

func age(seconds float64) string {
	return (time.Duration(seconds*1000) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// clean removes control characters: names and paths of a target must not be
// able to write escapes to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '.'
		}
		return r
	}, s)
}
