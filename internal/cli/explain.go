package cli

import (
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"forkproof/internal/crosscheck"
	"forkproof/internal/facts"
	"forkproof/internal/probe"
	"forkproof/internal/report"
	"forkproof/internal/report/factsheet"
)

func explainCommand(stdout io.Writer) *cobra.Command {
	var (
		format string
		list   bool
	)
	cmd := &cobra.Command{
		Use:   "explain ID",
		Short: "Explain a defect, library, server, rule or function: what happens, since when, what to do",
		Long: `explain says of one thing what happens step by step, since when until when, how to see it, how to get rid of it, and
where that was reported. An ID is what reports print: a defect (BZ-24595), a library (openblas), a lock, a server (gunicorn), a
C library (glibc), a rule (deadlock-owner-gone), a class of hazard (OL), or a function of a C library (localtime_r).`,
		Example: `  forkproof explain BZ-24595
  forkproof explain localtime_r
  forkproof explain deadlock-owner-gone --format md
  forkproof explain --list`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format, factsheet.ArticleFormats); err != nil {
				return err
			}
			b, err := knowledge()
			if err != nil {
				return err
			}
			switch {
			case list && len(args) > 0:
				return usage("--list lists everything; leave out %q", args[0])
			case list:
				return emit(stdout, func(w io.Writer) error {
					return factsheet.Topics(w, format, Version, topics(b), b.Functions())
				})
			case len(args) == 0:
				return usage("say what to explain; 'forkproof explain --list' lists what is known")
			}
			a, ok := article(b, args[0])
			if !ok {
				hint := "'forkproof explain --list' lists what is known"
				if near := facts.Near(args[0], explained(b)); len(near) > 0 {
					hint = "did you mean " + strings.Join(near, ", ") + "?"
				}
				return usage("nothing is known of %q; %s", args[0], hint)
			}
			if reports, err := probe.Measured(); err == nil {
				a.Measured = crosscheck.Compare(b, reports).Of(a.ID)
			}
			return emit(stdout, func(w io.Writer) error { return factsheet.Article(w, format, Version, a) })
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			b, err := facts.Load()
			if err != nil || len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return explained(b), cobra.ShellCompDirectiveNoFileComp
		},
	}
	formatFlag(cmd, &format, factsheet.ArticleFormats)
	cmd.Flags().BoolVar(&list, "list", false, "list everything that can be explained")
	return cmd
}

// article finds what is asked for among the rules of reports and the facts.
func article(b *facts.Base, id string) (facts.Article, bool) {
	for _, r := range report.Rules() {
		if strings.EqualFold(string(r.Name), id) {
			return facts.Article{
				ID: string(r.Name), Kind: "rule", Title: r.Short, Severity: facts.Severity(r.Severity.String()),
				What: []string{r.Means, "Confidence: " + r.Confidence + "."}, See: []string{r.How}, Do: r.Do, Related: b.HazardsOf(string(r.Name)),
			}, true
		}
	}
	return b.Explain(id)
}

// topics are the rules of reports and the facts.
func topics(b *facts.Base) []facts.Topic {
	var out []facts.Topic
	for _, r := range report.Rules() {
		out = append(out, facts.Topic{ID: string(r.Name), Kind: "rule", Title: r.Short})
	}
	return append(out, b.Topics()...)
}

// explained are all names that explain knows.
func explained(b *facts.Base) []string {
	var out []string
	for _, t := range topics(b) {
		out = append(append(out, t.ID), t.Aliases...)
	}
	out = append(out, b.Functions()...)
	slices.Sort(out)
	return slices.Compact(out)
}
