// Package cli is the command line: one file for each command, which turns flags
// into a request and a document into a report and an exit status.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Version of forkproof.
const Version = "0.1.0-dev"

// Exit statuses.
const (
	exitOK       = 0
	exitFindings = 1
	exitUsage    = 2
	exitBlind    = 3
)

// status is an error that carries an exit status.
type status struct {
	code int
	err  error
}

func (s *status) Error() string {
	if s.err == nil {
		return ""
	}
	return s.err.Error()
}

func (s *status) Unwrap() error { return s.err }

// Run runs one command line and returns its exit status: 0 nothing found, 1
// findings, 2 wrong usage, 3 could not look.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "forkproof",
		Short:         "says whether pre-fork servers are fork-safe, and proves it",
		Version:       Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `forkproof looks at pre-fork servers (gunicorn --preload, uWSGI, Celery, php-fpm, Puma, PostgreSQL ...)
and proves which of their workers are deadlocked on a lock that another thread held at the fork.

Exit status: 0 nothing at or above --fail-on, 1 findings, 2 wrong usage, 3 could not look.`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd.Flags()) },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &status{exitUsage, err} })
	root.AddCommand(inspectCommand(stdout))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var s *status
	if !errors.As(err, &s) {
		s = &status{exitUsage, err} // cobra's own errors are about the command line
	}
	if s.err != nil {
		fmt.Fprintf(stderr, "forkproof: %v\n", s.err)
	}
	if s.code == exitUsage {
		fmt.Fprintln(stderr, "run 'forkproof --help' or 'forkproof COMMAND --help' for what can be said")
	}
	return s.code
}

// fromEnvironment sets each flag that was not given from FORKPROOF_NAME.
func fromEnvironment(flags *pflag.FlagSet) error {
	var first error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "FORKPROOF_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v, ok := os.LookupEnv(name)
		if !ok || f.Changed || first != nil || f.Name == "help" || f.Name == "version" {
			return
		}
		if err := flags.Set(f.Name, v); err != nil {
			first = &status{exitUsage, fmt.Errorf("environment variable %s: %w", name, err)}
		}
	})
	return first
}
