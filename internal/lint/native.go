package lint

import (
	"fmt"
	"path/filepath"
	"strings"

	"forkproof/internal/lint/native"
)

// native looks at the programs and libraries that were found, and at those of
// the packages that were named.
func (j *job) native() error {
	for _, p := range j.req.Packages {
		files, err := native.Package("/", p)
		if err != nil {
			return fmt.Errorf("look at package %s: %w", p, err)
		}
		if len(files) == 0 {
			j.note("package " + p + " has no programs or libraries")
		}
		j.binaries = append(j.binaries, files...)
	}
	if len(j.binaries) == 0 {
		return nil
	}
	l, err := native.New(native.Options{Strict: j.req.Strict, Deep: j.req.Deep})
	if err != nil {
		return err
	}
	results, err := l.Run(j.ctx, j.binaries)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil && len(r.Findings) == 0 {
			j.note(strings.ReplaceAll(r.Err.Error(), r.Path, j.short(r.Path)))
		}
		for _, n := range r.Notes {
			j.note(filepath.ToSlash(j.short(r.Path)) + ": " + n)
		}
		j.add(r.Findings)
	}
	return nil
}
