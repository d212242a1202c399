package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"forkproof/internal/check"
	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/report/factsheet"
)

var remedyFormats = []string{"text", "json"}

func remedyCommand(stdout io.Writer) *cobra.Command {
	var server, version, only, format string
	cmd := &cobra.Command{
		Use:   "remedy [flags] [PID] [ID...]",
		Short: "Write the server's configuration with the hooks that its findings call for",
		Long: `remedy writes a gunicorn.conf.py, uwsgi.ini, Celery module, Puma, Unicorn or Pitchfork configuration with the settings and
hooks that the named findings call for, and nothing that they do not. An ID is that of a library (libpq), a defect
(gunicorn-control-thread), a lock, a class of hazard (SC) or a rule (shared-connection).

With a PID the server is looked at first, as 'forkproof inspect' and 'forkproof check' do, and its findings are added. Nothing is written anywhere
but to standard output. Merge it with the configuration that you have.`,
		Example: `  forkproof remedy --server gunicorn libpq libgomp > gunicorn.conf.py
  forkproof remedy --server puma --server-version 6.4 grpc
  forkproof remedy --server uwsgi --file uwsgi_fork.py numpy-random
  forkproof remedy 1234`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, remedyFormats); err != nil {
				return err
			}
			b, err := knowledge()
			if err != nil {
				return err
			}
			ids := args
			if len(args) > 0 && positive.MatchString(args[0]) {
				running, found, err := running(cmd.Context(), b, args[0])
				if err != nil {
					return err
				}
				if server == "" {
					server = running
				}
				ids = append(found, args[1:]...)
			}
			if server == "" {
				return usage("say for which server: --server %s, or a PID", strings.Join(configurable(b), ", "))
			}
			r, err := b.Remedy(server, version, ids)
			if err != nil {
				return &status{exitUsage, err}
			}
			if len(r.Files) == 0 && format == "text" {
				return blind(nothing(r))
			}
			if only != "" {
				i := slices.IndexFunc(r.Files, func(f facts.File) bool { return f.Name == only })
				if i < 0 {
					return usage("--file %q is none of the files that are called for: %s", only, names(r.Files))
				}
				r.Files = r.Files[i : i+1]
			}
			return emit(stdout, func(w io.Writer) error { return factsheet.Remedy(w, format, Version, r) })
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			b, err := facts.Load()
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var out []string
			for _, l := range b.Libraries() {
				out = append(out, l.ID)
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		},
	}
	f := cmd.Flags()
	f.StringVar(&server, "server", "", "the `SERVER` to write for: gunicorn, uwsgi, celery, puma, unicorn, pitchfork")
	f.StringVar(&version, "server-version", "", "its `VERSION`, which decides the names of hooks (the newest if not given)")
	f.StringVar(&only, "file", "", "write this `FILE` alone, where several are called for")
	formatFlag(cmd, &format, remedyFormats)
	_ = cmd.RegisterFlagCompletionFunc("server", cobra.FixedCompletions([]string{"gunicorn", "uwsgi", "celery", "puma", "unicorn", "pitchfork"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// nothing says of a server that has no configuration to write what to do instead.
func nothing(r facts.Recipe) error {
	if len(r.Notes) == 0 {
		return fmt.Errorf("%s has no configuration that could help, and nothing was named that calls for one", r.Server)
	}
	return fmt.Errorf("%s has no configuration that could help; do this:\n- %s", r.Server, strings.Join(r.Notes, "\n- "))
}

// configurable are the servers that Remedy writes for.
func configurable(b *facts.Base) []string {
	var out []string
	for _, s := range b.Servers() {
		if s.Language != "" {
			out = append(out, s.ID)
		}
	}
	return out
}

func names(files []facts.File) string {
	var out []string
	for _, f := range files {
		out = append(out, f.Name)
	}
	return strings.Join(out, ", ")
}

// running looks at a server and returns its name, the rules of its findings that a
// remedy is known for, and what is known of its libraries and version.
func running(ctx context.Context, b *facts.Base, arg string) (server string, ids []string, err error) {
	pid, err := strconv.Atoi(arg)
	if err != nil || pid <= 0 {
		return "", nil, usage("%q is out of the range of PIDs", arg)
	}
	doc, err := inspect.Run(ctx, inspect.Request{PIDs: []int{pid}, NoStop: true})
	if err != nil {
		return "", nil, blind(err)
	}
	for _, t := range doc.Targets {
		if s, ok := b.Server(t.Server); ok {
			server = s.ID
		}
	}
	for _, f := range doc.Findings {
		if id := string(f.Rule); len(b.HazardsOf(id)) > 0 && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	// What is known of its libraries and version; a C library is not mended by a
	// server's configuration.
	if doc, err = check.Run(ctx, check.Request{PIDs: []int{pid}}); err != nil {
		return "", nil, blind(err)
	}
	for _, f := range doc.Findings {
		if f.Fact != "" && f.Rule != finding.LibcDefect && f.Severity > finding.Info && !slices.Contains(ids, f.Fact) {
			ids = append(ids, f.Fact)
		}
	}
	return server, ids, nil
}
