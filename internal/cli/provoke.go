package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/provoke"
)

// inconclusive is what git bisect run takes for "this one cannot be tested".
const inconclusive = 125

// provoking is what the flags of provoke say.
type provoking struct {
	provoke.Request
	out                            reporting
	only, save, replay, junit, log string
	bisect                         bool
}

func (p *provoking) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.Check, "check", "", "run this shell `COMMAND` after each fork: it ends with 0 where the server is well. FORKPROOF_WORKER in its environment is the new process")
	f.DurationVar(&p.CheckTime, "check-time", 5*time.Second, "how long a check may take before it counts as failed")
	f.IntVar(&p.PID, "pid", 0, "provoke the running process `PID` instead of starting a program")
	f.StringVar(&p.ForkBy, "fork-by", "", "run this shell `COMMAND` to make the process fork, which is FORKPROOF_PID in its environment; needless for gunicorn, Puma, Unicorn, uWSGI, Celery, php-fpm and programs that fork by themselves")
	f.DurationVar(&p.Learn, "learn", 3*time.Second, "watch a server for so long to learn its locks")
	f.DurationVar(&p.PerLock, "timeout", 10*time.Second, "try each lock for so long")
	f.DurationVar(&p.Total, "total", 10*time.Minute, "try no further lock after so long")
	f.IntVar(&p.Tries, "attempts", 4, "run a program `N` times for a lock that was not reached")
	f.Uint64Var(&p.Seed, "seed", 1, "decides the order in which the locks are tried")
	f.StringVar(&p.only, "lock", "", "try only locks of which the name or id matches this `REGEX`")
	f.StringVar(&p.save, "save", "", "write the schedules that were found to this `FILE`")
	f.StringVar(&p.replay, "replay", "", "repeat the schedules in this `FILE` instead of learning")
	f.StringVar(&p.junit, "junit", "", "write the result as a JUnit test suite to this `FILE` too")
	f.StringVar(&p.log, "log", "", "write what the program says to this `FILE` instead of standard error")
	f.BoolVar(&p.bisect, "bisect", false, "exit as git bisect run wants it: 125 where nothing is known")
	p.out.flags(cmd)
}

// check refuses what makes no sense.
func (p *provoking) check(args []string) error {
	switch {
	case p.PID < 0 || p.PID > 0 && len(args) > 0:
		return usage("say either --pid PID of a running process or the program to start, not both")
	case p.PID == 0 && len(args) == 0:
		return usage("say what to provoke: forkproof provoke [flags] -- COMMAND, or --pid PID")
	case p.CheckTime < 10*time.Millisecond || p.CheckTime > time.Hour:
		return usage("--check-time %s is not between 10ms and 1h", p.CheckTime)
	case p.Learn < 100*time.Millisecond || p.Learn > time.Hour:
		return usage("--learn %s is not between 100ms and 1h", p.Learn)
	case p.PerLock < 100*time.Millisecond || p.PerLock > time.Hour:
		return usage("--timeout %s is not between 100ms and 1h", p.PerLock)
	case p.Total < time.Second || p.Total > 24*time.Hour:
		return usage("--total %s is not between 1s and 24h", p.Total)
	case p.Tries < 1 || p.Tries > 1000:
		return usage("--attempts %d is not between 1 and 1000", p.Tries)
	case p.replay != "" && p.only != "":
		return usage("--replay and --lock both say which locks to try: say one")
	}
	p.Command = args
	var err error
	if p.only != "" {
		if p.Only, err = regexp.Compile(p.only); err != nil {
			return usage("--lock: %w", err)
		}
	}
	for flag, path := range map[string]string{"save": p.save, "junit": p.junit} {
		if path == "" {
			continue
		}
		if err := writable(path); err != nil {
			return blind(fmt.Errorf("--%s %s could not be written: %w; nothing was run", flag, path, err))
		}
	}
	if p.replay != "" {
		if p.Replay, err = provoke.ReadSchedules(p.replay); err != nil {
			return blind(err)
		}
	}
	return nil
}

