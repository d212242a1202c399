package lint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"forkproof/internal/lint/native"
	"forkproof/internal/serverconf"
)

// file is one that may be looked at.
type file struct {
	path string
	// kind is what serverconf.Kind says, empty for one that nothing is known of.
	kind string
	// config: it is a gunicorn.conf.py.
	config bool
}

// maxFiles bounds a run.
const maxFiles = 500_000

// skipped are folders that hold no code of the project.
var skipped = map[string]bool{".git": true, ".hg": true, ".svn": true, "node_modules": true, "__pycache__": true, ".tox": true, ".nox": true, ".mypy_cache": true, ".pytest_cache": true,
	"site-packages": true, "dist-packages": true, ".eggs": true, ".ruff_cache": true, ".idea": true}

// walk lists the files of all paths. Folders are entered once, however many links
// lead to them.
func (j *job) walk() error {
	seen := make(map[string]bool)
	for _, p := range j.req.Paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		st, err := os.Stat(abs)
		if err != nil {
			if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
				err = pe.Err
			}
			return fmt.Errorf("look at %s: %w", p, err)
		}
		if !st.IsDir() {
			j.roots = append(j.roots, filepath.Dir(abs))
			if !seen[abs] {
				seen[abs] = true
				j.file(abs, true)
			}
			continue
		}
		j.roots = append(j.roots, abs)
		if err := j.folder(abs, seen, 0); err != nil {
			return err
		}
	}
	slices.SortFunc(j.roots, func(a, b string) int { return len(b) - len(a) })
	j.roots = slices.Compact(j.roots)
	return nil
}

func (j *job) folder(dir string, seen map[string]bool, depth int) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || seen[real] {
		return nil // a link in a circle, or one that was there before
	}
	seen[real] = true
	if depth > 100 {
		j.note(j.short(dir) + ": folders are nested too deeply; what is below was left out")
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		j.note(fmt.Sprintf("%s could not be read: %v", j.short(dir), errors.Unwrap(err)))
		return nil
	}
	if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "pyvenv.cfg" }) {
		return nil // a virtual environment
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		isDir := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			st, err := os.Stat(path)
			if err != nil {
				continue // a link to nowhere
			}
			isDir = st.IsDir()
		}
		switch {
		case isDir && !skipped[e.Name()]:
			if err := j.folder(path, seen, depth+1); err != nil {
				return err
			}
		case !isDir && !seen[path]:
			seen[path] = true
			j.file(path, false)
		}
		if len(j.files) >= maxFiles {
			return fmt.Errorf("more than %d files: name folders that are smaller", maxFiles)
		}
	}
	return nil
}

// file keeps one for later. One that was named itself is Python if its first line
// says so.
func (j *job) file(path string, named bool) {
	f := file{path: path, kind: serverconf.Kind(filepath.ToSlash(path))}
	if f.kind == "python" {
		f.config = serverconf.IsGunicorn(path)
	}
	if f.kind == "" {
		if is, err := native.IsELF(path); err == nil && is {
			j.binaries = append(j.binaries, path)
			return
		}
	}
	if f.kind == "" && named {
		if h, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
			line, _ := bufio.NewReader(io.LimitReader(h, 256)).ReadString('\n')
			_ = h.Close() // only read
			if strings.HasPrefix(line, "#!") && strings.Contains(line, "python") {
				f.kind = "python"
			}
		}
		if f.kind == "" {
			j.note(j.short(path) + " is no file that is looked at: neither Python nor a configuration that is known, nor a program or library")
		}
	}
	if f.kind != "" {
		j.files = append(j.files, f)
	}
}

// text reads a configuration.
func (j *job) text(path string) (string, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		j.note(fmt.Sprintf("%s could not be read: %v", j.short(path), errors.Unwrap(err)))
		return "", false
	}
	defer func() { _ = f.Close() }() // only read
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", false
	}
	b, err := io.ReadAll(io.LimitReader(f, serverconf.MaxSize+1))
	if err != nil || len(b) > serverconf.MaxSize {
		j.note(fmt.Sprintf("%s is larger than %d bytes, and no configuration", j.short(path), serverconf.MaxSize))
		return "", false
	}
	return string(b), true
}
