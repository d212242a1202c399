// Package inspect is the job that looks at live processes and says which of
// them are deadlocked, on what and because of whom. It only reads: nothing is
// stopped or changed.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/facts"
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
}

// Run inspects what the request names and returns what it found. The document
// is returned, with notes, also where some of the targets could not be read; an
// error means that nothing could be seen at all.
func Run(ctx context.Context, req Request) (*finding.Document, error) {
	j := &job{
		ctx: ctx,
		fs:  proc.New("/proc"), files: unwind.NewFiles(), processes: make(map[int]*process),
		self: os.Getpid(), gap: req.Gap, libcs: &libcs{known: make(map[libcKey]libc.Identity)},
	}
	defer j.files.Close()
	if j.gap == 0 {
		j.gap = 5 * time.Millisecond
	}
	doc := &finding.Document{Schema: finding.SchemaV1, Command: "inspect", Time: time.Now().UTC().Format(time.RFC3339)}
	// The first look comes first: what else there is to read is read while the
	// second one is waited for. The proofs hold for any time between them.
	failed := j.begin(req.PIDs)
	ahead := j.readAhead()
	defer ahead.Wait()
	doc.Host = j.host()
	var err error
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
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(j.gap - time.Since(j.looked)):
	}
	for _, p := range targets {
		p.look(1)
		p.keepStill()
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
	doc.Notes = append(doc.Notes, notes...)
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
		if len(s.Workers) == 0 {
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
		found = append(found, inherit.Judge(o)...)
	}
	return found, notes
}

// check says of a PID that cannot be a target why not.
func (j *job) check(pid int) error {
	st, err := j.fs.Stat(pid)
	switch {
	case proc.IsGone(err):
		if h := j.fs.HidePID(); h != "" && os.Geteuid() != 0 {
			return fmt.Errorf("no process %d is visible: /proc is mounted with hidepid=%s, so it may be another user's; run as root: %w", pid, h, ErrNothing)
		}
		return fmt.Errorf("no process %d on this machine (it may have ended; inside a container the PIDs are the container's own): %w", pid, ErrNothing)
	case err != nil:
		return fmt.Errorf("look at process %d: %w", pid, err)
	case st.Kthread():
		return fmt.Errorf("process %d (%s) is a thread of the kernel, which has no memory of its own to look at: %w", pid, st.Comm, ErrNothing)
	case st.State == 'Z' || st.State == 'X':
		return fmt.Errorf("process %d (%s) has ended and waits for its parent %d to collect it (a zombie): %w", pid, st.Comm, st.PPID, ErrNothing)
	case st.PID == j.self:
		return fmt.Errorf("process %d is forkproof itself: %w", pid, ErrNothing)
	}
	return nil
}

// host describes the machine.
func (j *job) host() finding.Host {
	h := finding.Host{Arch: runtime.GOARCH}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Name, h.Kernel = unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Release[:])
	}
	for _, dir := range []string{"/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib/aarch64-linux-gnu", "/usr/lib", "/lib"} {
		for _, name := range []string{"libc.so.6", "ld-musl-x86_64.so.1", "ld-musl-aarch64.so.1"} {
			f, err := os.Open(dir + "/" + name)
			if err != nil {
				continue
			}
			id := libc.Read(libc.Named(name), dir+"/"+name, f)
			f.Close()
			h.Libc = describe(id, "")
			h.LibcMeans = facts.Meaning(id.Family, id.Major, id.Minor)
			return h
		}
	}
	return h
}

func describe(id libc.Identity, buildID string) *finding.Libc {
	return &finding.Libc{Family: id.Family, Version: id.Version, Package: id.Package, Path: id.Path, BuildID: buildID}
}

// permission turns a refusal into what the user can do.
func permission(pid int, err error) error {
	if !proc.IsPermission(err) {
		return err
	}
	hint := "run forkproof as root or as the process's own user"
	if os.Geteuid() == 0 {
		hint = "root was refused: in a container the capability SYS_PTRACE is needed (docker run --cap-add SYS_PTRACE; kubectl debug --profile=sysadmin)"
	} else if b, e := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); e == nil && strings.TrimSpace(string(b)) != "0" {
		hint = "kernel.yama.ptrace_scope is " + strings.TrimSpace(string(b)) + ": run forkproof as root"
	}
	return fmt.Errorf("look at process %d: permission denied; %s (%w)", pid, hint, err)
}
