package inspect

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/unwind"
)

// spinner is a function, or a library, in which threads wait without sleeping
// steadily. There is no proof of it: who is seen there again and again, and gets
// nowhere, is suspected.
type spinner struct {
	// function is contained in the name of the waiting function; empty for
	// libraries whose functions have no names in a stripped file.
	function string
	// object begins the name of the library; empty for any.
	object string
	what   string
	// mates begin the names of the libraries that the threads waited for must be
	// in; none where a lock is waited for, whose owner may be anywhere.
	mates []string
	// deep: the function calls others to pause, by names that vary. Else only
	// sched_yield may be called.
	deep bool
}

var openMP = []string{"libgomp", "libopenblas", "libblas"}

var spinners = []spinner{
	// abseil base/internal/spinlock_linux.inc; google/tcmalloc uses it too, and
	// has no fork handlers at all (its issue 284).
	{function: "AbslInternalSpinLockDelay", what: "abseil's spin lock", deep: true},
	// gperftools src/base/spinlock_internal.cc; the heap checker's and profiler's
	// locks are not covered by its fork handlers (its issue 932).
	{function: "SpinLockDelay", what: "gperftools' spin lock", deep: true},
	{function: "SpinLock::SlowLock", what: "a spin lock", deep: true},
	{function: "SpinLock8SlowLock", what: "a spin lock", deep: true}, // mangled
	// glibc nptl/pthread_spin_lock, musl src/thread/pthread_spin_lock.c.
	{function: "pthread_spin_lock", what: "a pthread spin lock"},
	// jemalloc src/jemalloc.c: one thread initialises, the others spin until its
	// flag is set; 4.x does so for nodes of its radix tree, too (src/rtree.c,
	// RTREE_NODE_INITIALIZING).
	{function: "malloc_init_hard", what: "jemalloc's initialisation", deep: true},
	{function: "rtree_node_init", what: "jemalloc's initialisation of a radix tree node", deep: true},
	// GCC libgomp/config/linux/wait.h: do_spin, before a futex and, with
	// OMP_WAIT_POLICY=active, as good as for ever. Barriers call it, and the names
	// of what calls them are not in the file.
	{object: "libgomp", what: "the other threads of an OpenMP team", mates: openMP},
	// OpenBLAS driver/level3/level3_thread.c, inner_thread: each thread waits for
	// the others' parts of a product, in sched_yield until 0.3.2x, in a loop of
	// no-ops since. blas_lock (common_x86_64.h) yields, too.
	{object: "libopenblas", what: "other threads' parts of a computation in OpenBLAS", mates: openMP},
	{object: "libblas", what: "other threads' parts of a computation in OpenBLAS", mates: openMP},
}

// How a spin is told from work. A thread is sampled several times, some
// milliseconds apart, and each sample must find the same frames from the
// outermost one down to the function that waits, and registers that do not
// count: what computes in a loop changes most of them. A function that waits on
// its own does so in a few instructions, and a lock whose word is known must
// never be seen to change.
const (
	spinSamples = 4
	spinGap     = 8 * time.Millisecond
	// firstBudget bounds the time until the first sample, spinBudget that for all
	// of them: where there are more threads than processors, some get none just
	// when they are to be sampled.
	firstBudget = 100 * time.Millisecond
	spinBudget  = 500 * time.Millisecond
	// maxDiffer is how many registers may differ from one sample to another: what
	// the loop loads and counts with.
	maxDiffer = 4
	// maxLoop is how long a loop that waits is at most, in bytes of code.
	maxLoop = 64
	// minBurnt is the processor time that a thread must have used up in between,
	// unless it slept and woke as often as it was sampled.
	minBurnt = 10 * time.Millisecond
	// spinReads is how often the word of a lock is read at a time, spinPause how
	// long until the next time.
	spinReads = 16
	spinPause = time.Millisecond
)

// yields are the system calls in which a spinning function pauses.
var yields = []int64{unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP}

