package facts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"
)

// document is what one file of the data may hold: any entries, each in its table.
type document struct {
	Families      []Family        `toml:"libc"`
	Defects       []*Defect       `toml:"defect"`
	Locks         []*Lock         `toml:"lock"`
	Repairs       []*Repair       `toml:"repair"`
	Libraries     []*Library      `toml:"library"`
	Servers       []*Server       `toml:"server"`
	Distributions []*Distribution `toml:"distribution"`
	Hazards       []*Hazard       `toml:"hazard"`
	POSIX         *POSIX          `toml:"posix"`
	Calls         []*Call         `toml:"call"`
}

// decode reads one file strictly: a key that no type has is an error that names
// file and line.
func decode(name string, text []byte) (document, error) {
	var d document
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&d)
	var strict *toml.StrictMissingError
	var at *toml.DecodeError
	switch {
	case err == nil:
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		e := strict.Errors[0]
		line, _ := e.Position()
		return d, fmt.Errorf("read the facts of %s: line %d: no entry has a key %q", name, line, strings.Join(e.Key(), "."))
	case errors.As(err, &at):
		line, _ := at.Position()
		return d, fmt.Errorf("read the facts of %s: line %d: %w", name, line, err)
	default:
		return d, fmt.Errorf("read the facts of %s: %w", name, err)
	}
	return d, nil
}

// read decodes all files of a folder, side by side, and joins them in the order
// of their names.
func read(dir fs.FS) (*Base, error) {
	names, err := fs.Glob(dir, "*.toml")
	if err != nil {
		return nil, fmt.Errorf("list the facts: %w", err)
	}
	docs := make([]document, len(names))
	errs := make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			text, err := fs.ReadFile(dir, name)
			if err == nil {
				docs[i], err = decode(path.Base(name), text)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	b := new(Base)
	for _, d := range docs {
		b.families = append(b.families, d.Families...)
		b.defects = append(b.defects, d.Defects...)
		b.locks = append(b.locks, d.Locks...)
		b.repairs = append(b.repairs, d.Repairs...)
		b.libraries = append(b.libraries, d.Libraries...)
		b.servers = append(b.servers, d.Servers...)
		b.distributions = append(b.distributions, d.Distributions...)
		b.hazards = append(b.hazards, d.Hazards...)
		b.calls = append(b.calls, d.Calls...)
		if d.POSIX != nil {
			b.posix = *d.POSIX
		}
	}
	slices.SortStableFunc(b.libraries, func(x, y *Library) int { return strings.Compare(x.ID, y.ID) })
	slices.SortStableFunc(b.servers, func(x, y *Server) int { return strings.Compare(x.ID, y.ID) })
	slices.SortStableFunc(b.families, func(x, y Family) int {
		return cmp.Or(cmp.Compare(place(x.ID), place(y.ID)), strings.Compare(x.ID, y.ID))
	})
	b.patterns = sync.OnceValue(b.compile)
	return b, b.index()
}

// place orders the families of the matrix: the common ones first.
func place(family string) int {
	if i := slices.Index([]string{"glibc", "musl"}, family); i >= 0 {
		return i
	}
	return 2
}

// index finds entries by id and alias; two of one name are an error.
func (b *Base) index() error {
	b.byName = make(map[string]any)
	var errs []error
	add := func(entry any, names ...string) {
		for _, n := range names {
			key := strings.ToLower(n)
			if _, taken := b.byName[key]; taken {
				errs = append(errs, fmt.Errorf("two facts have the name %q", n))
			}
			b.byName[key] = entry
		}
	}
	for i := range b.families {
		add(&b.families[i], b.families[i].ID)
	}
	for _, d := range b.defects {
		add(d, append([]string{d.ID}, d.Aliases...)...)
	}
	for _, l := range b.locks {
		add(l, l.ID)
	}
	for _, r := range b.repairs {
		add(r, r.ID)
	}
	for _, l := range b.libraries {
		add(l, append([]string{l.ID}, l.Aliases...)...)
	}
	for _, s := range b.servers {
		add(s, append([]string{s.ID}, s.Aliases...)...)
	}
	for _, h := range b.hazards {
		add(h, h.ID)
	}
	return errors.Join(errs...)
}

// pattern is a compiled name of a library's file.
type pattern struct {
	re      *regexp.Regexp
	library *Library
}

func (b *Base) compile() []pattern {
	var out []pattern
	for _, l := range b.libraries {
		for _, f := range l.Files {
			// The schema's test has compiled every one of them.
			if re, err := regexp.Compile(f); err == nil {
				out = append(out, pattern{re, l})
			}
		}
	}
	return out
}
