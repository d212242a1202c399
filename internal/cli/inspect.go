package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/report"
)

func inspectCommand(stdout io.Writer) *cobra.Command {
	var (
		all                       bool
		name, format, out, failOn string
		gap                       time.Duration
		verbose                   bool
	)
	cmd := &cobra.Command{
		Use:   "inspect [PID...]",
		Short: "prove which processes are deadlocked, and name who left the lock behind",
		Long: `inspect reads live processes and says which of them can never go on, on what lock, and because of whom.

A PID of a master stands for its whole server. Nothing is stopped or changed: everything is read from outside.
It needs the permission that a debugger needs: run it as root or as the processes' own user.`,
		Example: `  forkproof inspect 1234
  forkproof inspect --all
  forkproof inspect --name gunicorn --format json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := inspect.Request{All: all, Gap: gap}
			for _, a := range args {
				pid, err := strconv.Atoi(a)
				if err != nil || pid <= 0 {
					return &status{exitUsage, fmt.Errorf("%q is not a PID; name processes by --name REGEX", a)}
				}
				req.PIDs = append(req.PIDs, pid)
			}
			if name != "" {
				re, err := regexp.Compile(name)
				if err != nil {
					return &status{exitUsage, fmt.Errorf("--name: %w", err)}
				}
				req.Name = re
			}
			if !all && name == "" && len(args) == 0 {
				return &status{exitUsage, fmt.Errorf("say what to inspect: a PID, --name REGEX or --all")}
			}
			var least finding.Severity
			if failOn != "none" {
				if err := least.UnmarshalText([]byte(failOn)); err != nil {
					return &status{exitUsage, fmt.Errorf("--fail-on: %w, or none", err)}
				}
			}
			render, err := report.Lookup(format)
			if err != nil {
				return &status{exitUsage, err}
			}
			doc, err := inspect.Run(cmd.Context(), req)
			if err != nil {
				return &status{exitBlind, err}
			}
			doc.Version = Version
			to := stdout
			opts := report.Options{Verbose: verbose, Colour: colour(stdout)}
			if out != "" {
				f, err := os.Create(out)
				if err != nil {
					return &status{exitBlind, fmt.Errorf("write the report: %w", err)}
				}
				defer f.Close()
				to, opts.Colour = f, false
			}
			if err := render(to, doc, opts); err != nil {
				return &status{exitBlind, fmt.Errorf("write the report: %w", err)}
			}
			if worst, ok := doc.Worst(); ok && failOn != "none" && worst >= least {
				return &status{code: exitFindings}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "every pre-fork server on this machine")
	f.StringVar(&name, "name", "", "processes whose command line matches this `REGEX`")
	f.StringVar(&format, "format", "text", "text or json")
	f.StringVarP(&out, "output", "o", "", "write the report to this `FILE`")
	f.StringVar(&failOn, "fail-on", "critical", "exit 1 from this severity on: info, warning, critical, none")
	f.DurationVar(&gap, "gap", 5*time.Millisecond, "how long to wait between the two looks")
	f.BoolVarP(&verbose, "verbose", "v", false, "show the stacks of healthy processes too")
	return cmd
}

// colour reports whether to use colours: on a terminal, unless NO_COLOR is set.
func colour(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
