package inspect

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/deadlock"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// lock describes the lock that a thread waits for, with its owner.
func (j *job) lock(p *process, tid int, o observation, v deadlock.Verdict) *finding.Lock {
	w, ok := o.waits[tid]
	if !ok {
		f, _ := futexOf(p.looks[1][tid].call)
		w = wait{Waiting: libc.Waiting{Kind: "futex", Addr: f.Addr}}
	}
	l := &finding.Lock{Kind: w.Kind, Address: finding.Addr(w.Addr), State: w.State, OwnerTID: w.OwnerTID}
	gil := v.Proof == deadlock.GILGone && p.python.gil[1] != nil
	owner := w.ownerPointer
	if gil {
		g := p.python.gil[1]
		l.Kind, l.Address = "gil", finding.Addr(g.Addr)
		l.Where, l.State = "the interpreter's lock (GIL)", "held by a thread that is not in this process"
		owner = g.HolderIdent
	} else {
		l.Where = p.where(tid, w)
	}
	if v.Proof == deadlock.Cycle {
		l.Owner = p.holder(w)
		return l
	}
	m, forked := p.parent()
	forked = forked && m.err == nil
	switch {
	case l.OwnerTID != 0 && p.here(l.OwnerTID):
		l.Owner = p.holder(w)
	case l.OwnerTID != 0 && forked:
		l.Owner = m.ownerByTID(l.OwnerTID)
		if was := m.pointer(l.Owner.TID); l.Owner.Alive && was != 0 && was == p.pointer(p.pid) {
			l.Owner = p.owner(p.pid)
		}
	case owner != 0 && forked:
		l.Owner = m.ownerByPointer(owner)
	}
	if l.Owner != nil && l.OwnerTID == 0 {
		l.OwnerTID = l.Owner.TID
		if l.Owner.Alive {
			l.OwnerTID = j.open(l.Owner.PID).looks[1][l.Owner.TID].status.InnerPID()
		}
	}
	if l.Owner == nil && (v.Proof == deadlock.HeldAtFork || v.Proof == deadlock.NobodyLeft) {
		l.Owner = p.ownerThen(w)
	}
	return l
}

// where names a lock as well as it can be named.
func (p *process) where(tid int, w wait) string {
	if w.name != "" {
		return w.name
	}
	if strings.HasPrefix(w.Kind, "python-") {
		if py, ok := p.pyThread(tid); ok {
			return "a Python lock, wanted by " + at(py)
		}
		return "a Python lock"
	}
	from := ""
	if w.Via != "" {
		from = ", from " + w.Via
	}
	if w.Stream != 0 {
		return p.streamLock(w.Stream) + from
	}
	if known, ok := p.libraryLock(w.Addr); ok {
		return fmt.Sprintf("%s's %s%s", p.libcID.Family, known, from)
	}
	switch {
	case w.Kind == "thread-join":
		return "the end of a thread" + from
	case p.libcID.Family == "musl" && (w.Kind == "condition-variable" || w.Kind == "barrier"):
		// The word is one on a waiter's own stack.
		return "a " + strings.ReplaceAll(w.Kind, "-", " ") + from
	case w.Kind == "libc-internal" && !p.elsewhere(w.Addr):
		return p.libcID.Family + "'s own lock" + from
	}
	return p.place(w.Addr)
}

// elsewhere reports whether addr lies in a file that is not the C library's: a
// lock there is not its own, though it looks like one where the memory around it
// cannot be read.
func (p *process) elsewhere(addr uint64) bool {
	m, ok := proc.Find(p.maps, addr)
	return ok && m.File() && libc.Named(m.Name()) == "" && !libc.Loader(m.Name())
}

// libraryLock names a lock inside of the C library: by the table of known builds,
// or by its symbol where the library was not stripped.
func (p *process) libraryLock(addr uint64) (libc.Known, bool) {
	m, ok := p.fileAround(addr)
	if !ok {
		return libc.Known{}, false
	}
	mod, ok := p.module(m.Start)
	if !ok {
		return libc.Known{}, false
	}
	if k, ok := libc.KnownLock(mod.File.BuildID(), addr-mod.Bias); ok {
		return k, true
	}
	base := filepath.Base(mod.Name)
	s, ok := mod.Table.Lookup(addr - mod.Bias)
	if !ok || s.NoSize || !s.Local || libc.Named(base) == "" && !libc.Loader(base) {
		return libc.Known{}, false
	}
	return libc.LockNamed(s.Name, s.File), true
}

