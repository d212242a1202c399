// Package provoke makes a process fork at the worst possible moment: while another
// of its threads holds a lock, for each lock that other threads ever hold. What
// becomes of the child shows whether the program can hang, without waiting for
// luck.
//
// It follows the process through ptrace (package ptrace). First it learns: by
// breakpoints at the functions that take and give back locks. Then, for each lock,
// it has the thread that holds it stand still, has the process fork, and lets all
// go on. docs/provoke.md says more.
package provoke

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/ptrace"
	"forkproof/internal/unwind"
)

// Request says what to provoke.
type Request struct {
	// Command is the program to start, PID the running process instead.
	Command []string
	PID     int
	// Check is a command line that ends with 0 where the server is well, and may
	// take CheckTime. A program that ends by itself needs none: its end is one.
	Check     string
	CheckTime time.Duration
	// ForkBy is a command line that makes the process fork.
	ForkBy string
	// Learn is how long to learn, PerLock how long one lock may take, Total all of it.
	Learn, PerLock, Total time.Duration
	// Tries is how often a lock is tried before it counts as not reached.
	Tries int
	// Seed decides the order of the locks.
	Seed uint64
	// Only leaves out locks whose name and id do not match; nil for none.
	Only *regexp.Regexp
	// Replay are schedules to repeat, instead of learning; nil for none.
	Replay *Schedules
	// Shelter is what [Shelter] returned; nil leaves breakpoints behind if this
	// process is killed.
	Shelter *ptrace.Journal
	// Output gets what the program writes.
	Output *os.File
	// Prove asks for the state of a process, as inspect has it.
	Prove func(ctx context.Context, pid int) (*finding.Document, error)
	// Progress, where not nil, is told what is being done.
	Progress func(string)
}

// Reenter is called first thing by the program; see [ptrace.Reenter].
func Reenter() { ptrace.Reenter() }

// Shelter starts this program once more, to do the work where breakpoints do not
// outlive it; see [ptrace.Shelter].
func Shelter() (j *ptrace.Journal, status int, first bool, err error) { return ptrace.Shelter() }

// Errors that mean that nothing could be provoked.
var (
	// ErrFails: the target is not well without any help.
	ErrFails = errors.New("it is not well without any help")
	// ErrNoFork: the target does not fork, or it is not known how to make it.
	ErrNoFork = errors.New("it does not fork")
)

// Result is what Run found.
type Result struct {
	Document  *finding.Document
	Schedules *Schedules
}

// provoker is one run.
type provoker struct {
	req    *Request
	fs     proc.FS
	files  *unwind.Files
	book   *book
	r      *running // nil between two runs of a program
	server bool
	kind   string
	asker  asker
	// asks is how many workers were asked for that are to be given up again.
	asks int
	// hopeless: no fork at all makes a worker that passes the check.
	hopeless bool
	end      time.Time
	doc      *finding.Document
	made     *finding.Provoked
	sched    *Schedules
}

// Run provokes. The result is returned also where some locks were not reached; an
// error means that nothing is known.
func Run(ctx context.Context, req Request) (*Result, error) {
	p := &provoker{
		req: &req, fs: proc.New("/proc"), files: unwind.NewFiles(), book: newBook(), end: time.Now().Add(req.Total),
		made:  &finding.Provoked{Seed: req.Seed, Locks: []finding.ProvokedLock{}},
		sched: &Schedules{Schema: ScheduleV1, Command: req.Command, Seed: req.Seed},
	}
	defer p.files.Close()
	p.doc = &finding.Document{Schema: finding.SchemaV1, Command: "provoke", Time: time.Now().UTC().Format(time.RFC3339), Provoked: p.made}
	p.doc.Host.Name, p.doc.Host.Kernel = proc.Machine()
	if err := p.fs.Own(); err != nil {
		return nil, err
	}
	err := p.run(ctx)
	if e := p.stop(); e != nil && err == nil {
		p.note(e.Error())
	}
	if err != nil {
		return nil, err
	}
	return &Result{Document: p.doc, Schedules: p.sched}, nil
}

func (p *provoker) note(s string) {
	if !slices.Contains(p.doc.Notes, s) {
		p.doc.Notes = append(p.doc.Notes, s)
	}
}

func (p *provoker) progress(format string, args ...any) {
	if p.req.Progress != nil {
		p.req.Progress(fmt.Sprintf(format, args...))
	}
}

