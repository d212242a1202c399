// Package osdb reads what package managers wrote down of a root file system:
// the databases of dpkg, rpm and apk, and the os-release file. It takes any
// fs.FS, so that the machine, a root folder, the root of a container and an
// image are read by the same code, and it never writes or locks anything.
//
// Every byte is foreign: whatever does not fit is an error that wraps
// ErrDamaged, and what could be read before it is returned too.
package osdb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

var (
	// ErrDamaged: a package database contradicts itself or is cut short.
	ErrDamaged = errors.New("damaged package database")
	// ErrTooLarge: a file is larger than any honest one of its kind.
	ErrTooLarge = errors.New("larger than a package database can be")
)

// Format is a family of package managers.
type Format string

// The formats, by the ending of their packages.
const (
	Deb Format = "deb"
	RPM Format = "rpm"
	APK Format = "apk"
)

// Package is one installed package.
type Package struct {
	Format  Format
	Name    string
	Version string // as the distribution writes it: epoch, version and release
	// Source is the source package that it was built from: the name alone.
	Source string
	// Arch is the architecture as the distribution names it: amd64, x86_64.
	Arch string
	// State is empty for a package that is installed and configured, else
	// dpkg's word: half-configured, unpacked, half-installed, triggers-pending.
	State string
}

// own is the package with texts of its own, so that a few words of a database do
// not keep the whole of it in memory. What no distribution would write is left out.
func (p Package) own() Package {
	for _, s := range []*string{&p.Source, &p.Arch} {
		if !word(*s) {
			*s = ""
		}
	}
	p.Name, p.Version, p.Source, p.Arch, p.State = strings.Clone(p.Name), strings.Clone(p.Version), strings.Clone(p.Source), strings.Clone(p.Arch), strings.Clone(p.State)
	return p
}

// DB is what all databases of a root hold.
type DB struct {
	Packages []Package
	// Files are the databases that were read, as paths without a leading slash.
	Files []string
}

// Find returns the packages of a name: several where more than one
// architecture is installed.
func (d *DB) Find(name string) []Package {
	var out []Package
	for _, p := range d.Packages {
		if p.Name == name {
			out = append(out, p)
		}
	}
	return out
}

// Bounds of what is read of foreign files, in bytes. The largest dpkg status
// files are some 20 MB, the largest rpm databases some 300 MB.
const (
	maxText   = 128 << 20
	maxBinary = 1 << 30
	// maxPackages bounds the packages of one database.
	maxPackages = 200_000
)

// Read reads every package database under a root. A root without any has no
// packages, which is no error. Where one is damaged the error says which, and
// what could be read is returned all the same.
func Read(fsys fs.FS) (*DB, error) {
	d := new(DB)
	var errs []error
	for _, read := range []func(fs.FS, *DB) error{readDpkg, readStatusD, readAPK, readRPM} {
		if err := read(fsys, d); err != nil {
			errs = append(errs, err)
		}
	}
	return d, errors.Join(errs...)
}

// text reads a text file whole; absent ones are no error.
func text(fsys fs.FS, name string) (s string, found bool, err error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = f.Close() }() // only read
	var b strings.Builder            // whose text is not copied once more
	if st, err := f.Stat(); err == nil && st.Size() > maxText {
		return "", false, fmt.Errorf("read %s: more than %d bytes: %w", name, maxText, ErrTooLarge)
	} else if err == nil && st.Size() > 0 {
		b.Grow(int(st.Size()))
	}
	if _, err = io.Copy(&b, io.LimitReader(f, maxText+1)); err != nil {
		return "", false, fmt.Errorf("read %s: %w", name, err)
	}
	if b.Len() > maxText {
		return "", false, fmt.Errorf("read %s: more than %d bytes: %w", name, maxText, ErrTooLarge)
	}
	return b.String(), true, nil
}

// damaged is an error about a database, with what is wrong.
func damaged(name, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", name, ErrDamaged, fmt.Sprintf(format, args...))
}

// word reports whether s can be a name or version: printable ASCII without
// blanks, as all three package managers demand.
func word(s string) bool {
	return s != "" && len(s) < 512 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
