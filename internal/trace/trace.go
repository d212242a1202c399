// Package trace is the job that follows a program and looks at each fork at the
// instant at which it happens: the new process stands still before its first
// instruction then, and its memory is the exact image of that instant, locks and
// the stacks of all threads that it does not have included.
package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/forklog"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/ptrace"
	"forkproof/internal/target"
	"forkproof/internal/unwind"
)

// DefaultMaxStop is how long a fork may be held up as a rule.
const DefaultMaxStop = 20 * time.Millisecond

// endPatience is how long a program that was launched may take to end when it
// was asked to.
const endPatience = 15 * time.Second

// maxCalls is how many system calls of a child are looked at: whoever forks to
// execute a program does it within them.
const maxCalls = 64

// maxForks bounds of how many forks the details are kept.
const maxForks = 10_000

// Request says what to trace.
type Request struct {
	// PIDs are running processes, which are followed with all that came of them; or
	// Command is a program to launch.
	PIDs    []int
	Command []string
	// MaxStop is how long the forking thread and then the child may stand still;
	// what is not done by then is left out. 0 means DefaultMaxStop.
	MaxStop time.Duration
	// Forks ends the trace after so many forks, Duration after such a time; 0 never.
	Forks    int
	Duration time.Duration
	// Handlers has each child make its way out of fork step by step, to see which
	// functions its fork handlers call. It holds up the child, for seconds where
	// handlers do much; nobody else.
	Handlers bool
	// Each, if not nil, is called for each fork as it happens, and again when its
	// child has executed a program.
	Each func(Fork)
	// Ready, if not nil, is called when everything is being followed.
	Ready func()
}

// Fork is one fork that was seen.
type Fork struct {
	Time time.Time
	// Parent and TID forked, Child came of it.
	Parent, TID, Child int
	// Name is the parent's, Thread the forking thread's.
	Name, Thread string
	// Shared: the child runs in the parent's memory until it executes a program.
	Shared bool
	VFork  bool
	Native []finding.NativeFrame
	Python []finding.PythonFrame
	// Threads are those that the child does not have.
	Threads  []finding.ForkThread
	Locks    []finding.HeldLock
	Handlers []finding.ForkHandler
	LeftOut  []string
	// Stood is how long the forking thread stood still, ChildStood the child.
	Stood, ChildStood time.Duration
	// Executed is the program that the child executed, "" for none so far; Calls
	// are its system calls up to then, at most maxCalls.
	Executed string
	AtOnce   bool
	Calls    []string

	memory *image
}

// job is one run.
type job struct {
	req   Request
	fs    proc.FS
	files *unwind.Files
	s     *ptrace.Session
	begun map[int]*capture // by child, made on the tracer's thread
	forks []*Fork
	count int
	first map[int]*calls // of children that have executed nothing
	// stepped is the child that is followed step by step, came who waits for it.
	stepped int
	came    chan<- bool
	open    map[int]*Fork // children that have executed nothing
	images  map[int]*image
	libcs   map[libcKey]libc.Identity
	ids     map[int]target.ID
	ends    map[int]syscall.WaitStatus
	roots   []int
	names   map[int]string
	notes   []string
	log     forklog.Log
}

// ErrNoTarget is the error for a request that names nothing.
var ErrNoTarget = errors.New("nothing to trace")

// Run traces until the programs have ended, the request's bounds are reached or
// ctx ends, and returns what was seen.
func Run(ctx context.Context, req Request) (*finding.Document, error) {
	if req.MaxStop == 0 {
		req.MaxStop = DefaultMaxStop
	}
	j := &job{
		req: req, fs: proc.New("/proc"), files: unwind.NewFiles(), begun: make(map[int]*capture), first: make(map[int]*calls), open: make(map[int]*Fork),
		images: make(map[int]*image), libcs: make(map[libcKey]libc.Identity), ids: make(map[int]target.ID), ends: make(map[int]syscall.WaitStatus), names: make(map[int]string), log: forklog.Default(),
	}
	defer j.files.Close()
	doc := &finding.Document{Schema: finding.SchemaV1, Command: "trace", Time: time.Now().UTC().Format(time.RFC3339)}
	doc.Host.Name, doc.Host.Kernel = proc.Machine()
	doc.Host.Arch = arch
	if err := j.start(); err != nil {
		return nil, err
	}
	j.follow(ctx)
	j.finish(ctx)
	for pid, f := range j.open {
		f.Calls, _ = j.settled(pid)
	}
	j.document(doc)
	return doc, nil
}

