// Package native is the part of lint that looks at programs and libraries in
// machine code. Package atfork says what they do; here it is judged by what is
// known of C libraries, and becomes findings.
package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"forkproof/internal/atfork"
	"forkproof/internal/elffile"
	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
)

// Options say how to judge.
type Options struct {
	// Strict: POSIX's list alone counts, and nothing that a C library does beyond.
	Strict bool
	// Deep: calls into other libraries are followed there.
	Deep bool
	// Root is the folder whose libraries those of Deep are; empty means "/".
	Root string
	// Versions has the version of the C library to judge by, by its family
	// (glibc, musl). nil: that of Root. A family that it lacks is judged as of a
	// version that is not known.
	Versions map[string]string
}

// Linter looks at files. It can be used by many goroutines at a time.
type Linter struct {
	opts  Options
	facts *facts.Base
	libs  *libraries
}

// Result is what was found in one file.
type Result struct {
	Path     string
	Findings []finding.Finding
	// Notes say what could not be followed.
	Notes []string
	// Err is why the file could not be looked at. It wraps an error of package
	// elffile or io/fs. Where the file is damaged a finding says so, too.
	Err error
}

// New makes a Linter.
func New(opts Options) (*Linter, error) {
	base, err := facts.Load()
	if err != nil {
		return nil, err
	}
	if opts.Root == "" {
		opts.Root = "/"
	}
	l := &Linter{opts: opts, facts: base, libs: newLibraries(opts.Root)}
	if opts.Versions == nil {
		l.opts.Versions = l.libs.versions()
	}
	return l, nil
}

// IsELF reports whether a regular file begins as ELF files do. It opens nothing
// but regular files, so that it never waits.
func IsELF(path string) (bool, error) {
	f, err := open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	var b [4]byte
	n, _ := f.ReadAt(b[:], 0)
	return n == 4 && string(b[:]) == "\x7fELF", nil
}

// open opens a regular file.
func open(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	return os.Open(path)
}

// File looks at one file. A file that is not for this kind of analysis, such as
// an object file or one for another processor, has neither findings nor an error.
func (l *Linter) File(path string) Result {
	r := Result{Path: path}
	f, err := open(path)
	if err != nil {
		r.Err = err
		return r
	}
	defer func() { _ = f.Close() }() // only read
	opts := atfork.Options{Path: path}
	if l.opts.Deep {
		from := l.libs.session(path)
		defer from.close()
		opts.Needed = from.find
	}
	report, err := atfork.Analyse(f, opts)
	switch {
	case errors.Is(err, atfork.ErrUnlike), errors.Is(err, elffile.ErrMachine), errors.Is(err, elffile.ErrNot64):
		return r
	case errors.Is(err, elffile.ErrDamaged), errors.Is(err, elffile.ErrAbsent):
		r.Err = fmt.Errorf("%s: %w", path, err)
		r.Findings = []finding.Finding{damaged(path, err)}
		return r
	case err != nil:
		r.Err = fmt.Errorf("%s: %w", path, err)
		return r
	}
	if libc.Named(filepath.Base(path)) != "" || libc.Loader(filepath.Base(path)) {
		return r // a C library is judged by what is known of it
	}
	j := &judge{Linter: l, report: report, path: path}
	r.Findings, r.Notes = j.findings(), append(report.Notes, j.notes...)
	return r
}

// Run looks at files, as many at a time as there are processors, and returns
// what was found in their order. It ends early when ctx does, with its error.
func (l *Linter) Run(ctx context.Context, paths []string) ([]Result, error) {
	out := make([]Result, len(paths))
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				out[i] = l.File(paths[i])
			}
		})
	}
	var err error
feed:
	for i := range paths {
		select {
		case next <- i:
		case <-ctx.Done():
			err = ctx.Err()
			break feed
		}
	}
	close(next)
	wg.Wait()
	return out, err
}

// Find returns the ELF files of a folder, each once, whatever links lead to it.
// Links to folders are not followed. What cannot be read is said in notes.
func Find(ctx context.Context, folder string) (paths, notes []string, err error) {
	type id struct{ dev, ino uint64 }
	seen := make(map[id]bool)
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			notes = append(notes, err.Error())
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return nil // gone meanwhile
		}
		if dev, ino, ok := inode(st); ok {
			if seen[id{dev, ino}] {
				return nil
			}
			seen[id{dev, ino}] = true
		}
		is, err := IsELF(path)
		if err != nil {
			notes = append(notes, err.Error())
		}
		if is {
			paths = append(paths, path)
		}
		return nil
	})
	return paths, notes, err
}
