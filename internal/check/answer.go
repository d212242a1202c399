package check

import (
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/serverconf"
)

// answer answers the four questions that people ask.
func (s *subject) answer(base *facts.Base) {
	a := &s.target.Answers
	*a = append(*a, s.malloc(), s.preloading(), s.breaking())
	*a = append(*a, s.hook(base))
}

// allocators are libraries that replace malloc, by their ids in the facts.
var allocators = []string{"jemalloc", "gperftools", "google-tcmalloc", "mimalloc", "scudo", "snmalloc"}

func (s *subject) malloc() finding.Answer {
	q := finding.Answer{Question: "Is malloc usable in a worker after fork?"}
	for i := range s.libs {
		l := &s.libs[i]
		if slices.Contains(allocators, l.Library.ID) && (l.loaded || l.own) && !l.later {
			r := l.behaves()
			q.Short = map[string]string{"yes": "yes", "partly": "mostly"}[r.Heals]
			if q.Short == "" {
				q.Short = "not surely"
			}
			q.Says = append(q.Says, l.label()+" replaces the C library's malloc: "+r.What)
			return q
		}
	}
	b := s.build
	switch {
	case s.goes:
		q.Short = "does not arise"
		q.Says = []string{"a Go program has no C library; Go's runtime cannot go on after a fork without exec at all"}
		return q
	case b == nil || s.verdict.Standing == facts.Unknown:
		q.Short = "not known"
		if b != nil && s.verdict.Says != "" {
			q.Says = append(q.Says, s.verdict.Says)
		} else {
			q.Says = append(q.Says, "no C library was found")
		}
		return q
	}
	name := strings.TrimSpace(b.Family + " " + b.Identity.Version)
	switch s.verdict.Malloc {
	case "yes":
		q.Short = "yes"
		q.Says = append(q.Says, name+" repairs malloc itself in the child; POSIX does not promise it")
	case "no":
		q.Short = "no"
		q.Says = append(q.Says, name+" does not repair malloc: if another thread was in it at the fork, the worker hangs")
	case "corrupts":
		q.Short = "no"
		q.Says = append(q.Says, "with "+name+" malloc in a worker may destroy memory if another thread was in it at the fork")
	default:
		q.Short = "not known"
		q.Says = append(q.Says, s.verdict.Says)
	}
	if len(s.verdict.Locks) > 0 {
		var fs []string
		for _, l := range s.verdict.Locks {
			for _, f := range l.Functions[:min(len(l.Functions), 2)] {
				if !slices.Contains(fs, f) {
					fs = append(fs, f)
				}
			}
		}
		const most = 12
		more := ""
		if len(fs) > most {
			fs, more = fs[:most], " and others"
		}
		q.Says = append(q.Says, "not repaired, so that a worker hangs in it if another thread was in it at the fork: "+strings.Join(fs, ", ")+more)
	}
	return q
}

func (s *subject) preloading() finding.Answer {
	q := finding.Answer{Question: "Is it safe to load the application before the fork (--preload)?"}
	if s.serverID != "" && s.serverID != forkserver.Gunicorn {
		q.Question = "Is it safe to load the application before the fork?"
	}
	var against []string
	// What this application does counts more than what its C library lacks.
	for _, libc := range []bool{false, true} {
		for _, f := range s.findings {
			if f.Severity >= finding.Warning && f.Title != neverKilled && (f.Rule == finding.LibcDefect) == libc && !slices.Contains(against, f.Title) {
				against = append(against, f.Title)
			}
		}
	}
	const most = 6
	if len(against) > most {
		against = append(against[:most], fmt.Sprintf("and %d more, see below", len(against)-most))
	}
	switch {
	case s.live && s.threaded():
		q.Short = "no"
		if s.server == nil {
			q.Short = "not from this process"
		}
	case s.live && len(against) > 0:
		q.Short = "with care"
	case s.live:
		q.Short = "so far"
		q.Says = append(q.Says, "at the forks that could be seen the master had no other thread and shared no connection; it holds until the application starts a thread there")
		if s.server == nil || len(s.server.Workers) == 0 {
			q.Says[0] = "the process has one thread: as long as that is so at a fork, no lock is left behind"
		}
	default:
		q.Short = "only without threads"
		q.Says = append(q.Says, "as long as the master has one thread and no connection when it forks; a running server tells: forkproof check PID")
	}
	q.Says = append(q.Says, against...)
	switch s.preload {
	case serverconf.Yes:
		q.Says = append(q.Says, "it is loaded before the fork here")
	case serverconf.No:
		q.Says = append(q.Says, "it is loaded in each worker here")
	}
	return q
}

