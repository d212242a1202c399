package forkserver

import (
	"strings"
	"time"

	"forkproof/internal/proc"
)

// celery recognises a Celery worker with the prefork pool. With the setproctitle
// package its processes are called "[celeryd: celery@host:MainProcess] ..." and
// "[celeryd: celery@host:ForkPoolWorker-1]" (celery/platforms.py,
// set_mp_process_title); without it all keep the command line.
func celery() Recogniser {
	return Recogniser{
		Kind: Celery,
		Match: func(p *Process) bool {
			if strings.HasPrefix(p.title(), "[celeryd: ") {
				return true
			}
			r := program(p)
			return oneOf(r.name, "celery", "celery.__main__", "celery.bin.celery") && r.has("worker") && !r.has("multi")
		},
		Title: func(p *Process) string {
			t, ok := strings.CutPrefix(p.title(), "[celeryd: ")
			if !ok {
				return string(Worker)
			}
			t, _, _ = strings.Cut(t, "]")
			// "celery@host:ForkPoolWorker-1"
			if i := strings.LastIndexByte(t, ':'); i >= 0 {
				t = t[i+1:]
			}
			return shortTitle(t)
		},
		Describe: func(_ proc.FS, s *Server) { s.Name = "Celery (prefork pool)" },
		Traits: Traits{
			KillSetting:   "--time-limit SECONDS",
			BootDeadline:  4 * time.Second,
			BootSetting:   "worker_proc_alive_timeout = 4.0",
			RestartWorker: "kill -KILL WORKER",
			RestartAll:    "kill -TERM MASTER, and start it again",
			Hooks: []Hook{
				{Name: "the worker_process_init signal", In: "worker", Use: "make new locks, threads and connections"},
				{Name: "the worker_init signal", In: "master", Use: "runs before the pool is forked: start no thread and open no connection here"},
				{Name: "os.register_at_fork(after_in_child=...)", In: "worker", Use: "the same as worker_process_init, from within a library"},
			},
			Notes: []string{
				"the application is always loaded in the master",
				"a pool process that ends or reaches max_tasks_per_child is replaced by a fork from the master at work, whose connection to the broker and threads exist by then",
			},
			Sources: []string{
				"celery/concurrency/prefork.py, process_initializer",
				"celery/app/defaults.py, worker_proc_alive_timeout",
			},
		},
	}
}
