package check

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"forkproof/internal/elffile"
	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/image"
	"forkproof/internal/inherit"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/serverconf"
)

// maxLinked bounds how many objects of a process are searched for what is linked
// into them.
const maxLinked = 256

// process looks at a running process, or at the server whose master it is: what
// counts is the memory that workers are copied from.
func (j *job) process(pid int, server *forkserver.Server) (*subject, error) {
	if err := j.there(pid); err != nil {
		return nil, err
	}
	id, err := j.fs.Identity(pid)
	if err != nil {
		return nil, refused(pid, err)
	}
	s := &subject{live: true, server: server}
	t := &s.target
	t.PID, t.Role = pid, "process"
	from := pid
	if server != nil {
		from = server.Template.ID.PID
		if from == 0 {
			from = pid
		}
		t.Role, t.Server = "master", server.Name
		s.serverID = server.Kind
	}
	if exe, _, err := j.fs.Exe(from); err == nil {
		t.Exe = j.fs.Inside(from, exe)
	}
	args, _ := j.fs.Cmdline(pid) // a zombie was turned away above
	t.Command = strings.Join(args, " ")
	maps, err := j.fs.Maps(from)
	if err != nil {
		return nil, refused(pid, err)
	}
	root, err := image.OpenDir(j.fs.Path(from, "root"))
	if err != nil {
		return nil, refused(pid, err)
	}
	j.closers = append(j.closers, root)
	s.sys = j.system(root)
	libs := &libraries{base: j.base}
	files := j.mapped(from, maps)
	for _, m := range files {
		if family := libc.Named(m.Name()); family != "" && s.build == nil {
			s.build = j.mappedLibc(from, m, family, s)
		}
		libs.file(s.sys, m.Path, library{loaded: true})
	}
	j.linked(from, files, t.Exe, libs, s)
	if server != nil {
		j.afterFork(server, files, libs, s)
	}
	s.dists = j.distributions(from, files, args, s.sys)
	for _, d := range s.dists {
		for _, m := range j.base.Library(facts.Evidence{Python: d.name, Version: d.version}) {
			loaded := slices.ContainsFunc(files, func(f proc.Mapping) bool {
				return strings.HasPrefix(f.Path, "/"+d.dir+"/") && s.sys.record(d, f.Path)
			})
			libs.add(library{Match: m, where: "/" + d.meta, loaded: loaded})
		}
	}
	s.libs = libs.sorted()
	j.atFork(pid, from, s)
	j.configured(pid, args, s)
	if !j.fs.Same(id) {
		return nil, fmt.Errorf("process %d ended while it was looked at: %w", pid, proc.ErrGone)
	}
	return s, nil
}

// there says of a PID that cannot be a target why not.
func (j *job) there(pid int) error {
	st, err := j.fs.Stat(pid)
	switch {
	case proc.IsGone(err):
		return fmt.Errorf("no process %d on this machine (it may have ended; inside a container the PIDs are the container's own): %w", pid, ErrNothing)
	case err != nil:
		return fmt.Errorf("look at process %d: %w", pid, err)
	case st.Kthread():
		return fmt.Errorf("process %d (%s) is a thread of the kernel, which loads no libraries: %w", pid, st.Comm, ErrNothing)
	case st.State == 'Z' || st.State == 'X':
		return fmt.Errorf("process %d (%s) has ended and waits for its parent %d to collect it (a zombie): %w", pid, st.Comm, st.PPID, ErrNothing)
	}
	return nil
}

func refused(pid int, err error) error {
	if proc.IsPermission(err) {
		hint := "run forkproof as root or as the process's own user"
		if os.Geteuid() == 0 {
			hint = "root was refused: in a container the capability SYS_PTRACE is needed"
		}
		return fmt.Errorf("look at process %d: permission denied; %s (%w)", pid, hint, err)
	}
	return fmt.Errorf("look at process %d: %w", pid, err)
}

// mapped are the files that are mapped, each once, by their paths in the root of
// the process: the package database there knows them by these.
func (j *job) mapped(pid int, maps []proc.Mapping) []proc.Mapping {
	var out []proc.Mapping
	seen := make(map[string]bool)
	for _, m := range maps {
		if m.File() && strings.HasPrefix(m.Path, "/") && !seen[m.Path] {
			seen[m.Path] = true
			m.Path = j.fs.Inside(pid, m.Path)
			out = append(out, m)
		}
	}
	return out
}