// start attaches or launches.
func (j *job) start() (err error) {
	switch {
	case len(j.req.Command) > 0:
		var pid int
		j.s, pid, err = ptrace.Launch(ptrace.Command{
			Path: j.req.Command[0], Args: j.req.Command, Env: os.Environ(), Files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr},
		})
		j.roots = []int{pid}
	case len(j.req.PIDs) > 0:
		j.roots = j.req.PIDs
		for _, pid := range j.roots {
			j.warm(pid)
		}
		j.s, err = j.attach()
	default:
		return ErrNoTarget
	}
	if err != nil {
		return err
	}
	j.s.Hook(j.hook)
	for _, pid := range j.roots {
		j.ids[pid], _ = j.fs.Identity(pid)
		j.names[pid] = j.name(pid)
	}
	if j.req.Ready != nil {
		j.req.Ready()
	}
	return nil
}

// attach follows the processes and their descendants. One that ends just then is
// no reason to fail, unless it was named.
func (j *job) attach() (*ptrace.Session, error) {
	for tries := 0; ; tries++ {
		s, err := ptrace.Attach(j.tree()...)
		if err == nil || !proc.IsGone(err) || tries == attachTries {
			return s, err
		}
		for _, pid := range j.req.PIDs {
			if _, gone := j.fs.Stat(pid); gone != nil {
				return nil, err
			}
		}
	}
}

// attachTries is how often a server may lose a process while it is attached to.
const attachTries = 10

// tree lists the processes of the request and all that descend from them.
func (j *job) tree() []int {
	tree := slices.Clone(j.roots)
	all, err := j.fs.PIDs()
	if err != nil {
		return tree
	}
	children := make(map[int][]int)
	for _, pid := range all {
		if st, err := j.fs.Stat(pid); err == nil && st.State != 'Z' && pid != os.Getpid() {
			children[st.PPID] = append(children[st.PPID], pid)
		}
	}
	for i := 0; i < len(tree); i++ {
		for _, pid := range children[tree[i]] {
			if !slices.Contains(tree, pid) {
				tree = append(tree, pid)
			}
		}
	}
	return tree
}

func (j *job) name(pid int) string {
	st, err := j.fs.Stat(pid)
	if err != nil {
		return ""
	}
	return st.Comm
}

// follow handles events until there is a reason to end.
func (j *job) follow(ctx context.Context) {
	if j.req.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, j.req.Duration)
		defer cancel()
	}
	for j.req.Forks == 0 || j.count < j.req.Forks {
		e, err := j.s.Next(ctx)
		if err != nil {
			return
		}
		j.handle(e)
	}
}

// handle answers one event.
func (j *job) handle(e ptrace.Event) {
	switch e.Kind {
	case ptrace.Fork, ptrace.VFork:
		j.forked(e)
	case ptrace.Exec:
		j.executed(e)
	case ptrace.Gone:
		j.ends[e.PID] = e.Status
		if f := j.open[e.PID]; f != nil {
			f.Calls, _ = j.settled(e.PID)
			delete(j.open, e.PID)
		}
		delete(j.images, e.PID)
		j.log.Remove(j.ids[e.PID])
	default:
		_ = j.s.Resume(e.TID)
	}
}

// executed notes that a process runs another program.
func (j *job) executed(e ptrace.Event) {
	exe, _, err := j.fs.Exe(e.PID)
	if err != nil {
		exe = j.name(e.PID)
	}
	_ = j.s.Resume(e.TID)
	delete(j.images, e.PID)
	j.names[e.PID] = j.name(e.PID)
	if e.PID == j.roots[0] {
		time.AfterFunc(warmth, func() { j.warm(e.PID) })
	}
	j.log.Remove(j.ids[e.PID])
	f := j.open[e.PID]
	if f == nil {
		return
	}
	delete(j.open, e.PID)
	f.Calls, f.AtOnce = j.settled(e.PID)
	// A child that shares the parent's memory cannot do much else.
	f.Executed, f.AtOnce = exe, f.AtOnce || f.Shared
	if j.req.Each != nil {
		j.req.Each(*f)
	}
}

// finish lets everything go. A program that was launched is asked to end, and
// may: what it forks while it does so is seen too.
func (j *job) finish(ctx context.Context) {
	if len(j.req.Command) > 0 {
		pid := j.roots[0]
		if _, ended := j.ends[pid]; !ended && (ctx.Err() == nil || !ptrace.Foreground()) {
			_ = j.s.Signal(pid, syscall.SIGTERM)
		}
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), endPatience)
		defer cancel()
		for {
			e, err := j.s.Next(wait)
			if err != nil {
				if !errors.Is(err, ptrace.ErrOver) {
					j.notes = append(j.notes, fmt.Sprintf("process %d has not ended within %v after it was asked to (SIGTERM); it goes on", pid, endPatience))
				}
				break
			}
			j.handle(e)
			if _, ended := j.ends[pid]; ended {
				break
			}
		}
	}
	j.s.Close()
}

// Reenter is called first thing by a program that may launch what it traces:
// this process may be one that is to become that. It returns unless it is.
func Reenter() { ptrace.Reenter() }
