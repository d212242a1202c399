package check

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"forkproof/internal/elffile"
	"forkproof/internal/facts"
	"forkproof/internal/libc"
	"forkproof/internal/osdb"
)

// tree is a root file system: a folder or an image.
type tree interface {
	fs.FS
	fs.StatFS
	fs.ReadDirFS
	// Resolve returns the path that a name leads to through all links.
	Resolve(name string) (string, error)
}

// system is a root file system and what its package databases say.
type system struct {
	tree
	db      *osdb.DB
	release osdb.Release
	// notes say what was damaged or odd.
	notes []string
	// unread is the first refusal to read where C libraries lie.
	unread error
}

func openSystem(t tree) *system {
	s := &system{tree: t}
	var err error
	if s.db, err = osdb.Read(t); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			s.note("%s", line+"; what a distribution mended in its packages may not be seen here")
		}
	}
	if s.release, err = osdb.ReadRelease(t); err != nil {
		s.note("%v", err)
	}
	return s
}

// note adds a note, once: many processes share one root.
func (s *system) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(s.notes, n) {
		s.notes = append(s.notes, n)
	}
}

// pkg is the installed package of the given names that comes first, as the facts
// take it.
func (s *system) pkg(names ...string) facts.Package {
	for _, n := range names {
		for _, p := range s.db.Find(n) {
			return s.fact(p)
		}
	}
	return facts.Package{}
}

func (s *system) fact(p osdb.Package) facts.Package {
	return facts.Package{
		Ecosystem: facts.Ecosystem(p.Format), Name: p.Name, Version: p.Version, Source: p.Source,
		Distribution: s.release.ID, Release: s.release.Name(),
	}
}

// loaderDirs are where dynamic loaders look, of the systems that are known:
// multiarch (Debian), lib64 (Red Hat, SUSE), lib (Alpine, Arch), and the place of
// the glibc that people add to Alpine.
var loaderDirs = []string{
	"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu",
	"lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib", "usr/local/lib64", "usr/glibc-compat/lib",
	"lib32", "lib/i386-linux-gnu", "usr/lib/i386-linux-gnu",
}

// build is a C library that was found.
type build struct {
	libc.Identity
	Package facts.Package
	buildID string
	machine string
	// static: it is part of the program at Path.
	static   bool
	contains func(text string) bool
}

// fact is the build as the facts take it.
func (b *build) fact() facts.Build {
	return facts.Build{Family: b.Family, Version: b.Identity.Version, Package: b.Package, Contains: b.contains}
}

// libcs finds the C libraries that a loader of this root would find, each once.
func (s *system) libcs() []build {
	var out []build
	seen := make(map[string]bool)
	for _, dir := range loaderDirs {
		entries, err := s.ReadDir(dir)
		if err != nil {
			s.refused(err)
			continue
		}
		for _, e := range entries {
			family := libc.Named(e.Name())
			if family == "" {
				continue
			}
			name := path.Join(dir, e.Name())
			real, err := s.Resolve(name)
			if err != nil || seen[real] {
				continue
			}
			seen[real] = true
			b, err := s.libcAt(family, name)
			switch {
			case errors.Is(err, fs.ErrNotExist), e.Name() == "libc.so" && (errors.Is(err, elffile.ErrNotELF) || b.Family == "unknown"):
				// Where glibc is, libc.so is a text for the linker.
			case errors.Is(err, elffile.ErrNot64):
				s.note("/%s is a C library for 32-bit programs, which forkproof knows nothing of", name)
			case err != nil:
				s.refused(err)
				s.note("/%s could not be read: %v", name, err)
			default:
				out = append(out, b)
			}
		}
	}
	return out
}

// refused remembers that reading was not allowed.
func (s *system) refused(err error) {
	if s.unread == nil && errors.Is(err, fs.ErrPermission) {
		s.unread = err
	}
}