// pauses reports whether a look saw a thread in a sleep that ends by itself.
func pauses(g glance) bool {
	if g.err != nil || g.call.Running || g.call.Outside {
		return false
	}
	if f, ok := futexOf(g.call); ok {
		return f.Timeout
	}
	return slices.Contains(yields, g.call.Nr)
}

// spin is a thread that spins as far as samples can tell.
type spin struct {
	tid     int
	kind    spinner
	where   spot
	last    sample
	samples int
	// over is the time from the first sample to the last, burnt the processor
	// time and switches the context switches in it.
	over, burnt time.Duration
	switches    uint64
	// lock is the address of the lock, 0 where that is not known, and word what
	// it holds.
	lock uint64
	word uint32
}

// spot is where a stack waits.
type spot struct {
	frames []unwind.Frame
	at     int // of the function that waits
	kind   *spinner
}

// same reports whether two stacks agree from the outermost frame down to the
// function that waits.
func (s spot) same(o spot) bool {
	a, b := s.frames[s.at:], o.frames[o.at:]
	if s.kind != o.kind || len(a) != len(b) || a[0].Entry != b[0].Entry || a[0].CFA != b[0].CFA {
		return false
	}
	if s.at == 0 && o.at == 0 && max(a[0].PC, b[0].PC)-min(a[0].PC, b[0].PC) > maxLoop {
		return false
	}
	for i := 1; i < len(a); i++ {
		if a[i].PC != b[i].PC || a[i].CFA != b[i].CFA {
			return false
		}
	}
	return true
}

// maxDeep is how many frames a function's pause may take.
const maxDeep = 6

// spotIn finds the function that waits among the innermost ones of a stack.
func spotIn(frames []unwind.Frame) (spot, bool) {
	for i, f := range frames[:min(maxDeep, len(frames))] {
		name, object := naming(f)
		for k := range spinners {
			s := &spinners[k]
			if s.function != "" && !strings.Contains(name, s.function) || !strings.HasPrefix(object, s.object) {
				continue
			}
			if s.deep || yielding(frames[:i]) {
				return spot{frames, i, s}, true
			}
		}
	}
	return spot{}, false
}

// yielding reports whether the frames within a function are those of
// sched_yield, if there are any.
func yielding(inner []unwind.Frame) bool {
	for _, f := range inner {
		if name, _ := naming(f); !strings.Contains(name, "sched_yield") {
			return false
		}
	}
	return true
}

func naming(f unwind.Frame) (function, object string) {
	if f.Module == nil {
		return "", ""
	}
	s, _ := f.Module.Symbol(f.Addr())
	return s.Name, filepath.Base(f.Module.Name)
}

// watched is a thread that may spin.
type watched struct {
	p       *process
	tid     int
	samples int
	first   time.Time
	// runtime and switches are those before the first sample.
	runtime, switches uint64
	spin              spin
	// changed: the word of the lock was seen to change.
	changed bool
}

// watchSpins samples the threads of forked processes that may spin: those that
// ran at both looks, or were in a short sleep and ran in between. Of most the
// first sample shows that they do not, and nothing is waited for.
func (j *job) watchSpins(targets []*process) error {
	var watch []*watched
	for _, p := range targets {
		for _, tid := range p.restless() {
			watch = append(watch, &watched{p: p, tid: tid})
		}
	}
	for began := time.Now(); ; {
		watch = slices.DeleteFunc(watch, func(w *watched) bool {
			return w.settled() || w.samples == 0 && time.Since(began) > firstBudget
		})
		if len(watch) == 0 {
			return nil
		}
		if time.Since(began) > spinBudget {
			for _, w := range watch {
				w.p.stacks[w.tid] = w.spin.last.frames
				w.p.unsure = append(w.p.unsure, w.tid)
			}
			return nil
		}
		for next := time.Now().Add(spinGap); time.Now().Before(next); {
			if err := j.pause(spinPause); err != nil {
				return err
			}
			for _, w := range watch {
				w.changed = w.changed || !w.steady()
			}
		}
	}
}

