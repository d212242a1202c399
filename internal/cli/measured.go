package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"forkproof/internal/probe"
)

// Measured writes docs/measured.md: what each probe came to on each libc that was
// measured, and what a child that hangs waits for.
func Measured(w io.Writer) error {
	reports, err := probe.Measured()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, `# Measured

What `+"`forkproof probe`"+` measured on real libcs, made by `+"`make measure`"+` and `+"`make docs`"+`. A number after "works" is how many
forks were tried, one after "hangs" or "crashes" the fork that did. No hang in so many forks is evidence and not proof. "(p)"
is the parent within fork; "?" was not proven but given up after %d s without motion; "not reached" met no thread inside the
function, or something else than fork came in between: threads that crash without it, or a name server that does not answer. `+"`forkproof probe --list`"+` says what each probe does and claims.

`, int(giveUp.Seconds()))
	fmt.Fprintf(w, "| | libc | build | probes | measured |\n|---|---|---|---|---|\n")
	for i := range reports {
		r := &reports[i]
		fmt.Fprintf(w, "| %s | %s, %s | %s | %s | %s, Linux %s |\n", column(r), cell(r.Libc.Name()), r.Arch, short(r.Libc.BuildID), tally(r), date(r.Time), cell(r.Kernel))
	}
	for _, g := range probe.Groups() {
		fmt.Fprintf(w, "\n## %s\n\n| probe |", groupTitles[g])
		for i := range reports {
			fmt.Fprintf(w, " %s |", column(&reports[i]))
		}
		fmt.Fprintf(w, " waits for |\n|---|%s---|\n", strings.Repeat("---|", len(reports)))
		for _, p := range probe.All() {
			if p.Group != g {
				continue
			}
			fmt.Fprintf(w, "| %s |", cell(p.Name))
			lock := ""
			for i := range reports {
				res := reports[i].Result(p.Name)
				fmt.Fprintf(w, " %s |", entry(res))
				if res != nil && reports[i].Libc.Family == "glibc" && (res.Outcome == probe.Hangs && res.Proof != nil || res.Outcome.Bad() && lock == "") {
					lock = detail(res) // the newest glibc's
				}
			}
			fmt.Fprintf(w, " %s |\n", cell(lock))
		}
	}
	return nil
}

// column heads the results of a libc.
func column(r *probe.Report) string { return r.Libc.Family + " " + r.Libc.Version }

// entry is one result in a few characters.
func entry(r *probe.Result) string {
	if r == nil {
		return ""
	}
	w := strings.ToLower(outcomeWords[r.Outcome])
	if r.Outcome.Bad() {
		w = "**" + w + "**"
	}
	switch {
	case r.Outcome == probe.Hangs && r.Parent || r.Outcome == probe.Crashes && r.Parent:
		w += " (p)"
	case r.Outcome == probe.Hangs && r.Proven, r.Outcome == probe.Crashes, r.Outcome == probe.Works && r.Reached >= 0:
		w += " " + strconv.Itoa(r.Forks)
	}
	if r.Outcome == probe.Hangs && !r.Proven {
		w += " ?"
	}
	return w
}

func short(buildID string) string {
	if len(buildID) > 12 {
		return buildID[:12]
	}
	return buildID
}

func date(stamp string) string {
	day, _, _ := strings.Cut(stamp, "T")
	return day
}