// mappedLibc identifies the very file that is mapped, which an upgrade may have
// replaced since.
func (j *job) mappedLibc(pid int, m proc.Mapping, family string, s *subject) *build {
	b := &build{Identity: libc.Identity{Family: family, Path: m.Path}}
	f, err := j.fs.OpenMapped(pid, m)
	if err != nil {
		s.notes = append(s.notes, fmt.Sprintf("the C library that process %d has mapped could not be read (%v): its version is that of the package database", pid, err))
		s.sys.owner(b)
		b.Identity.Version = facts.Upstream(b.Package.Ecosystem, b.Package.Version)
		return b
	}
	j.closers = append(j.closers, f)
	b.Identity = libc.Read(family, m.Path, f)
	if e, err := elffile.Open(f); err == nil {
		b.buildID, b.machine = e.BuildID(), e.Machine().String()
	}
	b.contains = func(text string) bool { return contains(f, text) }
	s.sys.owner(b)
	s.outdated(b, m.Deleted)
	return b
}

// outdated sees to it that what is loaded counts, and not what was installed since.
func (s *subject) outdated(b *build, deleted bool) {
	p := &b.Package
	banner := b.Identity.Package
	debian := s.sys.release.ID == "debian" || s.sys.release.ID == "ubuntu"
	switch {
	case debian && p.Version != "" && banner != "" && banner != p.Version && strings.HasPrefix(banner, b.Identity.Version):
		s.notes = append(s.notes, fmt.Sprintf("the process runs with glibc %s, and %s is installed by now: restart the server to use it", banner, p.Version))
		p.Version = banner
	case deleted && !debian:
		s.notes = append(s.notes, "the C library was replaced since the process started; what is installed by now may not be what it runs with: restart the server")
		p.Version = ""
	}
}

// linked looks for what has no file of its own: a C library and allocators that
// are part of the program, and libraries inside of Python's extensions.
func (j *job) linked(pid int, files []proc.Mapping, exe string, libs *libraries, s *subject) {
	if f, err := os.Open(j.fs.Path(pid, "exe")); err == nil {
		j.closers = append(j.closers, f)
		if e, err := elffile.Open(f); err == nil {
			libs.linked(e, exe, true, library{loaded: true})
			if s.build == nil && e.IsStatic() {
				s.build, s.goes = staticLibc(e, f, exe)
			}
		}
	}
	n := 0
	for _, m := range files {
		if distributed(m.Path) || m.Path == exe || !sharedObject(m.Name()) || n >= maxLinked {
			continue
		}
		n++
		if f, err := j.fs.OpenMapped(pid, m); err == nil {
			if e, err := elffile.Open(f); err == nil {
				libs.linked(e, m.Path, false, library{loaded: true})
			}
			_ = f.Close() // only read
		}
	}
}

// afterFork adds what the workers loaded themselves, which no fork has copied.
func (j *job) afterFork(server *forkserver.Server, master []proc.Mapping, libs *libraries, s *subject) {
	have := make(map[string]bool)
	for _, m := range master {
		have[m.Path] = true
	}
	for _, w := range server.Workers[:min(len(server.Workers), 2)] {
		maps, err := j.fs.Maps(w.ID.PID)
		if err != nil {
			continue // it ended, or is another user's
		}
		for _, m := range j.mapped(w.ID.PID, maps) {
			if !have[m.Path] {
				libs.file(s.sys, m.Path, library{loaded: true, later: true})
			}
		}
	}
}

