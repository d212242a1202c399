package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"

	"forkproof/internal/finding"
)

//go:embed page.html
var page string

// view is what the page shows. Its strings are visible text already; the
// template escapes them for the place where they stand.
type view struct {
	Doc     *finding.Document
	Verdict summary
	Blocks  []blockView
	Servers []serverView
	// Trials are what the command stress saw.
	Trials []trial
	// Forks are the places that make processes.
	Forks []forkView
	// Provoked is what the command provoke did.
	Provoked *provokedView
	// Subjects are what the command check looked at, with its answers.
	Subjects []subject
	// HostTitle and HostMeans say what the machine's own C library implies.
	HostTitle string
	HostMeans []string
	Notes     []string
}

type blockView struct {
	Class, Severity, Title     string
	Rule, Confidence, RuleMean string
	Who, PIDs                  string
	Waits, Lock, Owner         string
	Stack                      *stackView
	Owners                     []ownerView
	Why, SeenIn                string
	Evidence, Remedy, Sources  []string
}

type ownerView struct {
	Title string
	Stack *stackView
}

type stackView struct {
	Brief []row
	Left  int
	All   []row
}

type serverView struct {
	server
	Threads []threadView
}

type threadView struct {
	Title string
	Rows  []row
}

// maxPageThreads bounds how many threads of a server the page lists: a browser
// has to hold them all.
const maxPageThreads = 512

// HTML writes the document as one page that needs nothing else: no scripts, no
// pictures, no request to anywhere.
func HTML(w io.Writer, doc *finding.Document, _ Options) error {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return fmt.Errorf("parse the page: %w", err)
	}
	v := view{Doc: visibleDocument(doc), Verdict: verdict(doc), Notes: notes(doc), Provoked: provoked(doc)}
	v.Trials = trials(doc)
	if v.Trials == nil {
		v.HostTitle, v.HostMeans = hostMeans(doc)
	}
	v.HostMeans = each(v.HostMeans)
	for _, b := range blocks(doc) {
		v.Blocks = append(v.Blocks, viewOf(doc, b))
	}
	if v.Forks = forkViews(doc); doc.Command == "trace" {
		return t.Execute(w, v)
	}
	if v.Subjects = subjects(doc); v.Subjects != nil || v.Trials != nil || v.Provoked != nil {
		return t.Execute(w, v)
	}
	for _, s := range servers(doc) {
		sv := serverView{server: s}
		for _, g := range s.Groups {
			for _, t := range g.targets {
				for _, th := range t.Threads {
					if len(sv.Threads) < maxPageThreads {
						title := fmt.Sprintf("thread %s of process %d: %s", threadName(th.Name, th.TID), t.PID, name(th.State))
						sv.Threads = append(sv.Threads, threadView{title, merged(th.Native, th.Python)})
					}
				}
			}
		}
		v.Servers = append(v.Servers, sv)
	}
	return t.Execute(w, v)
}

// visibleDocument is the part of a document that the page shows by itself.
func visibleDocument(doc *finding.Document) *finding.Document {
	return &finding.Document{
		Command: name(doc.Command), Version: name(doc.Version), Time: name(doc.Time),
		Host: finding.Host{Name: name(doc.Host.Name), Kernel: name(doc.Host.Kernel), Arch: name(doc.Host.Arch)},
	}
}

func viewOf(doc *finding.Document, b *block) blockView {
	v := blockView{
		Class: class(b.Severity), Severity: b.Severity.String(), Title: b.title(),
		Rule: string(b.Rule), Confidence: b.Confidence.String(), Waits: b.waits(doc),
		Why: prose(b.Why), Evidence: each(b.Evidence), Remedy: b.remedy(), Sources: each(b.Sources),
	}
	if b.Place != nil {
		v.Title = at(b.Place) + ": " + v.Title
	}
	if r, ok := rule(b.Rule); ok {
		v.RuleMean = r.Short
	}
	if len(b.pids) > 1 {
		v.Who, v.PIDs = many(b.noun()), numbers(b.pids)
		v.SeenIn = seenIn(b)
	}
	if b.thread != nil {
		v.Stack = stackOf(merged(b.thread.Native, b.thread.Python))
	}
	if l := b.Lock; l != nil {
		v.Lock, v.Owner = lockLine(l), ownerLine(l)
		if o := l.Owner; o != nil && o.Alive {
			v.Owners = append(v.Owners, ownerView{Stack: stackOf(merged(o.Native, o.Python))})
		}
		for i := range l.Suspects {
			o := &l.Suspects[i]
			v.Owners = append(v.Owners, ownerView{"thread " + ownerOf(o), stackOf(merged(o.Native, o.Python))})
		}
	}
	return v
}

func stackOf(rows []row) *stackView {
	s := &stackView{All: rows}
	s.Brief, s.Left = brief(rows)
	return s
}

func each(items []string) []string {
	out := make([]string, len(items))
	for i, s := range items {
		out[i] = prose(s)
	}
	return out
}
