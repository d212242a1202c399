package provoke

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/forkserver"
	"forkproof/internal/proc"
)

// trigger is how a server is asked for one more worker.
type trigger struct {
	// add is sent to the master; retire, where not 0, makes it give up one worker
	// afterwards.
	add, retire syscall.Signal
	// replace is sent to a worker, which the master then replaces, for servers that
	// cannot be asked otherwise.
	replace syscall.Signal
}

// triggers by the kind of server. Sources: gunicorn's and Puma's documents on
// signals, Unicorn's SIGNALS, uWSGI's "Managing the uWSGI server", Celery's workers
// guide (a pool process that ended is replaced), php-fpm(8).
var triggers = map[string]trigger{
	forkserver.Gunicorn: {add: unix.SIGTTIN, retire: unix.SIGTTOU},
	forkserver.Puma:     {add: unix.SIGTTIN, retire: unix.SIGTTOU},
	forkserver.Unicorn:  {add: unix.SIGTTIN, retire: unix.SIGTTOU},
	forkserver.UWSGI:    {replace: unix.SIGTERM},
	forkserver.Celery:   {replace: unix.SIGKILL},
	forkserver.PHPFPM:   {replace: unix.SIGTERM},
	forkserver.Apache:   {replace: unix.SIGTERM},
	forkserver.Generic:  {replace: unix.SIGTERM},
}

// asks reports whether a fork can be asked for.
func (t *trigger) known() bool { return t != nil && *t != (trigger{}) }

// fork asks the master for a fork. The worker that is replaced is the last of
// workers.
func (t *trigger) fork(master int, workers []int) error {
	if t.add != 0 {
		if err := unix.Kill(master, t.add); err != nil {
			return fmt.Errorf("ask process %d for a worker by %s: %w", master, unix.SignalName(t.add), err)
		}
		return nil
	}
	if len(workers) == 0 {
		return fmt.Errorf("process %d has no worker that it could replace", master)
	}
	if err := unix.Kill(workers[len(workers)-1], t.replace); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end worker %d, for process %d to replace it: %w", workers[len(workers)-1], master, err)
	}
	return nil
}

// asker is a way to make the target fork.
type asker struct {
	trigger *trigger
	command string
}

func (a asker) known() bool { return a.command != "" || a.trigger.known() }

// ask makes the target fork, or begins to.
func (a asker) ask(ctx context.Context, pid int, workers []int) error {
	if a.command == "" {
		return a.trigger.fork(pid, workers)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := shell(ctx, a.command, pid, 0)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("--fork-by %q: %w: %.300s", a.command, err, out)
	}
	return nil
}

// askTime bounds a command that makes the target fork.
const askTime = 10 * time.Second

// shell runs a command line as a person would, with the processes in its
// environment.
func shell(ctx context.Context, line string, master, worker int) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.Env = append(os.Environ(), "FORKPROOF_PID="+strconv.Itoa(master))
	if worker != 0 {
		cmd.Env = append(cmd.Env, "FORKPROOF_WORKER="+strconv.Itoa(worker))
	}
	// What it starts must not outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// recognise says what kind of server a process is the master of, empty for none.
func recognise(fs proc.FS, pid int) (kind string, workers []int) {
	all, err := forkserver.Snapshot(fs)
	if err != nil {
		return "", nil
	}
	s, role, ok := forkserver.Of(fs, all, pid)
	if !ok || role != forkserver.Master || s.Master.ID.PID != pid {
		return "", nil
	}
	for _, w := range s.Workers {
		if w.Running() {
			workers = append(workers, w.ID.PID)
		}
	}
	slices.Sort(workers)
	return s.Kind, workers
}
