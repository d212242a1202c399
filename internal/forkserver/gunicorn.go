package forkserver

import (
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"forkproof/internal/proc"
)

// gunicorn recognises gunicorn with any worker class. With the setproctitle
// package its processes are called "gunicorn: master [name]" and "gunicorn:
// worker [name]"; without it both keep the command line. Where another program
// starts it (Airflow, functions-framework) only the heartbeat files give it
// away: every worker has an unlinked file wgunicorn-*, and so has the master
// (gunicorn/workers/workertmp.py, the same from 0.x to 26).
func gunicorn() Recogniser {
	return Recogniser{
		Kind:     Gunicorn,
		Match:    func(p *Process) bool { return isGunicorn(p) },
		Deep:     func(fs proc.FS, p *Process) bool { return hasHeartbeat(fs, p.ID.PID) },
		Title:    gunicornTitle,
		Adopts:   func(_, p *Process) bool { return strings.HasPrefix(p.title(), "gunicorn: dirty-worker") },
		Describe: describeGunicorn,
		Traits: Traits{
			KillsHungAfter: 30 * time.Second,
			KillSetting:    "--timeout 30",
			RestartWorker:  "kill -KILL WORKER",
			RestartAll:     "kill -HUP MASTER",
			LoadAfterFork:  "leave out --preload (preload_app = False)",
			Hooks: []Hook{
				{Name: "post_fork(server, worker)", In: "worker", Use: "make new locks, threads and connections"},
				{Name: "post_worker_init(worker)", In: "worker", Use: "the same, when the application is loaded"},
				{Name: "pre_fork(server, worker)", In: "master", Use: "stop threads and close connections before each fork"},
				{Name: "os.register_at_fork(after_in_child=...)", In: "worker", Use: "the same as post_fork, from within a library"},
			},
			Notes: []string{
				"a worker that hangs before its hooks ran dies of the first SIGABRT; one that hangs in C code later needs SIGKILL",
				"after SIGHUP an application loaded with --preload is not loaded again: new workers are forked from the same old master",
				"from 25.1 on the master has a thread for its control socket; from 25.2 on it is stopped around each fork and is no hazard",
			},
			Sources: []string{
				"gunicorn/arbiter.py, Arbiter.spawn_worker and murder_workers (26.1.0)",
				"https://docs.gunicorn.org/en/stable/settings.html#timeout",
				"https://github.com/benoitc/gunicorn/issues/3529",
			},
		},
	}
}

func isGunicorn(p *Process) bool {
	if strings.HasPrefix(p.title(), "gunicorn: ") {
		return true
	}
	return gunicornRun(p)
}

// gunicornRun reports whether the command line itself starts gunicorn.
func gunicornRun(p *Process) bool {
	switch program(p).name {
	case "gunicorn", "gunicorn3", "gunicorn_paster", "gunicorn_django", "gunicorn.app.wsgiapp":
		return true
	}
	return false
}

func gunicornTitle(p *Process) string {
	t, ok := strings.CutPrefix(p.title(), "gunicorn: ")
	if !ok {
		return string(Worker)
	}
	t, _, _ = strings.Cut(t, " [")
	return shortTitle(t)
}

// hasHeartbeat reports whether the process holds gunicorn's heartbeat file.
func hasHeartbeat(fs proc.FS, pid int) bool {
	const most = 4096 // descriptors looked at
	dir, err := os.Open(fs.Path(pid, "fd"))
	if err != nil {
		return false
	}
	defer func() { _ = dir.Close() }() // only read
	names, err := dir.Readdirnames(most)
	if err != nil {
		return false
	}
	for _, n := range names {
		link, err := os.Readlink(fs.Path(pid, "fd", n))
		if err == nil && strings.HasPrefix(path.Base(link), "wgunicorn-") && strings.HasSuffix(link, " (deleted)") {
			return true
		}
	}
	return false
}

func describeGunicorn(fs proc.FS, s *Server) {
	var r run
	var rest bool // settings may stand where we do not look
	if gunicornRun(&s.Master) {
		r = program(&s.Master)
		r.args = append(gunicornEnv(fs, s.Master.ID.PID), r.args...)
		_, rest = r.option("-c", "--config")
		if _, err := os.Stat(fs.Path(s.Master.ID.PID, "cwd", "gunicorn.conf.py")); err == nil {
			rest = true
		}
	} else {
		rest = true
	}
	if v, ok := r.option("-t", "--timeout"); ok {
		if sec, err := strconv.Atoi(v); err == nil && sec >= 0 && sec < 1e6 {
			s.Traits.KillsHungAfter = time.Duration(sec) * time.Second
			s.Traits.KillSetting = "--timeout " + v
			if sec == 0 {
				s.Traits.KillSetting = "--timeout with a value above 0"
			}
		}
	}
	class, known := r.option("-k", "--worker-class")
	if n, ok := r.option("--threads"); ok && n != "1" && (!known || class == "sync") {
		class, known = "gthread", true
	}
	switch {
	case !known:
		if class = gunicornClass(fs, s); class == "" && !rest {
			class = "sync"
		}
	case strings.Contains(strings.ToLower(class), "uvicorn"):
		class = "uvicorn"
	case strings.Contains(class, "gevent"):
		class = "gevent"
	}
	if class != "" {
		s.Name = "gunicorn (" + shortTitle(class) + " workers)"
	}
}

// gunicornEnv returns the arguments that the environment adds before those of
// the command line (gunicorn/app/base.py, GUNICORN_CMD_ARGS).
func gunicornEnv(fs proc.FS, pid int) []string {
	b, err := os.ReadFile(fs.Path(pid, "environ"))
	if err != nil {
		return nil
	}
	for v := range strings.SplitSeq(string(b), "\x00") {
		if args, ok := strings.CutPrefix(v, "GUNICORN_CMD_ARGS="); ok {
			return strings.Fields(args)
		}
	}
	return nil
}

// gunicornClass tells the worker class by what a worker has mapped: the class
// may stand in a configuration file that we do not read. It is empty where
// nothing tells.
func gunicornClass(fs proc.FS, s *Server) string {
	for i := range s.Workers {
		if s.Workers[i].Title != string(Worker) {
			continue
		}
		maps, err := fs.Maps(s.Workers[i].ID.PID)
		if err != nil {
			return ""
		}
		for _, m := range maps {
			switch {
			case strings.Contains(m.Path, "/gevent/"):
				return "gevent"
			case strings.Contains(m.Path, "/uvloop/"), strings.Contains(m.Path, "/httptools/"):
				return "uvicorn"
			}
		}
		return ""
	}
	return ""
}
