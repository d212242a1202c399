package osdb

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Where dpkg keeps its database, and where images without a dpkg (distroless)
// keep one file per package.
const (
	dpkgStatus = "var/lib/dpkg/status"
	dpkgDir    = "var/lib/dpkg/status.d"
)

func readDpkg(fsys fs.FS, d *DB) error {
	s, ok, err := text(fsys, dpkgStatus)
	if !ok || err != nil {
		return err
	}
	d.Files = append(d.Files, dpkgStatus)
	packages, err := parseDpkg(dpkgStatus, s, false)
	d.Packages = append(d.Packages, packages...)
	return err
}

func readStatusD(fsys fs.FS, d *DB) error {
	entries, err := fs.ReadDir(fsys, dpkgDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", dpkgDir, err)
	}
	if len(entries) > maxPackages {
		return damaged(dpkgDir, "%d files", len(entries))
	}
	var errs []error
	total := 0
	for _, e := range entries {
		// Checksums lie beside the packages.
		if e.IsDir() || strings.HasSuffix(e.Name(), ".md5sums") {
			continue
		}
		name := path.Join(dpkgDir, e.Name())
		s, ok, err := text(fsys, name)
		if err == nil && ok {
			var packages []Package
			packages, err = parseDpkg(name, s, true)
			d.Packages = append(d.Packages, packages...)
			d.Files = append(d.Files, name)
		}
		if err != nil && len(errs) < 10 {
			errs = append(errs, err)
		}
		if total += len(s); total > maxText {
			return errors.Join(append(errs, fmt.Errorf("read %s: more than %d bytes: %w", dpkgDir, maxText, ErrTooLarge))...)
		}
	}
	return errors.Join(errs...)
}

// parseDpkg parses stanzas of a status file (deb-control(5), dpkg-query(1)).
// The files of status.d have no Status field: what is listed is there.
func parseDpkg(file, s string, listed bool) ([]Package, error) {
	var out []Package
	var errs []error
	if s != "" && !strings.HasSuffix(s, "\n") {
		errs = append(errs, damaged(file, "it ends within a line, so it was cut short"))
	}
	if strings.IndexByte(s, 0) >= 0 {
		errs = append(errs, damaged(file, "it has bytes of zero, as after a crash of the machine"))
	}
	bad := 0
	var p Package
	var status string
	begun := false
	flush := func() {
		if begun {
			switch ok, installed := finishDpkg(&p, status, listed); {
			case !ok:
				bad++
			case installed && len(out) < maxPackages:
				out = append(out, p.own())
			}
		}
		p, status, begun = Package{Format: Deb}, "", false
	}
	flush()
	for line := range strings.SplitSeq(s, "\n") {
		if strings.TrimRight(line, " \t\r") == "" {
			flush()
			continue
		}
		begun = true
		if line[0] == ' ' || line[0] == '\t' || line[0] == '#' {
			continue
		}
		// Most lines are of fields that nobody asks for.
		switch line[0] | 0x20 {
		case 'p', 's', 'v', 'a':
		default:
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "package":
			p.Name = value
		case "status":
			status = value
		case "version":
			p.Version = value
		case "architecture":
			p.Arch = value
		case "source":
			p.Source, _, _ = strings.Cut(value, " ")
		}
	}
	flush()
	if bad > 0 {
		errs = append(errs, damaged(file, "entries without a name, state or version: %d", bad))
	}
	if len(out) == maxPackages {
		errs = append(errs, damaged(file, "%d packages or more", maxPackages))
	}
	return out, errors.Join(errs...)
}

// finishDpkg completes a package; ok is false for one that is not whole, and
// installed for one whose files are there.
func finishDpkg(p *Package, status string, listed bool) (ok, installed bool) {
	if !word(p.Name) {
		return false, false
	}
	if p.Source == "" {
		p.Source = p.Name
	}
	if !listed {
		w := strings.Fields(status)
		if len(w) != 3 {
			return false, false
		}
		switch w[2] {
		case "not-installed", "config-files":
			return true, false
		case "installed":
		case "half-installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending":
			p.State = w[2]
		default:
			return false, false
		}
	}
	return word(p.Version), true
}
