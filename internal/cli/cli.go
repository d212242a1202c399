// Package cli is the command line: one file for each command, which turns flags
// into a request and a document into a report and an exit status.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
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

// usage is an error about the command line.
func usage(format string, args ...any) error {
	return &status{exitUsage, fmt.Errorf(format, args...)}
}

// blind is an error that kept us from looking.
func blind(err error) error { return &status{exitBlind, err} }

// Run runs one command line and returns its exit status: 0 nothing found, 1
// findings, 2 wrong usage, 3 could not look.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := Command(stdout, stderr)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var s *status
	if !errors.As(err, &s) {
		s = &status{exitUsage, err} // cobra's own errors are about the command line
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		s = &status{exitBlind, errors.New("interrupted before the end; nothing was stopped or changed in what was looked at")}
	}
	if s.err != nil {
		for _, line := range lines(s.err) {
			fmt.Fprintf(stderr, "forkproof: %s\n", line)
		}
	}
	if s.code == exitUsage && s.err != nil {
		fmt.Fprintf(stderr, "run '%s --help' for what can be said\n", cmd.CommandPath())
	}
	return s.code
}

// lines is what errors joined into one have to say, each once. Names of foreign
// processes in them must not reach the terminal as commands.
func lines(err error) []string {
	var out []string
	seen := make(map[string]bool)
	for _, l := range strings.Split(err.Error(), "\n") {
		if l = harmless(l); l != "" && !seen[l] {
			seen[l] = true
			out = append(out, l)
		}
	}
	return out
}

// Command returns the whole tree of commands. Its help is what the man pages and
// completions are made of.
func Command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "forkproof",
		Short:         "Say whether pre-fork servers are fork-safe, and prove it",
		Version:       Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `forkproof looks at pre-fork servers (gunicorn --preload, uWSGI, Celery, php-fpm, Puma, PostgreSQL ...)
and proves which of their workers are deadlocked on a lock that another thread held at the fork.

Exit status: 0 nothing at or above --fail-on, 1 findings at or above it, 2 wrong usage, 3 could not look.

Every flag has an environment variable, FORKPROOF_ and its name in capitals (--fail-on: FORKPROOF_FAIL_ON),
and a key of its name in a config file; 'forkproof config --help' says more.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				hint := ""
				if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
					hint = "; did you mean " + strings.Join(near, " or ") + "?"
				} else if positive.MatchString(args[0]) {
					hint = "; to look at process " + args[0] + " say: forkproof inspect " + args[0]
				}
				return usage("%q is not a command%s", args[0], hint)
			}
			cmd.SetOut(stderr)
			_ = cmd.Help()
			return &status{code: exitUsage}
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if offline(cmd) {
				return nil
			}
			_, err := settle(cmd)
			return err
		},
		SuggestionsMinimumDistance: 2,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &status{exitUsage, err} })
	root.PersistentFlags().String("config", "", "read settings from this `FILE` alone, instead of the usual ones")
	root.SetHelpCommand(&cobra.Command{Use: "help [COMMAND]", Short: "Say what a command does and takes", RunE: func(cmd *cobra.Command, args []string) error {
		c, rest, err := cmd.Root().Find(args)
		if err != nil || len(rest) > 0 {
			return usage("%q is not a command", strings.Join(args, " "))
		}
		c.InitDefaultHelpFlag()
		return c.Help()
	}})
	root.AddCommand(inspectCommand(stdout, stderr), checkCommand(stdout), matrixCommand(stdout), explainCommand(stdout), remedyCommand(stdout), doctorCommand(stdout), probeCommand(stdout, stderr), stressCommand(stdout, stderr), modelCommand(stdout, stderr), traceCommand(stdout, stderr), lintCommand(stdout), provokeCommand(stdout, stderr), configCommand(stdout))
	root.InitDefaultCompletionCmd()
	sayHelp(root)
	return root
}

// sayHelp gives the flag that every command has one wording.
func sayHelp(c *cobra.Command) {
	c.InitDefaultHelpFlag()
	c.Flags().Lookup("help").Usage = "say what this command does and takes"
	for _, sub := range c.Commands() {
		sayHelp(sub)
	}
}

// offline reports whether a command has no settings: one that writes the
// completion of a shell must work whatever a config file holds.
func offline(cmd *cobra.Command) bool {
	for c := cmd; c != nil; c = c.Parent() {
		switch c.Name() {
		case "completion", "help", "config", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
			return true
		}
	}
	return !cmd.HasParent()
}
