package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/probe"
)

var probeFormats = []string{"text", "json", "markdown"}

// giveUp is after how long a probe counts as hanging that no proof was found for.
const giveUp = 3 * time.Second

// The most that may be asked of one probe.
const (
	maxForks = 10_000_000
	maxTime  = 24 * time.Hour
)

// probing is what the flags of probe say.
type probing struct {
	probe.Request
	only                   []string
	quick, verbose         bool
	format, output, failOn string
}

// check settles which probes to run, and refuses what makes no sense.
func (p *probing) check() error {
	switch {
	case !slices.Contains(probeFormats, p.format):
		return usage("--format %q is not one of %s", p.format, strings.Join(probeFormats, ", "))
	case p.failOn != "none" && p.failOn != "any":
		return usage("--fail-on %q is not one of none, any", p.failOn)
	case p.Forks < 1 || p.Forks > maxForks:
		return usage("--forks %d is not between 1 and %d", p.Forks, maxForks)
	case p.Time < time.Millisecond || p.Time > maxTime:
		return usage("--time %s is not between 1ms and 24h", p.Time)
	case p.quick && len(p.only) > 0:
		return usage("--quick and --only both say which probes to run: say one")
	}
	if p.quick {
		p.only = []string{string(probe.Defect)}
	} else if len(p.Preload) > 0 && len(p.only) == 0 {
		p.only = []string{string(probe.Allocator)}
	}
	var err error
	if p.Probes, err = probe.Select(p.only); err != nil {
		return usage("--only: %w; 'forkproof probe --list' names them all", err)
	}
	if p.output == "-" {
		p.output = ""
	}
	return nil
}

