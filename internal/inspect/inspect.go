// Package inspect is the job that looks at live processes and says which of
// them are deadlocked, on what and because of whom. It only reads, and stops
// nothing but a thread that runs, for well under a millisecond, to see where it
// is; that can be forbidden, and no proof needs it.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/inherit"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/unwind"
)

// Errors that mean that nothing could be looked at.
var (
	ErrNothing = errors.New("nothing to look at")
)

// Request says what to inspect.
type Request struct {
	// PIDs name processes; a master stands for its whole server.
	PIDs []int
	// All inspects every pre-fork server of the machine.
	All bool
	// Name inspects the servers and processes whose command line matches.
	Name *regexp.Regexp
	// Gap is how long to wait between the two looks; the proofs hold for any
	// gap, a longer one catches slow spinning. 0 means 5 ms.
	Gap time.Duration
	// NoStop forbids to stop threads that run: they are shown without a native
	// stack then.
	NoStop bool
}

// job is one run.
type job struct {
	ctx   context.Context
	fs    proc.FS
	files *unwind.Files
	// all is every process of the machine, servers those that were asked for.
	all       []forkserver.Process
	servers   []forkserver.Server
	processes map[int]*process
	self      int
	gap       time.Duration
	looked    time.Time // when the last first look was over
	count     int
	libcs     *libcs
	named     *lockNames
	sampling  *sampling
}

// Run inspects what the request names and returns what it found. The document
// is returned, with notes, also where some of the targets could not be read; an
// error means that nothing could be seen at all.
func Run(ctx context.Context, req Request) (*finding.Document, error) {
	j := &job{
		ctx: ctx,
		fs:  proc.New("/proc"), files: unwind.NewFiles(), processes: make(map[int]*process),
		self: os.Getpid(), gap: req.Gap, libcs: &libcs{known: make(map[libcKey]libc.Identity)}, named: &lockNames{known: make(map[lockKey]string)},
	}
	defer j.files.Close()
	j.sampling = newSampling(req.NoStop)
	defer j.sampling.close()
	if j.gap == 0 {
		j.gap = 5 * time.Millisecond
	}
	doc := &finding.Document{Schema: finding.SchemaV1, Command: "inspect", Time: time.Now().UTC().Format(time.RFC3339)}
	err := j.fs.Own()
	if err != nil {
		return nil, err
	}
	// The first look comes first: what else there is to read is read while the
	// second one is waited for. The proofs hold for any time between them.
	failed := j.begin(req.PIDs)
	ahead := j.readAhead()
	defer ahead.Wait()
	doc.Host = localHost()
	if j.all, err = forkserver.Snapshot(j.fs); err != nil {
		return nil, err
	}
	if req.All || req.Name != nil {
		j.servers = forkserver.Find(j.fs, j.all)
	}
	targets := j.targets(req)
	if len(targets) == 0 {
		if len(failed) > 0 {
			return nil, errors.Join(failed...)
		}
		if req.Name != nil {
			return nil, fmt.Errorf("no process matches --name %s: %w", req.Name, ErrNothing)
		}
		doc.Host = Host()
		doc.Notes = append(doc.Notes, "no pre-fork server is running on this machine")
	}
	j.count = len(targets)
	for _, e := range failed {
		doc.Notes = append(doc.Notes, e.Error())
	}
	// First looks at all, then one gap, then all second looks: the cost of
	// waiting does not grow with the number of processes.
	for _, p := range targets {
		if p.looks[0] == nil {
			p.look(0)
			j.looked = time.Now()
		}
	}
	<-ahead.loaded
	if !j.many() {
		for _, p := range targets {
			p.searchAhead()
			p.tablesAhead()
		}
	}
	ahead.Wait()
	if err := j.pause(j.gap - time.Since(j.looked)); err != nil {
		return nil, err
	}
	for _, p := range targets {
		p.look(1)
		p.keepStill()
	}
	if err := j.watchSpins(targets); err != nil {
		return nil, err
	}
	seen := 0
	all, err := j.reports(targets)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.target.Verdict != "unreadable" {
			seen++
		}
		doc.Targets = append(doc.Targets, r.target)
		doc.Findings = append(doc.Findings, r.found...)
	}
	found, notes := j.inherited(targets)
	doc.Findings = append(doc.Findings, found...)
	doc.Notes = append(append(doc.Notes, notes...), j.sampling.notes()...)
	slices.SortStableFunc(doc.Findings, func(a, b finding.Finding) int {
		if a.Severity != b.Severity {
			return int(b.Severity - a.Severity)
		}
		return int(b.Confidence - a.Confidence)
	})
	if len(targets) > 0 && seen == 0 {
		var errs []error
		for _, p := range targets {
			errs = append(errs, p.err)
		}
		return nil, errors.Join(errs...)
	}
	return doc, nil
}

