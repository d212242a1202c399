package provoke

import (
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/ptrace"
	"forkproof/internal/target"
	"forkproof/internal/unwind"
)

// engine follows one process that forks. All that it knows belongs to the tracer's
// thread: its methods are called there, from [engine.hook] or through Session.Do,
// but for those that say otherwise.
type engine struct {
	s     *ptrace.Session
	fs    proc.FS
	files *unwind.Files
	pid   int
	v     *view

	// queue are events that came while another one was dealt with.
	queue []ptrace.Event
	busy  bool

	points map[uint64]*point
	// forkers are the threads that were seen to fork; until then the first thread
	// counts as one.
	forkers map[int]bool
	book    *book
	// known are the classes of locks by address, in this run of the program; of
	// streams by the address of the FILE.
	known map[lockKey]*class
	// followed is how many instructions were spent on finding out whether a function
	// takes a lock of the C library's own.
	followed map[*point]int
	// asked are locks that a thread is about to have, or has.
	asked map[holding]bool
	inner map[int]int // thread ids in the process's own namespace

	learning bool
	a        *attempt
	// step is the thread that is followed instruction by instruction, steps how many
	// it and others made.
	step  *stepper
	steps int
	// parked is a thread that waits at fork until the other one is not followed any
	// more, 0 for none.
	parked int
	// want says which functions are watched from the program's first thread on; nil
	// for none. entry is its first instruction, while it has not come there.
	want  func(*point) bool
	entry uint64
	// forked counts the forks of this run of the program without exec, children are
	// what they made, the latest last.
	forked   int
	children []int
	ids      []target.ID
	// keep: children are kept from running, kept are those that are.
	keep bool
	kept []int

	execs    int // how often the program itself was replaced by another
	ended    bool
	status   syscall.WaitStatus
	lastFork time.Time
	// changed has a token when something happened that the job waits for.
	changed chan struct{}
}

// lockKey tells locks apart that lie at one address, as a mutex at the beginning
// of a structure does.
type lockKey struct {
	kind kind
	addr uint64
}

type holding struct {
	tid int
	lockKey
}

// book is what is known of the program's locks, over all its runs.
type book struct {
	classes map[string]*class
	ordered []*class
	family  string // of the C library
}

func newBook() *book { return &book{classes: make(map[string]*class)} }

// enter adds what was found, or finds it again.
func (b *book) enter(c *class) *class {
	if was, ok := b.classes[c.id]; ok {
		if len(was.native) == 0 { // known from a schedule alone
			was.native, was.python = c.native, c.python
		}
		return was
	}
	c.order = len(b.ordered)
	b.classes[c.id] = c
	b.ordered = append(b.ordered, c)
	return c
}

// maxClasses bounds how many locks one run tells apart.
const maxClasses = 1024

// newEngine follows process pid, which the session has. It is not for the tracer's
// thread.
func newEngine(s *ptrace.Session, fs proc.FS, files *unwind.Files, b *book, pid int) *engine {
	g := &engine{s: s, fs: fs, files: files, pid: pid, book: b, changed: make(chan struct{}, 1), forkers: make(map[int]bool)}
	g.renew()
	s.Hook(g.hook)
	return g
}

// renew forgets what belonged to the program that the process ran before.
func (g *engine) renew() {
	g.v, g.points = nil, make(map[uint64]*point)
	g.known, g.asked, g.inner = make(map[lockKey]*class), make(map[holding]bool), make(map[int]int)
	g.followed, g.step = make(map[*point]int), nil
}

func (g *engine) notify() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// hook sees every event. A request of ours may let others come in between: they
// wait for their turn, and their threads stand still as long.
func (g *engine) hook(e ptrace.Event) bool {
	g.queue = append(g.queue, e)
	if g.busy {
		return true
	}
	g.busy = true
	for len(g.queue) > 0 {
		e := g.queue[0]
		g.queue = g.queue[1:]
		g.handle(e)
		g.unpark()
	}
	g.busy = false
	g.notify()
	return true
}

// unpark lets a thread fork that waited for one that was followed.
func (g *engine) unpark() {
	if tid := g.parked; tid != 0 && g.step == nil {
		g.parked = 0
		g.forkers[tid] = true
		g.pass(tid)
	}
}

// goOn lets a thread go on. One that ended meanwhile is told of by Gone.
func (g *engine) goOn(tid int) { _ = g.s.Resume(tid) }

func (g *engine) handle(e ptrace.Event) {
	if e.PID != g.pid {
		g.stranger(e)
		return
	}
	switch e.Kind {
	case ptrace.Fork, ptrace.VFork:
		g.fork(e)
	case ptrace.Exec:
		g.renew()
		g.execs++
		g.forkers = make(map[int]bool)
		g.awaitStart()
		g.goOn(e.TID)
	case ptrace.Gone:
		g.ended, g.status = true, e.Status
	case ptrace.Breakpoint:
		g.came(e)
	case ptrace.Stepped:
		g.stepped(e.TID)
	case ptrace.SyscallEntry, ptrace.SyscallExit:
		g.call(e)
	case ptrace.Stopped:
		g.goOn(e.TID)
	case ptrace.Exit, ptrace.Signal:
		g.goOn(e.TID)
	}
}

