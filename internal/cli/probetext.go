package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"forkproof/internal/probe"
)

// groupTitles head the groups of a report.
var groupTitles = map[probe.Group]string{
	probe.Defect:     "Known defects",
	probe.Case:       "Locks and other objects of the program",
	probe.ForkItself: "Handlers, and other ways to make a process",
	probe.Function:   "Functions: threads are inside one, the child calls it",
	probe.Pair:       "Pairs: threads are inside the first, the child calls the second",
	probe.Allocator:  "Allocation: threads and child do the same",
}

// outcomeWords are what a person reads.
var outcomeWords = map[probe.Outcome]string{
	probe.Works: "works", probe.Hangs: "HANGS", probe.Crashes: "CRASHES", probe.Differs: "DIFFERS",
	probe.NotReached: "not reached", probe.Absent: "not there", probe.Refused: "not allowed",
}

// outcome is the word, with who it is where that is not the child.
func outcome(r *probe.Result) string {
	w := outcomeWords[r.Outcome]
	if r.Parent {
		w += " (parent)"
	}
	return w
}

// forks says how often it was tried, and how often a thread was inside.
func forks(r *probe.Result) string {
	switch {
	case r.Outcome == probe.Absent || r.Outcome == probe.Refused:
		return ""
	case r.Outcome == probe.Hangs || r.Outcome == probe.Crashes:
		if r.Parent { // within a fork that was not counted yet
			return fmt.Sprintf("in fork %d", r.Forks+1)
		}
		return fmt.Sprintf("in fork %d", r.Forks)
	case r.Forks == 0 && r.Outcome != probe.NotReached:
		return "once"
	case r.Reached < 0:
		return plural(r.Forks, "fork")
	}
	return fmt.Sprintf("%s, %d with a thread inside", plural(r.Forks, "fork"), r.Reached)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// detail says what it waits for, or what else there is to say.
func detail(r *probe.Result) string {
	lock := ""
	if r.Proof != nil {
		if lock = r.Proof.Lock; lock == "" {
			lock = r.Proof.Kind
		}
	}
	switch {
	case r.Outcome == probe.Hangs && !r.Proven:
		words := []string{"timed out, not proven"}
		for _, w := range []string{r.Text, lock} {
			if w != "" {
				words = append(words, w)
			}
		}
		return strings.Join(words, ": ")
	case lock != "":
		return lock
	case r.Signal != 0:
		return strings.TrimSuffix(unix.SignalName(unix.Signal(r.Signal))+": "+r.Text, ": ")
	}
	return r.Text
}

// tally counts the outcomes in a line, worst first.
func tally(r *probe.Report) string {
	var parts []string
	for _, o := range probe.Outcomes() {
		if n := r.Count(o); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ToLower(verb(o, n))))
		}
	}
	if len(parts) == 0 {
		return "nothing was run"
	}
	return strings.Join(parts, ", ")
}

// verb is an outcome said of n probes.
func verb(o probe.Outcome, n int) string {
	w := outcomeWords[o]
	if n == 1 {
		return w
	}
	switch o {
	case probe.Works, probe.Hangs, probe.Differs:
		return strings.TrimSuffix(strings.ToLower(w), "s")
	case probe.Crashes:
		return "crash"
	}
	return w
}

// probeText writes a report for a person: what hangs first in each group.
func probeText(w io.Writer, r *probe.Report, colour, verbose bool) {
	where := ""
	if r.Root != "" {
		where = " of " + harmless(r.Root)
	}
	fmt.Fprintf(w, "%s on %s%s: %s\n", harmless(r.Libc.Name()), r.Arch, where, tally(r))
	if r.Libc.Path != "" {
		fmt.Fprintf(w, "%s", harmless(r.Libc.Path))
		if r.Libc.BuildID != "" {
			fmt.Fprintf(w, ", build %s", harmless(r.Libc.BuildID))
		}
		fmt.Fprintf(w, ", Linux %s\n", harmless(r.Kernel))
	}
	if len(r.Preload) > 0 {
		fmt.Fprintf(w, "before it: %s\n", harmless(strings.Join(r.Preload, ", ")))
	}
	for _, g := range probe.Groups() {
		rows := inOrder(r, g)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", groupTitles[g])
		// Colours would count as width.
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, res := range rows {
			fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", res.Probe, paint(outcome(res), res.Outcome, colour), forks(res), harmless(detail(res)))
			if verbose {
				tw.Flush()
				fmt.Fprintf(w, "      %s\n      claim: %s\n", res.Title, res.Claim)
				if res.Proof != nil {
					fmt.Fprintf(w, "      %s, %s: %s\n", res.Proof.Confidence, res.Proof.Rule, harmless(strings.Join(res.Proof.Stack, " < ")))
				}
			}
		}
		tw.Flush()
	}
	fmt.Fprintf(w, "\nA probe works if no fork that was tried went wrong: evidence, not proof. --forks and --time try more.\n")
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", harmless(n))
	}
}

// paint colours a word; each has as many bytes of colour as any other, so that
// columns stay in line.
func paint(word string, o probe.Outcome, colour bool) string {
	if !colour {
		return word
	}
	code := "\x1b[39m"
	switch {
	case o.Bad():
		code = "\x1b[31m"
	case o == probe.Works:
		code = "\x1b[32m"
	case o == probe.NotReached:
		code = "\x1b[33m"
	}
	return code + word + "\x1b[39m"
}

// inOrder are the results of a group, worst first, else by name.
func inOrder(r *probe.Report, g probe.Group) []*probe.Result {
	var out []*probe.Result
	for _, o := range probe.Outcomes() {
		for i := range r.Results {
			if r.Results[i].Group == g && r.Results[i].Outcome == o {
				out = append(out, &r.Results[i])
			}
		}
	}
	return out
}

// probeMarkdown writes a report to be put into another document.
func probeMarkdown(w io.Writer, r *probe.Report) {
	fmt.Fprintf(w, "# %s on %s, measured\n\n%s. Linux %s, %s, forkproof %s.\n", cell(r.Libc.Name()), r.Arch, tally(r), cell(r.Kernel), r.Time, r.Version)
	for _, g := range probe.Groups() {
		rows := inOrder(r, g)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n## %s\n\n| probe | outcome | tried | waits for, or what else |\n|---|---|---|---|\n", groupTitles[g])
		for _, res := range rows {
			fmt.Fprintf(w, "| %s | %s | %s | %s |\n", cell(res.Probe), outcome(res), forks(res), cell(detail(res)))
		}
	}
	fmt.Fprintf(w, "\nA probe works if no fork that was tried went wrong: evidence, not proof.\n")
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nNote: %s\n", cell(n))
	}
}

// cell writes text that is no markup.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "`", "'", "*", `\*`, "_", `\_`, "<", "&lt;", "\n", " ").Replace(harmless(s))
}

// listProbes writes the probes with what they claim.
func listProbes(w io.Writer, probes []probe.Probe) error {
	var b strings.Builder
	for _, p := range probes {
		fmt.Fprintf(&b, "%s (%s)\n  %s.\n  Claim: %s\n", p.Name, p.Group, p.Title, p.Claim)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return blind(fmt.Errorf("write the list: %w", err))
	}
	return nil
}
