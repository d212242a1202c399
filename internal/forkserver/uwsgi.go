package forkserver

import (
	"strconv"
	"strings"
	"time"

	"forkproof/internal/proc"
)

// uwsgi recognises uWSGI. With --auto-procname its processes are called "uWSGI
// master", "uWSGI worker 1", "uWSGI http 1"; otherwise all keep the command line
// (core/utils.c, uwsgi_set_processname). Without --master the first worker
// forks the others.
func uwsgi() Recogniser {
	return Recogniser{
		Kind: UWSGI,
		Match: func(p *Process) bool {
			name := program(p).name
			return strings.HasPrefix(p.title(), "uWSGI ") || isUWSGI(name) || isUWSGI(p.exeBase())
		},
		Title: func(p *Process) string {
			if t, ok := strings.CutPrefix(p.title(), "uWSGI "); ok {
				return shortTitle(t)
			}
			return string(Worker)
		},
		Describe: func(_ proc.FS, s *Server) {
			s.Name = "uWSGI"
			r := program(&s.Master)
			if v, ok := r.option("--harakiri", "-t"); ok {
				if sec, err := strconv.Atoi(v); err == nil && sec > 0 && sec < 1e6 {
					s.Traits.KillsHungAfter = time.Duration(sec) * time.Second
					s.Traits.KillSetting = "--harakiri " + v + ", counted from the start of a request"
				}
			}
		},
		Traits: Traits{
			KillSetting:   "--harakiri SECONDS",
			RestartWorker: "kill -KILL WORKER",
			RestartAll:    "kill -HUP MASTER",
			LoadAfterFork: "add --lazy-apps",
			Hooks: []Hook{
				{Name: "@postfork of uwsgidecorators (uwsgi.post_fork_hook)", In: "worker", Use: "make new locks, threads and connections"},
				{Name: "os.register_at_fork(...)", In: "worker", Use: "only with --py-call-uwsgi-fork-hooks (2.0.21 or later)"},
			},
			Notes: []string{
				"uWSGI loads the application in the master unless --lazy-apps is given",
				"uWSGI forks without Python's knowledge: hooks of os.register_at_fork do not run, and the threading and logging modules are not repaired, unless --py-call-uwsgi-fork-hooks is given",
			},
			Sources: []string{
				"uwsgi plugins/python/python_plugin.c, uwsgi_python_post_fork (2.0.30)",
				"https://uwsgi-docs.readthedocs.io/en/latest/articles/TheArtOfGracefulReloading.html",
			},
		},
	}
}

func isUWSGI(name string) bool {
	return name == "uwsgi" || name == "pyuwsgi" || name == "uwsgi-core" ||
		strings.HasPrefix(name, "uwsgi_python") || strings.HasPrefix(name, "uwsgi-python")
}