// stranger deals with an event of a child that uses the memory of its parent until
// it runs another program, or with what comes late of one that was let go.
func (g *engine) stranger(e ptrace.Event) {
	switch e.Kind {
	case ptrace.Gone:
	case ptrace.Exec:
		_ = g.s.Detach(e.PID) // gone is as good
	case ptrace.Breakpoint:
		_ = g.s.PassBreakpoint(e.TID)
		g.goOn(e.TID)
	case ptrace.Fork, ptrace.VFork:
		if !e.Shared {
			_ = g.s.Detach(e.Child)
		} else {
			g.goOn(e.Child)
		}
		g.goOn(e.TID)
	default:
		g.goOn(e.TID)
	}
}

// fork deals with a new process: both it and its parent's thread stand still.
func (g *engine) fork(e ptrace.Event) {
	if e.Shared {
		// It will run another program, and until then its memory is ours.
		g.goOn(e.Child)
		g.goOn(e.TID)
		return
	}
	g.forked++
	g.lastFork = time.Now()
	g.children = append(g.children, e.Child)
	if id, err := g.fs.Identity(e.Child); err == nil {
		g.ids = append(g.ids, id)
	}
	g.forkers[e.TID] = true
	if g.a != nil {
		g.a.born(g, e)
	}
	if g.keep {
		g.kept = append(g.kept, e.Child)
	} else {
		_ = g.s.Detach(e.Child) // its breakpoints are out before it runs; gone is as good
	}
	g.goOn(e.TID)
}

// letKeptGo lets the children go that were kept from running.
func (g *engine) letKeptGo() {
	g.keep = false
	for _, pid := range g.kept {
		_ = g.s.Detach(pid) // gone is as good
	}
	g.kept = nil
}

// forking reports whether a thread is one that forks.
func (g *engine) forking(tid int) bool {
	if len(g.forkers) == 0 {
		return tid == g.pid
	}
	return g.forkers[tid]
}

// forkingThreads are the threads that fork, as far as is known.
func (g *engine) forkingThreads() []int {
	if len(g.forkers) == 0 {
		return []int{g.pid}
	}
	var out []int
	for tid := range g.forkers {
		out = append(out, tid)
	}
	slices.Sort(out)
	return out
}

// look reads the process anew: libraries may have come since.
func (g *engine) look() error {
	v, err := look(g.fs, g.files, g.pid)
	if err != nil {
		return err
	}
	g.v, g.book.family = v, v.libc.Family
	return nil
}

// classOf says which lock a thread is about to take; nil where there are too many
// to tell them apart.
func (g *engine) classOf(p *point, l lock, o *own, tid int, regs *ptrace.Regs) *class {
	key := lockKey{l.kind, l.addr}
	if o != nil {
		key = lockKey{kindLibc, ownKey(o)}
	}
	if c, ok := g.known[key]; ok {
		return c
	}
	if len(g.known) >= 8*maxClasses || len(g.book.ordered) >= maxClasses {
		return nil
	}
	if _, ok := g.v.module(regs.PC()); !ok || !g.mapped(l.addr) {
		_ = g.look() // something was loaded since
	}
	c := g.book.enter(g.v.identify(taking{lock: l, tid: tid, regs: regs, function: p.name, own: o, inner: g.innerID(tid)}))
	g.known[key] = c
	return c
}

// ownKey stands for the address of one of the C library's locks, of which malloc
// has many.
func ownKey(o *own) uint64 {
	for i := range ownLocks {
		if &ownLocks[i] == o {
			return uint64(i)
		}
	}
	return 1 << 63
}

// mapped reports whether an address is in memory that the view knows.
func (g *engine) mapped(addr uint64) bool {
	if addr == 0 {
		return true
	}
	_, ok := proc.Find(g.v.maps, addr)
	return ok
}

// innerID is a thread's id in the process's own PID namespace, which locks record.
func (g *engine) innerID(tid int) int {
	if n, ok := g.inner[tid]; ok {
		return n
	}
	st, err := g.fs.TaskStatus(g.pid, tid)
	if err != nil {
		return 0
	}
	g.inner[tid] = st.InnerPID()
	return st.InnerPID()
}

// threadName is what a thread is called: by Python where that has a name for it.
func (g *engine) threadName(tid int, regs *ptrace.Regs) string {
	name := ""
	if st, err := g.fs.TaskStatus(g.pid, tid); err == nil {
		name = st.Name
	}
	if h := g.v.names(); h != nil && regs != nil {
		if s := h.ThreadNames()[threadPointer(regs)]; s != "" {
			return s
		}
	}
	return name
}

// asleep says in which futex a thread sleeps; ok is false where it does not.
func (g *engine) asleep(tid int) (f libc.Futex, ok bool) {
	st, err := g.fs.TaskStat(g.pid, tid)
	if err != nil || st.State != 'S' {
		return f, false
	}
	c, err := g.fs.Syscall(g.pid, tid)
	if err != nil || c.Running || c.Outside || c.Nr != unix.SYS_FUTEX {
		return f, false
	}
	return libc.ParseFutex(c.Args)
}
