package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/scenario"
	"forkproof/internal/replay"
)

func modelReplayCommand(stdout io.Writer) *cobra.Command {
	var at replay.Place
	cmd := &cobra.Command{
		Use:   "replay NAME|FILE...",
		Short: "Run a scenario for real, in the order that the model says hangs",
		Long: `replay looks for the shortest order of turns after which the model says that the master or its child hangs or crashes,
and runs the scenario in that order on a real C library: this machine's, or that of a root folder. Its threads go one
at a time, from call to call, and stop within some calls where libc holds a lock of its own. Chance has no part in it.

It runs a program of forkproof's own, which loads no library but a small one that it carries, and touches nothing else.
Where a scenario needs a call that cannot be run so, or a thread to be where none can be stopped, it says so.

Exit status: 0 there is nothing to replay, 1 it hung or crashed as the model says, 2 wrong usage or a scenario that
cannot be read, 3 it could not be run, or did something else than the model says.`,
		Example: `  forkproof model replay openssl-lock
  sudo forkproof model replay BZ-24595 --root /srv/images/bullseye`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scenarios, err := scenariosOf(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return blind(fmt.Errorf("find the program of forkproof itself: %w", err))
			}
			at.Self = []string{exe, "probe", "--enter"}
			return replayAll(cmd.Context(), at, scenarios, stdout)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return scenarioNames(), cobra.ShellCompDirectiveDefault
		},
	}
	cmd.Flags().StringVar(&at.Root, "root", "", "run it on the libc of the system in this `DIR`")
	cmd.Flags().StringVar(&at.Libc, "libc", "", "run it on this libc: the `FILE` of a libc.so.6 or of a loader; with --root, as seen from there")
	return cmd
}

func replayAll(ctx context.Context, at replay.Place, scenarios []*scenario.Scenario, stdout io.Writer) error {
	p, err := replay.Open(ctx, at)
	if err != nil {
		return blind(err)
	}
	defer p.Close()
	l, err := libc.Find(p.Libc.Family + "-" + p.Libc.Version)
	if err != nil {
		return blind(err)
	}
	var failed error
	hung := false
	for _, s := range scenarios {
		var b bytes.Buffer
		some, err := replayOne(ctx, &b, p, s, &l)
		if _, werr := stdout.Write(b.Bytes()); werr != nil {
			return blind(werr)
		}
		hung = hung || some
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.Name, err))
		}
	}
	switch {
	case hung:
		return &status{exitFindings, failed}
	case failed != nil:
		return blind(failed)
	}
	return nil
}

// replayOne reports whether a scenario hung or crashed as the model says.
func replayOne(ctx context.Context, w io.Writer, p *replay.Player, s *scenario.Scenario, l *libc.Libc) (bool, error) {
	fmt.Fprintf(w, "%s on %s, modelled as %s\n", s.Name, p.Libc.Name(), l.Name)
	found := false
	for _, child := range []bool{false, true} {
		who := "master"
		if child {
			who = "child"
		}
		run, err := replay.Search(s, l, child)
		if errors.Is(err, replay.ErrNone) {
			continue
		}
		if err != nil {
			return found, err
		}
		result, err := p.Play(ctx, run)
		if err != nil {
			return found, err
		}
		told, err := replay.Told(run, l)
		if err != nil {
			return found, err
		}
		fmt.Fprintf(w, "  the %s, in %d turns:\n", who, len(told))
		for i, t := range told {
			on := ""
			if t.Within {
				on = ", on from within"
			}
			fmt.Fprintf(w, "  %3d  %-12s %s%s\n", i+1, s.Threads[t.Thread].Name, t.Call, on)
		}
		fmt.Fprintf(w, "  for real: %s\n", result.Says(s))
		outcomes, err := replay.Predict(run, l)
		if err != nil {
			return found, err
		}
		if !slices.Contains(outcomes, result.Outcome()) {
			return found, fmt.Errorf("that is not what the model says: either is wrong, please report it")
		}
		found = true
	}
	if !found {
		fmt.Fprintln(w, "  no order of turns that can be forced hangs or crashes it: nothing to replay")
	}
	return found, nil
}