// settled takes one more sample and reports whether there is nothing more to
// learn of the thread.
func (w *watched) settled() bool {
	fs := w.p.j.fs
	st, err := fs.TaskStatus(w.p.pid, w.tid)
	runtime, err2 := fs.RunTime(w.p.pid, w.tid)
	if err != nil || err2 != nil || w.changed {
		return true
	}
	s, err := w.p.sample(w.tid)
	if err != nil {
		// It was not to be had just now, or will never be.
		return !errors.Is(err, ptrace.ErrBusy) && !errors.Is(err, ptrace.ErrAsleep)
	}
	at, ok := spotIn(s.frames)
	if w.samples == 0 {
		w.first, w.runtime, w.switches = time.Now(), runtime, st.Switches
		if w.p.ran(w.tid) {
			w.p.stacks[w.tid] = s.frames
		}
	} else if ok && (!at.same(w.spin.where) || s.regs.Differ(&w.spin.last.regs) > maxDiffer) {
		ok = false
	}
	if !ok {
		return true
	}
	now := spin{
		tid: w.tid, kind: *at.kind, where: at, last: s, samples: w.samples + 1, lock: at.lock(s.regs),
		over: time.Since(w.first), burnt: time.Duration(runtime - w.runtime), switches: st.Switches - w.switches,
	}
	if now.lock != 0 {
		if now.word, err = procmem.Uint32(procmem.Open(w.p.pid), now.lock); err != nil || w.p.acquires(s.regs.PC()) || w.spin.lock != 0 && (w.spin.lock != now.lock || w.spin.word != now.word) {
			return true
		}
	}
	w.spin = now
	w.samples++
	enough := now.burnt >= minBurnt || at.kind.mates == nil && at.kind.deep && now.switches >= spinSamples
	if w.samples < spinSamples || !enough {
		return false
	}
	w.p.stacks[w.tid] = s.frames
	w.p.spins = append(w.p.spins, w.spin)
	return true
}

// acquires reports whether a thread of pthread_spin_lock has just tried to take
// the lock, for which amd64 needs an instruction with the prefix LOCK. Those that
// wait only look at the word until it is free (glibc
// sysdeps/x86_64/nptl/pthread_spin_lock.S, musl src/thread/pthread_spin_lock.c).
// A thread that takes a lock again and again is found behind that instruction,
// since it is the slow one, and other processors hardly ever see the lock free.
func (p *process) acquires(pc uint64) bool {
	if runtime.GOARCH != "amd64" {
		return false
	}
	b, err := procmem.Bytes(procmem.Open(p.pid), pc-5, 5, 5)
	return err == nil && slices.Contains(b[:3], 0xf0) // three to five bytes long
}

// steady reads the word of the lock, if that is known, some times in a row and
// reports whether it is as it was. A lock that is released now and then is
// found so sooner or later, as the thread must run meanwhile.
func (w *watched) steady() bool {
	if w.samples == 0 || w.spin.lock == 0 {
		return true
	}
	mem := procmem.Open(w.p.pid)
	for range spinReads {
		if v, err := procmem.Uint32(mem, w.spin.lock); err != nil || v != w.spin.word {
			return false
		}
	}
	return true
}

// restless are the threads of a forked process that may spin.
func (p *process) restless() []int {
	if p.from == 0 || p.err != nil || !p.sameThreads() {
		return nil
	}
	var out []int
	for _, tid := range p.tids {
		a, b := p.looks[0][tid], p.looks[1][tid]
		moved := a.status.Switches != b.status.Switches || a.runtime != b.runtime
		// What waits for the GIL pauses too, and has a proof of its own.
		f, ok := futexOf(b.call)
		gil := ok && p.python.gil[1] != nil && covers(p.python.gil[1], f.Addr)
		if p.ran(tid) || moved && pauses(b) && !gil {
			out = append(out, tid)
		}
	}
	return out
}

