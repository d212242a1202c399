package inspect

import (
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
			if !j.confirm(p, o, v) {
				continue
			}
			found = append(found, j.findings(p, s, o, v)...)
		}
	}
	if p.spins() && len(found) == 0 {
		found = append(found, j.spinning(p)...)
	}
	found = append(found, j.armed(p, o)...)
	t.Notes = append(t.Notes, p.notes...)
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
		m, forked := p.parent()
		if !v.Proven && (!forked || len(j.candidates(p, m)) == 0) {
			// Programs that wait for a signal look so, and are well. Where the fork
			// left no thread behind there is not even a reason to doubt it.
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
		out = append(out, f)
	}
	return out
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
	if f.Confidence != finding.Proven {
		what = "sleeps and nothing but a signal can wake it"
	}
	lock := f.Lock.Where
	if lock == "" {
		lock = fmt.Sprintf("a %s at %s", f.Lock.Kind, f.Lock.Address)
	}
	t := fmt.Sprintf("%s %s: it waits for %s", who(p), what, lock)
	if o := f.Lock.Owner; o != nil && o.Name != "" && f.Rule != finding.DeadlockCycle {
		who := fmt.Sprintf("thread %s (%d) of process %d", o.Name, o.TID, o.PID)
		switch {
		case f.Lock.Kind == "thread-join":
			t += ": " + who
		case o.Basis == finding.Recorded:
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
	if c := t.RestartCommand(p.server.Master.ID.PID, p.pid); c != "" && p.role == forkserver.Worker {
		out = append(out, "now: "+c)
	} else {
		out = append(out, "now: kill the process and start it anew: it cannot recover")
	}
	if p.role == forkserver.Worker {
		if n := t.HungNote(p.server.Name); n != "" && f.Rule != finding.OrphanedLock {
			out = append(out, n)
		}
		if t.LoadAfterFork != "" {
			out = append(out, "for good: "+t.LoadAfterFork)
		}
		if h, ok := t.WorkerHook(); ok {
			out = append(out, fmt.Sprintf("or start threads, and make anew what they lock, in each worker: %s %s", h.Name, h.Use))
		}
	}
	if forked && f.Lock.Kind == "openmp-barrier" {
		out = append(out, "run no OpenMP code (numpy with an OpenMP build of OpenBLAS, scikit-learn, torch) in the master before the fork, or set OMP_NUM_THREADS=1 in its environment")
	}
	return out
}
