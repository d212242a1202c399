package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"forkproof/internal/inspect"
	"forkproof/internal/locate"
)

var positive = regexp.MustCompile(`^[0-9]+$`)

// selection is how people name what to look at.
type selection struct {
	all               bool
	names             []string
	units, containers []string
	waitFor           string
}

func (s *selection) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&s.all, "all", false, "every pre-fork server on this machine")
	f.StringArrayVar(&s.names, "name", nil, "processes whose command line matches this `REGEX` (may be given again)")
	f.StringSliceVar(&s.units, "unit", nil, "processes of this systemd `UNIT`, such as gunicorn.service (may be given again)")
	f.StringSliceVar(&s.containers, "container", nil, "processes in the container whose `ID` begins so: Docker, Podman, containerd, CRI-O (may be given again)")
	f.StringVar(&s.waitFor, "wait-for", "", "wait until a process starts whose command line matches this `REGEX`, then look at it")
}

// targets turns a selection and the arguments into PIDs. Names that fit nothing
// are an error only where nothing else was named; else they are returned as
// notes.
func (s *selection) targets(ctx context.Context, args []string, stderr io.Writer) (pids []int, notes []string, err error) {
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil || pid <= 0 {
			hint := "to find processes by their command line say --name " + strconv.Quote(a)
			if positive.MatchString(a) {
				hint = "it is out of the range of PIDs"
			}
			return nil, nil, usage("%q is not a PID; %s", a, hint)
		}
		pids = append(pids, pid)
	}
	var names []*regexp.Regexp
	for _, n := range s.names {
		re, err := pattern("--name", n)
		if err != nil {
			return nil, nil, err
		}
		names = append(names, re)
	}
	var awaited *regexp.Regexp
	if s.waitFor != "" {
		if awaited, err = pattern("--wait-for", s.waitFor); err != nil {
			return nil, nil, err
		}
	}
	if !s.all && len(args)+len(names)+len(s.units)+len(s.containers) == 0 && awaited == nil {
		return nil, nil, usage("say what to look at: a PID, --all, --name REGEX, --unit UNIT, --container ID or --wait-for REGEX")
	}
	m := locate.New("/proc")
	var failed []error
	take := func(found []int, err error) {
		if err != nil {
			failed = append(failed, err)
		}
		pids = append(pids, found...)
	}
	for _, re := range names {
		take(m.Name(re))
	}
	for _, u := range s.units {
		take(m.Unit(u))
	}
	for _, c := range s.containers {
		take(m.Container(c))
	}
	for _, err := range failed {
		if errors.Is(err, locate.ErrName) {
			return nil, nil, &status{exitUsage, err}
		}
		notes = append(notes, err.Error())
	}
	if awaited != nil {
		if isTerminal(stderr) {
			fmt.Fprintf(stderr, "waiting for a process that matches %s to start (ctrl-C ends it) ...\n", harmless(s.waitFor))
		}
		pid, err := m.Await(ctx, awaited)
		if err != nil {
			return nil, nil, blind(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) == 0 && !s.all {
		return nil, nil, blind(errors.Join(failed...))
	}
	return pids, notes, nil
}

func pattern(flag, s string) (*regexp.Regexp, error) {
	if s == "" {
		return nil, usage("%s: an empty pattern matches every process; --all looks at every pre-fork server", flag)
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, usage("%s: %w", flag, err)
	}
	return re, nil
}

func inspectCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		who selection
		out reporting
		gap time.Duration
		// noStop forbids to stop running threads.
		noStop bool
	)
	cmd := &cobra.Command{
		Use:   "inspect [flags] [PID...]",
		Short: "Prove which processes are deadlocked, and name who left the lock behind",
		Long: `inspect reads live processes and says which of them can never go on, on what lock, and because of whom.

A PID of a master stands for its whole server. What is named in several ways is taken together.
Nothing is changed: everything is read from outside. Only a thread that runs, and so does not show where it
is, is stopped to read its registers and stack, as a rule for less than 0.1 ms and never for more than a few
milliseconds; no proof needs that, and --no-stop forbids it. The permission is that of a debugger: run it as
root or as the processes' own user; 'forkproof doctor' says whether it can work here.

Exit status: 0 nothing at or above --fail-on, 1 findings at or above it, 2 wrong usage, 3 could not look.`,
		Example: `  forkproof inspect 1234
  forkproof inspect --all
  forkproof inspect --unit gunicorn.service --format html -o report.html
  forkproof inspect --container 4f6a1be9 --name 'celery.*worker' --format json
  forkproof inspect --wait-for 'gunicorn: worker'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if gap < 0 || gap > time.Hour {
				return usage("--gap %s is not between 0 and 1h", gap)
			}
			to, err := out.prepare()
			if err != nil {
				return err
			}
			pids, notes, err := who.targets(cmd.Context(), args, stderr)
			if err != nil {
				return err
			}
			doc, err := inspect.Run(cmd.Context(), inspect.Request{PIDs: pids, All: who.all, Gap: gap, NoStop: noStop})
			if err != nil {
				return blind(err)
			}
			doc.Notes = append(doc.Notes, notes...)
			return to.write(doc, stdout)
		},
	}
	who.flags(cmd)
	out.flags(cmd)
	cmd.Flags().DurationVar(&gap, "gap", 5*time.Millisecond, "how long to wait between the two looks")
	cmd.Flags().BoolVar(&noStop, "no-stop", false, "never stop a thread, not even one that runs and cannot be read otherwise")
	return cmd
}
