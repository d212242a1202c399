package inspect

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/deadlock"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/prefork"
	"forkproof/internal/proc"
	"forkproof/internal/pystack"
	"forkproof/internal/symbol"
)

// manyTargets is from how many targets on stacks are read of those only that
// have a finding: nobody reads a hundred stacks of idle workers.
const manyTargets = 16

// report turns one process into a target and its findings.
func (j *job) report(p *process) (finding.Target, []finding.Finding) {
	t := finding.Target{PID: p.pid, Role: "process", Verdict: "unreadable"}
	s, role, inServer := prefork.Of(j.servers, p.pid)
	t.Role = role
	if inServer {
		t.Server = s.Kind
		if role == "worker" {
			t.Parent = s.Master.ID.PID
		}
	}
	if st, err := j.fs.Stat(p.pid); err == nil {
		t.Name = st.Comm
	}
	if args, err := j.fs.Cmdline(p.pid); err == nil {
		t.Command = strings.Join(args, " ")
	}
	if p.err != nil {
		switch {
		case proc.IsGone(p.err):
			p.err = fmt.Errorf("process %d ended while it was looked at: %w", p.pid, ErrNothing)
		default:
			p.err = permission(p.pid, p.err)
		}
		t.Notes = append(t.Notes, p.err.Error())
		return t, nil
	}
	if exe, deleted, err := j.fs.Exe(p.pid); err == nil {
		t.Exe = exe
		if deleted {
			t.Notes = append(t.Notes, fmt.Sprintf("the program %s was replaced or removed since this process started; what is said of it was read from the old one", exe))
		}
	}
	o, quick := j.observe(p)
	var found []finding.Finding
	if !quick {
		for _, v := range deadlock.Judge(o.snapshot) {
			found = append(found, j.findings(p, s, o, v)...)
		}
	}
	t.Verdict = p.verdict(found)
	if len(found) > 0 || !j.many() {
		if p.load() == nil {
			t.Libc = describe(p.libcID, p.libcB)
			if p.python != nil {
				t.Python = p.python.Version
			} else if p.pyErr != nil && !errors.Is(p.pyErr, pystack.ErrNoPython) {
				t.Notes = append(t.Notes, "Python frames could not be read: "+p.pyErr.Error())
			}
		} else {
			t.Notes = append(t.Notes, permission(p.pid, p.err).Error())
		}
		for _, tid := range p.tids {
			t.Threads = append(t.Threads, p.describe(tid))
		}
	}
	if st := p.looks[1]; len(p.tids) > 0 {
		if inner := st[p.tids[0]].status.InnerPID(); inner != p.pid {
			t.NSPID = inner
		}
	}
	return t, found
}

func (j *job) many() bool { return j.count >= manyTargets }

// verdict is one word for the process.
func (p *process) verdict(found []finding.Finding) string {
	word := "healthy"
	for _, f := range found {
		if f.Confidence == finding.Proven {
			return "deadlocked"
		}
		word = "suspected"
	}
	if word != "healthy" {
		return word
	}
	for _, g := range p.looks[1] {
		switch {
		case g.status.State == 'T' || g.status.State == 't':
			return "stopped"
		case g.status.State == 'R':
			word = "busy"
		}
	}
	return word
}

// describe is one thread for the document.
func (p *process) describe(tid int) finding.Thread {
	g := p.looks[1][tid]
	t := finding.Thread{TID: tid, Name: g.status.Name, State: stateName(g)}
	if inner := g.status.InnerPID(); inner != tid {
		t.NSTID = inner
	}
	if f, ok := futexOf(g.call); ok {
		m, _ := proc.Find(p.maps, f.Addr)
		t.Wait = &finding.Wait{Address: finding.Addr(f.Addr), Private: f.Private() && !m.Shared, Timeout: f.Timeout, Value: f.Val}
	}
	if ago, ok := p.j.fs.LastRan(p.pid, tid); ok {
		t.SinceSeconds = float64(ago.Milliseconds()) / 1000
	}
	t.Native, t.Python = p.frames(tid)
	return t
}

// frames returns the native and Python stacks of a thread.
func (p *process) frames(tid int) ([]finding.NativeFrame, []finding.PythonFrame) {
	var native []finding.NativeFrame
	for _, f := range p.stack(tid) {
		n := finding.NativeFrame{IP: finding.Addr(f.PC), Guessed: f.Guessed}
		at := f.Addr()
		if f.Module != nil {
			n.Object = filepath.Base(f.Module.Name)
			n.Offset = f.PC - f.Module.Bias
			if s, ok := f.Module.Symbol(at); ok {
				n.Function, n.Offset = symbol.Demangle(s.Name), f.PC-f.Module.Bias-s.Value
			}
		} else if m, ok := proc.Find(p.maps, f.PC); ok {
			n.Object, n.Offset = m.Name(), f.PC-m.Start
		}
		native = append(native, n)
	}
	py, ok := p.pyThread(tid)
	if !ok {
		return native, nil
	}
	at := pystack.Merge(p.functions(tid), py.Frames)
	var python []finding.PythonFrame
	for i, f := range py.Frames {
		python = append(python, finding.PythonFrame{Function: f.Function, File: f.File, Line: f.Line, Native: at[i]})
	}
	return native, python
}

