package timeline

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"forkproof/internal/model"
)

//go:embed page.html
var page string

type view struct {
	Version, Title string
	Class          string
	Sections       []section
	Matrix         *matrix
}

// section is one run.
type section struct {
	Name, Title, System, Outcome, Class, Explored string
	About                                         []string
	Sources                                       []string
	Says                                          string
	Picture                                       *picture
	Waits                                         []string
	Held                                          []string
	Ring                                          string
	Also                                          []string
}

// matrix is scenarios by libcs.
type matrix struct {
	Heads []string
	Rows  []matrixRow
}

type matrixRow struct {
	Name, Title string
	Cells       []matrixCell
}

type matrixCell struct{ Class, Short, Long string }

// HTML writes runs as one page that needs nothing else: no scripts, no request to
// anywhere. Of a scenario on several libcs it is the table alone.
func HTML(w io.Writer, version string, results []*model.Result) error {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return fmt.Errorf("parse the page: %w", err)
	}
	v := view{Version: version, Class: "good", Title: "no deadlock"}
	if len(results) > 1 {
		v.Title, v.Class = "scenarios by C library", "plain"
		v.Matrix = table(results)
	} else {
		for _, r := range results {
			v.Sections = append(v.Sections, show(r))
			v.Title, v.Class = r.Scenario.Name+" on "+system(r)+": "+outcome(r), class(r)
		}
	}
	return t.Execute(w, v)
}

func class(r *model.Result) string {
	switch {
	case r.Fails():
		return "bad"
	case r.Unread != nil:
		return "soft"
	case !r.Complete || len(r.Findings) > 0:
		return "warn"
	}
	return "good"
}

func show(r *model.Result) section {
	s := section{Name: r.Scenario.Name, Title: r.Scenario.Title, System: system(r), Outcome: outcome(r), Class: class(r), Explored: explored(r), Sources: slices.Concat(r.Scenario.Sources, r.Libc.Sources)}
	s.About = strings.Split(r.Scenario.About, "\n\n")
	if r.Unread != nil {
		s.Explored, s.Says = "", r.Unread.Error()
		return s
	}
	f := r.Worst()
	if f == nil {
		return s
	}
	g := lay(r, f)
	s.Says, s.Ring, s.Held = f.Says, ring(f), held(f)
	s.Picture = draw(g)
	for _, w := range g.Waits {
		s.Waits = append(s.Waits, g.Columns[w.Column]+" "+w.Says)
	}
	for _, f := range r.Findings[1:] {
		s.Also = append(s.Also, fmt.Sprintf("%s in the %s, %d steps away: %s", words[string(f.Kind)], f.Where, len(f.Events), f.Says))
	}
	return s
}

func table(results []*model.Result) *matrix {
	m := &matrix{}
	for i, of := range scenarios(results) {
		x := matrixRow{Name: of[0].Scenario.Name, Title: of[0].Scenario.Title}
		for _, r := range of {
			if i == 0 {
				m.Heads = append(m.Heads, system(r))
			}
			c := matrixCell{Class: class(r), Short: short(r), Long: outcome(r)}
			if r.Unread == nil {
				c.Long += ", " + number(r.States) + " states"
			}
			x.Cells = append(x.Cells, c)
		}
		m.Rows = append(m.Rows, x)
	}
	return m
}

// short is an outcome in one word.
func short(r *model.Result) string {
	switch r.Outcome() {
	case "fine":
		if f := r.Worst(); f != nil && f.Kind != model.LeftLocked {
			return "risk"
		}
		return "ok"
	case "unread":
		return "?"
	case "unfinished":
		return "..."
	case string(model.Crashed):
		return "crash"
	case string(model.HandlerTwice), string(model.HandlerSkipped), string(model.HandlerUnprepared):
		return "order"
	}
	return "hang"
}
