package stress

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/forkserver"
)

// Ways are the names of the ways to make a server fork: a signal to its master,
// after which another one may be sent; or, by "workers", SIGTERM to the workers, which the
// master replaces.
func Ways() []string { return []string{"hup", "usr1", "usr2", "ttin", "workers"} }

// ways are the servers' own: each leaves the master, and what it has loaded, as it
// is, or, where the server has no such way, lets it load anew. A server that is
// not listed forks for each connection, or is not known.
var ways = map[string]string{
	forkserver.Gunicorn:  "hup",     // arbiter.py, Arbiter.reload
	forkserver.UWSGI:     "hup",     // "graceful reload": the master becomes itself anew
	forkserver.Celery:    "workers", // HUP becomes itself anew, and takes seconds
	forkserver.PHPFPM:    "usr2",
	forkserver.Puma:      "ttin", // with preload_app! a phased restart is refused
	forkserver.Unicorn:   "hup",  // SIGNALS: with preload_app true only the workers are new
	forkserver.Pitchfork: "workers",
	forkserver.Apache:    "usr1",
	forkserver.Nginx:     "hup",
}

// reloader makes a server fork.
type reloader struct {
	// way is one of Ways, or a command for the shell.
	way string
	// times counts what was done.
	times int
}

// name is how a person would say it.
func (r *reloader) name() string {
	switch {
	case r.way == "ttin":
		return "SIGTTIN and SIGTTOU in turns"
	case r.way == "workers":
		return "SIGTERM to each worker"
	case slices.Contains(Ways(), r.way):
		return "SIG" + strings.ToUpper(r.way)
	}
	return r.way
}

// reloadTime bounds a command.
const reloadTime = time.Minute

func (r *reloader) do(master int, workers []int) error {
	r.times++
	if r.way == "workers" {
		for _, pid := range workers {
			_ = unix.Kill(pid, unix.SIGTERM) // one that ended meanwhile was to end
		}
		return nil
	}
	if !slices.Contains(Ways(), r.way) {
		cmd := exec.Command("sh", "-c", r.way)
		cmd.Env = append(os.Environ(), "FORKPROOF_MASTER="+strconv.Itoa(master))
		cmd.WaitDelay = time.Second
		stop := time.AfterFunc(reloadTime, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("--reload %q: %w: %s", r.way, err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	way := r.way
	if way == "ttin" && r.times%2 == 0 {
		way = "ttou"
	}
	if err := unix.Kill(master, unix.SignalNum("SIG"+strings.ToUpper(way))); err != nil {
		return fmt.Errorf("send SIG%s to master %d: %w", strings.ToUpper(way), master, err)
	}
	return nil
}
