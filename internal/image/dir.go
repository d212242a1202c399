package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir is a folder taken as the root of a file system: what a program would see
// that was started in it with chroot. It implements fs.FS, fs.StatFS and
// fs.ReadDirFS.
//
// Links are followed within the folder by Dir itself. What is opened in the end is
// opened by os.Root, which leaves the folder neither through a link that somebody
// puts there in between nor through one of /proc. Only regular files and folders
// are opened: a device or a pipe would do something, or block.
type Dir struct {
	root *os.Root
	path string

	mutex sync.Mutex
	links map[string]string // by resolved path; "" for what is no link
}

// OpenDir opens a folder as a root.
func OpenDir(dir string) (*Dir, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Dir{root: r, path: dir, links: make(map[string]string)}, nil
}

// Close ends it. Files that were opened stay open.
func (d *Dir) Close() error { return d.root.Close() }

// Path is the folder's own path.
func (d *Dir) Path() string { return d.path }

// Resolve returns the path within the root that a name leads to, through all
// links, without a leading slash. What it leads to need not exist.
func (d *Dir) Resolve(name string) (string, error) { return resolve(name, true, d.link) }

func (d *Dir) link(name string) (string, bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if t, ok := d.links[name]; ok {
		return t, t != ""
	}
	target, err := d.root.Readlink(name)
	if err != nil {
		target = ""
	}
	d.links[name] = target
	return target, target != ""
}

// Open implements fs.FS.
func (d *Dir) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := d.open(name)
	if err != nil {
		return nil, d.wrap("open", name, err)
	}
	return f, nil
}

func (d *Dir) open(name string) (*os.File, error) {
	real, err := d.Resolve(name)
	if err != nil {
		return nil, err
	}
	st, err := d.root.Lstat(real)
	if err == nil {
		err = ordinary(st)
	}
	if err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(real, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if st, err = f.Stat(); err == nil {
		err = ordinary(st)
	}
	if err != nil {
		_ = f.Close() // the first error counts
		return nil, err
	}
	return f, nil
}

func ordinary(st fs.FileInfo) error {
	if !st.Mode().IsRegular() && !st.IsDir() {
		return fmt.Errorf("it is neither a file nor a folder (%s)", st.Mode())
	}
	return nil
}

// Stat implements fs.StatFS; links are followed.
func (d *Dir) Stat(name string) (fs.FileInfo, error) {
	real, err := d.Resolve(name)
	if err != nil {
		return nil, err
	}
	st, err := d.root.Lstat(real)
	if err != nil {
		return nil, d.wrap("stat", name, err)
	}
	return st, nil
}

// ReadDir implements fs.ReadDirFS.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	l, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, d.wrap("readdir", name, errors.New("it is no folder"))
	}
	entries, err := l.ReadDir(-1)
	if err != nil {
		return nil, d.wrap("readdir", name, err)
	}
	return entries, nil
}

// wrap names the path as the user wrote it, and takes off what os.Root adds.
func (d *Dir) wrap(op, name string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		if errors.Is(err, ErrHostile) {
			return err
		}
		err = p.Err
	}
	return &fs.PathError{Op: op, Path: path.Join(d.path, name), Err: err}
}
