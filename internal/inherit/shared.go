package inherit

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// queueType returns the kind of event queue behind a link, empty for none.
func queueType(link string) string {
	name, ok := strings.CutPrefix(link, "anon_inode:")
	if !ok {
		return ""
	}
	switch name = strings.Trim(name, "[]"); name {
	case "eventpoll", "eventfd", "timerfd", "inotify", "signalfd", "io_uring":
		return name
	}
	return ""
}

// shared fills in Shared: what is one open file description in more than one
// process. A forked process keeps the numbers of its descriptors, so only equal
// numbers are compared.
func (o *Observation) shared(fs proc.FS) {
	type place struct {
		fd   int
		link string
	}
	where := make(map[place][]int)
	var order []place
	for i := range o.Processes {
		for _, fd := range o.Processes[i].FDs {
			if fd.Num <= 2 || queueType(fd.Link) == "" && !strings.HasPrefix(fd.Link, "/") {
				continue
			}
			p := place{fd.Num, fd.Link}
			if len(where[p]) == 0 {
				order = append(order, p)
			}
			where[p] = append(where[p], i)
		}
	}
	refused := false
	for _, p := range order {
		procs := where[p]
		if len(procs) < 2 {
			continue
		}
		sh := Shared{Type: queueType(p.link)}
		if sh.Type == "" && !o.offset(fs, procs[0], p.fd, p.link, &sh) {
			continue
		}
		groups, err := o.groups(procs, p.fd)
		if err != nil {
			refused = true
		}
		for _, g := range groups {
			if len(g) < 2 {
				continue
			}
			one := sh
			for _, i := range g {
				one.Holders = append(one.Holders, Holder{PID: o.Processes[i].ID.PID, FD: p.fd})
			}
			o.Shared = append(o.Shared, one)
		}
	}
	if refused {
		o.Notes = append(o.Notes, "open files could not be compared between processes: kcmp(2) was refused (run as root, or with CAP_SYS_PTRACE)")
	}
	o.users(fs)
}

// groups parts processes by which open file description they hold under number
// fd. Where there are more than maxGroups, each process has its own and the
// rest is not compared with one another.
func (o *Observation) groups(procs []int, fd int) ([][]int, error) {
	var groups [][]int
	var failed error
next:
	for _, i := range procs {
		for g := range groups {
			same, err := proc.SameFile(o.Processes[groups[g][0]].ID.PID, fd, o.Processes[i].ID.PID, fd)
			if err != nil && !proc.IsGone(err) && err != unix.EBADF {
				failed = err
			}
			if err == nil && same {
				groups[g] = append(groups[g], i)
				continue next
			}
		}
		if len(groups) < maxGroups {
			groups = append(groups, []int{i})
		}
	}
	return groups, failed
}

// offset fills in the facts of a regular file whose offset matters: one that
// can be written, not only at its end, and of which something was read or
// written through this very description.
func (o *Observation) offset(fs proc.FS, i, fd int, link string, sh *Shared) bool {
	p := &o.Processes[i]
	for _, std := range p.FDs {
		if std.Num <= 2 && std.Link == link {
			return false // the log that standard error leads to
		}
	}
	in, err := fdInfo(fs, p.ID.PID, fd)
	if err != nil || in.pos == 0 || in.flags&unix.O_ACCMODE == unix.O_RDONLY || in.flags&unix.O_APPEND != 0 {
		return false
	}
	st, err := os.Stat(fs.Path(p.ID.PID, "fd", strconv.Itoa(fd)))
	if err != nil || !st.Mode().IsRegular() || mapped(fs, p.ID.PID, st) {
		return false
	}
	sh.Type, sh.Path, sh.Pos, sh.Flags = "file", fs.Inside(p.ID.PID, link), in.pos, in.flags
	return true
}

// mapped reports whether a file is used as shared memory, as the heap of Python's
// multiprocessing is: what was once written to it is not where it is used.
func mapped(fs proc.FS, pid int, st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	maps, err := fs.Maps(pid)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(maps, func(m proc.Mapping) bool { return m.Shared && m.Inode == sys.Ino })
}

// users finds out which holders of a shared queue use it.
func (o *Observation) users(fs proc.FS) {
	type queues struct {
		waited  map[int]bool // descriptors a thread sleeps on
		watched map[int]bool // descriptors in an epoll queue
	}
	seen := make(map[int]queues)
	look := func(pid int) queues {
		if q, ok := seen[pid]; ok {
			return q
		}
		q := queues{make(map[int]bool), make(map[int]bool)}
		seen[pid] = q
		p := o.process(pid)
		for i := range p.Threads {
			t := &p.Threads[i]
			if sc, err := fs.Syscall(pid, t.TID); err == nil && !sc.Running && !sc.Outside && waitsOnFirst(sc.Nr) {
				t.WaitsOn = int(int32(sc.Args[0]))
				q.waited[t.WaitsOn] = true
			}
		}
		for _, fd := range p.FDs {
			if queueType(fd.Link) != "eventpoll" {
				continue
			}
			if in, err := fdInfo(fs, pid, fd.Num); err == nil {
				for _, n := range in.watched {
					q.watched[n] = true
				}
			}
		}
		return q
	}
	for i := range o.Shared {
		sh := &o.Shared[i]
		if sh.Type == "file" {
			continue
		}
		for _, h := range sh.Holders {
			q := look(h.PID)
			if q.waited[h.FD] || sh.Type != "eventpoll" && sh.Type != "io_uring" && q.watched[h.FD] {
				sh.Users = append(sh.Users, h.PID)
			}
		}
	}
}

// describeHolders writes "descriptor 7 of master 10 and of workers 11, 12".
func (o *Observation) describeHolders(holders []Holder) string {
	var parts []string
	var numbers []int
	for _, h := range holders {
		if !slices.Contains(numbers, h.FD) {
			numbers = append(numbers, h.FD)
		}
	}
	for _, n := range numbers {
		var who []string
		for _, h := range holders {
			if h.FD == n {
				who = append(who, o.name(h.PID))
			}
		}
		parts = append(parts, fmt.Sprintf("descriptor %d of %s", n, enumerate(who, 6)))
	}
	return enumerate(parts, 6)
}

// name writes "master 10" or "worker 11 (checkpointer)".
func (o *Observation) name(pid int) string {
	p := o.process(pid)
	if p == nil {
		return "process " + strconv.Itoa(pid)
	}
	s := string(p.Role) + " " + strconv.Itoa(pid)
	if p.Title != "" && p.Title != string(p.Role) {
		s += " (" + p.Title + ")"
	}
	return s
}

// enumerate writes "a, b and c", and of a long list the first ones.
func enumerate(items []string, most int) string {
	if left := len(items) - most; left > 1 {
		items = append(slices.Clone(items[:most]), fmt.Sprintf("%d more", left))
	}
	switch len(items) {
	case 0:
		return ""
	case 1:
		return items[0]
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}
