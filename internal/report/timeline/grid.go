// Package timeline shows what model found: the shortest way to a deadlock as a table
// of threads, as a picture, as a Mermaid diagram or as JSON, and scenarios by C
// library.
package timeline

import (
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/model"
)

// Formats of Write.
var Formats = []string{"text", "json", "html", "mermaid"}

// grid is the way to one finding: a column for each thread of each process that does
// anything, a row for each step.
type grid struct {
	Columns []string
	Rows    []row
	Waits   []waiting
}

// row is one step.
type row struct {
	Number int // from 1
	Column int
	// Call is the call that the step belongs to, if it is another than that of the
	// step before it in the column.
	Call string
	Step string
	// Kind is take, free, fork or none; how the picture shows it.
	Kind string
}

// waiting is a thread that stands still at the end.
type waiting struct {
	Column int
	Says   string
	For    string
	Owner  int // column; -1: no thread
}

// lay makes the grid of a finding.
func lay(r *model.Result, f *model.Finding) grid {
	var g grid
	column := make(map[[2]int]int)
	at := func(thread, process int) int {
		key := [2]int{thread, process}
		if _, ok := column[key]; !ok {
			column[key] = -1
		}
		return column[key]
	}
	for _, e := range f.Events {
		if !e.Quiet {
			at(e.Thread, e.Child)
		}
	}
	for _, w := range f.Waits {
		at(w.Column, f.Process)
	}
	var keys [][2]int
	for k := range column {
		keys = append(keys, k)
	}
	// A child stands right of its thread.
	slices.SortFunc(keys, func(a, b [2]int) int {
		if a[0] != b[0] {
			return a[0] - b[0]
		}
		return a[1] - b[1]
	})
	for i, k := range keys {
		column[k] = i
		g.Columns = append(g.Columns, name(r.Threads[k[0]], k[1]))
	}
	last := make(map[int]string)
	for i, e := range f.Events {
		if e.Quiet {
			continue
		}
		w := row{Number: i + 1, Column: at(e.Thread, e.Child), Step: e.Step, Kind: kind(e)}
		if e.Step == "" {
			w.Step = inner(e.Call)
		}
		if call := e.Call; e.Step != "" && call != last[w.Column] {
			w.Call = call
		}
		last[w.Column] = e.Call
		if e.Forks {
			w.Step = "fork itself: its child goes on"
		}
		g.Rows = append(g.Rows, w)
	}
	for _, w := range f.Waits {
		v := waiting{Column: at(w.Column, f.Process), For: w.For, Owner: -1, Says: "waits " + w.Says()}
		if n, ok := column[[2]int{slices.Index(r.Threads, w.Owner), f.Process}]; ok {
			v.Owner = n
		}
		g.Waits = append(g.Waits, v)
	}
	return g
}

// name of a thread in one of the processes.
func name(thread string, process int) string {
	switch process {
	case 0:
		return thread
	case 1:
		return "child of " + thread
	}
	return fmt.Sprintf("child %d of %s", process, thread)
}

func inner(call string) string {
	if i := strings.LastIndex(call, " > "); i >= 0 {
		return call[i+3:]
	}
	return call
}

func kind(e model.Event) string {
	what := e.Step
	if what == "" {
		what = inner(e.Call)
	}
	switch first, _, _ := strings.Cut(what, " "); {
	case e.Forks:
		return "fork"
	case first == "take" || first == "lock" || first == "flockfile" || first == "await":
		return "take"
	case first == "release" || first == "renew" || first == "unlock" || first == "init" || first == "post":
		return "free"
	}
	return ""
}

// ring says who waits for whom in a circle; empty if nobody does.
func ring(f *model.Finding) string {
	if len(f.Cycle) < 2 {
		return "" // a thread that waits for itself was told of
	}
	names := make([]string, 0, len(f.Cycle)+1)
	for _, t := range append(slices.Clone(f.Cycle), f.Cycle[0]) {
		names = append(names, name(t, f.Process))
	}
	return strings.Join(names, " -> ")
}

// held says which locks are taken at the end, by owner.
func held(f *model.Finding) []string {
	var owners []string
	locks := make(map[string][]string)
	for _, h := range f.Held {
		if locks[h.Owner] == nil {
			owners = append(owners, h.Owner)
		}
		locks[h.Owner] = append(locks[h.Owner], h.Lock)
	}
	var out []string
	for _, o := range owners {
		out = append(out, fmt.Sprintf("%s: %s", o, strings.Join(locks[o], ", ")))
	}
	return out
}

// number writes a count as people do: 1,234.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// outcomes in words.
var words = map[string]string{
	"fine": "no deadlock", "unread": "not read", "unfinished": "not explored to the end",
	string(model.Deadlock): "deadlock", string(model.SelfDeadlock): "self-deadlock", string(model.Orphaned): "hangs on an orphaned lock",
	string(model.Crashed): "crash", string(model.HandlerTwice): "a handler runs twice", string(model.HandlerSkipped): "a handler is skipped",
	string(model.HandlerUnprepared): "a handler runs unprepared",
	string(model.Refused):           "a lock is not let go", string(model.Torn): "memory may be damaged", string(model.LeftLocked): "a lock is left locked",
}

// outcome of one run in a few words.
func outcome(r *model.Result) string {
	s := words[r.Outcome()]
	w := r.Worst()
	switch {
	case r.Unread != nil:
		return fmt.Sprintf("%s: %s", s, r.Unread.Verb)
	case w == nil:
	case w.Kind.Fault():
		return fmt.Sprintf("%s in the %s", s, w.Where)
	case w.Kind == model.Torn || w.Kind == model.Refused:
		return fmt.Sprintf("%s, but %s", s, words[string(w.Kind)])
	}
	return s
}

// system is a libc in words: "glibc 2.28 to 2.29".
func system(r *model.Result) string {
	if rel := r.Libc.Releases(); rel != "" {
		return r.Libc.Family + " " + rel
	}
	return r.Libc.Name
}
