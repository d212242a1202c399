package forkserver

import (
	"regexp"
	"strings"
	"time"

	"forkproof/internal/proc"
)

// "pitchfork monitor - ..." ("pitchfork master" in the first versions),
// "pitchfork (gen:1) mold - ...", "pitchfork (gen:1) worker[0] - ...", also with
// " (old)" and such after it (lib/pitchfork/http_server.rb).
var pitchforkTitle = regexp.MustCompile(`^pitchfork (?:\(gen: ?(\d+)\) )?(master|monitor|mold|service|worker\[\d+\]|init mold)`)

// pitchfork recognises Pitchfork. Its workers are the monitor's children, but
// were forked by a mold, which then let go of them (the monitor is a
// subreaper): the mold of the same generation is what their memory is a copy of.
func pitchfork() Recogniser {
	return Recogniser{
		Kind: Pitchfork,
		Match: func(p *Process) bool {
			return pitchforkTitle.MatchString(p.title()) || hasTitle(p, "<pitchfork fork_sibling") || program(p).name == "pitchfork"
		},
		Title: func(p *Process) string {
			if m := pitchforkTitle.FindStringSubmatch(p.title()); m != nil {
				return m[2]
			}
			return string(Worker)
		},
		Origin: func(s *Server, w *Process) (Process, bool) { return pitchforkMold(s, w) },
		Describe: func(_ proc.FS, s *Server) {
			s.Name = "Pitchfork"
			// The newest mold makes the next workers.
			for _, w := range s.Workers {
				if strings.HasSuffix(w.Title, "mold") {
					s.Template = w
				}
			}
		},
		Traits: Traits{
			KillsHungAfter: 22 * time.Second,
			KillSetting:    "timeout 20, cleanup: 2",
			RestartWorker:  "kill -KILL WORKER",
			RestartAll:     "kill -USR2 MASTER makes a new mold and, from it, new workers",
			Hooks: []Hook{
				{Name: "after_worker_fork", In: "worker", Use: "make new locks, threads and connections"},
				{Name: "after_mold_fork", In: "mold", Use: "close connections and stop threads: everything left is copied into the workers"},
				{Name: "before_fork", In: "mold", Use: "stop threads before each fork"},
			},
			Notes: []string{
				"a mold was a worker that served requests: what the application made lazily by then is copied into every later worker",
			},
			Sources: []string{
				"pitchfork lib/pitchfork/http_server.rb",
				"https://github.com/Shopify/pitchfork/blob/master/docs/FORK_SAFETY.md",
			},
		},
	}
}

// pitchforkMold returns the mold that w was forked from: the one of w's own
// generation, else none.
func pitchforkMold(s *Server, w *Process) (Process, bool) {
	m := pitchforkTitle.FindStringSubmatch(w.title())
	if m == nil || !strings.HasPrefix(m[2], "worker") {
		return Process{}, false
	}
	for _, p := range s.Workers {
		pm := pitchforkTitle.FindStringSubmatch(p.title())
		if pm != nil && strings.HasSuffix(pm[2], "mold") && pm[1] == m[1] && p.StartTime <= w.StartTime {
			return p, true
		}
	}
	return Process{}, false
}