func (s *subject) breaking() finding.Answer {
	q := finding.Answer{Question: "Which of the libraries here break in a worker?"}
	var active, loaded, installed []string
	for i := range s.libs {
		l := &s.libs[i]
		serious := severity(l.behaves().Severity) > finding.Info
		switch {
		case s.active(l) && serious:
			active = append(active, l.label()+": "+l.behaves().What)
		case !serious || l.later:
		case l.loaded || l.own:
			loaded = append(loaded, l.label())
		default:
			installed = append(installed, l.label())
		}
	}
	q.Short = fmt.Sprint(len(active))
	q.Says = append(q.Says, active...)
	if len(active) == 0 {
		q.Short = "none seen"
		if !s.live {
			q.Short = "not seen from here"
		}
	}
	if len(loaded) > 0 {
		q.Says = append(q.Says, "loaded, and harmful once the master has threads or connections: "+list(loaded))
	}
	if len(installed) > 0 {
		q.Says = append(q.Says, "installed, and harmful if the master uses them before it forks: "+list(installed))
	}
	return q
}

func list(items []string) string {
	const most = 10
	if len(items) > most {
		return strings.Join(items[:most], ", ") + fmt.Sprintf(" and %d more", len(items)-most)
	}
	return strings.Join(items, ", ")
}

// hook says what belongs into the hook that runs in a worker.
func (s *subject) hook(base *facts.Base) finding.Answer {
	q := finding.Answer{Question: "What belongs into post_fork?"}
	server := s.serverID
	if server == "" {
		server = forkserver.Gunicorn
	}
	if known, ok := base.Server(server); ok && server != forkserver.Gunicorn {
		q.Question = "What belongs into the hooks of " + known.Name + "?"
	}
	var ids []string
	found := 0
	for _, f := range s.findings {
		// What a C library lacks no hook can mend.
		if f.Severity < finding.Warning || f.Rule == finding.LibcDefect {
			continue
		}
		id := f.Fact
		if id == "" {
			id = string(f.Rule)
		}
		if _, err := base.Remedy(server, s.version, []string{id}); err == nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		found++
	}
	for range s.connections[:min(len(s.connections), 1)] {
		ids = append(ids, string(finding.SharedConnection))
	}
	if found+len(ids) == 0 {
		q.Short = "nothing"
		q.Says = append(q.Says, "nothing that was found calls for it")
		if slices.ContainsFunc(s.findings, func(f finding.Finding) bool { return f.Severity >= finding.Warning }) {
			q.Says[0] = "no hook mends what the C library lacks: see what to do below"
		}
		return q
	}
	r, err := base.Remedy(server, s.version, ids)
	if err != nil || len(r.Files) == 0 || len(ids) == 0 {
		if s.config != nil && len(s.config.Threads) > 0 {
			q.Short = "threads"
			q.Says = append(q.Says, "the threads that the configuration starts in the master; see below")
			return q
		}
		q.Short = "nothing"
		q.Says = append(q.Says, "nothing that was found can be mended there; see what to do below")
		return q
	}
	q.Short = "see below"
	q.Code = strings.TrimRight(r.Files[0].Text, "\n")
	if s.serverID == "" {
		q.Says = append(q.Says, "for gunicorn; forkproof remedy writes it for other servers")
	}
	return q
}