func (j *job) pause(d time.Duration) error {
	select {
	case <-j.ctx.Done():
		return j.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// begin looks at the processes that were asked for by number, and says of those
// that cannot be looked at why not.
func (j *job) begin(pids []int) (failed []error) {
	for _, pid := range pids {
		if err := j.check(pid); err != nil {
			failed = append(failed, err)
			continue
		}
		j.open(pid).look(0)
	}
	j.looked = time.Now()
	return failed
}

// targets resolves the request to processes: each once, masters before workers.
// Those that were asked for by number are open already.
func (j *job) targets(req Request) []*process {
	var pids []int
	for _, p := range j.processes {
		p.join()
	}
	add := func(pid int) {
		if !slices.Contains(pids, pid) && pid != j.self {
			pids = append(pids, pid)
		}
	}
	tree := func(s forkserver.Server) {
		for _, pid := range s.PIDs() {
			add(pid)
		}
	}
	if req.All {
		for _, s := range j.servers {
			tree(s)
		}
	}
	if req.Name != nil {
		for i := range j.all {
			p := &j.all[i]
			if p.ID.PID == j.self || !req.Name.MatchString(p.Command()) && !req.Name.MatchString(p.Comm) {
				continue
			}
			if s, role, ok := j.serverOf(p.ID.PID); ok && role == forkserver.Master {
				tree(s)
			}
			add(p.ID.PID)
		}
	}
	for _, pid := range req.PIDs {
		if j.processes[pid] == nil {
			continue
		}
		if s, role, ok := j.serverOf(pid); ok && role == forkserver.Master {
			tree(s)
		}
		add(pid)
	}
	var out []*process
	for _, pid := range pids {
		out = append(out, j.open(pid))
	}
	return out
}

// serverOf returns the server that a process belongs to. A worker that is a
// master itself counts as a worker.
func (j *job) serverOf(pid int) (forkserver.Server, forkserver.Role, bool) {
	for _, want := range []forkserver.Role{forkserver.Worker, forkserver.Master} {
		for _, s := range j.servers {
			if _, role, ok := s.Process(pid); ok && role == want {
				return s, role, true
			}
		}
	}
	s, role, ok := forkserver.Of(j.fs, j.all, pid)
	if ok {
		j.servers = append(j.servers, s)
	}
	return s, role, ok
}

// inherited finds what the workers got from their master besides memory: of
// each server that was asked for as a whole, and of single workers.
func (j *job) inherited(targets []*process) (found []finding.Finding, notes []string) {
	asked := make(map[int]bool)
	for _, p := range targets {
		asked[p.pid] = p.err == nil
	}
	for _, s := range j.servers {
		if !asked[s.Master.ID.PID] {
			s.Workers = slices.DeleteFunc(slices.Clone(s.Workers), func(w forkserver.Process) bool { return !asked[w.ID.PID] })
		}
		if len(s.Workers) == 0 || s.Master.ID.PID == 0 {
			continue
		}
		o, err := inherit.Observe(j.fs, s)
		if err != nil {
			if !proc.IsGone(err) {
				notes = append(notes, permission(s.Master.ID.PID, err).Error())
			}
			continue
		}
		notes = append(notes, o.Notes...)
		j.nameThreads(&o)
		found = append(found, inherit.Judge(o)...)
	}
	return found, notes
}

// nameThreads calls the threads of an observation as Python does. Until 3.13 the kernel
// knows all of them by the name of the program, so that any thread of a worker
// would pass for one of the master's that was started anew there.
func (j *job) nameThreads(o *inherit.Observation) {
	for i := range o.Processes {
		threads := o.Processes[i].Threads
		if len(threads) < 2 {
			continue
		}
		p := j.open(o.Processes[i].ID.PID)
		if p.looks[1] == nil {
			p.look(0)
			p.looks[1] = p.looks[0]
		}
		for k := range threads {
			if name := p.name(threads[k].TID); p.err == nil && name != "" {
				threads[k].Name = name
			}
		}
	}
}

func describe(id libc.Identity, buildID string) *finding.Libc {
	return &finding.Libc{Family: id.Family, Version: id.Version, Package: id.Package, Path: id.Path, BuildID: buildID}
}
