package inspect

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/deadlock"
	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/proc"
	"forkproof/internal/symbol"
)

// manyTargets is from how many targets on stacks are read of those only that
// have a finding: nobody reads a hundred stacks of idle workers.
const manyTargets = 16

// report turns one process into a target and its findings.
func (j *job) report(p *process) (finding.Target, []finding.Finding) {
	t := finding.Target{PID: p.pid, Role: "process", Verdict: "unreadable"}
	s := p.server
	if p.role != "" {
		t.Role, t.Server, t.Parent = string(p.role), s.Kind, p.from
	}
	if st, err := j.fs.Stat(p.pid); err == nil {
		t.Name = st.Comm
	}
	if args, err := j.fs.Cmdline(p.pid); err == nil {
		t.Command = strings.Join(args, " ")
	}
	if p.err != nil {
		p.err = blind(p.pid, p.err)
		t.Notes = append(t.Notes, p.err.Error())
		return t, nil
	}
	if exe, deleted, err := j.fs.Exe(p.pid); err == nil {
		t.Exe = exe
		if deleted {
			t.Notes = append(t.Notes, fmt.Sprintf("the program %s was replaced or removed since this process started; what is said of it was read from the old one", exe))
		}
	}
	p.awaitSleep()
	if p.err != nil {
		return j.report(p)
	}
	o, quick := j.observe(p)
	var found []finding.Finding
	if !quick {
		for _, v := range deadlock.Judge(o.snapshot) {
			if !j.confirm(p, o, v) {
				continue
			}
			found = append(found, j.findings(p, s, o, v)...)
		}
	}
	if len(found) == 0 {
		found = append(found, j.spinning(p)...)
	}
	if !quick && len(found) == 0 {
		found = append(found, p.stuckInFork(o)...)
	}
	found = append(found, j.armed(p, o)...)
	// What was found was so when it was read; that nothing was found says nothing
	// of a process that ended, or whose memory could not be read.
	err := j.present(p.id)
	if len(found) == 0 && (err != nil || p.err != nil) {
		p.err = blind(p.pid, cmp.Or(err, p.err))
		t.Notes = append(t.Notes, p.err.Error())
		return t, nil
	}
	if err != nil {
		t.Notes = append(t.Notes, fmt.Sprintf("process %d has ended since; what is said of it was read before", p.pid))
	}
	if p.abandoned() {
		p.notes = append(p.notes, fmt.Sprintf("the master that forked process %d is gone: who left a lock behind cannot be told any more, and locks that nobody waits for yet cannot be found", p.pid))
	}
	t.Notes = append(append(t.Notes, p.halted()...), p.notes...)
	t.Verdict = p.verdict(found)
	if len(found) > 0 || !j.many() {
		if p.load() == nil {
			t.Libc = describe(p.libcID, p.libcB)
			if rt := p.interpreter(); rt != nil {
				t.Python = rt.Version.String()
			}
		} else {
			t.Notes = append(t.Notes, permission(p.pid, p.err).Error())
		}
		for _, tid := range p.tids {
			t.Threads = append(t.Threads, p.describe(tid))
		}
		if p.python.err != nil {
			t.Notes = append(t.Notes, "Python's frames could not be read: "+p.python.err.Error())
		}
		t.Notes = append(t.Notes, p.damage(t.Exe)...)
	}
	if st := p.looks[1]; len(p.tids) > 0 {
		if inner := st[p.tids[0]].status.InnerPID(); inner != p.pid {
			t.NSPID = inner
		}
	}
	return t, found
}

// abandoned reports whether p is a worker whose master is gone.
func (p *process) abandoned() bool { return p.role == forkserver.Worker && p.from == 0 }

func (j *job) many() bool { return j.count >= manyTargets }