// lockPlace names a lock by what it is in the C library, else by its place.
func (p *process) lockPlace(addr uint64) string {
	if k, ok := p.libraryLock(addr); ok {
		return fmt.Sprintf("%s's %s", p.libcID.Family, k)
	}
	return p.place(addr)
}

// standardStream completes a wait for the lock of stdin, stdout or stderr of
// glibc, which do not lie behind their streams as those of others do.
func (p *process) standardStream(w *wait) {
	if w.Kind != "libc-internal" || w.OwnerPointer == 0 {
		return
	}
	for stream := range p.standard(w.Addr) {
		if l, ok := libc.StreamLock(stream, p.mem); ok && l == w.Addr {
			w.Kind, w.Stream, w.State = "stdio", stream, "stream, held, with waiters"
		}
	}
}

// standard returns the standard streams, with their names, of the C library that
// addr lies in; none if it lies in another file.
func (p *process) standard(addr uint64) map[uint64]string {
	m, ok := p.fileAround(addr)
	if !ok {
		return nil
	}
	mod, ok := p.module(m.Start)
	if !ok || libc.Named(filepath.Base(mod.Name)) == "" {
		return nil
	}
	out := make(map[uint64]string)
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		if s, ok := mod.Table.ByName("_IO_2_1_" + name + "_"); ok { // glibc's
			out[s.Value+mod.Bias] = name
		} else if s, ok := mod.Table.ByName(name); ok {
			if at, err := procmem.Uint64(p.mem, s.Value+mod.Bias); err == nil {
				out[at] = name
			}
		}
	}
	return out
}

// streamLock names the lock of a stream.
func (p *process) streamLock(stream uint64) string {
	if name, ok := p.standard(stream)[stream]; ok {
		return "the lock of " + name
	}
	return "the lock of the stream " + p.place(stream)
}

// fileAround returns the mapping of the file that addr is part of. Variables
// without initial values lie behind the file's own pages, in anonymous memory.
func (p *process) fileAround(addr uint64) (proc.Mapping, bool) {
	for i, m := range p.maps {
		if !m.Contains(addr) {
			continue
		}
		for k := i; k > 0 && !m.File() && m.Path == "" && p.maps[k-1].End == m.Start; k-- {
			m = p.maps[k-1]
		}
		return m, m.File()
	}
	return proc.Mapping{}, false
}

// place names an address by symbol, else by mapping.
func (p *process) place(addr uint64) string {
	for i, m := range p.maps {
		if !m.Contains(addr) {
			continue
		}
		at := m
		// Variables without initial values lie behind the file's own pages, in
		// anonymous memory.
		for k := i; k > 0 && !at.File() && at.Path == "" && p.maps[k-1].End == at.Start; k-- {
			at = p.maps[k-1]
		}
		if at.File() {
			if mod, ok := p.module(at.Start); ok {
				if s, ok := mod.Table.Lookup(addr - mod.Bias); ok {
					out := filepath.Base(at.Path) + "`" + s.Name
					if d := addr - mod.Bias - s.Value; d != 0 {
						out += fmt.Sprintf("+%d", d)
					}
					return out
				}
				if i > 0 && at.Start != m.Start && m.End-m.Start > 64<<20 {
					break
				}
				return fmt.Sprintf("%s+0x%x", filepath.Base(at.Path), addr-mod.Bias)
			}
		}
		switch {
		case m.Path != "":
			return fmt.Sprintf("%s+0x%x", m.Name(), addr-m.Start)
		default:
			return fmt.Sprintf("anonymous memory at 0x%x", addr)
		}
	}
	return ""
}

