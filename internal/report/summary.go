package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/finding"
)

// Classes of what is said, for colours and styles.
const (
	bad   = "bad"
	warn  = "warn"
	good  = "good"
	plain = "plain"
)

func class(s finding.Severity) string {
	switch s {
	case finding.Critical:
		return bad
	case finding.Warning:
		return warn
	}
	return plain
}

// summary is the verdict on everything that was looked at.
type summary struct {
	Word, Rest, Class string
}

// verdict sums up in one line; what could not be read is part of it, since
// nothing is known of that.
func verdict(doc *finding.Document) summary {
	switch doc.Command {
	case "check":
		return checked(doc)
	case "lint":
		return linted(doc)
	}
	switch doc.Command {
	case "stress":
		return stressed(doc)
	case "trace":
		return traced(doc)
	}
	if doc.Provoked != nil {
		return provokedVerdict(doc)
	}
	count := make(map[string]int)
	for i := range doc.Targets {
		count[verdictOf(doc, &doc.Targets[i])]++
	}
	n := len(doc.Targets)
	blind := count["unreadable"]
	var also []string
	s := summary{Class: good}
	switch dead := count["deadlocked"]; {
	case n == 0 && len(doc.Findings) == 0:
		return summary{"NO PRE-FORK SERVER FOUND", "nothing was looked at on this machine", plain}
	case dead > 0:
		s = summary{"DEADLOCKED", ofAll(doc, dead) + ", proven", bad}
		if c := count["suspected"]; c > 0 {
			also = append(also, fmt.Sprintf("%d suspected", c))
		}
	case count["suspected"] > 0:
		s = summary{"SUSPECTED", fmt.Sprintf("%d of %s may never wake; not proven", count["suspected"], plural(n, "process")), warn}
	case n > 0 && blind == n:
		return summary{"COULD NOT LOOK", "at " + plural(n, "process"), warn}
	default:
		s.Word, s.Rest = "NO DEADLOCK FOUND", "in "+plural(n-blind, "process")
	}
	if blind > 0 {
		also = append(also, fmt.Sprintf("%d could not be read", blind))
		if s.Class == good {
			s.Class = warn
		}
	}
	if c := count["armed"]; c > 0 {
		also = append(also, fmt.Sprintf("%d armed, which were forked with a lock held that nobody waits for yet", c))
		if s.Class == good {
			s.Class = warn
		}
	}
	if c := count["stopped"]; c > 0 {
		also = append(also, fmt.Sprintf("%d stopped, of which nothing can be said", c))
	}
	if len(also) > 0 {
		s.Rest += "; " + strings.Join(also, ", ")
	}
	if s.Class == good {
		if worst, ok := doc.Worst(); ok && worst > finding.Info {
			s.Class = warn
		}
	}
	return s
}

// verdictOf is the verdict on a process; a critical finding outweighs whatever
// word stands in the target.
func verdictOf(doc *finding.Document, t *finding.Target) string {
	word := t.Verdict
	for i := range doc.Findings {
		f := &doc.Findings[i]
		if f.PID != t.PID || f.Severity != finding.Critical || f.Lock == nil {
			continue
		}
		if f.Confidence == finding.Proven {
			return "deadlocked"
		}
		word = "suspected"
	}
	return word
}

// ofAll counts the deadlocked ones against their own kind: the workers of one
// server where all of them are such, else everything that was looked at.
func ofAll(doc *finding.Document, dead int) string {
	kin, parent, server := 0, 0, ""
	for _, t := range doc.Targets {
		if verdictOf(doc, &t) != "deadlocked" {
			continue
		}
		if t.Role != "worker" || t.Server == "" || (parent != 0 && t.Parent != parent) {
			return fmt.Sprintf("%d of %s", dead, plural(len(doc.Targets), "process"))
		}
		parent, server = t.Parent, t.Server
	}
	for _, t := range doc.Targets {
		if t.Role == "worker" && t.Parent == parent {
			kin++
		}
	}
	return fmt.Sprintf("%d of %s of %s master %d", dead, plural(kin, "worker"), name(server), parent)
}

// server is a master with its workers as they were looked at, or a process that
// belongs to none.
type server struct {
	Title, About, Command string
	// Inside tells the numbers of the processes within their container, empty
	// where they are the same.
	Inside string
	Groups []group
}

// group is processes of one server with the same role and verdict.
type group struct {
	Verdict, Who, Class string
	targets             []*finding.Target
}

