// Package check is the job that says what a C library, the libraries and a
// server's settings imply for forking, by published facts: of running servers, of
// a program, of a root file system or image that runs nowhere, and of a
// configuration file. It only reads, and executes nothing of what it looks at.
//
// What it says is known or inferred, and at most observed; a deadlock is proven by
// package inspect alone.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/image"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/serverconf"
)

// Errors that callers tell apart.
var (
	// ErrNothing: what was named is not there.
	ErrNothing = errors.New("nothing to look at")
	// ErrUsage: the request contradicts itself.
	ErrUsage = errors.New("wrong usage")
)

// Request says what to check. With nothing set it is every running pre-fork
// server, or the machine where none runs.
type Request struct {
	// PIDs name processes; a worker stands for its server.
	PIDs []int
	// Exe is a program, within Root where that is set too.
	Exe string
	// Root is a folder with a root file system.
	Root string
	// Image is an OCI layout folder or a saved tar; Platform, as linux/arm64, and
	// Tag choose one of several images in it.
	Image, Platform, Tag string
	// Config is a gunicorn.conf.py, which is read and never run.
	Config string
}

// job is one run.
type job struct {
	ctx     context.Context
	fs      proc.FS
	base    *facts.Base
	systems map[[2]uint64]*system // by device and inode of the root
	closers []io.Closer
}

// Run checks what the request names. The document is returned, with notes, also
// where some of it could not be read; an error means that nothing could be said.
func Run(ctx context.Context, req Request) (*finding.Document, error) {
	base, err := facts.Load()
	if err != nil {
		return nil, err
	}
	j := &job{ctx: ctx, fs: proc.New("/proc"), base: base, systems: make(map[[2]uint64]*system)}
	defer func() {
		for _, c := range j.closers {
			_ = c.Close() // only read
		}
	}()
	doc := &finding.Document{Schema: finding.SchemaV1, Command: "check", Time: time.Now().UTC().Format(time.RFC3339), Host: host()}
	subjects, err := j.subjects(req, doc)
	if err != nil {
		return nil, err
	}
	for _, s := range subjects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		j.judge(s)
		doc.Targets = append(doc.Targets, s.target)
		doc.Findings = append(doc.Findings, s.findings...)
	}
	slices.SortStableFunc(doc.Findings, func(a, b finding.Finding) int {
		if a.Severity != b.Severity {
			return int(b.Severity - a.Severity)
		}
		return int(b.Confidence - a.Confidence)
	})
	return doc, nil
}

// Here is the C library that this machine's own programs use, with its package; in
// a container it is the container's. It is zero where none is found. The file is
// open until done is called.
func Here() (b facts.Build, done func()) {
	root, err := image.OpenDir("/")
	if err != nil {
		return facts.Build{}, func() {}
	}
	done = func() { _ = root.Close() } // only read
	s := openSystem(root)
	builds := s.libcs()
	if at, ok := s.main(builds, nil); ok && len(builds) > 0 {
		return builds[at].fact(), done
	}
	return facts.Build{}, done
}

func host() finding.Host {
	h := finding.Host{Arch: runtime.GOARCH}
	h.Name, h.Kernel = proc.Machine()
	return h
}

