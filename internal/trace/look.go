package trace

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"forkproof/internal/cpython"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/orphan"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/pylock"
	"forkproof/internal/target"
	"forkproof/internal/unwind"
)

// stackCopy is how much of each stack is copied while the child stands still;
// what is to be read of it is read afterwards.
const stackCopy = 64 << 10

// forked handles one fork. The parent goes on already; the child is looked at,
// let go, and then what was copied of it is put into words.
func (j *job) forked(e ptrace.Event) {
	mu.Lock()
	c := j.begun[e.Child]
	delete(j.begun, e.Child)
	mu.Unlock()
	j.count++
	f := &Fork{
		Time: c.began, Parent: e.PID, TID: e.TID, Child: e.Child, Name: j.name(e.PID), Thread: c.self.name,
		Shared: e.Shared, VFork: e.Kind == ptrace.VFork, Stood: c.stood, LeftOut: c.leftOut(j.req.MaxStop), memory: j.image(e.PID),
	}
	j.names[e.PID] = f.Name
	j.images[e.Child] = f.memory
	if f.Shared {
		// Its program will be another one.
		delete(j.images, e.Child)
	}
	l := &look{j: j, f: f, c: c, e: e, end: c.began.Add(j.req.MaxStop)}
	ptrace.Urgently(l.child)
	j.ids[e.Child] = l.id
	if len(f.LeftOut) > 0 && len(f.LeftOut) > 8 {
		f.LeftOut = f.LeftOut[:8]
	}
	j.open[e.Child] = f
	mu.Lock()
	j.first[e.Child] = &calls{}
	mu.Unlock()
	f.ChildStood = time.Since(c.began)
	if j.req.Handlers && !f.Shared && l.v != nil {
		l.followHandlers()
	}
	if !l.waits {
		if err := j.s.Syscalls(e.Child); err != nil {
			_ = j.s.Resume(e.Child)
		}
	}
	l.words()
	if len(j.forks) < maxForks {
		j.forks = append(j.forks, f)
	}
	if j.req.Each != nil {
		j.req.Each(*f)
	}
}

// look is what is made of one fork.
type look struct {
	j   *job
	f   *Fork
	c   *capture
	e   ptrace.Event
	end time.Time
	id  target.ID

	v   *view
	mem procmem.Reader
	rt  *cpython.Runtime
	py  []cpython.Thread
	// names are Python's of threads, by thread pointer.
	names map[uint64]string
	held  []held
	// handlers are the fork handlers that were registered.
	handlers []libc.Handler
	// called are the functions that each handler called in the child, where it was
	// followed; waits: the child is in a call that does not return.
	called [][]string
	waits  bool
}

// held is a lock that is held in the child's memory.
type held struct {
	finding.HeldLock
	by      *seen // nil where that is not known
	basis   finding.Basis
	bare    bool // a word of the C library's own, in the library itself where main
	main    bool
	known   libc.Known
	pointer uint64
}

func (l *look) late() bool { return time.Now().After(l.end) }

// child reads the child's memory while it stands still.
func (l *look) child() {
	pid := l.e.Child
	l.mem = procmem.Open(pid)
	l.id, _ = l.j.fs.Identity(pid)
	var err error
	if l.v, err = l.j.view(pid, l.e.PID); err != nil {
		l.f.LeftOut = append(l.f.LeftOut, fmt.Sprintf("the child could not be read: %v", err))
		return
	}
	l.copyStacks()
	l.v.libraries()
	l.c.self.pointer = l.pointer(l.e.TID)
	if l.f.Shared {
		l.readPython()
		return
	}
	for i := range l.c.threads {
		t := &l.c.threads[i]
		if st, err := l.j.fs.TaskStatus(l.e.PID, t.tid); err == nil {
			t.inner = st.InnerPID()
		} else {
			t.inner = t.tid
		}
		t.pointer = l.pointer(t.tid)
	}
	l.c.self.inner = l.c.self.tid
	if st, err := l.j.fs.TaskStatus(l.e.PID, l.e.TID); err == nil {
		l.c.self.inner = st.InnerPID()
	}
	l.readPython()
	l.readHandlers()
	if len(l.c.threads) == 0 {
		return // nobody else could hold a lock
	}
	l.words4()
	statics, rest := l.divide()
	found, err := l.scan(statics)
	if err != nil {
		l.f.LeftOut = append(l.f.LeftOut, fmt.Sprintf("the search for locks that record their owner: %v", l.why(err)))
	}
	l.recorded(found)
	// The heap may be large. What is not searched in time is not waited for.
	done := make(chan orphan.Result, 1)
	if n := l.size(rest); n > l.within() {
		l.f.LeftOut = append(l.f.LeftOut, fmt.Sprintf("the search of its %d MiB of heap and stacks for locks that record their owner: it would take longer than %v (--max-stop)", n>>20, l.j.req.MaxStop))
		close(done)
	} else {
		go ptrace.Urgently(func() {
			if found, err := l.scan(rest); err == nil {
				done <- found
			}
			close(done)
		})
	}
	l.pythonLocks()
	select {
	case found, ok := <-done:
		if ok {
			l.recorded(found)
		}
	case <-time.After(time.Until(l.end)):
		l.f.LeftOut = append(l.f.LeftOut, fmt.Sprintf("the search of its heap and stacks for locks that record their owner: it takes longer than %v (--max-stop)", l.j.req.MaxStop))
	}
}

