package forkserver

import (
	"regexp"

	"forkproof/internal/proc"
)

// Angie and freenginx keep the form; Tengine and OpenResty the name too.
var nginxTitle = regexp.MustCompile(`^(?:nginx|angie|freenginx): (master|worker|cache manager|cache loader|privileged agent|[a-z ]{1,40}) process`)

// nginx recognises nginx: "nginx: master process /usr/sbin/nginx", "nginx: worker
// process", "nginx: cache manager process" (src/os/unix/ngx_process_cycle.c).
func nginx() Recogniser {
	return Recogniser{
		Kind: Nginx,
		Match: func(p *Process) bool {
			return nginxTitle.MatchString(p.title()) || oneOf(p.exeBase(), "nginx", "angie", "freenginx", "openresty")
		},
		Title: func(p *Process) string {
			if m := nginxTitle.FindStringSubmatch(p.title()); m != nil {
				return m[1]
			}
			return string(Worker)
		},
		Describe: func(_ proc.FS, s *Server) { s.Name = "nginx" },
		Traits: Traits{
			RestartWorker: "kill -KILL WORKER",
			RestartAll:    "kill -HUP MASTER",
			Hooks: []Hook{
				{Name: "the init_process hook of a module, init_worker_by_lua in OpenResty", In: "worker", Use: "make new locks, threads and connections"},
			},
			Notes: []string{
				"modules and init_by_lua run in the master; what they start there is copied or lost by each fork",
			},
			Sources: []string{"nginx src/os/unix/ngx_process_cycle.c"},
		},
	}
}
