package native

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"forkproof/internal/atfork"
	"forkproof/internal/image"
	"forkproof/internal/libc"
	"forkproof/internal/osdb"
)

// libraryDirs are where loaders look of themselves, in the layouts of Debian,
// Red Hat and Alpine.
var libraryDirs = []string{
	"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu",
	"lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib",
}

// libraries finds libraries by the names under which others need them, within a
// root.
type libraries struct{ root string }

func newLibraries(root string) *libraries { return &libraries{root} }

// session finds them for one file, beside which they are looked for first, and
// keeps them open.
func (l *libraries) session(path string) *session { return &session{l, filepath.Dir(path), nil} }

type session struct {
	*libraries
	beside string
	open   []*os.File
}

func (s *session) close() {
	for _, f := range s.open {
		_ = f.Close() // only read
	}
}

// find opens the library of a name in DT_NEEDED. LD_LIBRARY_PATH, DT_RPATH and
// the loader's cache are not read: the usual folders are searched.
func (s *session) find(name string) (atfork.Library, error) {
	if filepath.Base(name) != name {
		return atfork.Library{}, fmt.Errorf("library %q is named by a path", name)
	}
	dirs := []string{s.beside}
	for _, d := range libraryDirs {
		dirs = append(dirs, filepath.Join(s.root, d))
	}
	for _, d := range dirs {
		if f, err := open(filepath.Join(d, name)); err == nil {
			s.open = append(s.open, f)
			return atfork.Library{Path: f.Name(), ReaderAt: f}, nil
		}
	}
	return atfork.Library{}, fmt.Errorf("it is in none of the usual folders of %s", s.root)
}

// versions are those of the root's C libraries, by family.
func (l *libraries) versions() map[string]string {
	out := make(map[string]string)
	for _, d := range libraryDirs {
		entries, err := os.ReadDir(filepath.Join(l.root, d))
		if err != nil {
			continue
		}
		for _, e := range entries {
			family := libc.Named(e.Name())
			if family == "" || out[family] != "" {
				continue
			}
			f, err := open(filepath.Join(l.root, d, e.Name()))
			if err != nil {
				continue
			}
			if id := libc.Read(family, f.Name(), io.ReaderAt(f)); id.Version != "" {
				out[id.Family] = id.Version
			}
			_ = f.Close() // only read
		}
	}
	return out
}

// Package returns the ELF files that the package manager of a root installed with
// a package; an empty root is the machine. The error says if it has no such package.
func Package(root, name string) ([]string, error) {
	if root == "" {
		root = "/"
	}
	dir, err := image.OpenDir(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }() // only read
	files, err := osdb.FilesOf(dir, name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range files {
		real, err := dir.Resolve(f)
		if err != nil {
			continue
		}
		path := filepath.Join(root, real)
		if is, err := IsELF(path); err == nil && is {
			out = append(out, path)
		}
	}
	return out, nil
}
