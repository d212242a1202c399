package inherit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"forkproof/internal/forkserver"
	"forkproof/internal/proc"
	"forkproof/internal/target"
)

// Bounds of what is looked at in one server.
const (
	// maxWorkers: a PostgreSQL with a thousand backends has a thousand copies
	// of the same; the first ones tell.
	maxWorkers = 128
	// maxFDs is the number of descriptors of one process.
	maxFDs = 4096
	// maxGroups is the number of different open file descriptions under one
	// number that are told apart, see share.
	maxGroups = 8
)

// Observe reads what the processes of a server hold. A process that ends
// meanwhile is left out. What could not be read for want of permission is said
// in Notes; the error says that the master itself could not be read.
func Observe(fs proc.FS, s forkserver.Server) (Observation, error) {
	o := Observation{Kind: s.Kind, Name: s.Name, Traits: s.Traits}
	list := []forkserver.Process{s.Master}
	list = append(list, s.Workers[:min(len(s.Workers), maxWorkers)]...)
	if left := len(s.Workers) - maxWorkers; left > 0 {
		o.Notes = append(o.Notes, fmt.Sprintf("%s has %d workers; connections, queues and threads of %d were not compared", s.Name, len(s.Workers), left))
	}
	read := make([]Process, len(list))
	errs := make([]error, len(list))
	var wait sync.WaitGroup
	const readers = 2
	for r := range readers {
		wait.Go(func() {
			for i := r; i < len(list); i += readers {
				read[i], errs[i] = observe(fs, list[i].ID)
			}
		})
	}
	wait.Wait()
	if errs[0] != nil {
		return o, fmt.Errorf("look at what process %d holds: %w", s.Master.ID.PID, errs[0])
	}
	refused := 0
	for i, p := range list {
		switch {
		case proc.IsGone(errs[i]):
			continue
		case errs[i] != nil:
			refused++
			continue
		}
		read[i].Title, read[i].Role = p.Title, forkserver.Worker
		if i == 0 {
			read[i].Role = forkserver.Master
		} else {
			read[i].From = s.ForkedFrom(p).ID.PID
		}
		o.Processes = append(o.Processes, read[i])
	}
	if refused > 0 {
		o.Notes = append(o.Notes, fmt.Sprintf("%d workers of %s could not be read: %v", refused, s.Name, first(errs[1:])))
	}
	for _, fd := range o.Processes[0].FDs {
		if queueType(fd.Link) != "eventpoll" {
			continue
		}
		if in, err := fdInfo(fs, s.Master.ID.PID, fd.Num); err == nil {
			o.Processes[0].Watched = append(o.Processes[0].Watched, in.watched...)
		}
	}
	o.sockets(fs)
	o.shared(fs)
	o.lasting(fs)
	return o, nil
}

// lasting drops the threads that have ended since they were read. A master that
// stops a thread before it forks (gunicorn since 25.2) joins it, and goes on when
// the thread has said that it ends: for a moment it is still there.
func (o *Observation) lasting(fs proc.FS) {
	for i := range o.Processes {
		p := &o.Processes[i]
		if len(p.Threads) < 2 {
			continue
		}
		if now, err := fs.Threads(p.ID.PID); err == nil {
			p.Threads = slices.DeleteFunc(p.Threads, func(t Thread) bool { return !slices.Contains(now, t.TID) })
		}
	}
}

func first(errs []error) error {
	for _, err := range errs {
		if err != nil && !proc.IsGone(err) {
			return err
		}
	}
	return nil
}

func observe(fs proc.FS, id target.ID) (Process, error) {
	p := Process{ID: id}
	var err error
	if p.Threads, err = threads(fs, id.PID); err != nil {
		return p, err
	}
	if p.FDs, err = fds(fs, id.PID); err != nil {
		return p, err
	}
	if !fs.Same(id) {
		return p, proc.ErrGone
	}
	return p, nil
}

// threads lists the threads of a process. Workers of io_uring are threads of
// the kernel that only look like the process's own, and are left out.
func threads(fs proc.FS, pid int) ([]Thread, error) {
	tids, err := fs.Threads(pid)
	if err != nil {
		return nil, err
	}
	list := make([]Thread, 0, len(tids))
	for _, tid := range tids {
		st, err := fs.TaskStat(pid, tid)
		if proc.IsGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(st.Comm, "iou-") || st.Exiting() && tid != pid {
			continue
		}
		t := Thread{TID: tid, Name: st.Comm, Start: st.StartTime, WaitsOn: -1}
		if head, err := proc.RobustList(tid); err == nil {
			t.Robust = head
		}
		list = append(list, t)
	}
	return list, nil
}

func fds(fs proc.FS, pid int) ([]FD, error) {
	dir := fs.Path(pid, "fd")
	d, err := os.Open(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, proc.ErrGone
		}
		return nil, err
	}
	names, err := d.Readdirnames(maxFDs)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil && len(names) == 0 {
		// A process on its way out has no descriptors any more.
		return nil, proc.ErrGone
	}
	list := make([]FD, 0, len(names))
	for _, n := range names {
		num, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		link, err := os.Readlink(filepath.Join(dir, n))
		if err != nil {
			continue // closed meanwhile
		}
		fd := FD{Num: num, Link: link}
		if s, ok := strings.CutPrefix(link, "socket:["); ok {
			fd.Inode, _ = strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 64)
		}
		list = append(list, fd)
	}
	slices.SortFunc(list, func(a, b FD) int { return a.Num - b.Num })
	return list, nil
}

// info is what /proc/PID/fdinfo/N says.
type info struct {
	pos   int64
	flags int
	// watched are the descriptors in an epoll queue's interest list, by the
	// numbers under which they were added.
	watched []int
}

func fdInfo(fs proc.FS, pid, fd int) (info, error) {
	b, err := os.ReadFile(fs.Path(pid, "fdinfo", strconv.Itoa(fd)))
	if err != nil {
		return info{}, err
	}
	return parseInfo(b)
}

// parseInfo parses an fdinfo file: "pos:\t12\nflags:\t0100002\n" and, for epoll,
// lines "tfd:  5 events: ...".
func parseInfo(b []byte) (info, error) {
	var in info
	var havePos, haveFlags bool
	for line := range strings.Lines(string(b)) {
		k, v, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		var err error
		switch k {
		case "pos":
			in.pos, err = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			havePos = true
		case "flags":
			var f int64
			f, err = strconv.ParseInt(strings.TrimSpace(v), 8, 64)
			in.flags, haveFlags = int(f), true
		case "tfd":
			w := strings.Fields(v)
			if len(w) == 0 {
				return in, fmt.Errorf("fdinfo: %w: %.80q", proc.ErrParse, line)
			}
			var n int
			n, err = strconv.Atoi(w[0])
			in.watched = append(in.watched, n)
		}
		if err != nil {
			return in, fmt.Errorf("fdinfo: %w: %.80q", proc.ErrParse, line)
		}
	}
	if !havePos || !haveFlags {
		return in, fmt.Errorf("fdinfo: %w: %.80q", proc.ErrParse, b)
	}
	return in, nil
}