// subjects finds what the request is about.
func (j *job) subjects(req Request, doc *finding.Document) ([]*subject, error) {
	var conf *serverconf.Python
	if req.Config != "" {
		f, err := os.OpenFile(req.Config, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			return nil, fmt.Errorf("read the configuration: %s is no regular file (%w)", req.Config, errors.Join(err, ErrNothing))
		}
		if conf, err = serverconf.ReadPython(f, req.Config); err != nil {
			return nil, err
		}
	}
	with := func(s *subject, err error) ([]*subject, error) {
		if err != nil {
			return nil, err
		}
		if conf != nil {
			s.config, s.serverID = conf, forkserver.Gunicorn
			if p := conf.Is("preload_app"); p != serverconf.No {
				s.preload = p
			}
		}
		return []*subject{s}, nil
	}
	switch {
	case req.Image != "" && (req.Root != "" || len(req.PIDs) > 0), req.Root != "" && len(req.PIDs) > 0, req.Exe != "" && len(req.PIDs) > 0, req.Exe != "" && req.Image != "":
		return nil, fmt.Errorf("say one of a PID, --exe, --root and --image (--exe may be within --root): %w", ErrUsage)
	case (req.Platform != "" || req.Tag != "") && req.Image == "":
		return nil, fmt.Errorf("--platform and --tag choose among the images of --image: %w", ErrUsage)
	case req.Image != "":
		return with(j.image(req))
	case req.Root != "" || req.Exe != "":
		return with(j.folder(req))
	}
	all, err := forkserver.Snapshot(j.fs)
	if err != nil {
		return nil, err
	}
	var servers []forkserver.Server
	var plain []int
	var failed []error
	if len(req.PIDs) == 0 && conf == nil {
		servers = forkserver.Find(j.fs, all)
	}
	for _, pid := range req.PIDs {
		if err := j.there(pid); err != nil {
			failed = append(failed, err)
			continue
		}
		s, _, ok := forkserver.Of(j.fs, all, pid)
		switch {
		case !ok:
			plain = append(plain, pid)
		case !slices.ContainsFunc(servers, func(o forkserver.Server) bool { return o.Master.ID == s.Master.ID }):
			servers = append(servers, s)
		}
	}
	if len(servers)+len(plain)+len(failed) == 0 {
		if conf == nil {
			doc.Notes = append(doc.Notes, "no pre-fork server is running on this machine, so the machine itself was looked at")
		}
		return with(j.folder(req))
	}
	var out []*subject
	take := func(pid int, server *forkserver.Server) {
		s, err := j.process(pid, server)
		if err != nil {
			if len(req.PIDs) > 0 || !proc.IsGone(err) {
				failed = append(failed, err)
			}
			return
		}
		if conf != nil {
			s.config = conf
		}
		out = append(out, s)
	}
	for i := range servers {
		take(servers[i].Master.ID.PID, &servers[i])
	}
	for _, pid := range plain {
		take(pid, nil)
	}
	if len(out) == 0 {
		return nil, errors.Join(failed...)
	}
	for _, err := range failed {
		doc.Notes = append(doc.Notes, err.Error())
	}
	return out, nil
}

// system opens a root once: many processes share one.
func (j *job) system(root *image.Dir) *system {
	key, ok := identity(root.Path())
	if s, have := j.systems[key]; ok && have {
		return s
	}
	s := openSystem(root)
	if ok {
		j.systems[key] = s
	}
	return s
}

func identity(dir string) (key [2]uint64, ok bool) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return key, false
	}
	return [2]uint64{st.Dev, st.Ino}, true
}

// folder checks a root folder, a program, or the machine.
func (j *job) folder(req Request) (*subject, error) {
	dir := req.Root
	if dir == "" {
		dir = "/"
	}
	root, err := image.OpenDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the root file system: %w", err)
	}
	j.closers = append(j.closers, root)
	if _, err := root.ReadDir("."); err != nil {
		return nil, fmt.Errorf("open the root file system: %w", err)
	}
	s := &subject{sys: openSystem(root)}
	t := &s.target
	switch {
	case req.Exe != "":
		name := req.Exe
		if req.Root == "" && !path.IsAbs(name) {
			cwd, err := os.Getwd()
			if err != nil {
				return nil, err
			}
			name = path.Join(cwd, name)
		}
		return s, j.exe(s, name)
	case req.Root != "":
		t.Role, t.Name = "root", "root file system "+dir
	default:
		t.Role, t.Name = "machine", "this machine"
	}
	return s, j.installed(s, false, nil)
}

// exe checks one program of a root.
func (j *job) exe(s *subject, name string) error {
	t := &s.target
	libs := &libraries{base: j.base}
	p, err := s.sys.program(name, libs)
	if err != nil {
		return err
	}
	t.Role, t.Name, t.Exe = "program", "program "+p.path, p.path
	if p.script != "" {
		t.Name = "program " + p.script + " (a script of " + p.path + ")"
		s.guessServer(path.Base(p.script))
	} else {
		s.guessServer(path.Base(p.path))
	}
	for _, f := range p.files {
		libs.file(s.sys, f, library{own: true})
	}
	if len(p.missing) > 0 {
		s.notes = append(s.notes, "libraries that the program needs and this root does not have: "+strings.Join(p.missing[:min(len(p.missing), 10)], ", "))
	}
	s.build, s.goes = p.libc, p.goes
	s.libs = libs.sorted()
	if s.build == nil {
		s.notes = append(s.notes, "the program's C library was not found in this root")
	}
	return nil
}

