package timeline

import (
	"fmt"
	"io"
	"strings"

	"forkproof/internal/model"
)

// Mermaid writes the way to the worst finding of one run as a sequence diagram, for
// pages that draw it.
func Mermaid(w io.Writer, r *model.Result) error {
	var b strings.Builder
	b.WriteString("sequenceDiagram\n")
	fmt.Fprintf(&b, "    %%%% %s on %s: %s\n", r.Scenario.Name, system(r), outcome(r))
	f := r.Worst()
	if f == nil {
		for i, t := range r.Threads {
			fmt.Fprintf(&b, "    participant t%d as %s\n", i, t)
		}
		says := explored(r)
		if r.Unread != nil {
			says = r.Unread.Error()
		}
		fmt.Fprintf(&b, "    Note over t0: %s\n", plain(says))
	} else {
		g := lay(r, f)
		for i, c := range g.Columns {
			fmt.Fprintf(&b, "    participant t%d as %s\n", i, c)
		}
		for _, x := range g.Rows {
			text := x.Step
			if x.Call != "" && x.Call != x.Step {
				text = x.Call + ": " + text
			}
			fmt.Fprintf(&b, "    Note over t%d: %s\n", x.Column, plain(text))
		}
		for _, v := range g.Waits {
			if v.Owner >= 0 {
				fmt.Fprintf(&b, "    t%d-xt%d: %s\n", v.Column, v.Owner, plain("waits for "+v.For))
			} else {
				fmt.Fprintf(&b, "    Note over t%d: %s\n", v.Column, plain(v.Says))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plain takes out what Mermaid reads as its own.
func plain(s string) string {
	return strings.NewReplacer(";", ",", "#", "", "\n", " ", "%%", "%").Replace(s)
}