func (s *system) libcAt(family, name string) (build, error) {
	f, err := s.Open(name)
	if err != nil {
		return build{}, err
	}
	defer func() { _ = f.Close() }() // only read
	r, size, err := readerAt(f)
	if err != nil {
		return build{}, err
	}
	e, err := elffile.OpenSize(r, size)
	if err != nil {
		return build{}, err
	}
	b := build{Identity: libc.Read(family, "/"+name, r), buildID: e.BuildID(), machine: e.Machine().String()}
	b.contains = func(text string) bool {
		f, err := s.Open(name)
		if err != nil {
			return false
		}
		defer func() { _ = f.Close() }() // only read
		r, _, err := readerAt(f)
		return err == nil && contains(r, text)
	}
	s.owner(&b)
	return b, nil
}

// owner finds the package that a C library came with.
func (s *system) owner(b *build) {
	for _, foreign := range []string{"/opt/", "/usr/local/", "/home/", "/nix/", "/root/"} {
		if strings.HasPrefix(b.Path, foreign) {
			return
		}
	}
	switch {
	case b.Family == "glibc" && strings.HasPrefix(b.Path, "/usr/glibc-compat/"):
		b.Package = s.pkg("gcompat", "glibc")
	case b.Family == "glibc":
		b.Package = s.pkg("libc6", "glibc")
	case b.Family == "musl":
		b.Package = s.pkg("musl")
	}
	if b.Package.Version == "" && b.Family == "glibc" && (s.release.ID == "debian" || s.release.ID == "ubuntu") && b.Identity.Package != "" {
		// Their banner has the whole version of the package.
		b.Package = facts.Package{Ecosystem: facts.Deb, Name: "libc6", Source: "glibc", Version: b.Identity.Package, Distribution: s.release.ID, Release: s.release.Name()}
	}
	for _, p := range s.db.Find(b.Package.Name) {
		if p.State != "" {
			s.note("package %s %s is %s: its files may be of another version than the database says; finish it first (dpkg --configure -a)", p.Name, p.Version, p.State)
			break
		}
	}
}

func readerAt(f fs.File) (io.ReaderAt, int64, error) {
	r, ok := f.(io.ReaderAt)
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case !ok || st.IsDir():
		return nil, 0, errors.New("it is a folder")
	}
	return r, st.Size(), nil
}

// maxSearch bounds how much of a file is searched for a text.
const maxSearch = 64 << 20