// measure runs the probes, with a line of progress on a terminal.
func (p *probing) measure(ctx context.Context, stderr io.Writer) (*probe.Report, error) {
	if p.output != "" {
		if err := writable(p.output); err != nil {
			return nil, fmt.Errorf("the report could not be written to %s: %w; nothing was measured", p.output, err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program of forkproof itself: %w", err)
	}
	p.Self = []string{exe, "probe", "--enter"}
	p.Prove, p.GiveUp = proveStill, giveUp
	if isTerminal(stderr) {
		p.Progress = func(done, all int, name string) {
			fmt.Fprintf(stderr, "\r\x1b[K%3d of %d  %s", done+1, all, name)
		}
		defer fmt.Fprint(stderr, "\r\x1b[K")
	}
	r, err := probe.Run(ctx, p.Request)
	if err != nil {
		return nil, err
	}
	r.Version = Version
	return r, nil
}

// write renders the report and puts it where it was asked for.
func (p *probing) write(r *probe.Report, stdout io.Writer) error {
	var b bytes.Buffer
	var err error
	switch p.format {
	case "json":
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(r)
	case "markdown":
		probeMarkdown(&b, r)
	default:
		colour := false
		if p.output == "" {
			colour, _ = terminal(stdout)
		}
		probeText(&b, r, colour, p.verbose)
	}
	if err == nil && p.output != "" {
		err = replace(p.output, b.Bytes())
	} else if err == nil {
		_, err = stdout.Write(b.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func probeCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		p     probing
		list  bool
		enter string
	)
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Measure what this C library does in the child of a fork",
		Long: `probe runs small programs on a real C library and says which functions, locks and fork handlers work, hang or
crash in the child of a process that had threads. It measures this machine's libc, or another one: of a root folder
(--root), or a single library with its own loader beside it (--libc).

A probe of a function has two threads in it while the process forks; each child calls it once. A child that stands
still is read as 'forkproof inspect' reads a worker: "hangs" is proven unless it says that a time-out decided. "works"
means that no fork of those tried went wrong, which is evidence and not proof; "not reached" that no fork met a thread
inside the function, or that something else came in between, so that nothing is known.

Nothing but its own processes is touched, and nothing is left behind. As root, --root shows the folder read-only as
the root folder of the probes, in namespaces of their own; otherwise its libc is run by its own loader, and users,
hosts and locales are those of this machine.

Exit status: 0 measured, 1 something hangs, crashes or differs and --fail-on any was said, 2 wrong usage, 3 could
not measure.`,
		Example: `  forkproof probe
  forkproof probe --quick
  forkproof probe --only popen --only 'bz-24595-*' --forks 5000 --time 10s
  sudo forkproof probe --root /srv/images/app --format markdown -o measured.md
  sudo forkproof probe --root /srv/alpine --libc /lib/ld-musl-x86_64.so.1
  forkproof probe --preload /usr/lib/x86_64-linux-gnu/libjemalloc.so.2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if enter != "" {
				return blind(probe.Enter(enter))
			}
			if err := p.check(); err != nil {
				return err
			}
			if list {
				return listProbes(stdout, p.Probes)
			}
			r, err := p.measure(cmd.Context(), stderr)
			if err == nil {
				err = p.write(r, stdout)
			}
			if err != nil {
				return blind(err)
			}
			if p.failOn == "any" && slices.ContainsFunc(r.Results, func(r probe.Result) bool { return r.Outcome.Bad() }) {
				return &status{code: exitFindings}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Root, "root", "", "measure the libc of the system in this `DIR`")
	f.StringVar(&p.Libc, "libc", "", "measure this libc: the `FILE` of a libc.so.6 or of a loader; with --root, as seen from there")
	f.StringSliceVar(&p.Preload, "preload", nil, "load this `LIBRARY` before libc, an allocator for example, and run the allocator probes (may be given again)")
	f.StringSliceVar(&p.only, "only", nil, "run only this `PROBE`, group or pattern (may be given again)")
	f.BoolVar(&p.quick, "quick", false, "run the probes of known defects alone")
	f.BoolVar(&list, "list", false, "list the probes that would run, and what they claim")
	f.IntVar(&p.Forks, "forks", 1000, "fork up to `N` times in a probe that finds nothing")
	f.DurationVar(&p.Time, "time", 350*time.Millisecond, "go on for so long in a probe that finds nothing")
	f.StringVar(&p.format, "format", "text", "what to write: "+strings.Join(probeFormats, ", "))
	f.StringVarP(&p.output, "output", "o", "", "write the report to this `FILE`, whole or not at all")
	f.StringVar(&p.failOn, "fail-on", "none", "exit with status 1 when something hangs, crashes or differs: any, none")
	f.BoolVarP(&p.verbose, "verbose", "v", false, "show claims and stacks")
	f.StringVar(&enter, "enter", "", "become the probes on another root folder")
	_ = f.MarkHidden("enter")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(probeFormats, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"any", "none"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("only", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, g := range probe.Groups() {
			names = append(names, string(g))
		}
		for _, p := range probe.All() {
			names = append(names, p.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// proveStill has inspect look at one process of a probe.
func proveStill(ctx context.Context, pid int) (*probe.Proof, error) {
	doc, err := inspect.Run(ctx, inspect.Request{PIDs: []int{pid}})
	switch {
	case errors.Is(err, inspect.ErrNothing):
		return nil, err // it ended meanwhile
	case err != nil:
		return nil, fmt.Errorf("%w: %w", probe.ErrBlind, err)
	}
	// The strongest finding comes first within its severity, and a lock is one.
	for i := range doc.Findings {
		f := &doc.Findings[i]
		if f.PID != pid || f.Severity != finding.Critical || f.Lock == nil {
			continue
		}
		p := &probe.Proof{Rule: string(f.Rule), Confidence: f.Confidence.String(), Kind: f.Lock.Kind, Lock: f.Lock.Where}
		for _, t := range doc.Targets {
			for _, th := range t.Threads {
				if t.PID == pid && th.TID == f.TID {
					p.Stack = functions(th.Native)
				}
			}
		}
		return p, nil
	}
	return nil, nil
}

// functions are the names on a stack, innermost first, as far as a report shows
// them.
func functions(stack []finding.NativeFrame) []string {
	const most = 12
	var names []string
	for _, f := range stack {
		if f.Function != "" && len(names) < most {
			names = append(names, f.Function)
		}
	}
	return names
}
