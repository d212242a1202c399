package inspect

import (
	"context"
	"errors"
	"fmt"

	"forkproof/internal/finding"
	"forkproof/internal/orphan"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/pylock"
)

// armed finds the locks that fork left locked in a worker and that nobody waits
// for yet. What the proofs named already is left out.
func (j *job) armed(p *process, o observation) []finding.Finding {
	m, ok := p.parent()
	if !ok || m.err != nil || p.err != nil || p.load() != nil {
		return nil
	}
	stuck := make(map[uint64]bool)
	for _, w := range o.waits {
		stuck[w.Addr] = true
	}
	return append(j.armedNative(p, stuck), j.armedPython(p, m, stuck)...)
}

// armedNative finds the locks of C and C++ code that record their owner,
// wherever they lie in the worker's memory.
func (j *job) armedNative(p *process, stuck map[uint64]bool) []finding.Finding {
	p.searchAhead()
	ancestors := p.search.ancestors
	found, err := p.search.result()
	if err != nil {
		p.note(err)
		return nil
	}
	if found.Truncated {
		p.notes = append(p.notes, "there are more places that look like locks without an owner than can be looked at: not all are listed")
	}
	var out []finding.Finding
	for _, l := range found.Locks {
		if l.Shared || stuck[l.Addr] || stuck[l.Word] || l.Stream != 0 && stuck[l.Stream] {
			continue
		}
		where := p.lockPlace(l.Addr)
		if l.Stream != 0 {
			where = p.streamLock(l.Stream)
		}
		f := finding.Finding{
			Rule: finding.OrphanedLock, Severity: finding.Warning, Confidence: finding.Observed, PID: p.pid, Others: ancestors[:min(1, len(ancestors))],
			Lock:  &finding.Lock{Kind: l.Kind, Address: finding.Addr(l.Addr), Where: where, State: l.State + ", nobody waits", OwnerTID: l.OwnerTID},
			Title: fmt.Sprintf("%s was forked with %s locked", who(p), where),
			Why:   "Its owner does not exist in this process. The first thread that wants the lock here will wait for ever.",
		}
		if l.OwnerTID != 0 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("the lock's owner field holds %d, which is and was no thread of this process", l.OwnerTID))
		} else {
			f.Evidence = append(f.Evidence, fmt.Sprintf("the lock names the thread whose control block is at 0x%x; no thread of process %d has it there", l.OwnerTCB, p.pid))
		}
		if l.Parent != orphan.ParentUnknown {
			f.Evidence = append(f.Evidence, fmt.Sprintf("in process %d there is now at its address: %s", ancestors[0], l.Parent))
		}
		if l.OwnerAlive {
			a := j.open(l.Owner.PID)
			if _, ok := a.looks[1][l.Owner.TID]; ok {
				f.Lock.Owner, f.Lock.OwnerTID = a.owner(l.Owner.TID), l.Owner.Inner
				f.Title += fmt.Sprintf(" by thread %s (%d) of process %d", f.Lock.Owner.Name, l.Owner.TID, l.Owner.PID)
			}
		} else {
			f.Lock.Owner = &finding.Owner{PID: ancestors[0], TID: l.OwnerTID, Basis: finding.Recorded}
			f.Evidence = append(f.Evidence, "its owner has ended since")
		}
		f.Remedy = remedy(p, f, true)
		out = append(out, f)
	}
	return out
}

// note keeps what went wrong for the report, but for the end of the process.
func (p *process) note(err error) {
	if !proc.IsGone(err) && !errors.Is(err, orphan.ErrFamily) && !errors.Is(err, context.Canceled) {
		p.notes = append(p.notes, fmt.Sprintf("its memory was not searched for locks left behind: %v", err))
	}
}

