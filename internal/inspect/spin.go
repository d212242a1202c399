package inspect

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
)

// spinners are the functions in which a thread waits for a spin lock, a little
// longer each time. They never sleep steadily, so there is no proof: whoever is
// seen there at each look is suspected.
var spinners = []struct{ function, what string }{
	// abseil base/internal/spinlock_linux.inc; google/tcmalloc uses it too, and
	// has no fork handlers at all (its issue 284).
	{"AbslInternalSpinLockDelay", "abseil's spin lock"},
	// gperftools src/base/spinlock_internal.cc; the heap checker's and profiler's
	// locks are not covered by its fork handlers (its issue 932).
	{"SpinLockDelay", "gperftools' spin lock"},
	{"SpinLock::SlowLock", "a spin lock"},
	{"SpinLock8SlowLock", "a spin lock"}, // mangled
}

// yields are the system calls in which such a function pauses.
var yields = map[string][]int64{
	"amd64": {unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP},
	"arm64": {unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP},
}[runtime.GOARCH]

// pauses reports whether a look saw a thread in a sleep that ends by itself.
func pauses(g glance) bool {
	if g.err != nil || g.call.Running || g.call.Outside {
		return false
	}
	if f, ok := futexOf(g.call); ok {
		return f.Timeout
	}
	for _, nr := range yields {
		if g.call.Nr == nr {
			return true
		}
	}
	return false
}

// spinning finds the threads of a forked process that were seen in a spin lock's
// slow path at both looks and ran in between.
func (j *job) spinning(p *process) []finding.Finding {
	m, ok := p.parent()
	if !ok || m.err != nil || p.load() != nil || !p.sameThreads() {
		return nil
	}
	var out []finding.Finding
	for _, tid := range p.tids {
		a, b := p.looks[0][tid], p.looks[1][tid]
		if !pauses(b) || a.status.Switches == b.status.Switches && a.runtime == b.runtime {
			continue
		}
		what, where := p.spinLock(tid)
		if what == "" {
			continue
		}
		// The stack was read after the second look: it must be there again.
		p.mem.Drop()
		call, err := j.fs.Syscall(p.pid, tid)
		if err != nil || call.Running || call.Nr != b.call.Nr && call.SP != b.call.SP {
			continue
		}
		f := finding.Finding{
			Rule: finding.SuspectedSpin, Severity: finding.Warning, Confidence: finding.Observed, PID: p.pid, TID: tid, Others: []int{m.pid},
			Lock: &finding.Lock{Kind: "spin-lock", Where: what, State: "held"},
			Why:  "Its thread waits in short sleeps for a spin lock. Such a lock does not say who holds it; if that is a thread which the fork left behind, this goes on for ever.",
			Evidence: []string{
				fmt.Sprintf("thread %d (%s) was seen in %s, and ran %d times for %d µs in all between two looks", tid, p.name(tid), where,
					b.status.Switches-a.status.Switches, (b.runtime-a.runtime)/1000),
			},
		}
		if fx, ok := futexOf(b.call); ok {
			f.Lock.Address = finding.Addr(fx.Addr)
			if at := p.place(fx.Addr); at != "" {
				f.Lock.Where = at + ", " + what
			}
		}
		owner, others, evidence := j.suspects(p, m, 0)
		f.Lock.Owner, f.Lock.Suspects = owner, others
		f.Evidence = append(f.Evidence, evidence...)
		f.Title = fmt.Sprintf("%s may spin for ever: it waits for %s", who(p), f.Lock.Where)
		f.Remedy = remedy(p, f, true)
		out = append(out, f)
	}
	return out
}

// spinLock looks for a spin lock's slow path among the innermost functions of a
// thread.
func (p *process) spinLock(tid int) (what, where string) {
	for i, f := range p.stack(tid) {
		if i == 6 {
			break
		}
		s, ok := f.Module.Symbol(f.Addr())
		if !ok {
			continue
		}
		for _, k := range spinners {
			if strings.Contains(s.Name, k.function) {
				return k.what, fmt.Sprintf("%s of %s", k.function, filepath.Base(f.Module.Name))
			}
		}
	}
	return "", ""
}

// spins reports whether a thread might be found in a spin lock.
func (p *process) spins() bool {
	for _, tid := range p.tids {
		if pauses(p.looks[1][tid]) {
			return true
		}
	}
	return false
}
