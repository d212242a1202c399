package inspect

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/orphan"
	"forkproof/internal/procmem"
	"forkproof/internal/unwind"
)

// ahead is reading that goes on in the background.
type ahead struct {
	sync.WaitGroup
	// loaded is closed when the process's mappings and C library are known.
	loaded chan struct{}
}

// readAhead reads, while the second look is waited for, what will be asked of
// the one process that was named: its files, and the objects of its interpreter.
// Of many processes it would have to be kept for too long.
func (j *job) readAhead() *ahead {
	a := &ahead{loaded: make(chan struct{})}
	if len(j.processes) == 1 {
		for _, p := range j.processes {
			if p.early = p.err == nil && p.asleep(); p.early {
				a.Go(func() {
					_ = p.load() // kept in p, and told by who asks next
					close(a.loaded)
					if h := p.objects(); h != nil {
						h.Held()
					}
				})
				return a
			}
		}
	}
	close(a.loaded)
	return a
}

// tablesAhead reads what the second look's stacks will be read with, the tables
// of the files on them, by reading those of the first; and what the interpreter of
// its master says of the threads there.
func (p *process) tablesAhead() {
	if !p.early || p.load() != nil {
		return
	}
	mem := procmem.Cached(procmem.Open(p.pid))
	for _, g := range p.looks[0] {
		frames, _ := unwind.Stack(mem, p.space, unwind.FromSyscall(g.call.SP, g.call.PC), maxFrames)
		for _, f := range frames {
			f.Module.Symbol(f.Addr())
		}
	}
	if m, ok := p.parent(); ok && m.err == nil {
		m.pyThreads()
		m.name(m.pid)
	}
}

// asleep reports whether the first look saw no thread run.
func (p *process) asleep() bool {
	for _, g := range p.looks[0] {
		if g.err != nil || g.status.State != 'S' || g.call.Running {
			return false
		}
	}
	return true
}

// keepStill forgets what was read before the second look, unless nothing moved
// between the looks: then it is as good as read after it.
func (p *process) keepStill() {
	if !p.early {
		return
	}
	still := p.sameThreads()
	for _, tid := range p.tids {
		still = still && p.still(tid)
	}
	if !still {
		p.forget()
	}
}

// forget drops what was read of the process's memory.
func (p *process) forget() {
	p.opened, p.maps, p.space = false, nil, nil
	p.python = python{gil: p.python.gil}
	p.ring = nil
	clear(p.points)
	clear(p.stacks)
	if p.mem != nil {
		p.mem.Drop()
	}
}

// search is the search of a process's memory for locks left behind, which goes
// on beside all else. It looks twice at what it finds, so that it does not matter
// when it begins.
type search struct {
	ancestors []int
	result    func() (orphan.Result, error)
}

// searchAhead begins the search, unless it goes on already. The process must have
// been looked at.
func (p *process) searchAhead() {
	m, ok := p.parent()
	if p.search != nil || !ok || m.err != nil || p.load() != nil {
		return
	}
	s := &search{}
	for at := p; len(s.ancestors) < 8; {
		m, ok := at.parent()
		if !ok || m.err != nil {
			break
		}
		s.ancestors, at = append(s.ancestors, m.pid), m
	}
	j, id := p.j, p.libcID
	var found orphan.Result
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		var t orphan.Target
		if t, err = orphan.Gather(j.fs, p.pid, s.ancestors, id); err == nil {
			if p.early {
				// The interpreter's objects are read at the same time, which takes
				// longer: they are not to wait for a processor.
				t.Workers = max(1, procmem.ScanWorkers()-1)
			}
			found, err = orphan.Scan(j.ctx, t)
		}
	}()
	s.result = func() (orphan.Result, error) {
		<-done
		return found, err
	}
	p.search = s
}

// reported is what is said of one process.
type reported struct {
	target finding.Target
	found  []finding.Finding
}

// reports says of each target what it is. Many are shared out to the processors;
// then what was read of one is forgotten when all is said of it.
func (j *job) reports(targets []*process) ([]reported, error) {
	out := make([]reported, len(targets))
	if !j.many() {
		for i, p := range targets {
			if err := j.ctx.Err(); err != nil {
				return nil, err
			}
			out[i].target, out[i].found = j.report(p)
		}
		return out, nil
	}
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxReporters) {
		wait.Go(func() {
			own := j.apart()
			for j.ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(targets) {
					return
				}
				p := targets[i]
				p.j = own
				own.processes[p.pid] = p
				out[i].target, out[i].found = own.report(p)
				if p.role != forkserver.Master {
					delete(own.processes, p.pid)
					p.forget()
				}
			}
		})
	}
	wait.Wait()
	return out, j.ctx.Err()
}

// maxReporters bounds how many processes are read at a time: each may hold some
// 50 MiB for as long.
const maxReporters = 4

// apart returns a job that shares with j only what may be used by several
// goroutines, or is not changed any more. Masters are opened anew in it.
func (j *job) apart() *job {
	own := *j
	own.processes = make(map[int]*process)
	own.servers = slices.Clip(j.servers)
	return &own
}