// armedPython finds Python's locks. Of those that record their owner, those
// whose owner is no thread of the worker; of the others, those that a vanished
// thread holds in the master at this moment and that no thread of the worker is
// using: a plain lock that is held may as well be a signal between threads.
func (j *job) armedPython(p, m *process, stuck map[uint64]bool) []finding.Finding {
	if p.interpreter() == nil || m.interpreter() == nil || len(j.candidates(p, m)) == 0 {
		return nil
	}
	first := p.orphans(m, p.objects(), stuck)
	if len(first) == 0 {
		return nil
	}
	// A lock in motion is no orphan: it must look the same to a second look
	// that knows the threads of that moment.
	h, err := pylock.Open(procmem.Open(p.pid), p.interpreter(), pylock.Limits{})
	if err != nil || !p.sameTIDs() {
		return nil
	}
	var out []finding.Finding
	for word, l := range p.orphans(m, h, stuck) {
		if was, ok := first[word]; !ok || was.lock.Owner != l.lock.Owner || !p.sameTIDs() {
			continue
		}
		where := l.lock.Name.String()
		if where == "" {
			where = "a " + l.lock.Type
		}
		f := finding.Finding{
			Rule: finding.OrphanedLock, Severity: finding.Warning, Confidence: finding.Observed, PID: p.pid, Others: []int{m.pid},
			Lock:     &finding.Lock{Kind: string(l.lock.Kind), Address: finding.Addr(word), Where: where, State: "held, nobody waits", Owner: l.owner},
			Title:    fmt.Sprintf("%s was forked with %s locked", who(p), where),
			Why:      "Its owner does not exist in this process. The first thread that wants the lock here will wait for ever.",
			Evidence: l.evidence,
		}
		if l.owner != nil && l.owner.Alive {
			f.Lock.OwnerTID = m.looks[1][l.owner.TID].status.InnerPID()
			f.Title += fmt.Sprintf(" by thread %s (%d) of process %d", l.owner.Name, l.owner.TID, m.pid)
		}
		f.Remedy = remedy(p, f, true)
		out = append(out, f)
	}
	return out
}

// leftLock is a Python lock whose owner is none of the worker's threads.
type leftLock struct {
	lock     pylock.Lock
	owner    *finding.Owner
	evidence []string
}

// orphans returns Python's orphaned locks by the address of their word, but for
// those that somebody waits for.
func (p *process) orphans(m *process, h *pylock.Heap, stuck map[uint64]bool) map[uint64]leftLock {
	out := make(map[uint64]leftLock)
	if h == nil {
		return out
	}
	mine := make(map[uint64]bool)
	for _, tid := range p.tids {
		tp := p.pointer(tid)
		if tp == 0 {
			return out
		}
		mine[tp] = true
	}
	for _, l := range h.Held() {
		if stuck[l.Word] {
			continue
		}
		if l.OwnerKnown {
			if mine[l.Owner] {
				continue
			}
			out[l.Word] = leftLock{lock: l, owner: m.ownerByPointer(l.Owner), evidence: []string{
				fmt.Sprintf("the lock names the thread whose control block is at 0x%x; no thread of process %d has it there", l.Owner, p.pid)}}
			continue
		}
		used := false
		for _, tid := range p.tids {
			if py, ok := p.pyThread(tid); ok {
				_, uses := h.Uses(py.Frames, l.Object)
				used = used || uses
			}
		}
		if used {
			continue
		}
		owner, _, evidence := p.j.suspects(p, m, l.Object)
		if owner != nil {
			out[l.Word] = leftLock{lock: l, owner: owner, evidence: append(evidence, "no thread of the worker is inside of a with statement for it")}
		}
	}
	return out
}

// sameTIDs reports whether the process still has just the threads that the
// second look saw.
func (p *process) sameTIDs() bool {
	tids, err := p.j.fs.Threads(p.pid)
	if err != nil || len(tids) != len(p.tids) {
		return false
	}
	for i, tid := range tids {
		if p.tids[i] != tid {
			return false
		}
	}
	return true
}
