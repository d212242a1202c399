package timeline

import (
	"fmt"
	"io"
	"strings"

	"forkproof/internal/model"
)

// Table writes one scenario on many libcs, a line for each; or many scenarios, with
// the libcs of each outcome.
func Table(w io.Writer, results []*model.Result) error {
	var b strings.Builder
	for i, of := range scenarios(results) {
		if i > 0 {
			b.WriteByte('\n')
		}
		s := of[0].Scenario
		fmt.Fprintf(&b, "%s: %s\n", s.Name, s.Title)
		if len(of) == len(results) {
			lines(&b, of)
		} else {
			grouped(&b, of)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// scenarios splits results by scenario.
func scenarios(results []*model.Result) [][]*model.Result {
	var out [][]*model.Result
	for _, r := range results {
		if n := len(out); n > 0 && out[n-1][0].Scenario == r.Scenario {
			out[n-1] = append(out[n-1], r)
		} else {
			out = append(out, []*model.Result{r})
		}
	}
	return out
}

func lines(b *strings.Builder, of []*model.Result) {
	fmt.Fprintf(b, "\n  %-26s %10s  %s\n", "C library", "states", "outcome")
	for _, r := range of {
		states := number(r.States)
		switch {
		case r.Unread != nil:
			states = "-"
		case !r.Complete:
			states += "+"
		}
		fmt.Fprintf(b, "  %-26s %10s  %s\n", system(r), states, outcome(r))
	}
}

// grouped lists the libcs of each outcome, the worst first.
func grouped(b *strings.Builder, of []*model.Result) {
	var order []string
	by := make(map[string][]*model.Result)
	for _, fails := range []bool{true, false} {
		for _, r := range of {
			if r.Fails() != fails {
				continue
			}
			o := outcome(r)
			if by[o] == nil {
				order = append(order, o)
			}
			by[o] = append(by[o], r)
		}
	}
	for _, o := range order {
		for i, l := range wrap(strings.Join(ranges(of, by[o]), ", "), width-48) {
			head := ""
			if i == 0 {
				head = o
			}
			fmt.Fprintf(b, "  %-44s %s\n", clip(head, 44), strings.TrimSpace(l))
		}
	}
}

// ranges joins libcs that follow one another: "glibc 2.28 to 2.35".
func ranges(all, some []*model.Result) []string {
	in := make(map[string]bool)
	for _, r := range some {
		in[r.Libc.Name] = true
	}
	var out []string
	for i := 0; i < len(all); i++ {
		if !in[all[i].Libc.Name] {
			continue
		}
		j := i
		for j+1 < len(all) && in[all[j+1].Libc.Name] && all[j+1].Libc.Family == all[i].Libc.Family {
			j++
		}
		span := *all[i].Libc
		span.Last = all[j].Libc.Last
		s := span.Family
		if rel := span.Releases(); rel != "" {
			s += " " + rel
		}
		out = append(out, s)
		i = j
	}
	return out
}