// searchRate is how many bytes of resident memory are searched in a millisecond:
// somewhat more than were measured, so that who is near it is given a try.
const searchRate = 4 << 20

// within is how much can be searched in the time that is left.
func (l *look) within() uint64 {
	return uint64(max(0, time.Until(l.end).Milliseconds())) * searchRate
}

// mostVariables is how much variables a library is believed to have.
const mostVariables = 4 << 20

// divide puts the memory in which the variables of programs and libraries lie,
// which is small and has most locks, apart from all other.
func (l *look) divide() (statics, rest []procmem.Range) {
	for _, r := range procmem.Private(l.v.maps) {
		if file, _, ok := l.v.around(r.Start); !ok || !file.File() {
			rest = append(rest, r)
			continue
		}
		// Other memory may follow without a gap.
		cut := min(r.End, r.Start+mostVariables)
		statics = append(statics, procmem.Range{Start: r.Start, End: cut})
		if cut < r.End {
			rest = append(rest, procmem.Range{Start: cut, End: r.End})
		}
	}
	return statics, rest
}

// size is how much of ranges is resident in the child.
func (l *look) size(ranges []procmem.Range) (n uint64) {
	for r, err := range procmem.Resident(l.e.Child, ranges) {
		if err == nil {
			n += r.End - r.Start
		}
	}
	return n
}

func (l *look) why(err error) string {
	if l.late() {
		return fmt.Sprintf("it takes longer than %v (--max-stop)", l.j.req.MaxStop)
	}
	return err.Error()
}

// pointer returns the thread pointer of a thread, 0 where it is not known.
func (l *look) pointer(tid int) uint64 {
	head, err := proc.RobustList(tid)
	if err != nil || head == 0 {
		return 0
	}
	if v := libc.ThreadPointer(head); libc.ControlBlock(v, l.mem) {
		return v
	}
	return 0
}

// copyStacks copies the tops of all stacks out of the child.
func (l *look) copyStacks() {
	take := func(t *seen) {
		m, ok := proc.Find(l.v.maps, t.sp)
		if !t.known || !ok {
			return
		}
		b := make([]byte, min(stackCopy, m.End-t.sp))
		if _, err := l.mem.ReadAt(b, t.sp); err == nil {
			t.stack = b
		}
	}
	take(&l.c.self)
	for i := range l.c.threads {
		if l.late() {
			l.f.LeftOut = append(l.f.LeftOut, fmt.Sprintf("the stacks of %d threads", len(l.c.threads)-i))
			return
		}
		take(&l.c.threads[i])
	}
}

// readPython reads the interpreter's threads out of the child's memory.
func (l *look) readPython() {
	l.f.memory.mem.pid = l.e.Child
	if l.rt = l.v.python(l.f.memory); l.rt == nil {
		return
	}
	l.py, _ = l.rt.Threads()
}

// pyThread is the interpreter's state for a thread.
func (l *look) pyThread(t *seen) (cpython.Thread, bool) {
	var found cpython.Thread
	ok := false
	for _, p := range l.py {
		is := p.Ident == t.pointer && t.pointer != 0 || t.pointer == 0 && t.inner != 0 && p.NativeID == uint64(t.inner)
		if is && (!ok || len(found.Frames) == 0) {
			found, ok = p, true
		}
	}
	return found, ok
}

// scan searches the child's memory for locks that record a vanished thread.
func (l *look) scan(ranges []procmem.Range) (orphan.Result, error) {
	t := orphan.Target{
		ID: l.id, Mappings: l.v.maps, Libc: l.v.libc, Former: []int{l.c.self.inner},
		OpenMapped: func(m proc.Mapping) (*os.File, error) { return l.j.fs.OpenMapped(l.e.PID, m) },
		Settle:     time.Nanosecond, // it stands still
		Ranges:     ranges,
		Workers:    1, // of the thread that it is called on
	}
	if st, err := l.j.fs.Status(l.e.Child); err == nil {
		t.Threads = []int{st.InnerPID()}
	}
	t.TCBs, t.AllTCBs = []uint64{l.c.self.pointer}, l.c.self.pointer != 0
	for i := range l.c.threads {
		o := &l.c.threads[i]
		t.Vanished = append(t.Vanished, orphan.Thread{PID: l.e.PID, TID: o.tid, Inner: o.inner, TCB: o.pointer})
	}
	ctx, cancel := context.WithDeadline(context.Background(), l.end)
	defer cancel()
	return orphan.Scan(ctx, t)
}

// recorded takes over what the search found.
func (l *look) recorded(found orphan.Result) {
	for _, o := range found.Locks {
		if slices.ContainsFunc(l.held, func(h held) bool { return uint64(h.Address) == o.Addr }) {
			continue
		}
		h := held{basis: finding.Recorded, by: l.thread(o.OwnerTID, o.OwnerTCB)}
		h.Lock = finding.Lock{Kind: o.Kind, Address: finding.Addr(o.Addr), State: o.State, OwnerTID: o.OwnerTID}
		if o.Stream != 0 {
			h.pointer = o.Stream
		}
		l.held = append(l.held, h)
	}
}

