package inspect

import (
	"bytes"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"forkproof/internal/elffile"
	"forkproof/internal/forklog"
	"forkproof/internal/forkserver"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/symbol"
	"forkproof/internal/target"
	"forkproof/internal/unwind"
)

// maxFrames bounds one native stack.
const maxFrames = 256

// futexNr is the number of futex(2).
var futexNr = map[string]int64{"amd64": 202, "arm64": 98}[runtime.GOARCH]

// glance is what one look at one thread saw.
type glance struct {
	status  proc.Status
	call    proc.Syscall
	runtime uint64
	wchan   string
	err     error
}

// process is one target, read as far as was needed.
type process struct {
	j   *job
	pid int
	id  target.ID
	// err says why nothing could be read.
	err    error
	looks  [2]map[int]glance
	tids   []int
	server forkserver.Server
	role   forkserver.Role
	// from is the process that this one is a copy of, 0 for none.
	from int
	// notes are for the report.
	notes []string

	opened bool
	maps   []proc.Mapping
	mem    *procmem.Cache
	space  *unwind.ProcessSpace
	libcID libc.Identity
	libcB  string
	stacks map[int][]unwind.Frame
	points map[int]uint64
	// ring are musl's threads by TID, once read.
	ring   map[int]uint64
	python python
	// spins are the threads that were seen spinning at one place, unsure those
	// that were so too, but not often enough.
	spins  []spin
	unsure []int
	// early: some of this was read before the second look.
	early  bool
	search *search
	// forkLog is what a trace kept of its fork, once forkRead.
	forkLog  forklog.Record
	forkRead bool
}

// open returns the process that has pid, the same one each time.
func (j *job) open(pid int) *process {
	if p, ok := j.processes[pid]; ok {
		return p
	}
	p := &process{j: j, pid: pid, stacks: make(map[int][]unwind.Frame), points: make(map[int]uint64)}
	if p.id, p.err = j.fs.Identity(pid); p.err == nil {
		p.mem = procmem.Cached(procmem.Open(pid))
		p.err = j.foreign(pid)
	}
	if j.all != nil {
		p.join()
	}
	j.processes[pid] = p
	return p
}

// join finds the server that the process belongs to.
func (p *process) join() {
	p.server, p.role, _ = p.j.serverOf(p.pid)
	if p.role == forkserver.Worker {
		if w, _, ok := p.server.Process(p.pid); ok {
			p.from = p.server.ForkedFrom(w).ID.PID
		}
	}
}

// look reads every thread once.
func (p *process) look(i int) {
	if p.err != nil {
		return
	}
	tids, err := p.j.fs.Threads(p.pid)
	if err != nil {
		p.err = err
		return
	}
	p.looks[i] = make(map[int]glance, len(tids))
	timed := false
	for _, tid := range tids {
		var g glance
		if g.status, g.err = p.j.fs.TaskStatus(p.pid, tid); g.err == nil {
			g.call, g.err = p.j.fs.Syscall(p.pid, tid)
			g.runtime, _ = p.j.fs.RunTime(p.pid, tid)
			g.wchan, _ = p.j.fs.Wchan(p.pid, tid)
		}
		if g.err != nil && !proc.IsGone(g.err) {
			p.err = g.err
			return
		}
		p.looks[i][tid] = g
		f, ok := futexOf(g.call)
		timed = timed || ok && f.Timeout
	}
	p.tids = tids
	if p.err = p.j.present(p.id); p.err != nil {
		return
	}
	// The GIL's waiters sleep in a loop of timed waits: only such a process's
	// interpreter is worth reading this early.
	if timed || p.python.gil[0] != nil {
		p.python.gil[i] = p.readGIL()
	}
}

// awaitSleep looks again, for a little while, at a forked Python process that only
// ran whenever it was looked at. Who waits for the interpreter's lock wakes up
// every 5 ms, and where many want a processor it takes long to fall asleep again.
func (p *process) awaitSleep() {
	const times, apart = 10, 3 * time.Millisecond
	for range times {
		ran := false
		for i := range p.looks {
			for _, g := range p.looks[i] {
				if _, ok := futexOf(g.call); ok {
					return
				}
				ran = ran || g.call.Running
			}
		}
		if !ran || p.from == 0 || p.interpreter() == nil {
			return
		}
		time.Sleep(apart)
		if p.look(1); p.err != nil {
			return
		}
	}
}

func futexOf(c proc.Syscall) (libc.Futex, bool) {
	if c.Running || c.Outside || c.Nr != futexNr {
		return libc.Futex{}, false
	}
	return libc.ParseFutex(c.Args)
}

// still reports whether a thread slept in one system call from before its first
// look until after its second.
func (p *process) still(tid int) bool {
	a, ok := p.looks[0][tid]
	b, ok2 := p.looks[1][tid]
	if !ok || !ok2 || a.err != nil || b.err != nil {
		return false
	}
	if a.status.State != 'S' || b.status.State != 'S' || a.call.Running || a.call.Outside || a.call != b.call ||
		a.status.Switches != b.status.Switches || a.runtime != b.runtime {
		return false
	}
	// A frozen or stopped thread shows the system call it was in, but sleeps
	// elsewhere in the kernel.
	if _, isFutex := futexOf(b.call); isFutex && b.wchan != "" && !strings.HasPrefix(b.wchan, "futex") {
		return false
	}
	return true
}

// sameThreads reports whether both looks saw the same threads.
func (p *process) sameThreads() bool {
	if len(p.looks[0]) != len(p.looks[1]) {
		return false
	}
	for tid := range p.looks[1] {
		if _, ok := p.looks[0][tid]; !ok {
			return false
		}
	}
	return true
}

