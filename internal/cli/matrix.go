package cli

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"forkproof/internal/check"
	"forkproof/internal/crosscheck"
	"forkproof/internal/facts"
	"forkproof/internal/probe"
	"forkproof/internal/report/factsheet"
)

// knowledge loads the facts that are part of the program.
func knowledge() (*facts.Base, error) {
	b, err := facts.Load()
	if err != nil {
		return nil, blind(fmt.Errorf("%w; this build of forkproof is broken", err))
	}
	return b, nil
}

// formatFlag adds --format with its completion.
func formatFlag(cmd *cobra.Command, format *string, all []string) {
	cmd.Flags().StringVar(format, "format", "text", "what to write: "+strings.Join(all, ", "))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp))
}

func checkFormat(format string, all []string) error {
	if !slices.Contains(all, format) {
		return usage("--format %q is not one of %s", format, strings.Join(all, ", "))
	}
	return nil
}

// emit writes what a renderer makes, whole or not at all.
func emit(stdout io.Writer, render func(io.Writer) error) error {
	var b bytes.Buffer
	err := render(&b)
	if err == nil {
		_, err = stdout.Write(b.Bytes())
	}
	if err != nil {
		return blind(fmt.Errorf("write the report: %w", err))
	}
	return nil
}

func matrixCommand(stdout io.Writer) *cobra.Command {
	var (
		format   string
		measured bool
	)
	cmd := &cobra.Command{
		Use:   "matrix",
		Short: "Show which C library has which known defect around fork, and who ships it",
		Long: `matrix shows, for each C library by version, which known defects around fork it has, from where to where, which
release of which distribution ships it, and what that release mended or was seen to have. This machine's row is marked.

With --measured it shows what 'forkproof probe' found on real C libraries beside that, and flags every disagreement.

It says what is known of versions. Whether a process is deadlocked says 'forkproof inspect'.`,
		Example: `  forkproof matrix
  forkproof matrix --format html > matrix.html
  forkproof matrix --measured`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(format, factsheet.MatrixFormats); err != nil {
				return err
			}
			b, err := knowledge()
			if err != nil {
				return err
			}
			if measured {
				reports, err := probe.Measured()
				if err != nil {
					return blind(fmt.Errorf("%w; this build of forkproof is broken", err))
				}
				t := crosscheck.Compare(b, reports)
				return emit(stdout, func(w io.Writer) error { return factsheet.Measured(w, format, Version, t) })
			}
			here, done := check.Here()
			defer done()
			return emit(stdout, func(w io.Writer) error { return factsheet.Matrix(w, format, Version, b.Matrix(here)) })
		},
	}
	formatFlag(cmd, &format, factsheet.MatrixFormats)
	cmd.Flags().BoolVar(&measured, "measured", false, "show what was measured on real C libraries beside what is documented")
	return cmd
}
