package report

import (
	"fmt"
	"math"
	"strings"

	"forkproof/internal/finding"
)

// trial is what the command stress saw of one command line, as visible text.
type trial struct {
	Title string
	Rows  []trialRow
}

type trialRow struct{ Label, Text string }

// stressed sums up what stress saw: of two trials whether they differ.
func stressed(doc *finding.Document) summary {
	if len(doc.Trials) == 0 {
		return summary{"NOTHING WAS RUN", "no trial", plain}
	}
	last := &doc.Trials[len(doc.Trials)-1]
	s := summary{"NONE HUNG", hungOf(last), good}
	switch {
	case last.Hung > 0:
		s.Word, s.Class = "HUNG", bad
	case last.Suspected > 0:
		s = summary{"SUSPECTED", fmt.Sprintf("%s stood still, without a proof; %s", plural(last.Suspected, "process"), s.Rest), warn}
	case last.Forks == 0:
		s = summary{"NOTHING WAS FORKED", "nothing follows", plain}
	}
	if c := doc.Comparison; c != nil && len(doc.Trials) == 2 {
		first := &doc.Trials[0]
		word := map[string]string{"less": "HANGS LESS", "more": "HANGS MORE"}[c.Verdict]
		if word == "" {
			word = "NO DIFFERENCE SHOWN"
			if s.Class == good {
				s.Class = warn
			}
		}
		s.Word, s.Rest = word, fmt.Sprintf("first %d of %d forks hung, then %d of %d (%s)", first.Hung, first.Forks, last.Hung, last.Forks, probability(c.P))
	}
	return s
}

// hungOf is "hung k of n forks" with what that means.
func hungOf(t *finding.Trial) string {
	s := fmt.Sprintf("%d of %s (%s, 95 %% interval %s to %s)", t.Hung, plural(t.Forks, "fork"), percent(float64(t.Hung)/math.Max(1, float64(t.Forks))), percent(t.Low), percent(t.High))
	if t.Hung > 0 {
		return s + ", proven"
	}
	if t.Below > 0 && t.Below < 0.5 {
		return fmt.Sprintf("0 of %s; with 95 %% confidence fewer than 1 in %d do", plural(t.Forks, "fork"), int(1/t.Below))
	}
	return s
}

func percent(p float64) string {
	switch p *= 100; {
	case p == 0 || p == 100:
		return fmt.Sprintf("%.0f %%", p)
	case p < 0.1:
		return fmt.Sprintf("%.2g %%", p)
	case p > 99.9:
		return fmt.Sprintf("%.3f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

// short is a number with three digits that count.
func short(f float64) string {
	if f >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.3g", f)
}

func probability(p float64) string {
	if p < 0.0001 {
		return "p < 0.0001"
	}
	return fmt.Sprintf("p = %.2g", p)
}

// trials are those of a document, and the comparison as the last of their rows.
func trials(doc *finding.Document) []trial {
	var all []trial
	for i := range doc.Trials {
		all = append(all, trialOf(&doc.Trials[i]))
	}
	if c := doc.Comparison; c != nil && len(all) > 0 {
		last := &all[len(all)-1]
		d := fmt.Sprintf("the second hangs in %s of the forks %s than the first (95 %% interval %s to %s; Fisher's exact test: %s)",
			percent(math.Abs(c.Difference)), map[bool]string{true: "less", false: "more"}[c.Difference < 0], signed(c.Low), signed(c.High), probability(c.P))
		switch {
		case c.Difference == 0:
			d = fmt.Sprintf("both hang alike (95 %% interval of the difference %s to %s)", signed(c.Low), signed(c.High))
		case c.Verdict == "undecided":
			d += ": chance alone makes such a difference often enough, so more forks are needed"
		}
		last.Rows = append(last.Rows, trialRow{"differ", d})
	}
	return all
}

// signed is a difference of probabilities, with its sign.
func signed(p float64) string {
	if p < 0 {
		return "-" + percent(-p)
	}
	return "+" + percent(p)
}

func trialOf(t *finding.Trial) trial {
	out := trial{Title: name(t.Command)}
	row := func(label, format string, a ...any) {
		out.Rows = append(out.Rows, trialRow{label, fmt.Sprintf(format, a...)})
	}
	hung := hungOf(t)
	if t.First > 0 {
		hung += fmt.Sprintf("; the first was fork %d", t.First)
	}
	if t.InFork > 0 {
		hung += fmt.Sprintf("; %d inside fork itself", t.InFork)
	}
	row("hung", "%s", hung)
	for i, l := range t.Locks {
		label := ""
		if i == 0 {
			label = "locks"
		}
		where := name(l.Where)
		if where == "" {
			where = "unnamed"
		}
		row(label, "%d: %s, %s [%s]", l.Count, where, name(l.Kind), l.Rule)
	}
	if t.Suspected > 0 {
		row("stood", "%s until the time-out, without a proof", plural(t.Suspected, "process"))
	}
	counted := "each one counted"
	if !t.Exact {
		counted = "at least: short-lived children may have been missed"
	}
	if t.Execs > 0 {
		counted += fmt.Sprintf("; %d more became other programs", t.Execs)
	}
	row("forks", "%d, %s", t.Forks, counted)
	if t.Exact {
		ended := fmt.Sprintf("%d", t.Ended)
		if t.Killed > 0 {
			ended += fmt.Sprintf(", %d by a signal ABRT or KILL that forkproof did not send", t.Killed)
		}
		if t.FailedAtBoot > 0 {
			ended += fmt.Sprintf(", %d with an error right after boot", t.FailedAtBoot)
		}
		row("ended", "%s", ended)
	}
	if t.Requests > 0 {
		asked := fmt.Sprintf("%d, %d failed", t.Requests, t.Failed)
		if l := t.LatencyMS; l != nil {
			asked += fmt.Sprintf("; half within %s ms, 90 %% %s, 99 %% %s, the longest %s ms", short(l.P50), short(l.P90), short(l.P99), short(l.Max))
		}
		row("asked", "%s", asked)
	}
	ran := []string{fmt.Sprintf("%.1f s", t.Seconds)}
	if t.Starts > 0 {
		ran = append(ran, plural(t.Starts, "start"))
	}
	if t.Failures > 0 {
		ran = append(ran, fmt.Sprintf("%d ended with an error", t.Failures))
	}
	if t.Server != "" {
		ran = append(ran, "recognised as "+name(t.Server))
	}
	if t.Reload != "" {
		ran = append(ran, "reloaded by "+name(t.Reload))
	}
	row("ran", "%s", strings.Join(ran, ", "))
	return out
}

func (p *printer) trials(doc *finding.Document) {
	for _, t := range trials(doc) {
		p.line("")
		p.wrap(t.Title, p.bold, len(t.Title), "", "  ")
		for _, r := range t.Rows {
			p.field(r.Label, r.Text)
		}
	}
}
