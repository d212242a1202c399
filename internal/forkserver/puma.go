package forkserver

import (
	"regexp"
	"time"

	"forkproof/internal/proc"
)

var (
	// Other Ruby servers put nothing like it there: "puma 6.4.2 (tcp://...) [app]",
	// "puma: cluster worker 0: 123 [app]", also before the title is set: "puma ...".
	pumaTitle  = regexp.MustCompile(`^puma( |:|$)`)
	pumaWorker = regexp.MustCompile(`^puma: cluster (worker \d+)`)
)

// puma recognises Puma. In fork_worker mode worker 0 forks the others, from a
// thread that is not its first one (lib/puma/cluster/worker.rb).
func puma() Recogniser {
	return Recogniser{
		Kind: Puma,
		Match: func(p *Process) bool {
			return pumaTitle.MatchString(p.title()) || program(p).name == "puma"
		},
		Title: func(p *Process) string {
			if m := pumaWorker.FindStringSubmatch(p.title()); m != nil {
				return m[1]
			}
			return string(Worker)
		},
		Adopts: pumaSibling,
		Describe: func(_ proc.FS, s *Server) {
			s.Name = "Puma (cluster mode)"
			for _, w := range s.Workers {
				if from, ok := s.origin[w.ID.PID]; ok {
					s.Name = "Puma (cluster mode, fork_worker)"
					s.Template = from
				}
			}
			if len(s.Workers) == 0 {
				s.Name = "Puma"
			}
			for i := range s.Workers {
				if s.Workers[i].ID == s.Template.ID {
					s.Template = s.Workers[i]
				}
			}
		},
		Traits: Traits{
			KillsHungAfter: 60 * time.Second,
			KillSetting:    "worker_timeout 60, counted from the last check-in of the worker",
			BootDeadline:   60 * time.Second,
			BootSetting:    "worker_boot_timeout 60",
			RestartWorker:  "kill -KILL WORKER",
			RestartAll:     "kill -USR2 MASTER",
			LoadAfterFork:  "preload_app! false",
			Hooks: []Hook{
				{Name: "before_worker_boot (on_worker_boot before Puma 7)", In: "worker", Use: "make new locks, threads and connections"},
				{Name: "before_fork", In: "master", Use: "stop threads and close connections before the forks"},
				{Name: "before_refork and after_refork", In: "mold", Use: "the same in worker 0, with fork_worker"},
			},
			Notes: []string{
				"Puma checks in from a thread of its own: a worker whose other threads hang is not killed",
				"with fork_worker, workers 1 and up are copies of worker 0, which serves requests and has threads",
			},
			Sources: []string{
				"puma lib/puma/cluster.rb and lib/puma/cluster/worker.rb",
				"https://github.com/puma/puma/blob/master/docs/fork_worker.md",
			},
		},
	}
}

// pumaSibling reports whether worker 0 forked p as a worker of another number.
// What the application itself forks keeps the title of the worker it is in.
func pumaSibling(worker, p *Process) bool {
	a, b := pumaWorker.FindStringSubmatch(worker.title()), pumaWorker.FindStringSubmatch(p.title())
	return a != nil && b != nil && a[1] == "worker 0" && b[1] != "worker 0"
}
