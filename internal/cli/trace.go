package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"forkproof/internal/trace"
)

func traceCommand(stdout, stderr io.Writer) *cobra.Command {
	var (
		out      reporting
		named    []string
		maxStop  time.Duration
		duration time.Duration
		forks    int
		quiet    bool
		handlers bool
	)
	cmd := &cobra.Command{
		Use:   "trace [flags] [--pid PID... | -- COMMAND [ARG...]]",
		Short: "Show at each fork what every other thread was doing and which locks it held",
		Long: `trace follows a program, its threads and all processes that it makes, and looks at each fork at the instant at
which it happens: a line for each as it comes, and a report at the end, by call site: who forked and from where,
the threads that the child does not have and what they were doing, the locks that they held, the fork handlers
that are registered, whether the child went on to execute a program at once, and what it did before that.

The new process is looked at before its first instruction: its memory is the exact image of the fork. Threads
are stopped only at forks, clones, execs and signals; the thread that forks stands still for well under a
millisecond as a rule, the child until it has been read, neither longer than --max-stop. What there was no time
for is said in the report. Whatever happens to forkproof, all processes go on.

It ends when the program has ended, at ctrl-C, or as --forks and --duration say. A process named by --pid goes on
then; a program that was launched is asked to end (SIGTERM).

Exit status: 0 nothing at or above --fail-on, 1 findings at or above it, 2 wrong usage, 3 could not look.`,
		Example: `  forkproof trace -- gunicorn --preload -w 2 app:app
  forkproof trace --pid 1234 --forks 3
  forkproof trace --duration 1m --pid 1234 --format html -o forks.html`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && len(named) == 0:
				return usage("say what to trace: --pid PID, or -- and a command")
			case len(args) > 0 && len(named) > 0:
				return usage("--pid and a command exclude each other")
			case len(args) > 0 && cmd.ArgsLenAtDash() != 0:
				return usage("a command comes behind --; to trace a running process say --pid %s", args[0])
			case maxStop <= 0 || maxStop > time.Second:
				return usage("--max-stop %s is not between 0 and 1s", maxStop)
			case forks < 0:
				return usage("--forks %d is less than none", forks)
			case duration < 0:
				return usage("--duration %s is less than none", duration)
			}
			var pids []int
			for _, n := range named {
				pid, err := strconv.Atoi(n)
				if err != nil || pid <= 0 {
					return usage("--pid %q is not a PID", n)
				}
				pids = append(pids, pid)
			}
			to, err := out.prepare()
			if err != nil {
				return err
			}
			req := trace.Request{PIDs: pids, Command: args, MaxStop: maxStop, Forks: forks, Duration: duration, Handlers: handlers}
			if !quiet {
				req.Each = func(f trace.Fork) { fmt.Fprintln(stderr, harmless(forkLine(f))) }
			}
			if len(pids) > 0 && isTerminal(stderr) {
				req.Ready = func() { fmt.Fprintln(stderr, "waiting for forks (ctrl-C ends it and shows the report) ...") }
			}
			doc, err := trace.Run(cmd.Context(), req)
			if errors.Is(err, trace.ErrNoTarget) {
				return usage("%w", err)
			}
			if err != nil {
				return blind(err)
			}
			return to.write(doc, stdout)
		},
	}
	out.flags(cmd)
	f := cmd.Flags()
	f.StringSliceVarP(&named, "pid", "p", nil, "trace the running process of this `PID`, the processes that it has made and those that it makes (may be given again)")
	f.DurationVar(&maxStop, "max-stop", trace.DefaultMaxStop, "how long a fork may be held up")
	f.DurationVar(&duration, "duration", 0, "end after this time; 0 means when the program ends")
	f.IntVar(&forks, "forks", 0, "end after this many forks; 0 means when the program ends")
	f.BoolVar(&handlers, "handlers", false, "follow each child step by step through its fork handlers and name the functions that they call; this holds up the child alone")
	f.BoolVarP(&quiet, "quiet", "q", false, "no line for each fork, only the report")
	return cmd
}

// forkLine is what is said of a fork as it happens, and again when its child has
// executed a program.
func forkLine(f trace.Fork) string {
	at := f.Time.Format("15:04:05.000")
	if f.Executed != "" {
		line := fmt.Sprintf("%s  %d executed %s after %d system calls", time.Now().Format("15:04:05.000"), f.Child, f.Executed, len(f.Calls))
		if f.AtOnce {
			line += ": harmless"
		}
		return line
	}
	call := "fork"
	if f.VFork {
		call = "vfork"
	}
	line := fmt.Sprintf("%s  %s (%d) %s -> %d  by %s", at, f.Name, f.Parent, call, f.Child, shortSite(trace.Site(f.Native, f.Python)))
	if !f.Shared {
		line += fmt.Sprintf(", %d other threads", len(f.Threads))
		held := 0
		for _, l := range f.Locks {
			if !l.Survivor && !l.Reset {
				held++
			}
		}
		if held > 0 {
			line += fmt.Sprintf(", %d LOCKS HELD", held)
			for i, l := range f.Locks {
				if l.Survivor || l.Reset {
					continue
				}
				line += ": " + l.Where
				if l.Owner != nil {
					line += " by " + l.Owner.Name
				}
				if i == 2 {
					break
				}
			}
		}
	}
	return line + fmt.Sprintf("  [%.1f ms, child %.1f ms]", float64(f.Stood.Microseconds())/1000, float64(f.ChildStood.Microseconds())/1000)
}

// shortSite leaves the folder of a file out.
func shortSite(site string) string {
	if dir, file := filepath.Split(site); len(dir) > 40 {
		return file
	}
	return site
}

// Reenter has a process that was started to become another program do so; it
// returns in all others.
func Reenter() { trace.Reenter() }
