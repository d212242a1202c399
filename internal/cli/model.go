package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"forkproof/internal/model"
	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
	"forkproof/internal/report/timeline"
)

func modelCommand(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "Explore what a program around fork can come to on each C library",
		Long: `model has fork, its handlers and the calls around it of every C library as small steps, and goes through every
interleaving of a scenario's threads on them: it finds the shortest way to a deadlock, or says that there is none.

A scenario is one that forkproof knows ('model list'), or a file of one's own: locks, threads as lists of calls, fork
handlers with their bodies. docs/model.md says how to write one.

It looks at no process. What it says is about the scenario, on the algorithm of a release as its source was read.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(stderr)
			_ = cmd.Help()
			return &status{code: exitUsage}
		},
	}
	cmd.AddCommand(modelRunCommand(stdout), modelReplayCommand(stdout), modelListCommand(stdout), modelShowCommand(stdout))
	return cmd
}

// modelling is what the flags of model run say.
type modelling struct {
	libcs          []string
	all, full      bool
	memory         string
	format, output string
}

func modelRunCommand(stdout io.Writer) *cobra.Command {
	var m modelling
	cmd := &cobra.Command{
		Use:   "run NAME|FILE...",
		Short: "Run a scenario, and show the shortest way to a deadlock",
		Long: `run goes through all states that a scenario can come to on a C library, nearest first, and shows the shortest way to
the worst that it finds as a table of threads: what each does, who holds and awaits what at the end, and the cycle.

It looks for deadlocks, a thread that waits for its own lock, a child that waits for a lock of a thread that fork did
not copy, code that runs after dlclose took it away, and handlers that run twice, unprepared or not at all. It also
tells of locks that stay locked in a child which does not ask for them, and of unlocks that do nothing.

On all C libraries, which is what it does unless --libc names some, it shows the outcome on each. A NAME is one of
'model list'; "all" is every one of them. FILE is a path, or - for standard input.

States are kept whole and compared whole. Interleavings of steps that have nothing to do with one another are explored
in one order alone, which leaves out no end; --full explores them all. When --memory is used up it says so, and what
was not found by then may still be there.

Exit status: 0 no fault, 1 a deadlock or another fault was found, 2 wrong usage or a scenario that cannot be read, 3
not explored to the end.`,
		Example: `  forkproof model run BZ-19431 --libc glibc-2.23
  forkproof model run my.yaml
  forkproof model run my.yaml --libc musl-1.2.5 --format html -o my.html
  forkproof model run all --format html -o matrix.html`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return m.run(cmd.Context(), args, cmd.InOrStdin(), stdout)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveDefault
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&m.libcs, "libc", nil, "run it on this `LIBC`, such as glibc-2.31 or musl-1.2.3 (may be given again)")
	f.BoolVar(&m.all, "all-libcs", false, "run it on every C library that is known")
	f.BoolVar(&m.full, "full", false, "explore every interleaving, even of steps that have nothing to do with one another")
	f.StringVar(&m.memory, "memory", "512M", "let states take so much memory (`SIZE`: a number of bytes, or with K, M or G)")
	f.StringVarP(&m.output, "output", "o", "", "write the report to this `FILE`, whole or not at all")
	formatFlag(cmd, &m.format, timeline.Formats)
	_ = cmd.RegisterFlagCompletionFunc("libc", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, l := range libc.All() {
			names = append(names, l.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (m *modelling) run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	if err := checkFormat(m.format, timeline.Formats); err != nil {
		return err
	}
	memory, err := size(m.memory)
	if err != nil {
		return usage("--memory: %w", err)
	}
	libcs, err := m.systems()
	if err != nil {
		return err
	}
	scenarios, err := scenariosOf(args, stdin)
	if err != nil {
		return err
	}
	if m.format == "mermaid" && len(libcs)*len(scenarios) > 1 {
		return usage("--format mermaid draws one scenario on one C library: name it with --libc")
	}
	if m.output != "" && m.output != "-" {
		if err := writable(m.output); err != nil {
			return blind(fmt.Errorf("the report could not be written to %s: %w; nothing was explored", m.output, err))
		}
	}
	var results []*model.Result
	var unfinished error
	for _, s := range scenarios {
		for i := range libcs {
			r, err := model.Run(ctx, s, &libcs[i], model.Options{Full: m.full, Memory: memory})
			switch {
			case err == nil:
			case errors.Is(err, machine.ErrMemory):
				unfinished = fmt.Errorf("%s on %s: %w after %d states; give it more with --memory", s.Name, libcs[i].Name, err, r.States)
			case errors.Is(err, model.ErrRoom):
				unfinished = fmt.Errorf("%s on %s: %w", s.Name, libcs[i].Name, err)
			case errors.Is(err, model.ErrSize):
				return usage("%s on %s: %w", s.Name, libcs[i].Name, err)
			default:
				return blind(fmt.Errorf("explore %s on %s: %w", s.Name, libcs[i].Name, err))
			}
			results = append(results, r)
		}
	}
	if err := m.write(results, stdout); err != nil {
		return blind(fmt.Errorf("write the report: %w", err))
	}
	return verdictOf(results, unfinished)
}

// verdictOf is the exit status: a fault that was found is one even if not all was
// explored.
func verdictOf(results []*model.Result, unfinished error) error {
	ran := slices.ContainsFunc(results, func(r *model.Result) bool { return r.Unread == nil })
	switch {
	case slices.ContainsFunc(results, (*model.Result).Fails):
		return &status{exitFindings, unfinished}
	case unfinished != nil:
		return blind(unfinished)
	case !ran:
		return blind(results[0].Unread)
	}
	return nil
}

func (m *modelling) write(results []*model.Result, stdout io.Writer) error {
	var b bytes.Buffer
	var err error
	switch {
	case m.format == "json":
		err = timeline.JSON(&b, Version, results)
	case m.format == "html":
		err = timeline.HTML(&b, Version, results)
	case m.format == "mermaid":
		err = timeline.Mermaid(&b, results[0])
	case len(results) > 1:
		err = timeline.Table(&b, results)
	default:
		err = timeline.Text(&b, results[0])
	}
	if err != nil {
		return err
	}
	if m.output != "" && m.output != "-" {
		return replace(m.output, b.Bytes())
	}
	_, err = stdout.Write(b.Bytes())
	return err
}

// systems are the C libraries that were asked for.
func (m *modelling) systems() ([]libc.Libc, error) {
	if m.all && len(m.libcs) > 0 {
		return nil, usage("--libc and --all-libcs both say which C libraries: say one")
	}
	if len(m.libcs) == 0 {
		return libc.All(), nil
	}
	var all []libc.Libc
	for _, name := range m.libcs {
		l, err := libc.Find(name)
		if err != nil {
			return nil, usage("--libc: %w", err)
		}
		all = append(all, l)
	}
	return all, nil
}

// scenariosOf reads what the arguments name.
func scenariosOf(args []string, stdin io.Reader) ([]*scenario.Scenario, error) {
	var all []*scenario.Scenario
	for _, a := range args {
		switch {
		case a == "all":
			shipped, err := scenario.Shipped()
			if err != nil {
				return nil, blind(fmt.Errorf("%w; this build of forkproof is broken", err))
			}
			all = append(all, shipped...)
		case a == "-" || strings.ContainsRune(a, '/') || strings.HasSuffix(a, ".yaml") || strings.HasSuffix(a, ".yml"):
			s, err := scenarioFile(a, stdin)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		default:
			s, ok, err := scenario.Find(a)
			if err != nil {
				return nil, blind(fmt.Errorf("%w; this build of forkproof is broken", err))
			}
			if !ok {
				return nil, usage("%q is not a scenario; they are %s; a file is named with its path or ends in .yaml", a, strings.Join(scenarioNames(), ", "))
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// scenarioFile reads a scenario of the user's. One without a name has that of its
// file.
func scenarioFile(path string, stdin io.Reader) (*scenario.Scenario, error) {
	name := path
	if path == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return nil, usage("read the scenario: %w", err)
		}
		defer f.Close()
		stdin = f
	}
	text, err := io.ReadAll(io.LimitReader(stdin, scenario.MaxSize+1))
	if err != nil {
		return nil, usage("read the scenario %s: %w", name, err)
	}
	s, err := scenario.Read(name, text)
	if err != nil {
		return nil, &status{exitUsage, err}
	}
	if s.Name == "" {
		s.Name = harmless(name)
	}
	return s, nil
}

func scenarioNames() []string {
	all, err := scenario.Shipped()
	if err != nil {
		return nil
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// size reads a number of bytes.
func size(s string) (int, error) {
	unit := 1
	digits := s
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMG", s[n-1]); i >= 0 {
			unit, digits = 1<<(10*(i+1)), s[:n-1]
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > 1<<50/unit {
		return 0, fmt.Errorf("%q is not a size; write 64M or 2G", s)
	}
	return n * unit, nil
}

func modelListCommand(stdout io.Writer) *cobra.Command {
	var libcs, calls bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the scenarios that are known, the C libraries, or the calls",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if libcs && calls {
				return usage("--libcs and --calls both say what to list: say one")
			}
			return emit(stdout, func(w io.Writer) error {
				switch {
				case libcs:
					for _, l := range libc.All() {
						fmt.Fprintf(w, "%-14s %-20s %s\n", l.Name, l.Releases(), l.Says)
					}
				case calls:
					for _, c := range scenario.Words() {
						fmt.Fprintf(w, "%-28s %s\n", strings.TrimSpace(string(c.Verb)+" "+argument(c)), c.Says)
					}
				default:
					all, err := scenario.Shipped()
					if err != nil {
						return err
					}
					for _, s := range all {
						fmt.Fprintf(w, "%-22s %s\n", s.Name, s.Title)
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&libcs, "libcs", false, "list the C libraries, and what sets each apart from the one before")
	cmd.Flags().BoolVar(&calls, "calls", false, "list the calls that threads and handlers can make")
	return cmd
}

// argument is what a call is followed by, as it is written in help.
func argument(w scenario.Word) string {
	switch {
	case w.Takes == scenario.TakesNothing:
		return ""
	case w.Optional:
		return "[" + strings.ToUpper(string(w.Takes)) + "]"
	}
	return strings.ToUpper(string(w.Takes))
}

func modelShowCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a scenario as it is written, to start one's own from",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, ok, err := scenario.Find(args[0])
			if err != nil {
				return blind(fmt.Errorf("%w; this build of forkproof is broken", err))
			}
			if !ok {
				return usage("%q is not a scenario; they are %s", args[0], strings.Join(scenarioNames(), ", "))
			}
			text, _ := scenario.Text(s.Name)
			return emit(stdout, func(w io.Writer) error { _, err := w.Write(text); return err })
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
}
