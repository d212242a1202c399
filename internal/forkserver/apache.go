package forkserver

import (
	"strings"

	"forkproof/internal/proc"
)

// apache recognises the Apache HTTP server. Master and children show the same
// command line; which of its multi-processing modules runs is told by the
// module that is mapped, else by the children's threads.
func apache() Recogniser {
	return Recogniser{
		Kind: Apache,
		Match: func(p *Process) bool {
			return oneOf(p.exeBase(), "apache2", "httpd", "httpd.worker", "httpd.event") && !hasTitle(p, "busybox") ||
				p.Exe == "" && oneOf(program(p).name, "apache2", "httpd")
		},
		Title: func(p *Process) string {
			if t := p.title(); strings.HasPrefix(t, "(wsgi:") {
				name, _, _ := strings.Cut(t, " ")
				return shortTitle("mod_wsgi daemon " + name)
			}
			return string(Worker)
		},
		Describe: func(fs proc.FS, s *Server) {
			s.Name = "Apache"
			if mpm := apacheMPM(fs, s); mpm != "" {
				s.Name = "Apache (" + mpm + " MPM)"
			}
		},
		Traits: Traits{
			RestartWorker: "kill -KILL WORKER",
			RestartAll:    "kill -USR1 MASTER",
			Hooks: []Hook{
				{Name: "the child_init hook of a module", In: "worker", Use: "make new locks, threads and connections"},
			},
			Notes: []string{
				"modules run in the master first (post_config, twice); what they start there is copied or lost by each fork",
			},
			Sources: []string{"https://httpd.apache.org/docs/2.4/mod/prefork.html", "httpd server/mpm/prefork/prefork.c"},
		},
	}
}

func apacheMPM(fs proc.FS, s *Server) string {
	if maps, err := fs.Maps(s.Master.ID.PID); err == nil {
		for _, m := range maps {
			if n, ok := strings.CutPrefix(m.Name(), "mod_mpm_"); ok {
				return strings.TrimSuffix(n, ".so")
			}
		}
	}
	// A module that is linked in does not show: prefork is the only one whose
	// children have one thread.
	if len(s.Workers) == 0 {
		return ""
	}
	for _, w := range s.Workers {
		if w.Threads > 1 {
			return "threaded"
		}
	}
	return "prefork"
}
