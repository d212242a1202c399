package osdb

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// ErrNoPackage: the package database has no package of that name.
var ErrNoPackage = errors.New("no such package is installed")

// FilesOf returns what a package installed, folders included, as paths without
// a leading slash: of dpkg, which keeps a list for each package. Where several
// architectures of it are installed it is the files of all. The error wraps
// ErrNoPackage where there is none of that name.
func FilesOf(fsys fs.FS, name string) ([]string, error) {
	const dir = "var/lib/dpkg/info"
	plain, _, _ := strings.Cut(name, ":")
	if !word(name) || strings.ContainsAny(name, "/*?[\\") {
		return nil, fmt.Errorf("package %q: %w", name, ErrNoPackage)
	}
	if _, err := fs.Stat(fsys, dir); err != nil {
		return nil, fmt.Errorf("the files of package %s: only dpkg's lists (/%s) are read: %w", name, dir, err)
	}
	lists := []string{name + ".list"}
	if plain == name {
		// Of packages that can be installed for several architectures the name of
		// the list says which.
		found, err := fs.Glob(fsys, path.Join(dir, name+":*.list"))
		if err != nil {
			return nil, fmt.Errorf("list /%s: %w", dir, err)
		}
		for _, f := range found {
			lists = append(lists, path.Base(f))
		}
	}
	var out []string
	any := false
	for _, l := range lists {
		s, ok, err := text(fsys, path.Join(dir, l))
		if err != nil {
			return nil, err
		}
		any = any || ok
		for line := range strings.SplitSeq(s, "\n") {
			if f := strings.TrimPrefix(line, "/"); f != "." && fs.ValidPath(f) {
				out = append(out, f)
			}
		}
	}
	if !any {
		return nil, fmt.Errorf("package %s: %w", name, ErrNoPackage)
	}
	return out, nil
}