// contains reports whether a file has a text in it.
func contains(r io.ReaderAt, text string) bool {
	const chunk = 1 << 20
	buf := make([]byte, chunk+len(text))
	for off := int64(0); off < maxSearch; off += chunk {
		n, err := r.ReadAt(buf, off)
		if strings.Contains(string(buf[:n]), text) {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// main chooses of several C libraries the one that the root's own programs use:
// the one that belongs to the loader which a program names. ok is false where
// nothing tells.
func (s *system) main(all []build, programs []string) (at int, ok bool) {
	if len(all) == 1 {
		return 0, true
	}
	for _, p := range append(slices.Clone(programs), "usr/bin/python3", "usr/local/bin/python3", "bin/sh", "usr/bin/env", "bin/busybox") {
		interp := s.interp(p)
		if interp == "" {
			continue
		}
		real, err := s.Resolve(interp)
		if err != nil {
			continue
		}
		family := "glibc"
		if strings.Contains(path.Base(interp), "musl") {
			family = "musl"
		}
		// The C library beside the loader: in one folder, once links are followed.
		at = -1
		for i, b := range all {
			own, err := s.Resolve(strings.TrimPrefix(b.Path, "/"))
			if err == nil && b.Family == family && path.Dir(own) == path.Dir(real) {
				return i, true
			}
			if b.Family == family {
				if at >= 0 {
					at = -2
				} else if at == -1 {
					at = i
				}
			}
		}
		if at >= 0 {
			return at, true
		}
	}
	return 0, false
}

func (s *system) interp(program string) string {
	f, err := s.Open(strings.TrimPrefix(program, "/"))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	r, size, err := readerAt(f)
	if err != nil {
		return ""
	}
	e, err := elffile.OpenSize(r, size)
	if err != nil {
		return ""
	}
	interp, err := e.Interp()
	if err != nil {
		return ""
	}
	return interp
}

// dist is an installed Python distribution.
type dist struct {
	name, version string
	// dir is the folder with the distributions, meta that of this one's metadata.
	dir, meta string
}

var distName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._]*?)-([0-9][A-Za-z0-9.!+_]*?)(?:-py[0-9.]+)?\.(?:dist-info|egg-info)$`)

func parseDist(dir, entry string) (dist, bool) {
	m := distName.FindStringSubmatch(entry)
	if m == nil {
		return dist{}, false
	}
	return dist{name: m[1], version: m[2], dir: dir, meta: path.Join(dir, entry)}, true
}

// dists lists the distributions of one folder.
func (s *system) dists(dir string) []dist {
	entries, err := s.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []dist
	for _, e := range entries {
		if d, ok := parseDist(dir, e.Name()); ok {
			out = append(out, d)
		}
	}
	return out
}

// contents is what of a root matters here besides its packages.
type contents struct {
	files []string // shared libraries, as paths without a leading slash
	dists []dist
}

// maxFound bounds how many files of interest are looked at.
const maxFound = 100_000

// contents lists libraries and distributions. An image was cut down to what
// matters already and is walked as a whole; of a folder only the places are looked
// at where libraries and Python packages usually lie.
func (s *system) contents(whole bool) contents {
	var c contents
	if whole {
		_ = fs.WalkDir(s, ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil // a link in a ring
			}
			if len(c.files)+len(c.dists) > maxFound {
				return fs.SkipAll
			}
			if x, ok := parseDist(path.Dir(p), d.Name()); ok {
				c.dists = append(c.dists, x)
			}
			if !d.IsDir() && sharedObject(d.Name()) {
				c.files = append(c.files, p)
			}
			return nil
		})
		return c
	}
	seen := make(map[string]bool)
	list := func(dir string, deeper bool) {
		real, err := s.Resolve(dir)
		if err != nil || seen[real] {
			return
		}
		seen[real] = true
		entries, err := s.ReadDir(dir)
		if err != nil {
			return
		}
		for _, e := range entries {
			switch {
			case len(c.files)+len(c.dists) > maxFound:
				return
			case sharedObject(e.Name()):
				c.files = append(c.files, path.Join(dir, e.Name()))
			case deeper && strings.HasSuffix(e.Name(), ".libs"):
				more, err := s.ReadDir(path.Join(dir, e.Name()))
				if err != nil {
					continue
				}
				for _, f := range more {
					if sharedObject(f.Name()) {
						c.files = append(c.files, path.Join(dir, e.Name(), f.Name()))
					}
				}
			}
		}
	}
	for _, dir := range loaderDirs {
		list(dir, false)
	}
	for _, dir := range s.siteDirs() {
		list(dir, true)
		c.dists = append(c.dists, s.dists(dir)...)
	}
	return c
}

func sharedObject(base string) bool {
	return strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.")
}

// siteDirs are the folders with Python distributions in the usual places of a root.
func (s *system) siteDirs() []string {
	out := make(map[string]bool)
	for _, prefix := range []string{"usr", "usr/local", "opt/venv", "venv", "app/venv", "app/.venv", ".venv", "opt/conda", "opt/app-root"} {
		for _, lib := range []string{"lib", "lib64"} {
			entries, err := s.ReadDir(path.Join(prefix, lib))
			if err != nil {
				continue
			}
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), "python3") {
					for _, site := range []string{"site-packages", "dist-packages"} {
						dir := path.Join(prefix, lib, e.Name(), site)
						if real, err := s.Resolve(dir); err == nil {
							if st, err := s.Stat(real); err == nil && st.IsDir() {
								out[real] = true
							}
						}
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(out))
}