var syscallNames = map[int64]string{
	0: "read", 1: "write", 7: "poll", 23: "select", 34: "pause", 35: "nanosleep", 43: "accept", 45: "recvfrom", 47: "recvmsg",
	61: "wait4", 128: "rt_sigtimedwait", 130: "rt_sigsuspend", 202: "futex-wait", 230: "nanosleep", 232: "poll", 247: "waitid",
	270: "select", 271: "poll", 281: "poll", 288: "accept", 72: "fcntl", 73: "flock",
}

func stateName(g glance) string {
	switch g.status.State {
	case 'T':
		return "stopped"
	case 't':
		return "traced"
	case 'D':
		return "uninterruptible"
	case 'Z', 'X':
		return "zombie"
	case 'R':
		return "running"
	}
	if g.call.Running {
		return "running"
	}
	if g.call.Nr == futexNr && !g.call.Outside {
		return "futex-wait"
	}
	if n, ok := syscallNames[g.call.Nr]; ok && futexNr == 202 {
		return n
	}
	return "sleeping"
}

// findings turns a verdict into findings, one for each thread that waits.
func (j *job) findings(p *process, s prefork.Server, o observation, v deadlock.Verdict) []finding.Finding {
	var out []finding.Finding
	for i, tid := range v.TIDs {
		if i > 0 && (v.Proof == deadlock.Cycle || v.Proof == deadlock.GILGone) {
			break
		}
		f := finding.Finding{
			Rule: finding.Rule(v.Proof), Severity: finding.Critical, Confidence: finding.Observed,
			PID: p.pid, TID: tid, Why: v.Why, Evidence: slices.Clone(v.Evidence),
		}
		if v.Proven {
			f.Confidence = finding.Proven
		}
		f.Lock = j.lock(p, tid, o, v)
		f.Title = title(p, s, f)
		m, forked := p.parent()
		if forked {
			f.Others = []int{m.pid}
			if f.Lock.OwnerTID == 0 || f.Lock.Owner == nil {
				f.Evidence = append(f.Evidence, j.suspects(p, m)...)
			}
		}
		f.Remedy = remedy(s, f, forked)
		out = append(out, f)
	}
	return out
}

func title(p *process, s prefork.Server, f finding.Finding) string {
	who := fmt.Sprintf("process %d", p.pid)
	if s.Kind != "" {
		who = fmt.Sprintf("%s worker %d", s.Kind, p.pid)
		if s.Master.ID.PID == p.pid {
			who = fmt.Sprintf("%s master %d", s.Kind, p.pid)
		}
	}
	what := "is deadlocked"
	if f.Confidence != finding.Proven {
		what = "sleeps and nothing but a signal can wake it"
	}
	lock := f.Lock.Where
	if lock == "" {
		lock = fmt.Sprintf("a %s at %s", f.Lock.Kind, f.Lock.Address)
	}
	t := fmt.Sprintf("%s %s: it waits for %s", who, what, lock)
	if o := f.Lock.Owner; o != nil && o.Name != "" {
		t += fmt.Sprintf(", which thread %s (%d) of process %d held at the fork", o.Name, o.TID, o.PID)
	}
	return t
}

func remedy(s prefork.Server, f finding.Finding, forked bool) []string {
	if f.Rule == finding.DeadlockCycle {
		return []string{"kill the process; then make all code take these locks in one order"}
	}
	out := slices.Clone(s.Remedy)
	if len(out) == 0 {
		out = append(out, "kill the process and start it anew: it cannot recover")
	}
	if forked && f.Lock.Kind == "openmp-barrier" {
		out = append(out, "run no OpenMP code (numpy with an OpenMP build of OpenBLAS, scikit-learn, torch) in the master before the fork, or set OMP_NUM_THREADS=1 in its environment")
	}
	return out
}

// lock describes the lock that a thread waits for, with its owner.
func (j *job) lock(p *process, tid int, o observation, v deadlock.Verdict) *finding.Lock {
	w, ok := o.waits[tid]
	if !ok {
		f, _ := futexOf(p.looks[1][tid].call)
		w = libc.Waiting{Kind: "futex", Addr: f.Addr}
	}
	l := &finding.Lock{Kind: w.Kind, Address: finding.Addr(w.Addr), State: w.State, OwnerTID: w.OwnerTID}
	if v.Proof == deadlock.GILGone {
		l.Kind, l.Where, l.State = "gil", "the interpreter's lock (GIL)", "held by a thread that is not in this process"
		l.OwnerTID = o.snapshot.GIL.HolderTID
	} else {
		l.Where = p.where(tid, w)
	}
	if m, ok := p.parent(); ok {
		switch {
		case l.OwnerTID != 0 && v.Proof != deadlock.Cycle:
			l.Owner = j.owner(m, l.OwnerTID)
		case v.Proof == deadlock.GILGone && p.gil[1] != nil:
			l.Owner = j.ownerByPointer(m, p.gil[1].Ident)
		}
	} else if l.OwnerTID != 0 && v.Proof == deadlock.Cycle {
		return l
	}
	return l
}

