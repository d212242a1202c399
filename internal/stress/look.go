package stress

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/target"
)

// look asks inspect about processes that look as if they hung. again is true
// where the program is to be started anew.
func (s *session) look(ctx context.Context) (again bool, err error) {
	const most = 16 // at once
	now := time.Now()
	var ask []process
	for _, p := range s.follow.living() {
		old := now.Sub(p.born) > s.req.Timeout
		// What called execve has no lock of a fork's; it may hang inside its own.
		if p.counted || p.keeper || p.late || p.execed && !p.forked && !old {
			continue
		}
		if s.inFutex(p.pid) {
			p.looks++
		} else {
			p.looks = 0
		}
		if (p.looks >= 2 || old) && now.After(p.next) && len(ask) < most {
			ask = append(ask, p)
			p.next = now.Add(backOff(p.asked))
			p.asked++
		}
	}
	if len(ask) == 0 {
		return false, nil
	}
	ids := make(map[int]target.ID)
	var pids []int
	for _, p := range ask {
		if id, err := s.fs.Identity(p.pid); err == nil {
			ids[p.pid] = id
			pids = append(pids, p.pid)
		}
	}
	if len(pids) == 0 {
		return false, nil
	}
	doc, err := s.req.Prove(ctx, pids)
	if err != nil || doc == nil {
		return false, err
	}
	s.host = doc.Host
	for _, p := range ask {
		id, known := ids[p.pid]
		f, proven := strongest(doc, p.pid)
		// A number that is another process's by now proves nothing.
		if !known || f == nil || !s.fs.Same(id) {
			continue
		}
		if (p.execed || p.number == 0) && !insideFork(f) {
			continue // whatever it is, a fork did not do it
		}
		if !proven {
			if now.Sub(p.born) > s.req.Timeout {
				p.counted = true
				s.suspected++
				again = s.replace(p, id) || again
			}
			continue
		}
		p.counted = true
		again = s.caught(p, id, doc, f) || again
	}
	return again, nil
}

// caught counts a process that was proven to hang, and makes room for others.
func (s *session) caught(p process, id target.ID, doc *finding.Document, f *finding.Finding) (again bool) {
	number := s.earlier + p.number
	if p.number == 0 || p.execed {
		s.inFork++
		number = s.forks()
	}
	if s.first == 0 {
		s.first = number
	}
	var of finding.Target
	for _, t := range doc.Targets {
		if t.PID == p.pid {
			of = t
		}
	}
	s.record(*f, of)
	return s.replace(p, id)
}

// replace ends a process that hangs, so that the server makes another; again is
// true where the whole is to be started anew instead.
func (s *session) replace(p process, id target.ID) (again bool) {
	switch {
	case s.kept == nil:
		return false // not ours to end
	case s.server == nil || s.reload == nil || p.execed:
		return true
	}
	s.follow.own(p.pid)
	_ = kill(id) // ended by itself, or by its server, is as good
	return false
}

// backOff is how long to wait after the n-th question about a process: a thread
// that rests in a futex is nothing special.
func backOff(n int) time.Duration {
	d := 300 * time.Millisecond
	for range min(n, 4) {
		d *= 3
	}
	return min(d, 10*time.Second)
}

// inFutex reports whether a thread of a process sleeps in a futex.
func (s *session) inFutex(pid int) bool {
	threads, err := s.fs.Threads(pid)
	if err != nil {
		return false
	}
	for _, tid := range threads {
		if c, err := s.fs.Syscall(pid, tid); err == nil && !c.Running && c.Nr == unix.SYS_FUTEX {
			return true
		}
	}
	return false
}

// insideFork reports whether inspect says that a thread waits inside fork.
func insideFork(f *finding.Finding) bool {
	return f.Rule == finding.StuckInFork || strings.Contains(f.Title+" "+f.Why, "inside fork")
}

// strongest returns what inspect says of a process and a lock, a proof first.
func strongest(doc *finding.Document, pid int) (f *finding.Finding, proven bool) {
	for i := range doc.Findings {
		c := &doc.Findings[i]
		if c.PID != pid || c.Rule != finding.StuckInFork && (c.Lock == nil || c.Severity != finding.Critical && c.Rule != finding.SuspectedSpin) {
			continue
		}
		if c.Severity == finding.Critical && c.Confidence == finding.Proven {
			return c, true
		}
		if f == nil {
			f = c
		}
	}
	return f, false
}
