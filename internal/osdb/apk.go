package osdb

import (
	"errors"
	"io/fs"
	"strings"
)

// apkFiles are where apk keeps its database: apk-tools 3 moved it below usr.
var apkFiles = []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"}

func readAPK(fsys fs.FS, d *DB) error {
	for _, name := range apkFiles {
		s, ok, err := text(fsys, name)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		d.Files = append(d.Files, name)
		packages, err := parseAPK(name, s)
		d.Packages = append(d.Packages, packages...)
		// Where lib leads to usr/lib it is one and the same file.
		return err
	}
	return nil
}

// parseAPK parses the installed database of apk: a letter, a colon and a value a
// line, a blank line after each package (apk-tools, src/database.c).
func parseAPK(file, s string) ([]Package, error) {
	var out []Package
	var errs []error
	if s != "" && !strings.HasSuffix(s, "\n") {
		errs = append(errs, damaged(file, "it ends within a line, so it was cut short"))
	}
	bad := 0
	p, begun := Package{Format: APK}, false
	flush := func() {
		if begun {
			if !word(p.Name) || !word(p.Version) {
				bad++
			} else if len(out) < maxPackages {
				if p.Source == "" {
					p.Source = p.Name
				}
				out = append(out, p.own())
			}
		}
		p, begun = Package{Format: APK}, false
	}
	for line := range strings.SplitSeq(s, "\n") {
		if line == "" {
			flush()
			continue
		}
		begun = true
		if len(line) < 2 || line[1] != ':' {
			continue
		}
		switch v := line[2:]; line[0] {
		case 'P':
			p.Name = v
		case 'V':
			p.Version = v
		case 'A':
			p.Arch = v
		case 'o':
			p.Source = v
		}
	}
	flush()
	if bad > 0 {
		errs = append(errs, damaged(file, "entries without a name or version: %d", bad))
	}
	if len(out) == maxPackages {
		errs = append(errs, damaged(file, "%d packages or more", maxPackages))
	}
	return out, errors.Join(errs...)
}
