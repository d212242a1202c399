package cli

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"forkproof/internal/lint"
)

func lintCommand(stdout io.Writer) *cobra.Command {
	var (
		req lint.Request
		out reporting
	)
	cmd := &cobra.Command{
		Use:   "lint [flags] [PATH...]",
		Short: "Find what forks badly in sources and configurations, before it runs",
		Long: `lint follows a Python application from its entry as the master would load it, through the project's own modules, functions and
classes, and says what is alive at the fork: threads, schedulers, connections, locks, event loops, agents and libraries that compute with
threads; what the hooks of the workers do about it; and what programs fork while they have threads. Nothing is executed.

PATH is a file or folder; this folder if there is none. How the application is served is read from gunicorn's, uWSGI's, Celery's, Puma's
and php-fpm's configurations and from the command lines in systemd units, Procfiles, Dockerfiles, compose files, Kubernetes manifests and
shell scripts. With --server each argument that is no path is an application: its module, and what of it is served.

Programs and libraries are looked at too: the fork handlers that they register (pthread_atfork), what these reach, and what starts threads
without any. With --package those of an installed Debian package are. Calls into other libraries are followed with --deep; with --strict
POSIX's list of async-signal-safe functions alone counts, and not what a C library is known to repair.

A comment '# forkproof: ignore[rule] reason' leaves out the findings of its line, or of the next one where it stands alone. A baseline
leaves out those that are known. Everything is inferred, never proven: docs/lint.md says how often it is right.

Exit status: 0 nothing at or above --fail-on (default warning), 1 findings at or above it, 2 wrong usage, 3 could not look.`,
		Example: `  forkproof lint
  forkproof lint app/ gunicorn.conf.py
  forkproof lint --server gunicorn 'app:create_app()'
  forkproof lint --deep /usr/lib/x86_64-linux-gnu/libfoo.so.1
  forkproof lint --package libtcl8.6
  forkproof lint --format sarif -o forkproof.sarif
  forkproof lint --baseline forkproof-baseline.json --write-baseline`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := req
			r.Paths, r.Apps = nil, nil
			for _, a := range args {
				if _, err := os.Stat(a); r.Server != "" && err != nil {
					r.Apps = append(r.Apps, a)
				} else {
					r.Paths = append(r.Paths, a)
				}
			}
			to, err := out.prepare()
			if err != nil {
				return err
			}
			doc, err := lint.Run(cmd.Context(), r)
			if errors.Is(err, lint.ErrUsage) {
				return &status{exitUsage, err}
			}
			if err != nil {
				return blind(err)
			}
			return to.write(doc, stdout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Server, "server", "", "the arguments are applications of this `SERVER`: gunicorn, uwsgi, celery")
	f.StringVar(&req.Preload, "preload", "auto", "whether applications are loaded before the fork: auto (as configurations say), yes, no")
	f.StringVar(&req.Baseline, "baseline", "", "leave out the findings that this `FILE` has")
	f.BoolVar(&req.WriteBaseline, "write-baseline", false, "write what is found to the file of --baseline, and report nothing")
	_ = cmd.RegisterFlagCompletionFunc("server", cobra.FixedCompletions([]string{"gunicorn", "uwsgi", "celery"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("preload", cobra.FixedCompletions([]string{"auto", "yes", "no"}, cobra.ShellCompDirectiveNoFileComp))
	f.StringSliceVar(&req.Packages, "package", nil, "the programs and libraries of this installed `PACKAGE` (may be given again)")
	f.BoolVar(&req.Strict, "strict", false, "of programs and libraries: warn of all that POSIX does not list as async-signal-safe")
	f.BoolVar(&req.Deep, "deep", false, "of programs and libraries: follow calls into the libraries that they need")
	out.flags(cmd)
	// What is inferred is a warning as a rule, and whoever lints wants to stop at it.
	out.failOn = "warning"
	cmd.Flags().Lookup("fail-on").DefValue = "warning"
	return cmd
}