// installed checks everything that is installed in a root. programs are those
// whose loader tells which C library is in use.
func (j *job) installed(s *subject, whole bool, programs []string) error {
	builds := s.sys.libcs()
	at, ok := s.sys.main(builds, programs)
	switch {
	case len(builds) == 0 && s.sys.unread != nil:
		return fmt.Errorf("look for the C library of %s: %w; run forkproof as root or as the files' owner", s.target.Name, s.sys.unread)
	case len(builds) == 0:
		if len(programs) == 0 {
			if len(s.sys.db.Packages) == 0 && s.sys.release.ID == "" {
				return fmt.Errorf("%s has no C library, no package database and no os-release: it does not look like a root file system: %w", s.target.Name, ErrNothing)
			}
			s.notes = append(s.notes, "there is no C library where loaders look; if a program is static, say --exe FILE")
		}
	case !ok:
		return fmt.Errorf("%s has %d C libraries, and nothing tells which its programs use: %s; say --exe FILE: %w", s.target.Name, len(builds), names(builds), ErrNothing)
	default:
		s.build = &builds[at]
		if len(builds) > 1 {
			others := slices.Concat(builds[:at], builds[at+1:])
			s.notes = append(s.notes, fmt.Sprintf("there are other C libraries here, which were not judged: %s; say --exe FILE for a program that uses one", names(others)))
		}
	}
	libs := &libraries{base: j.base}
	c := s.sys.contents(whole)
	s.dists = c.dists
	libs.installed(s.sys, c)
	s.libs = libs.sorted()
	if s.build != nil && s.build.Package.Version == "" && len(s.sys.db.Packages) > 0 {
		s.notes = append(s.notes, fmt.Sprintf("%s is in no package that the database lists, so what a distribution may have mended in it is not known", s.build.Path))
	}
	return nil
}

func names(builds []build) string {
	var out []string
	for _, b := range builds {
		name := strings.TrimSpace(b.Family+" "+b.Identity.Version) + " (" + b.Path
		for arch, machine := range machines {
			if machine == b.machine && arch != runtime.GOARCH {
				name += ", for " + arch
			}
		}
		out = append(out, name+")")
	}
	return strings.Join(out, ", ")
}

// image checks a container image.
func (j *job) image(req Request) (*subject, error) {
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if req.Platform != "" {
		p, err := v1.ParsePlatform(req.Platform)
		if err != nil || p.OS == "" {
			return nil, fmt.Errorf("--platform %q is not of the form linux/arm64: %w", req.Platform, ErrUsage)
		}
		platform = *p
	}
	var programs []string
	m, err := image.Open(j.ctx, image.Request{Path: req.Image, Platform: platform, Tag: req.Tag, Keep: func(c *v1.ConfigFile) func(string, int64) image.Keep {
		programs = entry(c)
		return keeper(programs)
	}})
	if err != nil {
		return nil, err
	}
	j.closers = append(j.closers, m)
	s := &subject{sys: openSystem(m), notes: m.Notes}
	t := &s.target
	t.Role, t.Name = "image", "image "+req.Image
	if len(m.Tags) > 0 {
		t.Name = "image " + m.Tags[0]
	}
	if m.Config.Architecture != "" {
		t.Name += " (" + m.Config.OS + "/" + m.Config.Architecture + ")"
	}
	argv := slices.Concat(m.Config.Config.Entrypoint, m.Config.Config.Cmd)
	t.Command = strings.Join(argv, " ")
	for _, a := range argv {
		s.guessServer(path.Base(a))
		if a == "--preload" {
			s.preload = serverconf.Yes
		}
	}
	var found []string
	for _, p := range programs {
		if st, err := s.sys.Stat(strings.TrimPrefix(p, "/")); err == nil && !st.IsDir() {
			found = append(found, p)
		}
	}
	if err := j.installed(s, true, found); err != nil {
		return nil, err
	}
	if s.build == nil && len(found) > 0 {
		libs := &libraries{base: j.base, all: s.libs}
		p, err := s.sys.program(found[0], libs)
		if err == nil {
			s.build, s.goes, s.libs = p.libc, p.goes, libs.sorted()
		} else {
			s.notes = append(s.notes, err.Error())
		}
	}
	if b := s.build; b != nil && b.machine != "" && m.Config.Architecture != "" && machines[m.Config.Architecture] != "" && machines[m.Config.Architecture] != b.machine {
		s.notes = append(s.notes, fmt.Sprintf("the image says that it is for %s, and its C library is for %s: it was put together wrongly", m.Config.Architecture, b.machine))
	}
	if s.serverID == forkserver.Gunicorn {
		dir := m.Config.Config.WorkingDir
		name := "gunicorn.conf.py"
		for i, a := range argv {
			if (a == "-c" || a == "--config") && i+1 < len(argv) {
				name = argv[i+1]
			}
		}
		if !path.IsAbs(name) {
			name = path.Join("/", dir, name)
		}
		if c, err := openConfig(s.sys, name); err == nil {
			s.config = c
			if s.preload == serverconf.Unknown && c.Is("preload_app") == serverconf.Yes {
				s.preload = serverconf.Yes
			}
		}
	}
	return s, nil
}

