package timeline

import (
	"fmt"
	"io"
	"strings"

	"forkproof/internal/model"
)

// width of the text, as of the other reports.
const width = 100

// Text writes one run: the outcome, and the shortest way to the worst of what was
// found.
func Text(w io.Writer, r *model.Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s: %s\n", r.Scenario.Name, system(r), outcome(r))
	if r.Unread != nil {
		fmt.Fprintf(&b, "%s\n", r.Unread)
		_, err := io.WriteString(w, b.String())
		return err
	}
	worst := r.Worst()
	if worst == nil || !worst.Kind.Fault() {
		fmt.Fprintf(&b, "%s\n", explored(r))
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		if i == 0 {
			fmt.Fprintf(&b, "%s\n\n", f.Says)
			way(&b, lay(r, f))
			end(&b, r, f)
		} else {
			if i == 1 {
				b.WriteString("\nalso:\n")
			}
			fmt.Fprintf(&b, "  %s in the %s, %d steps away: %s\n", words[string(f.Kind)], f.Where, len(f.Events), f.Says)
		}
	}
	if worst != nil && worst.Kind.Fault() {
		fmt.Fprintf(&b, "\n%s\n", explored(r))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// explored says how much was looked at, and never more than that.
func explored(r *model.Result) string {
	s := fmt.Sprintf("%s states", number(r.States))
	if !r.Complete {
		return s + ", and not all: what was not found may still be there"
	}
	s += ", all explored"
	if w := r.Worst(); w == nil || !w.Kind.Fault() {
		return "no deadlock: " + s
	}
	return s
}

// way writes the steps, a column for each thread.
func way(b *strings.Builder, g grid) {
	if len(g.Columns) == 0 {
		b.WriteString("nothing has to happen for it\n")
		return
	}
	const margin = 5
	each := min(max((width-margin)/len(g.Columns), 18), 48)
	line := func(number string, column int, text string) {
		fmt.Fprintf(b, "%*s%s%s\n", margin-1, number, strings.Repeat(" ", 1+column*each), text)
	}
	var heads strings.Builder
	for i, c := range g.Columns {
		if i < len(g.Columns)-1 {
			fmt.Fprintf(&heads, "%-*s", each, clip(c, each-2))
		} else {
			heads.WriteString(c)
		}
	}
	line("", 0, heads.String())
	for _, r := range g.Rows {
		number := fmt.Sprint(r.Number)
		indent := ""
		if r.Call != "" {
			for _, l := range wrap(r.Call, each-2) {
				line(number, r.Column, l)
				number = ""
			}
		}
		if r.Step != r.Call {
			indent = "  "
		}
		for i, l := range wrap(r.Step, each-2-len(indent)) {
			if i > 0 {
				number = ""
			}
			line(number, r.Column, indent+l)
		}
	}
}

// end writes how it stands at the end.
func end(b *strings.Builder, r *model.Result, f *model.Finding) {
	g := lay(r, f)
	if len(g.Waits) > 0 {
		b.WriteString("\nat the end:\n")
		for _, w := range g.Waits {
			fmt.Fprintf(b, "  %s %s\n", g.Columns[w.Column], w.Says)
		}
	}
	if h := held(f); len(h) > 0 {
		b.WriteString("locks that are taken:\n")
		for _, s := range h {
			fmt.Fprintf(b, "  %s\n", s)
		}
	}
	if s := ring(f); s != "" {
		fmt.Fprintf(b, "cycle: %s\n", s)
	}
}

// wrap breaks a text into lines at spaces.
func wrap(s string, width int) []string {
	var out []string
	line := ""
	for _, w := range strings.Fields(s) {
		switch {
		case line == "":
			line = w
		case len(line)+1+len(w) > width:
			out = append(out, line)
			line = w
		default:
			line += " " + w
		}
	}
	return append(out, line)
}

func clip(s string, width int) string {
	if len(s) > width {
		return s[:max(width-3, 0)] + "..."
	}
	return s
}
