package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/stress"
)

// between stands between the two commands that are compared.
const between = "---"

// maxConnections bounds the load.
const maxConnections = 1024

// stressing is what the flags of stress say.
type stressing struct {
	stress.Request
	out reporting
}

// check settles what to run, and refuses what makes no sense.
func (s *stressing) check(args []string) error {
	switch {
	case s.PID == 0 && len(args) == 0:
		return usage("say what to run, behind --, or --pid of a server that runs")
	case s.PID != 0 && len(args) > 0:
		return usage("--pid and a command both say what to look at: say one")
	case s.PID < 0:
		return usage("--pid %d is not a PID", s.PID)
	case s.Forks < 1 || s.Forks > maxForks:
		return usage("--forks %d is not between 1 and %d", s.Forks, maxForks)
	case s.Duration < time.Second || s.Duration > maxTime:
		return usage("--duration %s is not between 1s and 24h", s.Duration)
	case s.Timeout < 100*time.Millisecond || s.Timeout > time.Hour:
		return usage("--timeout %s is not between 100ms and 1h", s.Timeout)
	case s.Connections < 1 || s.Connections > maxConnections:
		return usage("--connections %d is not between 1 and %d", s.Connections, maxConnections)
	}
	for _, l := range s.Load {
		u, err := url.Parse(l)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return usage("--load %q is not a URL that begins with http:// or https://", l)
		}
	}
	if way := s.Reload; way != "" {
		s.Reload = strings.TrimPrefix(strings.ToLower(way), "sig")
		if !slices.Contains(stress.Ways(), s.Reload) {
			s.Reload = way // a command
		}
	}
	if s.PID != 0 {
		return nil
	}
	s.Commands = [][]string{nil}
	for _, a := range args {
		if a == between {
			s.Commands = append(s.Commands, nil)
			continue
		}
		last := &s.Commands[len(s.Commands)-1]
		*last = append(*last, a)
	}
	if len(s.Commands) > 2 {
		return usage("there are %d commands: two can be compared, with %s between them", len(s.Commands), between)
	}
	if slices.ContainsFunc(s.Commands, func(c []string) bool { return len(c) == 0 }) {
		return usage("there is no command on one side of %s", between)
	}
	return nil
}

// progress writes a line on a terminal, and returns how to take it away.
func (s *stressing) progress(stderr io.Writer) (clear func()) {
	if !isTerminal(stderr) || s.out.verbose {
		return func() {}
	}
	s.Progress = func(forks, wanted, hung int) {
		fmt.Fprintf(stderr, "\r\x1b[K%d of %d forks, %d hung (ctrl-C ends it with a report)", forks, wanted, hung)
	}
	return func() { fmt.Fprint(stderr, "\r\x1b[K") }
}

func stressCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		s    stressing
		keep bool
	)
	cmd := &cobra.Command{
		Use:   "stress [flags] -- COMMAND [ARG...] [--- COMMAND [ARG...]]",
		Short: "Let a server or program fork again and again, and count how many forks hang",
		Long: `stress is the plain way: it waits for luck, and counts it. It starts a pre-fork server, reloads it again and again in
its own way, under load if that is asked for, and has 'forkproof inspect' look at each process that stands still: a
fork hung only where a deadlock is proven. A program that is no server is run again and again instead; it forks by
itself. The result is a number with its interval, "hung 3 of 1000 forks (95 % interval ...)", beside the other
symptoms: processes that ended, were killed, or failed right after boot, requests that failed, latencies.

Two commands with --- between them are run in turns, and compared: before and after a mend, say.

What stress starts it also ends, whatever becomes of forkproof, and a worker that was proven to hang is ended at once
so that the server makes another. With --pid it reloads a server that runs, which is what is asked for then, and
ends nothing. --reload takes hup, usr1, usr2, ttin (with ttou in turns), workers (SIGTERM to each), or a command for the
shell, which finds the master's PID in FORKPROOF_MASTER.

Exit status: 0 nothing hung, 1 a fork hung, of the second command where two are compared (see --fail-on), 2 wrong
usage, 3 could not look, or was interrupted before anything hung.`,
		Example: `  forkproof stress --load http://127.0.0.1:8000/ --forks 1000 -- gunicorn --preload -w 4 app:app
  forkproof stress --duration 10m --reload ttin -- gunicorn --preload -w 4 app:app
  forkproof stress --forks 10000 -- ./my-test
  forkproof stress --forks 500 -- python3 before.py --- python3 after.py
  forkproof stress --pid 1234 --forks 50 --load http://127.0.0.1:8000/`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep {
				if code := stress.Keep(args); code != 0 {
					return &status{code: code}
				}
				return nil
			}
			if err := s.check(args); err != nil {
				return err
			}
			to, err := s.out.prepare()
			if err != nil {
				return err
			}
			exe, err := os.Executable()
			if err != nil {
				return blind(fmt.Errorf("find the program of forkproof itself: %w", err))
			}
			s.Self = []string{exe, "stress", "--keep", "--"}
			s.Prove = proveHung
			if s.out.verbose {
				s.Output = stderr
			}
			clear := s.progress(stderr)
			doc, err := stress.Run(cmd.Context(), s.Request)
			clear()
			if err != nil {
				return blind(err)
			}
			err = to.write(doc, stdout)
			if err == nil && cmd.Context().Err() != nil {
				return blind(errors.New("interrupted before the end; what was started was ended"))
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&s.Load, "load", nil, "ask the server for this `URL` all the time (may be given again)")
	f.StringVar(&s.LoadCmd, "load-cmd", "", "run this shell `COMMAND` for load, again when it ends")
	f.IntVar(&s.Connections, "connections", 2, "ask on `N` connections at once")
	f.StringVar(&s.Reload, "reload", "", "make the server fork by this `WAY`: "+strings.Join(stress.Ways(), ", ")+", or a shell command (the server's own way)")
	f.IntVar(&s.Forks, "forks", 200, "end after `N` forks of each command")
	f.DurationVar(&s.Duration, "duration", time.Minute, "end after so long for each command at the latest")
	f.DurationVar(&s.Timeout, "timeout", 10*time.Second, "after how long a request failed, and a program that neither forks nor ends is suspected")
	f.IntVar(&s.PID, "pid", 0, "reload the server that has this `PID` as its master, instead of starting one")
	s.out.flags(cmd)
	f.BoolVar(&keep, "keep", false, "stand between forkproof and what it started")
	_ = f.MarkHidden("keep")
	_ = cmd.RegisterFlagCompletionFunc("reload", cobra.FixedCompletions(stress.Ways(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// proveHung has inspect look at processes that seem to hang.
func proveHung(ctx context.Context, pids []int) (*finding.Document, error) {
	doc, err := inspect.Run(ctx, inspect.Request{PIDs: pids})
	if errors.Is(err, inspect.ErrNothing) || ctx.Err() == nil && gone(pids) {
		return nil, nil // they ended meanwhile
	}
	return doc, err
}

// gone reports whether none of the processes is there any more.
func gone(pids []int) bool {
	return !slices.ContainsFunc(pids, func(pid int) bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
		return err == nil
	})
}