// load reads the mappings once and finds the C library.
func (p *process) load() error {
	if p.opened {
		return p.err
	}
	p.opened = true
	var err error
	if p.maps, err = p.j.fs.Maps(p.pid); err != nil {
		p.err = err
		return err
	}
	p.space = unwind.NewSpace(p.maps, p.j.files, p.openMapped)
	p.libcID = libc.Identity{Family: "unknown"}
	seen := make(map[uint64]bool)
	for _, m := range p.maps {
		if !m.File() || !m.Exec || seen[m.Inode] {
			continue
		}
		seen[m.Inode] = true
		if fam := libc.Named(m.Name()); fam != "" {
			p.identify(fam, m)
		}
	}
	return nil
}

// maxVDSO bounds the kernel's own code in a process, which has some pages.
const maxVDSO = 256 << 10

// openMapped opens the very file that the process has mapped. The kernel's own
// code, in which clock_gettime runs, is in memory only.
func (p *process) openMapped(m proc.Mapping) (unwind.Opened, error) {
	if m.Path == "[vdso]" {
		b := make([]byte, min(m.End-m.Start, maxVDSO))
		if _, err := procmem.Open(p.pid).ReadAt(b, m.Start); err != nil {
			return unwind.Opened{}, err
		}
		e, err := elffile.Open(bytes.NewReader(b))
		return unwind.Opened{File: e}, err
	}
	f, err := p.j.fs.OpenMapped(p.pid, m)
	if err != nil {
		return unwind.Opened{}, err
	}
	e, err := elffile.Open(f)
	if err != nil {
		_ = f.Close()
		return unwind.Opened{}, err
	}
	return unwind.Opened{File: e, Symbols: symbol.Options{Root: p.j.fs.Path(p.pid, "root"), Path: m.Path}, Close: f.Close}, nil
}

// module returns the file mapped at addr, with its tables.
func (p *process) module(addr uint64) (*unwind.Module, bool) {
	m, ok := p.space.ModuleAt(addr)
	return m, ok && m.Object != nil && m.File != nil
}

func (p *process) identify(family string, m proc.Mapping) {
	mod, ok := p.module(m.Start)
	if ok {
		p.libcB = mod.File.BuildID()
	}
	l := p.j.libcs
	l.Lock()
	defer l.Unlock()
	key := libcKey{m.Major, m.Minor, m.Inode}
	if id, ok := l.known[key]; ok {
		p.libcID = id
		return
	}
	p.libcID = libc.Identity{Family: family, Path: m.Path}
	if f, err := p.j.fs.OpenMapped(p.pid, m); err == nil {
		p.libcID = libc.Read(family, m.Path, f)
		f.Close()
		l.known[key] = p.libcID
	}
}

// libcs are the C libraries that were read in one run: the processes of a server
// share one.
type libcs struct {
	sync.Mutex
	known map[libcKey]libc.Identity
}

type libcKey struct {
	major, minor uint32
	inode        uint64
}

// stack returns the native stack of a thread: of one that sleeps in a system
// call as it is, of one that ran at both looks as a sample had it.
func (p *process) stack(tid int) []unwind.Frame {
	if s, ok := p.stacks[tid]; ok {
		return s
	}
	g := p.looks[1][tid]
	if p.load() != nil {
		return nil
	}
	if p.ran(tid) {
		s, _ := p.sample(tid)
		p.stacks[tid] = s.frames
		return s.frames
	}
	if g.call.Running || g.call.SP == 0 {
		return nil
	}
	// A stack that cannot be followed to its end is shown as far as it goes.
	s, _ := unwind.Stack(p.mem, p.space, unwind.FromSyscall(g.call.SP, g.call.PC), maxFrames)
	p.stacks[tid] = s
	return s
}

func (p *process) functions(tid int) []string {
	var out []string
	for _, f := range p.stack(tid) {
		s, _ := f.Module.Symbol(f.Addr())
		out = append(out, s.Name)
	}
	return out
}

func (p *process) callers(tid int) []libc.Caller {
	var out []libc.Caller
	frames := p.stack(tid)
	for i, f := range frames {
		c := libc.Caller{}
		// A name without a size may be that of another function before it.
		if s, ok := f.Module.Symbol(f.Addr()); ok && !s.NoSize {
			c.Function = s.Name
		}
		if f.Module != nil {
			c.Object = filepath.Base(f.Module.Name)
		}
		if i+1 < len(frames) && !frames[i+1].Exact && !frames[i+1].Signal {
			c.Called = p.called(frames[i+1].PC, f.Module)
		}
		out = append(out, c)
	}
	return out
}

// called names the function that the call before a return address went to, if it
// is one of the module that the call led to in the end: a function of the caller's
// own may have gone on there by a jump.
func (p *process) called(ra uint64, in *unwind.Module) string {
	for _, to := range unwind.Called(p.mem, unwind.NativeArch, ra) {
		if mod, ok := p.module(to); ok && in != nil && mod.Object == in.Object {
			if s, ok := mod.Table.Lookup(to - mod.Bias); ok && s.Value == to-mod.Bias {
				return s.Name
			}
		}
	}
	return ""
}

// parent returns the process that p was forked from without exec, where that is
// still there.
func (p *process) parent() (*process, bool) {
	if p.from == 0 {
		return nil, false
	}
	m := p.j.open(p.from)
	if m.looks[1] == nil && m.err == nil {
		if m.looks[0] == nil {
			m.look(0)
		}
		m.looks[1] = m.looks[0] // until it has a second look, as a target has
	}
	return m, true
}