// spinning turns what was seen spinning into findings, unless some other thread
// may be what is waited for.
func (j *job) spinning(p *process) []finding.Finding {
	m, ok := p.parent()
	if !ok || m.err != nil || p.load() != nil {
		return nil
	}
	var out []finding.Finding
	for _, s := range p.spins {
		if !p.forsaken(m, s) {
			continue
		}
		function, object := naming(s.where.frames[s.where.at])
		if function == "" {
			function = "a function"
		}
		where := function + " of " + object
		f := finding.Finding{
			Rule: finding.SuspectedSpin, Severity: finding.Warning, Confidence: finding.Observed, PID: p.pid, TID: s.tid, Others: []int{m.pid},
			Lock: &finding.Lock{Kind: "spin-lock", Where: s.kind.what, State: "held"},
			Why:  "Its thread waits for a spin lock, computing or in short sleeps. Such a lock does not say who holds it; if that is a thread which the fork left behind, this goes on for ever.",
			Evidence: []string{
				fmt.Sprintf("%d samples over %d ms found thread %d (%s) in %s, called by the same functions from the same places; it used %.1f ms of processor time in between, with %d context switches",
					s.samples, s.over.Milliseconds(), s.tid, p.name(s.tid), where, float64(s.burnt.Microseconds())/1000, s.switches),
			},
		}
		if s.kind.mates != nil {
			f.Lock.State = "waits for the other threads of the team"
			f.Why = "Its thread waits, without sleeping, for threads that compute the other parts of one task. This process has no such threads: fork did not copy them."
			f.Evidence = append(f.Evidence, fmt.Sprintf("process %d has threads that this library started, and this one has none", m.pid))
			if slices.ContainsFunc(s.last.frames, func(f unwind.Frame) bool {
				_, object := naming(f)
				return strings.HasPrefix(object, "libgomp")
			}) {
				f.Lock.Kind = "openmp-barrier"
			}
		}
		if fx, ok := futexOf(p.looks[1][s.tid].call); ok && s.lock == 0 {
			s.lock = fx.Addr
		}
		if s.lock != 0 {
			f.Lock.Address = finding.Addr(s.lock)
			if at := p.place(s.lock); at != "" {
				f.Lock.Where = at + ", " + s.kind.what
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

// forsaken reports whether no other thread of the process can be what is waited
// for.
func (p *process) forsaken(m *process, s spin) bool {
	if s.kind.mates != nil {
		return !p.hasMates(p.tids, s) && m.hasMates(p.j.candidates(p, m), s)
	}
	// The owner of a lock would be a thread that runs, and has the code that took
	// the lock on its stack: that is the first code which is not the C library's.
	user := ""
	for _, f := range s.where.frames[s.where.at:] {
		if _, user = naming(f); !belongsToLibc(user) {
			break
		}
	}
	for _, tid := range p.tids {
		spins := slices.ContainsFunc(p.spins, func(o spin) bool { return o.tid == tid }) || slices.Contains(p.unsure, tid)
		if spins || p.still(tid) {
			continue
		}
		stack := p.stack(tid)
		if len(stack) == 0 {
			return false // nobody knows
		}
		for _, f := range stack {
			if _, object := naming(f); object == user {
				return false
			}
		}
	}
	return true
}

// hasMates reports whether one of these threads was started by the library whose
// threads are waited for.
func (p *process) hasMates(tids []int, s spin) bool {
	for _, tid := range tids {
		stack := p.stack(tid)
		if len(stack) == 0 && p.ran(tid) {
			return true // nobody knows
		}
		for _, f := range slices.Backward(stack) {
			_, object := naming(f)
			if belongsToLibc(object) {
				continue
			}
			if slices.ContainsFunc(s.kind.mates, func(prefix string) bool { return strings.HasPrefix(object, prefix) }) {
				return true
			}
			break
		}
	}
	return false
}

func belongsToLibc(object string) bool {
	return object == "" || libc.Named(object) != "" || libc.Loader(object) || strings.HasPrefix(object, "libpthread")
}

// lock returns the address of the lock, 0 where it is not known:
// pthread_spin_lock keeps its argument in its register.
func (s spot) lock(regs unwind.Regs) uint64 {
	if s.at != 0 || s.kind.function != "pthread_spin_lock" {
		return 0
	}
	argument := map[string]int{"amd64": 5, "arm64": 0}[runtime.GOARCH]
	addr, _ := regs.Get(argument)
	return addr
}