// distributions are the Python packages that the process can import: from the
// folders of what it has mapped, and those of its environment.
func (j *job) distributions(pid int, files []proc.Mapping, args []string, sys *system) []dist {
	var dirs []string
	add := func(d string) {
		if d = strings.TrimPrefix(path.Clean(d), "/"); !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	python := strings.Contains(path.Base(exeOf(j.fs, pid)), "python")
	for _, m := range files {
		python = python || strings.HasPrefix(m.Name(), "libpython3")
		for _, part := range []string{"/site-packages/", "/dist-packages/"} {
			if i := strings.Index(m.Path, part); i >= 0 {
				add(m.Path[:i+len(part)])
			}
		}
	}
	if !python && len(dirs) == 0 {
		return nil
	}
	prefixes := []string{}
	for _, a := range args[:min(len(args), 3)] {
		if strings.HasPrefix(a, "/") && path.Base(path.Dir(a)) == "bin" {
			prefixes = append(prefixes, path.Dir(path.Dir(a)))
		}
	}
	if b, err := j.fs.Read(pid, "environ"); err == nil {
		for v := range strings.SplitSeq(string(b), "\x00") {
			if dir, ok := strings.CutPrefix(v, "VIRTUAL_ENV="); ok {
				prefixes = append(prefixes, dir)
			}
		}
	}
	for _, p := range prefixes {
		lib := strings.TrimPrefix(path.Clean(p), "/") + "/lib"
		entries, err := sys.ReadDir(lib)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "python3") {
				add(path.Join(lib, e.Name(), "site-packages"))
				add(path.Join(lib, e.Name(), "dist-packages"))
			}
		}
	}
	add("usr/lib/python3/dist-packages")
	var out []dist
	for _, d := range dirs {
		out = append(out, sys.dists(d)...)
	}
	return out
}

func exeOf(fs proc.FS, pid int) string {
	exe, _, _ := fs.Exe(pid)
	return exe
}

// atFork finds what there was at the forks besides memory: threads that the
// workers lack and connections that they share. Of a process without workers
// counts what it has now.
func (j *job) atFork(pid, from int, s *subject) {
	if s.server != nil && len(s.server.Workers) > 0 {
		o, err := inherit.Observe(j.fs, *s.server)
		if err != nil {
			s.notes = append(s.notes, fmt.Sprintf("which threads the workers lack could not be seen: %v", err))
			return
		}
		for _, f := range inherit.Judge(o) {
			switch f.Rule {
			case finding.VanishedThread:
				s.threads = append(s.threads, f)
			case finding.SharedConnection:
				s.connections = append(s.connections, f)
			}
		}
		return
	}
	tids, err := j.fs.Threads(from)
	if err != nil {
		return // it ended; what was seen stands
	}
	var names []string
	for _, tid := range tids {
		if tid == from {
			continue
		}
		if st, err := j.fs.TaskStatus(from, tid); err == nil && len(names) < 16 {
			names = append(names, fmt.Sprintf("thread %d is called %q", tid, st.Name))
		}
	}
	if len(tids) > 1 {
		s.threads = append(s.threads, finding.Finding{PID: pid, Evidence: names, Title: fmt.Sprintf("process %d has %d threads besides the first: a fork now copies none of them", pid, len(tids)-1)})
	}
}

// configured reads the configuration that a gunicorn was started with, where it
// can be told.
func (j *job) configured(pid int, args []string, s *subject) {
	if s.serverID == forkserver.Celery {
		s.preload = serverconf.Yes
		return
	}
	if s.serverID == forkserver.UWSGI {
		s.preload = serverconf.Yes
		for _, a := range args {
			switch strings.TrimLeft(a, "-") {
			case "lazy", "lazy-apps":
				s.preload = serverconf.No
			case "py-call-uwsgi-fork-hooks", "py-call-osafterfork":
				s.hooksRun = true
			case "enable-threads":
				s.pythonThreads = true
			}
		}
		return
	}
	if s.serverID != forkserver.Gunicorn {
		return
	}
	if b, err := j.fs.Read(pid, "environ"); err == nil {
		for v := range strings.SplitSeq(string(b), "\x00") {
			if more, ok := strings.CutPrefix(v, "GUNICORN_CMD_ARGS="); ok {
				args = append(strings.Fields(more), args...)
			}
		}
	}
	name := "gunicorn.conf.py"
	for i, a := range args {
		switch v, ok := strings.CutPrefix(a, "--config="); {
		case a == "--preload":
			s.preload = serverconf.Yes
		case ok:
			name = v
		case (a == "-c" || a == "--config") && i+1 < len(args):
			name = args[i+1]
		}
	}
	name = strings.TrimPrefix(name, "file:")
	if !path.IsAbs(name) {
		cwd, err := os.Readlink(j.fs.Path(pid, "cwd"))
		if err != nil {
			return
		}
		name = path.Join(j.fs.Inside(pid, cwd), name)
	}
	if c, err := openConfig(s.sys, name); err == nil && s.config == nil {
		s.config = c
	}
	if s.config != nil && s.preload == serverconf.Unknown && s.config.Is("preload_app") == serverconf.Yes {
		s.preload = serverconf.Yes
	}
}
