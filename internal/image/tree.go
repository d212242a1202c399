package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// kind of a node of a tree.
type kind uint8

const (
	folder kind = iota
	file
	symlink
)

// node is one file, folder or symbolic link that was kept of an image.
type node struct {
	kind kind
	// layer is the layer that it came with, lowest 0.
	layer  int
	target string // of a symbolic link
	size   int64
	// content is nil for a file of which only the name was kept.
	content  io.ReaderAt
	children map[string]*node
}

// Tree is the root file system of an image, as far as it was kept. It implements
// fs.FS, fs.StatFS and fs.ReadDirFS.
type Tree struct {
	root *node
	// nodes and names count what was kept, names in bytes.
	nodes, names int
}

// ErrNameOnly is the error for a file of which only the name was kept.
var ErrNameOnly = errors.New("the content of this file was not kept")

func newTree() *Tree { return &Tree{root: &node{children: make(map[string]*node)}} }

// at returns the node at a resolved path.
func (t *Tree) at(name string) *node {
	n := t.root
	if name == "." {
		return n
	}
	for part := range strings.SplitSeq(name, "/") {
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

func (t *Tree) link(name string) (string, bool) {
	n := t.at(name)
	if n == nil || n.kind != symlink {
		return "", false
	}
	return n.target, true
}

// Resolve returns the path within the root that a name leads to, through all
// links, without a leading slash. What it leads to need not exist.
func (t *Tree) Resolve(name string) (string, error) { return resolve(name, true, t.link) }

// parent returns the folder that an entry goes into, making it where it is
// missing, and the name in it. As when a layer is extracted, links on the way are
// followed: a layer may write to lib/x where a lower one made lib a link.
func (t *Tree) parent(name string, layer int) (*node, string, error) {
	dir, base := path.Split(name)
	dir, err := resolve(dir, true, t.link)
	if err != nil {
		return nil, "", err
	}
	n := t.root
	if dir == "." {
		return n, base, nil
	}
	for part := range strings.SplitSeq(dir, "/") {
		next := n.children[part]
		if next == nil || next.kind != folder {
			next = t.add(n, part, &node{kind: folder, layer: layer, children: make(map[string]*node)})
		}
		n = next
	}
	return n, base, nil
}

// add puts a node into a folder, in place of whatever had its name.
func (t *Tree) add(dir *node, name string, n *node) *node {
	t.remove(dir, name)
	t.nodes++
	t.names += len(name) + len(n.target)
	dir.children[name] = n
	return n
}

func (t *Tree) remove(dir *node, name string) {
	n := dir.children[name]
	if n == nil {
		return
	}
	t.forget(name, n)
	delete(dir.children, name)
}

func (t *Tree) forget(name string, n *node) {
	t.nodes--
	t.names -= len(name) + len(n.target)
	for c, child := range n.children {
		t.forget(c, child)
	}
}

// whiteout takes away a name as far as it came with layers below the given one: a
// whiteout says nothing of its own layer, wherever it stands in it.
func (t *Tree) whiteout(dir *node, name string, layer int) {
	n := dir.children[name]
	if n == nil {
		return
	}
	if n.kind == folder {
		t.opaque(n, layer)
		if len(n.children) > 0 {
			return
		}
	}
	if n.layer < layer {
		t.remove(dir, name)
	}
}

// opaque takes away everything in a folder that came with lower layers.
func (t *Tree) opaque(dir *node, layer int) {
	for name := range dir.children {
		t.whiteout(dir, name, layer)
	}
}

// Open implements fs.FS.
func (t *Tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	info := info{path.Base(name), n}
	switch {
	case n.kind == folder:
		return &openDir{info: info}, nil
	case n.content == nil:
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNameOnly}
	}
	return &openFile{io.NewSectionReader(n.content, 0, n.size), info}, nil
}

func (t *Tree) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	real, err := t.Resolve(name)
	if err != nil {
		return nil, err
	}
	n := t.at(real)
	if n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Stat implements fs.StatFS; links are followed.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{path.Base(name), n}, nil
}

// ReadDir implements fs.ReadDirFS; entries are in the order of their names.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if n.kind != folder {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("it is no folder")}
	}
	return n.entries(), nil
}

func (n *node) entries() []fs.DirEntry {
	out := make([]fs.DirEntry, 0, len(n.children))
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		out = append(out, fs.FileInfoToDirEntry(info{name, n.children[name]}))
	}
	return out
}

// info is what is known of a node: no times, owners or permissions.
type info struct {
	name string
	n    *node
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.n.size }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.n.kind == folder }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	return [...]fs.FileMode{folder: fs.ModeDir | 0o555, file: 0o444, symlink: fs.ModeSymlink | 0o777}[i.n.kind]
}

// openFile is an open file; it is an io.ReaderAt too.
type openFile struct {
	*io.SectionReader
	info info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info info
	at   int
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("it is a folder")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.info.n.entries()
	rest = rest[min(d.at, len(rest)):]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	d.at += len(rest)
	return rest, nil
}

// kept is the content of a file that was read into memory.
func kept(b []byte) io.ReaderAt { return bytes.NewReader(b) }

// clean turns the name of an entry into a path without a leading slash. A name
// that climbs out of the root is what no honest tool writes.
func clean(name string) (string, error) {
	if len(name) > 4096 {
		return "", fmt.Errorf("a name of %d bytes: %w", len(name), ErrHostile)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("the name %.80q has a byte of zero: %w", name, ErrHostile)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("the name %.80q leads upwards: %w", name, ErrHostile)
		}
	}
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		name = "."
	}
	return name, nil
}