// thread finds a vanished thread by the number or the pointer that a lock records.
func (l *look) thread(inner int, pointer uint64) *seen {
	for i := range l.c.threads {
		t := &l.c.threads[i]
		if inner != 0 && t.inner == inner || pointer != 0 && t.pointer == pointer {
			return t
		}
	}
	return nil
}

// pythonLocks finds Python's locks that are held in the child, and by whom.
func (l *look) pythonLocks() {
	if l.rt == nil {
		return
	}
	left := time.Until(l.end)
	if left < time.Millisecond {
		l.f.LeftOut = append(l.f.LeftOut, "Python's locks")
		return
	}
	h, err := pylock.Open(procmem.CachedObjects(l.mem), l.rt, pylock.Limits{Time: left / 2})
	if err != nil {
		return
	}
	l.names = h.ThreadNames()
	for _, k := range h.Held() {
		x := held{basis: finding.HeldThen}
		x.Lock = finding.Lock{Kind: string(k.Kind), Address: finding.Addr(k.Word), Where: k.Name.String(), State: "held"}
		switch {
		case k.OwnerKnown:
			x.basis = finding.Recorded
			x.by = l.thread(0, k.Owner)
			x.Survivor = k.Owner == l.c.self.pointer
		default:
			if p, ok := l.pyThread(&l.c.self); ok {
				_, x.Survivor = h.Uses(p.Frames, k.Object)
			}
			for i := range l.c.threads {
				t := &l.c.threads[i]
				if p, ok := l.pyThread(t); ok && x.by == nil {
					if fr, ok := h.Uses(p.Frames, k.Object); ok {
						x.by = t
						x.State = fmt.Sprintf("held, %s at %s:%d is inside of a with statement for it", fr.Function, fr.File, fr.Line)
					}
				}
			}
		}
		if x.Where == "" {
			x.Where = "a " + k.Type
		}
		x.Reset = pythonReset(l.rt.Version, x.Where, k.Kind)
		l.held = append(l.held, x)
	}
	if h.Truncated() {
		l.f.LeftOut = append(l.f.LeftOut, "some of Python's locks: there are more objects than could be looked at")
	}
}

// words puts into words what was copied.
func (l *look) words() {
	f := l.f
	if l.v == nil {
		return
	}
	self := l.unwind(&l.c.self)
	f.Native, f.Python = l.stacks(&l.c.self, self)
	for i := range l.c.threads {
		t := &l.c.threads[i]
		frames := l.unwind(t)
		o := finding.ForkThread{Moved: t.moved}
		o.TID, o.Name, o.State = t.tid, l.name(t), stateName(t)
		if t.inner != 0 && t.inner != t.tid {
			o.NSTID = t.inner
		}
		o.Native, o.Python = l.stacks(t, frames)
		f.Threads = append(f.Threads, o)
	}
	l.judgeBare(self)
	for i := range l.held {
		h := &l.held[i]
		if h.Where == "" {
			h.Where = l.v.lockPlace(uint64(h.Address), h.pointer)
		}
		if h.by != nil {
			h.OwnerTID = h.by.inner
			h.Owner = &finding.Owner{PID: l.e.PID, TID: h.by.tid, Name: l.name(h.by), Alive: true, Basis: h.basis, State: stateName(h.by)}
			for _, t := range f.Threads {
				if t.TID == h.by.tid {
					h.Owner.Native, h.Owner.Python = t.Native, t.Python
				}
			}
		}
		h.Forks = 1
		f.Locks = append(f.Locks, h.HeldLock)
	}
	l.nameHandlers()
	l.keep()
}

func (l *look) name(t *seen) string {
	if s := l.names[t.pointer]; s != "" && t.pointer != 0 {
		return s
	}
	return t.name
}

// unwind follows a stack in the copy of it.
func (l *look) unwind(t *seen) []unwind.Frame {
	if t.stack == nil {
		return nil
	}
	r := procmem.Over(procmem.Open(l.e.PID), t.sp, t.stack)
	frames, err := unwind.Stack(r, l.v.space, t.regs, maxFrames)
	t.whole = err == nil
	return frames
}

// stacks puts a thread's stacks into words.
func (l *look) stacks(t *seen, frames []unwind.Frame) ([]finding.NativeFrame, []finding.PythonFrame) {
	native := l.v.frames(frames)
	p, ok := l.pyThread(t)
	if !ok {
		return native, nil
	}
	names := make([]string, len(frames))
	for i, f := range frames {
		s, _ := f.Module.Symbol(f.Addr())
		names[i] = s.Name
	}
	eval, _ := cpython.Match(names, p.Frames, p.Truncated)
	var python []finding.PythonFrame
	for i, f := range p.Frames {
		python = append(python, finding.PythonFrame{Function: f.Function, File: f.File, Line: f.Line, Native: eval[i]})
	}
	return native, python
}
