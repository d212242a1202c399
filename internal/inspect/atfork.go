package inspect

import (
	"fmt"
	"slices"

	"forkproof/internal/deadlock"
	"forkproof/internal/finding"
	"forkproof/internal/forklog"
)

// fork returns what a trace kept of the fork that made the process.
func (p *process) fork() forklog.Record {
	if !p.forkRead {
		p.forkRead = true
		p.forkLog, _ = forklog.Default().Read(p.j.fs, p.id)
	}
	return p.forkLog
}

// held finds a lock among those that were seen held at the fork.
func (p *process) held(w wait) (forklog.Lock, bool) {
	for _, l := range p.fork().Locks {
		// The library's own are known by their kind too.
		if l.Addr == w.Addr && w.Addr != 0 && (!l.Own || w.Kind == "libc-internal") {
			return l, true
		}
	}
	return forklog.Lock{}, false
}

// then is what a proof needs of that.
func (p *process) then(w wait) *deadlock.Then {
	l, ok := p.held(w)
	if !ok {
		return nil
	}
	seen := fmt.Sprintf("forkproof trace saw %s held in process %d before its first instruction, at %s", l.Where, p.pid, p.forkLog.Time.Format("2006-01-02 15:04:05"))
	if l.Doing != "" {
		seen += ": " + l.Doing
	}
	return &deadlock.Then{Own: l.Own, Seen: seen}
}

// ownerThen is the thread that a trace saw holding a lock at the fork, nil where
// it saw none.
func (p *process) ownerThen(w wait) *finding.Owner {
	l, ok := p.held(w)
	if !ok || l.TID == 0 {
		return nil
	}
	o := &finding.Owner{PID: p.forkLog.Parent, TID: l.TID, Name: l.Name}
	if m, ok := p.parent(); ok && m.err == nil && m.pid == o.PID && slices.Contains(p.j.before(p, m), l.TID) {
		o = m.owner(l.TID)
	}
	o.Basis = finding.HeldThen
	return o
}
