package report

import (
	"fmt"
	"strings"

	"forkproof/internal/finding"
)

// provokedLock is a line of the table of locks, as visible text.
type provokedLock struct {
	Class, Outcome, Lock, Threads, Detail string
	Rows                                  []row
}

// provokedView is what the command provoke did, as visible text.
type provokedView struct {
	Plain, Coverage string
	Locks           []provokedLock
}

// provoked is the verdict of the command provoke.
func provokedVerdict(doc *finding.Document) summary {
	p := doc.Provoked
	failed, missed := 0, len(p.Locks)-p.Exercised
	for i := range p.Locks {
		if p.Locks[i].Outcome == finding.ProvokedCheckFailed {
			failed++
		}
	}
	s := summary{"NO DEADLOCK PROVOKED", coverage(p), good}
	switch {
	case p.Deadlocked > 0:
		s.Word, s.Class = "DEADLOCKS", bad
	case p.Plain.Outcome == finding.ProvokedDeadlock:
		s.Word, s.Class = "DEADLOCKS", bad
		s.Rest = "a fork without any help does; " + s.Rest
	case failed > 0 || p.Plain.Outcome == finding.ProvokedCheckFailed:
		s.Word, s.Class = "CHECK FAILED", bad
	case p.Exercised == 0:
		s.Word, s.Class = "NOTHING PROVOKED", warn
	case missed > 0:
		s.Class = warn
	}
	return s
}

// coverage says how many locks were exercised.
func coverage(p *finding.Provoked) string {
	out := fmt.Sprintf("%d of %s exercised, %d deadlock", p.Exercised, plural(len(p.Locks), "lock"), p.Deadlocked)
	if p.Deadlocked == 0 {
		out = fmt.Sprintf("%d of %s exercised, none deadlocks", p.Exercised, plural(len(p.Locks), "lock"))
	}
	return out
}

// provoked returns what the page and the text show; nil for other commands.
func provoked(doc *finding.Document) *provokedView {
	p := doc.Provoked
	if p == nil {
		return nil
	}
	v := &provokedView{Coverage: coverage(p)}
	if p.Plain.Outcome != "" {
		v.Plain = prose("A fork without any help: " + string(p.Plain.Outcome))
		if p.Plain.Detail != "" {
			v.Plain += prose(", " + p.Plain.Detail)
		}
		v.Plain += "."
	}
	if p.Forks != "" {
		v.Plain = strings.TrimSpace(v.Plain + " " + prose("It forks "+p.Forks+"."))
	}
	for i := range p.Locks {
		l := &p.Locks[i]
		row := provokedLock{Class: outcomeClass(l.Outcome), Outcome: prose(string(l.Outcome)), Lock: name(l.Name), Rows: merged(l.Native, l.Python)}
		var threads []string
		for _, t := range l.Threads {
			threads = append(threads, name(t))
		}
		const most = 4
		if left := len(threads) - most; left > 0 {
			threads = append(threads[:most], fmt.Sprintf("%d more", left))
		}
		row.Threads = strings.Join(threads, ", ")
		row.Detail = prose(l.Detail)
		if l.Forced && l.HolderAt != "" {
			row.Detail = strings.TrimPrefix(row.Detail+fmt.Sprintf("; forked while %s held it, %s", name(orUnnamed(l.Holder)), prose(l.HolderAt)), "; ")
		}
		v.Locks = append(v.Locks, row)
	}
	return v
}

func orUnnamed(s string) string {
	if s == "" {
		return "a thread"
	}
	return s
}

func outcomeClass(o finding.ProvokedOutcome) string {
	switch o {
	case finding.ProvokedDeadlock, finding.ProvokedCheckFailed:
		return bad
	case finding.ProvokedHidden, finding.ProvokedNotReached:
		return warn
	}
	return good
}

// provoked writes the table of locks.
func (p *printer) provoked(doc *finding.Document) {
	v := provoked(doc)
	if v == nil {
		return
	}
	if v.Plain != "" {
		p.wrap(v.Plain, "", 0, "", "  ")
	}
	const column = 14
	pad := strings.Repeat(" ", column)
	for _, l := range v.Locks {
		p.line("")
		text := fmt.Sprintf("%-*s%s", column, l.Outcome, l.Lock)
		p.wrap(text, p.of(l.Class), len(l.Outcome), "", pad)
		if l.Threads != "" {
			p.wrap("used by "+l.Threads, "", 0, pad, pad)
		}
		if l.Detail != "" {
			p.wrap(l.Detail, "", 0, pad, pad)
		}
		if p.verbose || l.Class == bad {
			p.stack(column+2, l.Rows)
		}
	}
}