// where names a lock as well as it can be named.
func (p *process) where(tid int, w libc.Waiting) string {
	if w.Kind == "python-lock" {
		if name, typ, err := p.python.LockName(w.Addr); err == nil {
			return fmt.Sprintf("%s (%s)", name, typ)
		}
		if py, ok := p.pyThread(tid); ok && len(py.Frames) > 0 {
			f := py.Frames[0]
			return fmt.Sprintf("a Python lock, wanted by %s at %s:%d", f.Function, f.File, f.Line)
		}
		return "a Python lock"
	}
	if w.Kind == "libc-internal" {
		if w.Via != "" {
			return fmt.Sprintf("%s's own lock, from %s", p.libcID.Family, w.Via)
		}
		return p.libcID.Family + "'s own lock"
	}
	return p.place(w.Addr)
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

// owner finds the thread of the master that a lock names.
func (j *job) owner(m *process, inner int) *finding.Owner {
	if m.err != nil {
		return nil
	}
	for _, tid := range m.tids {
		if m.looks[1][tid].status.InnerPID() == inner {
			return m.owner(tid)
		}
	}
	return &finding.Owner{PID: m.pid, TID: inner}
}

func (j *job) ownerByPointer(m *process, pointer uint64) *finding.Owner {
	if m.err != nil {
		return nil
	}
	for _, tid := range m.tids {
		if head, err := proc.RobustList(tid); err == nil && libc.ThreadPointer(head) == pointer && pointer != 0 {
			return m.owner(tid)
		}
	}
	return nil
}

func (p *process) owner(tid int) *finding.Owner {
	t := p.describe(tid)
	return &finding.Owner{PID: p.pid, TID: tid, Name: t.Name, Alive: true, State: t.State, Native: t.Native, Python: t.Python}
}

// suspects lists, for a lock that names no owner, the threads of the master
// that the worker does not have: one of them left it behind.
func (j *job) suspects(p, m *process) []string {
	if m.err != nil {
		return nil
	}
	mine := make(map[uint64]bool)
	for _, tid := range p.tids {
		if head, err := proc.RobustList(tid); err == nil {
			mine[head] = true
		}
	}
	born, err := j.fs.Stat(p.pid)
	if err != nil {
		return nil
	}
	var out []string
	for _, tid := range m.tids {
		head, err := proc.RobustList(tid)
		st, e := j.fs.TaskStat(m.pid, tid)
		if err != nil || e != nil || mine[head] || st.StartTime > born.StartTime || len(out) >= 8 {
			continue
		}
		line := fmt.Sprintf("the lock records no owner; thread %s (%d) of master %d was there at the fork and is not in the worker", st.Comm, tid, m.pid)
		if py, ok := m.pyThread(tid); ok && len(py.Frames) > 0 {
			f := py.Frames[0]
			line += fmt.Sprintf("; it is now in %s at %s:%d", f.Function, f.File, f.Line)
		}
		out = append(out, line)
	}
	return out
}

// vanished reports, once for each server, the threads of a master that its
// workers do not have.
func (j *job) vanished(targets []*process) []finding.Finding {
	var out []finding.Finding
	for _, s := range j.servers {
		var m *process
		for _, p := range targets {
			if p.pid == s.Master.ID.PID {
				m = p
			}
		}
		if m == nil || m.err != nil || len(m.tids) < 2 {
			continue
		}
		var names, evidence []string
		for _, tid := range m.tids {
			st, err := j.fs.TaskStat(m.pid, tid)
			if err != nil || tid == m.pid {
				continue
			}
			before := 0
			for _, w := range s.Workers {
				if st.StartTime <= w.ID.Start {
					before++
				}
			}
			if before == 0 {
				continue
			}
			names = append(names, fmt.Sprintf("%s (%d)", st.Comm, tid))
			line := fmt.Sprintf("thread %s (%d) ran in the master when %d of %d workers were forked", st.Comm, tid, before, len(s.Workers))
			if py, ok := m.pyThread(tid); ok && len(py.Frames) > 0 {
				f := py.Frames[0]
				line += fmt.Sprintf("; it is now in %s at %s:%d", f.Function, f.File, f.Line)
			}
			evidence = append(evidence, line)
		}
		if len(names) == 0 {
			continue
		}
		out = append(out, finding.Finding{
			Rule: finding.VanishedThread, Severity: finding.Info, Confidence: finding.Observed, PID: m.pid,
			Title:    fmt.Sprintf("%s master %d has %d threads that its workers lack: %s", s.Kind, m.pid, len(names), strings.Join(names[:min(4, len(names))], ", ")),
			Why:      "fork copies one thread only. Whatever work these threads do, no worker does; and what they hold at the instant of a fork stays locked in the worker.",
			Evidence: evidence,
			Remedy:   s.Remedy,
		})
	}
	return out
}