// machines are processors, as images and ELF files call them.
var machines = map[string]string{"amd64": "EM_X86_64", "arm64": "EM_AARCH64"}

// entry lists where the image's program may lie, without a leading slash.
func entry(c *v1.ConfigFile) []string {
	argv := slices.Concat(c.Config.Entrypoint, c.Config.Cmd)
	if len(argv) == 0 {
		return nil
	}
	list := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, v := range c.Config.Env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			list = p
		}
	}
	var out []string
	// tini, sh -c and such stand before the program itself: all words that can be
	// one are looked for.
	for _, a := range argv[:min(len(argv), 8)] {
		switch {
		case a == "" || strings.HasPrefix(a, "-") || strings.ContainsAny(a, " \t\n="):
		case strings.Contains(a, "/"):
			if !path.IsAbs(a) {
				a = path.Join("/", c.Config.WorkingDir, a)
			}
			out = append(out, strings.TrimPrefix(path.Clean(a), "/"))
		case strings.HasSuffix(a, ".py"):
			out = append(out, strings.TrimPrefix(path.Join("/", c.Config.WorkingDir, a), "/"))
		default:
			for dir := range strings.SplitSeq(list, ":") {
				out = append(out, strings.TrimPrefix(path.Join("/", dir, a), "/"))
			}
		}
	}
	return out[:min(len(out), 200)]
}

// maxProgram bounds the programs that are kept of an image, in bytes.
const maxProgram = 256 << 20

// keeper says what of an image is kept: package databases, C libraries and
// loaders, the names of libraries and Python distributions, gunicorn's
// configuration, and the programs that it starts.
func keeper(programs []string) func(name string, size int64) image.Keep {
	return func(name string, size int64) image.Keep {
		base := path.Base(name)
		dir := path.Base(path.Dir(name))
		switch {
		case libc.Named(base) != "", strings.HasPrefix(base, "ld-linux"), strings.HasPrefix(base, "ld-2."),
			base == "os-release", strings.HasPrefix(name, "var/lib/dpkg/status"),
			strings.HasSuffix(name, "lib/apk/db/installed"),
			base == "rpmdb.sqlite", dir == "rpm" && (base == "Packages" || base == "Packages.db"),
			base == "ld.so.conf", dir == "ld.so.conf.d":
			return image.Content
		case strings.HasPrefix(base, "gunicorn") && strings.HasSuffix(base, ".py") && size <= serverconf.MaxSize:
			return image.Content
		case strings.HasSuffix(dir, ".dist-info") && base == "METADATA", strings.HasSuffix(base, ".egg-info"):
			return image.Name
		case sharedObject(base):
			return image.Name
		case size <= maxProgram && (slices.Contains(programs, name) || (dir == "bin" || dir == "sbin") && (base == "sh" || base == "env" || base == "busybox" || base == "dash" || base == "bash" || base == "coreutils" || strings.HasPrefix(base, "python3"))):
			return image.Content
		}
		return image.Nothing
	}
}