func provokeCommand(stdout, stderr io.Writer) *cobra.Command {
	var p provoking
	cmd := &cobra.Command{
		Use:   "provoke [flags] -- COMMAND [ARG...]",
		Short: "Fork at the worst possible moment, lock by lock, and see whether the worker hangs",
		Long: `provoke starts a server or a program, learns which locks its other threads ever hold, and then, for each lock,
makes one fork happen exactly while another thread holds it. It lets the new process run, runs the check, and asks
'forkproof inspect' for the proof. What a plain fork meets once in thousands of times is met at once.

A server is asked for new workers in its own way (gunicorn, Puma, Unicorn: SIGTTIN; uWSGI, Celery, php-fpm: a worker is
ended, which the master replaces), or by --fork-by. A program that forks by itself, and ends, needs neither that nor
--check: it is run again for each lock, and its end is the check. Write a small one for your library, and run it in CI.

It stops threads and puts breakpoints into the process that forks, and takes them out again, whatever happens to
forkproof. A worker that it made hang is ended. It is made for test systems: with --pid it can be used on a server that
serves, whose requests will then take longer, and whose workers may hang.

Exit status: 0 no deadlock, 1 a deadlock or failed check, 2 wrong usage, 3 nothing could be provoked; with --bisect 125
instead of 3, and where no lock was reached.`,
		Example: `  forkproof provoke --check 'curl -fsS -m 2 http://127.0.0.1:8000/' -- gunicorn --preload -w 2 app:app
  forkproof provoke --save found.json -- ./fork_test
  forkproof provoke --replay found.json -- ./fork_test
  git bisect run sh -c 'make fork_test || exit 125; forkproof provoke --bisect --replay found.json -- ./fork_test'
  sudo forkproof provoke --pid "$(cat gunicorn.pid)" --check 'curl -fsS -m 2 http://127.0.0.1:8000/'
  forkproof provoke --junit forks.xml --fork-by 'kill -USR1 $FORKPROOF_PID' -- ./daemon`,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := p.out.prepare()
			if err != nil {
				return err
			}
			if err := p.check(args); err != nil {
				return err
			}
			journal, code, first, err := provoke.Shelter()
			switch {
			case err != nil:
				return p.blind(err)
			case first && code == exitOK:
				return nil
			case first:
				return &status{code: code}
			}
			p.Shelter = journal
			return p.run(cmd.Context(), to, stdout, stderr)
		},
	}
	p.flags(cmd)
	return cmd
}

// blind is the error for a run of which nothing is known.
func (p *provoking) blind(err error) error {
	if p.bisect {
		return &status{inconclusive, err}
	}
	return blind(err)
}

func (p *provoking) run(ctx context.Context, to *prepared, stdout, stderr io.Writer) error {
	p.Output = os.Stderr
	if p.log != "" {
		f, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
		if err != nil {
			return p.blind(fmt.Errorf("--log: %w", err))
		}
		defer f.Close()
		p.Output = f
	}
	p.Prove = func(ctx context.Context, pid int) (*finding.Document, error) {
		return inspect.Run(ctx, inspect.Request{PIDs: []int{pid}})
	}
	if isTerminal(stderr) {
		p.Progress = func(s string) { fmt.Fprintf(stderr, "\r\x1b[K%s", harmless(s)) }
		defer fmt.Fprint(stderr, "\r\x1b[K")
	}
	r, err := provoke.Run(ctx, p.Request)
	if err != nil {
		return p.blind(err)
	}
	err = p.keep(r)
	if e := to.write(r.Document, stdout); e != nil {
		err = errors.Join(e, err)
	}
	if p.bisect && err == nil && r.Document.Provoked.Exercised < p.least() {
		return &status{code: inconclusive}
	}
	return err
}

// least is how many locks have to be exercised for a result to mean something.
func (p *provoking) least() int {
	if p.Replay != nil {
		return len(p.Replay.Found)
	}
	return 1
}

// keep writes the other files that were asked for.
func (p *provoking) keep(r *provoke.Result) error {
	if p.save != "" {
		b, err := r.Schedules.JSON()
		if err == nil {
			err = replace(p.save, b)
		}
		if err != nil {
			return blind(fmt.Errorf("the schedules could not be written to %s: %w", p.save, err))
		}
	}
	if p.junit != "" {
		name := strings.Join(p.Command, " ")
		if p.PID != 0 {
			name = fmt.Sprintf("process %d", p.PID)
		}
		b, err := provoke.JUnit(r.Document, name)
		if err == nil {
			err = replace(p.junit, b)
		}
		if err != nil {
			return blind(fmt.Errorf("the test suite could not be written to %s: %w", p.junit, err))
		}
	}
	return nil
}