// servers gathers the targets by server, in the order of the document.
func servers(doc *finding.Document) []server {
	var order []int
	kin := make(map[int][]*finding.Target)
	for i := range doc.Targets {
		t := &doc.Targets[i]
		k := -1 // processes that are no server's
		switch {
		case t.Role == "worker" && t.Parent != 0:
			k = t.Parent
		case t.Server != "":
			k = t.PID
		}
		if kin[k] == nil {
			order = append(order, k)
		}
		kin[k] = append(kin[k], t)
	}
	var out []server
	for _, k := range order {
		if k < 0 {
			for i, t := range kin[k] {
				s := server{Title: fmt.Sprintf("process %d", t.PID), About: about(t), Command: command(t), Inside: inside(kin[k][i : i+1])}
				s.Groups = []group{{Verdict: name(t.Verdict), Who: plural(max(1, len(t.Threads)), "thread"), Class: verdictClass(t.Verdict), targets: []*finding.Target{t}}}
				if len(t.Threads) == 0 {
					s.Groups[0].Who = name(t.Name)
				}
				out = append(out, s)
			}
			continue
		}
		out = append(out, serverOf(k, kin[k]))
	}
	return out
}

func serverOf(master int, targets []*finding.Target) server {
	first := targets[0]
	for _, t := range targets {
		if t.PID == master {
			first = t
		}
	}
	s := server{
		Title: fmt.Sprintf("%s, master %d", name(cmp.Or(first.Server, "pre-fork server")), master),
		About: about(first), Command: command(first), Inside: inside(targets),
	}
	if first.PID != master {
		s.Title += " (not looked at itself)"
	}
	for _, t := range targets {
		i := slices.IndexFunc(s.Groups, func(g group) bool { return g.Verdict == name(t.Verdict) && g.targets[0].Role == t.Role })
		if i < 0 {
			i = len(s.Groups)
			s.Groups = append(s.Groups, group{Verdict: name(t.Verdict), Class: verdictClass(t.Verdict)})
		}
		s.Groups[i].targets = append(s.Groups[i].targets, t)
	}
	for i := range s.Groups {
		g := &s.Groups[i]
		var pids []int
		for _, t := range g.targets {
			pids = append(pids, t.PID)
		}
		slices.Sort(pids)
		role := name(g.targets[0].Role)
		if len(pids) == 1 {
			g.Who = fmt.Sprintf("%s %d", role, pids[0])
			continue
		}
		g.Who = fmt.Sprintf("%s: %s", plural(len(pids), role), ranges(pids))
	}
	return s
}

// inside lists the numbers that processes have in a PID namespace of their own.
func inside(targets []*finding.Target) string {
	const most = 16
	var parts []string
	left := 0
	for _, t := range targets {
		switch {
		case t.NSPID == 0:
		case len(parts) == most:
			left++
		default:
			parts = append(parts, fmt.Sprintf("%d is %d", t.PID, t.NSPID))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	s := "in its own PID namespace " + strings.Join(parts, ", ")
	if left > 0 {
		s += fmt.Sprintf(" and so on (%d more)", left)
	}
	return s
}

func verdictClass(v string) string {
	switch v {
	case "deadlocked":
		return bad
	case "suspected", "armed", "unreadable", "stopped":
		return warn
	case "healthy":
		return good
	}
	return plain
}

// about is one line on what a process is made of.
func about(t *finding.Target) string {
	var parts []string
	if t.Python != "" {
		parts = append(parts, "Python "+name(t.Python))
	}
	if t.Libc != nil {
		parts = append(parts, libcName(t.Libc))
	}
	if t.Exe != "" {
		parts = append(parts, name(t.Exe))
	}
	return strings.Join(parts, ", ")
}

func libcName(l *finding.Libc) string {
	n := strings.TrimSpace(name(l.Family + " " + l.Version))
	if l.Package != "" {
		n += " (" + name(l.Package) + ")"
	}
	return n
}

func command(t *finding.Target) string {
	if t.Command == "" {
		if t.Name == "" {
			return ""
		}
		return "[" + name(t.Name) + "]"
	}
	return name(t.Command)
}

// hostMeans says what the machine's own C library implies; an empty title where
// it is not known.
func hostMeans(doc *finding.Document) (title string, means []string) {
	if doc.Host.Libc == nil {
		return "", nil
	}
	return "A server started here would use " + libcName(doc.Host.Libc), doc.Host.LibcMeans
}

// notes are all notes of the document, with those of targets that say the same
// put together.
func notes(doc *finding.Document) []string {
	var out, order []string
	pids := make(map[string][]int)
	first := make(map[string]string)
	for i := range doc.Targets {
		t := &doc.Targets[i]
		f := &finding.Finding{PID: t.PID}
		for _, n := range t.Notes {
			k := impersonal(f, n)
			if pids[k] == nil {
				order = append(order, k)
				first[k] = n
				if k == n && t.PID != 0 { // the note does not name its process
					first[k] = fmt.Sprintf("process %d: %s", t.PID, n)
				}
			}
			pids[k] = append(pids[k], t.PID)
		}
	}
	for _, k := range order {
		text := prose(first[k])
		if others := pids[k][1:]; len(others) > 0 {
			slices.Sort(others)
			text += fmt.Sprintf(" (the same of %s: %s)", plural(len(others), "other process"), ranges(others))
		}
		out = append(out, text)
	}
	for _, n := range doc.Notes {
		out = append(out, prose(n))
	}
	return out
}