// ownerByTID finds the thread of p that a lock names by its number in the
// process's own PID namespace.
func (p *process) ownerByTID(inner int) *finding.Owner {
	for _, tid := range p.tids {
		if p.looks[1][tid].status.InnerPID() == inner {
			return p.owner(tid)
		}
	}
	return &finding.Owner{PID: p.pid, TID: inner, Basis: finding.Recorded}
}

// ownerByPointer does the same by thread pointer; nil where no thread has it.
func (p *process) ownerByPointer(pointer uint64) *finding.Owner {
	for _, tid := range p.tids {
		if p.pointer(tid) == pointer && pointer != 0 {
			return p.owner(tid)
		}
	}
	return nil
}

// here reports whether a thread of the process has this number in its own PID
// namespace.
func (p *process) here(inner int) bool {
	return slices.ContainsFunc(p.tids, func(tid int) bool { return p.looks[1][tid].status.InnerPID() == inner })
}

// holder finds the thread of this very process that holds a lock.
func (p *process) holder(w wait) *finding.Owner {
	if w.ownerPointer != 0 {
		return p.ownerByPointer(w.ownerPointer)
	}
	if w.OwnerTID != 0 {
		return p.ownerByTID(w.OwnerTID)
	}
	return nil
}

func (p *process) owner(tid int) *finding.Owner {
	t := p.describe(tid)
	// The frames of a thread that runs may change while they are read.
	for try := 0; try < 10 && len(t.Native)+len(t.Python) == 0 && p.interpreter() != nil; try++ {
		p.python.read = false
		t.Python = p.pythonFrames(tid)
	}
	return &finding.Owner{PID: p.pid, TID: tid, Name: p.name(tid), Alive: true, State: t.State, Basis: finding.Recorded, Native: t.Native, Python: t.Python}
}

// before are the threads of the master that were there when it forked p.
func (j *job) before(p, m *process) []int {
	born, err := j.fs.Stat(p.pid)
	if m.err != nil || err != nil {
		return nil
	}
	var out []int
	for _, tid := range m.tids {
		st, err := j.fs.TaskStat(m.pid, tid)
		// Start times count ticks of 10 ms; within one, ids tell the order.
		if err != nil || st.StartTime > born.StartTime || st.StartTime == born.StartTime && tid > p.pid {
			continue
		}
		out = append(out, tid)
	}
	return out
}

// candidates are the threads of the master that were there at the fork and that
// the worker does not have.
func (j *job) candidates(p, m *process) []int {
	survivor := p.pointer(p.pid)
	return slices.DeleteFunc(j.before(p, m), func(tid int) bool { return m.pointer(tid) == survivor })
}

// suspects finds who left a lock behind that does not name its owner: the thread
// of the master that holds the same lock there now, else all that the fork did
// not copy. What is known is said in the evidence too.
func (j *job) suspects(p, m *process, object uint64) (owner *finding.Owner, others []finding.Owner, evidence []string) {
	threads := j.candidates(p, m)
	if h := m.objects(); object != 0 && h != nil && h.Locked(object) {
		for _, tid := range threads {
			py, ok := m.pyThread(tid)
			if !ok {
				continue
			}
			if f, ok := h.Uses(py.Frames, object); ok {
				o := m.owner(tid)
				o.Basis = finding.HoldsNow
				return o, nil, []string{fmt.Sprintf("the lock records no owner; thread %s (%d) of process %d was there at the fork and holds the same lock there now: %s at %s:%d is inside of a with statement for it",
					o.Name, tid, m.pid, f.Function, f.File, f.Line)}
			}
		}
	}
	for _, tid := range threads[:min(8, len(threads))] {
		line := fmt.Sprintf("the lock records no owner; thread %s (%d) of process %d was there at the fork and is not in the worker", m.name(tid), tid, m.pid)
		if py, ok := m.pyThread(tid); ok && len(py.Frames) > 0 {
			line += "; it is now in " + at(py)
		}
		evidence = append(evidence, line)
		o := m.owner(tid)
		o.Basis = ""
		others = append(others, *o)
	}
	if left := len(threads) - 8; left > 0 {
		evidence = append(evidence, fmt.Sprintf("and %d more such threads", left))
	}
	return nil, others, evidence
}