// verdict is one word for the process.
func (p *process) verdict(found []finding.Finding) string {
	word := "healthy"
	for _, f := range found {
		if f.Confidence == finding.Proven {
			return "deadlocked"
		}
		if f.Rule != finding.OrphanedLock {
			word = "suspected"
		} else if word == "healthy" {
			word = "armed"
		}
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
	t := finding.Thread{TID: tid, Name: p.name(tid), State: stateName(g)}
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
	return native, p.pythonFrames(tid)
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
func (j *job) findings(p *process, s forkserver.Server, o observation, v deadlock.Verdict) []finding.Finding {
	m, forked := p.parent()
	// Programs that wait for a signal look so, and are well. Where the fork left no
	// thread behind there is little reason to doubt it.
	alone := !v.Proven && (!forked || len(j.candidates(p, m)) == 0)
	var out []finding.Finding
	for i, tid := range v.TIDs {
		if i > 0 && (v.Proof == deadlock.Cycle || v.Proof == deadlock.GILGone) {
			break
		}
		if alone && v.Proof == deadlock.NobodyLeft && !o.waits[tid].wanted {
			continue // it waits for work, or for somebody's end, as all here do
		}
		f := finding.Finding{
			Rule: finding.Rule(v.Proof), Severity: finding.Critical, Confidence: finding.Observed,
			PID: p.pid, TID: tid, Why: v.Why, Evidence: slices.Clone(v.Evidence),
		}
		if v.Proven {
			f.Confidence = finding.Proven
		}
		f.Lock = j.lock(p, tid, o, v)
		if alone || !v.Proven && (v.Proof == deadlock.Cycle || v.Proof == deadlock.GILGone) {
			f.Severity = finding.Warning
		}
		if forked {
			f.Others = []int{m.pid}
			if f.Lock.Owner == nil && v.Proof != deadlock.Cycle {
				owner, others, evidence := j.suspects(p, m, o.waits[tid].object)
				f.Lock.Owner, f.Lock.Suspects = owner, others
				f.Evidence = append(f.Evidence, evidence...)
			}
		}
		f.Title = title(p, f)
		f.Remedy = remedy(p, f, forked)
		if v.Proof == deadlock.Cycle && p.insideFork(tid) != "" {
			f.Why += " Here it waits inside fork, so the process makes no child any more."
		}
		if f.Rule != finding.DeadlockCycle && ownLock(f) {
			f.Lock.Owner.Native, f.Lock.Owner.Python = nil, nil // told above
			f.Evidence = append(f.Evidence, fmt.Sprintf("the lock's owner field holds %d, which was the number of the waiting thread before the fork, in process %d", f.Lock.OwnerTID, p.from))
			f.Remedy = append(f.Remedy, "a fork handler that takes a lock before the fork must give it back in the child too (the third argument of pthread_atfork)")
		}
		out = append(out, f)
	}
	return out
}

// ownLock reports whether the thread that waits has the lock itself.
func ownLock(f finding.Finding) bool {
	o := f.Lock.Owner
	return o != nil && o.PID == f.PID && o.TID == f.TID
}

// who names a process by what it is to its server.
func who(p *process) string {
	if p.role == "" {
		return fmt.Sprintf("process %d", p.pid)
	}
	return fmt.Sprintf("%s %s %d", p.server.Kind, p.role, p.pid)
}

func title(p *process, f finding.Finding) string {
	what := "is deadlocked"
	switch {
	case f.Confidence == finding.Proven:
	case f.Rule == finding.DeadlockCycle || f.Rule == finding.DeadlockGILGone:
		what = "may be deadlocked"
	default:
		what = "sleeps and nothing but a signal can wake it"
	}
	if f.TID != 0 {
		what += p.insideFork(f.TID)
	}
	lock := f.Lock.Where
	if lock == "" {
		lock = fmt.Sprintf("a %s at %s", f.Lock.Kind, f.Lock.Address)
	}
	t := fmt.Sprintf("%s %s: it waits for %s", who(p), what, lock)
	switch o := f.Lock.Owner; {
	case o == nil || f.Rule == finding.DeadlockCycle || f.Lock.Kind == "thread-join":
	case !o.Alive:
		t += fmt.Sprintf(", which a thread of process %d that has ended since held at the fork", o.PID)
	case ownLock(f):
		t += ", which it took itself before the fork"
	case o.PID == p.pid:
		t += fmt.Sprintf(", which its own thread %s (%d) holds", o.Name, o.TID)
	case o.Name != "":
		who := fmt.Sprintf("thread %s (%d) of process %d", o.Name, o.TID, o.PID)
		switch {
		case f.Lock.Kind == "thread-join":
			t += ": " + who
		case o.Basis == finding.Recorded, o.Basis == finding.HeldThen:
			t += ", which " + who + " held at the fork"
		case o.Basis == finding.HoldsNow:
			t += ", which " + who + " holds there"
		}
	}
	return t
}

// remedy says what the person on call can do, and then what the author can.
func remedy(p *process, f finding.Finding, forked bool) []string {
	if f.Rule == finding.DeadlockCycle {
		return []string{"kill the process; then make all code take these locks in one order"}
	}
	var out []string
	t := p.server.Traits
	if p.abandoned() {
		return []string{fmt.Sprintf("now: kill -KILL %d: it cannot recover, and as its master is gone nobody forks another one in its place; start the server anew", p.pid)}
	}
	if c := t.RestartCommand(p.server.Master.ID.PID, p.pid); c != "" && p.role == forkserver.Worker {
		out = append(out, "now: "+c)
	} else {
		out = append(out, "now: kill the process and start it anew: it cannot recover")
	}
	if p.role == forkserver.Worker {
		if n := t.HungNote(p.server.Name); n != "" && f.Rule != finding.OrphanedLock {
			out = append(out, n)
		}
		if f.Lock.Kind == "gil" && p.server.Kind == forkserver.UWSGI {
			// plugins/python/python_plugin.c; the option is there from 2.0.21 on.
			out = append(out, "for good: add --py-call-uwsgi-fork-hooks (2.0.21 or later), by which uWSGI takes the interpreter's lock before it forks and tells Python of the fork")
		}
		if t.LoadAfterFork != "" {
			out = append(out, "for good: "+t.LoadAfterFork)
		}
		if h, ok := t.WorkerHook(); ok {
			out = append(out, fmt.Sprintf("or start threads, and make anew what they lock, in each worker: %s (%s)", h.Name, h.Use))
		}
	}
	if forked && f.Lock.Kind == "openmp-barrier" {
		out = append(out, "run no OpenMP code (numpy with an OpenMP build of OpenBLAS, scikit-learn, torch) in the master before the fork, or set OMP_NUM_THREADS=1 in its environment")
	}
	return out
}
