package atfork

import (
	"path/filepath"
	"strconv"
	"strings"

	"forkproof/internal/elffile"
	"forkproof/internal/libc"
)

func itoa(n int) string { return strconv.Itoa(n) }

// library finds the function called name among the libraries that img needs,
// and those that they need, in the order of the loader. Names of a C library are
// not followed: they are the leaves.
func (a *analysis) library(img *image, name string) (*image, uint64, bool) {
	if a.opts.Needed == nil {
		return nil, 0, false
	}
	queue := []*image{img}
	seen := map[*image]bool{img: true}
	for len(queue) > 0 {
		from := queue[0]
		queue = queue[1:]
		needed, err := from.file.Needed()
		if err != nil {
			a.note("%s: %v", filepath.Base(from.path), err)
		}
		for _, n := range needed {
			l := a.load(n)
			if l == nil || seen[l] {
				continue
			}
			seen[l] = true
			if addr, ok := l.defines(name); ok {
				return l, addr, true
			}
			queue = append(queue, l)
		}
	}
	return nil, 0, false
}

// load opens a needed library, once.
func (a *analysis) load(name string) *image {
	if l, ok := a.libraries[name]; ok {
		return l
	}
	a.libraries[name] = nil
	if libc.Named(name) != "" || libc.Loader(name) || strings.HasPrefix(name, "libm.") || strings.HasPrefix(name, "librt.") {
		return nil
	}
	lib, err := a.opts.Needed(name)
	if err != nil {
		a.note("%s was not followed: %v", name, err)
		return nil
	}
	file, err := elffile.Open(lib.ReaderAt)
	if err == nil && file.Machine() != a.file.Machine() {
		err = elffile.ErrMachine
	}
	var l *image
	if err == nil {
		if l, err = open(lib.Path, file, a.opts.DebugFiles); err == nil {
			err = l.link()
		}
	}
	if err != nil {
		a.note("%s was not followed: %v", lib.Path, err)
		return nil
	}
	a.libraries[name] = l
	return l
}

// defines is the address of the function that the library exports as name.
func (b *image) defines(name string) (uint64, bool) {
	s, ok := b.syms.ByName(name)
	if !ok || s.Local || s.IFunc || !b.executable(s.Value) {
		return 0, false
	}
	return s.Value, true
}
