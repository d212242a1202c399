package forkserver

import (
	"regexp"
	"time"

	"forkproof/internal/proc"
)

var unicornTitle = regexp.MustCompile(`^unicorn(?:_rails)? (master|worker\[\d+\])`)

// unicorn recognises Unicorn: "unicorn master -c ...", "unicorn worker[0] -c ..."
// (lib/unicorn/http_server.rb, proc_name).
func unicorn() Recogniser {
	return Recogniser{
		Kind: Unicorn,
		Match: func(p *Process) bool {
			return unicornTitle.MatchString(p.title()) || oneOf(program(p).name, "unicorn", "unicorn_rails")
		},
		Title: func(p *Process) string {
			if m := unicornTitle.FindStringSubmatch(p.title()); m != nil {
				return m[1]
			}
			return string(Worker)
		},
		Describe: func(_ proc.FS, s *Server) { s.Name = "Unicorn" },
		Traits: Traits{
			KillsHungAfter: 60 * time.Second,
			KillSetting:    "timeout 60",
			RestartWorker:  "kill -KILL WORKER",
			RestartAll:     "kill -USR2 MASTER, then kill -QUIT MASTER when the new one serves",
			LoadAfterFork:  "preload_app false",
			Hooks: []Hook{
				{Name: "after_fork", In: "worker", Use: "make new locks, threads and connections"},
				{Name: "before_fork", In: "master", Use: "stop threads and close connections before each fork"},
			},
			Sources: []string{"unicorn lib/unicorn/http_server.rb and lib/unicorn/configurator.rb"},
		},
	}
}