// pid is the process that forks.
func (p *provoker) pid() int {
	if p.r != nil {
		return p.r.pid
	}
	return 0
}

// workers are the children of the process that forks, but one.
func (p *provoker) workers(but int) []int {
	if p.r == nil {
		return nil
	}
	out := p.r.children(but)
	if _, known := recognise(p.fs, p.r.pid); p.server {
		for _, w := range known {
			if w != but && !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (p *provoker) run(ctx context.Context) error {
	if err := p.begin(ctx); err != nil {
		return err
	}
	classes := p.wanted()
	if len(classes) == 0 && !p.hopeless {
		p.note("no thread but the one that forks was seen to hold a lock")
	}
	for i, c := range classes {
		p.progress("%d of %d: %s", i+1, len(classes), c.name)
		row := p.row(c)
		if time.Now().After(p.end) {
			row.Outcome, row.Detail = finding.ProvokedNotReached, fmt.Sprintf("the time for all locks, %s, was over", p.req.Total)
		} else if err := p.force(ctx, c, row); err != nil {
			return err
		}
		p.made.Locks = append(p.made.Locks, *row)
	}
	slices.SortStableFunc(p.made.Locks, func(a, b finding.ProvokedLock) int {
		return cmp.Or(cmp.Compare(rank(a.Outcome), rank(b.Outcome)), strings.Compare(a.Name, b.Name))
	})
	for i := range p.made.Locks {
		if o := p.made.Locks[i].Outcome; o.Exercised() {
			p.made.Exercised++
			if o == finding.ProvokedDeadlock {
				p.made.Deadlocked++
			}
		}
	}
	return nil
}

// rank orders outcomes, the worst first.
func rank(o finding.ProvokedOutcome) int {
	return slices.Index([]finding.ProvokedOutcome{finding.ProvokedDeadlock, finding.ProvokedCheckFailed, finding.ProvokedHidden, finding.ProvokedNotReached,
		finding.ProvokedHealthy, finding.ProvokedReset, finding.ProvokedGuarded}, o)
}

// name is what the target is called in messages.
func (p *provoker) name() string {
	if p.req.PID != 0 {
		return fmt.Sprintf("process %d", p.req.PID)
	}
	return strings.Join(p.req.Command, " ")
}

// row begins the line of a lock in the report.
func (p *provoker) row(c *class) *finding.ProvokedLock {
	row := &finding.ProvokedLock{ID: c.id, Name: c.name, Kind: string(c.kind), Native: c.native, Python: c.python}
	for _, name := range c.takers {
		if !slices.Contains(row.Threads, name) {
			row.Threads = append(row.Threads, name)
		}
	}
	slices.Sort(row.Threads)
	return row
}

// wanted are the locks to try, in the order of the seed.
func (p *provoker) wanted() []*class {
	if p.req.Replay != nil {
		return p.replayed()
	}
	out := slices.DeleteFunc(p.book.found(), func(c *class) bool {
		return p.req.Only != nil && !p.req.Only.MatchString(c.name) && !p.req.Only.MatchString(c.id)
	})
	// By id first: in which order they were met is a matter of chance.
	slices.SortFunc(out, func(a, b *class) int { return strings.Compare(a.id, b.id) })
	rand.New(rand.NewPCG(p.req.Seed, 0)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// replayed are the locks of the schedules, which will be met again under their ids.
func (p *provoker) replayed() []*class {
	var out []*class
	for _, s := range p.req.Replay.Found {
		c := &class{id: s.Lock, name: s.Name, kind: kind(s.Kind), takers: make(map[int]string), sure: true}
		for i := range ownLocks {
			if o := &ownLocks[i]; c.id == ownID(p.book.family, o) {
				c.own = o
			}
		}
		out = append(out, p.book.enter(c))
	}
	return out
}

// ownID is the id of a lock of the C library's own.
func ownID(family string, o *own) string {
	return family + "'s " + libc.LockNamed(o.symbol, o.file).String()
}

// schedule is the one to replay for a lock; nil where none is.
func (p *provoker) schedule(c *class) *Schedule {
	if p.req.Replay == nil {
		return nil
	}
	for i := range p.req.Replay.Found {
		if s := &p.req.Replay.Found[i]; s.Lock == c.id {
			return s
		}
	}
	return nil
}

// add puts what was found into the document.
func (p *provoker) add(v verdict) {
	p.doc.Findings = append(p.doc.Findings, v.found...)
	p.doc.Targets = append(p.doc.Targets, v.targets...)
}
