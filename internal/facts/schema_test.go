package facts

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// schema checks what decoding alone does not: that every entry is whole, has a
// source and a date, names what exists, and that versions stand in order.
type schema struct {
	b    *Base
	errs []error
}

func (s *schema) bad(of, format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf("%s: "+format, append([]any{of}, args...)...))
}

func checkSchema(b *Base) error {
	s := &schema{b: b}
	for _, f := range b.families {
		s.family(f)
	}
	for _, d := range b.defects {
		s.defect(d)
	}
	for _, l := range b.locks {
		s.entry(l.ID, l.Basis, l.Sources)
		s.texts(l.ID, l.Symbol, l.File, l.Title)
		s.list(l.ID, "functions", l.Functions)
		s.ofFamily(l.ID, l.Family, l.Ranges)
		for _, v := range l.RanOn {
			s.row(l.ID, l.Family, v)
		}
		if (l.Basis == Run) != (len(l.RanOn) > 0) {
			s.bad(l.ID, "basis is %s, ran_on has %d versions", l.Basis, len(l.RanOn))
		}
	}
	for _, r := range b.repairs {
		s.entry(r.ID, r.Basis, r.Sources)
		s.texts(r.ID, r.Title)
		s.list(r.ID, "functions", r.Functions)
		s.ofFamily(r.ID, r.Family, r.Ranges)
	}
	for _, l := range b.libraries {
		s.library(l)
	}
	for _, v := range b.servers {
		s.server(v)
	}
	for _, h := range b.hazards {
		s.sources(h.ID, h.Sources)
		s.texts(h.ID, h.Title)
		s.list(h.ID, "steps", h.Steps)
		s.list(h.ID, "do", h.Do)
		s.fixes(h.ID, h.Fixes)
	}
	s.distributions()
	s.posix()
	s.calls()
	return errors.Join(s.errs...)
}

func (s *schema) entry(of string, basis Basis, sources []Source) {
	if !slices.Contains([]Basis{Run, Read, Reported, Unchecked}, basis) {
		s.bad(of, "basis %q is not one of run, read, reported, unchecked", basis)
	}
	s.sources(of, sources)
}

func (s *schema) sources(of string, all []Source) {
	if len(all) == 0 {
		s.bad(of, "no source")
	}
	for _, x := range all {
		if x.URL == "" && x.Ref == "" {
			s.bad(of, "a source has neither url nor ref")
		}
		if x.URL != "" && !strings.HasPrefix(x.URL, "https://") {
			s.bad(of, "source %q is no https address", x.URL)
		}
		if _, err := time.Parse(time.DateOnly, x.Checked); err != nil {
			s.bad(of, "source %s: checked %q is not a day (2026-11-24)", x, x.Checked)
		}
	}
}

var bugs = regexp.MustCompile(`\b(?:RH)?BZ-[0-9]+\b`)

// texts must be there, and name no bug that is not in the data.
func (s *schema) texts(of string, all ...string) {
	for i, t := range all {
		if strings.TrimSpace(t) == "" {
			s.bad(of, "text %d is empty", i+1)
		}
		for _, id := range bugs.FindAllString(t, -1) {
			if _, ok := s.b.byName[strings.ToLower(id)]; !ok {
				s.bad(of, "names %s, which is not in the data", id)
			}
		}
	}
}

func (s *schema) list(of, what string, all []string) {
	if len(all) == 0 {
		s.bad(of, "no %s", what)
	}
	s.texts(of, all...)
	if sorted := slices.Sorted(slices.Values(all)); len(slices.Compact(sorted)) < len(all) {
		s.bad(of, "%s has an item twice", what)
	}
}

// ranges stand in order and do not overlap.
func (s *schema) ranges(of string, all []Range) {
	if len(all) == 0 {
		s.bad(of, "no range")
	}
	for i, r := range all {
		for _, v := range []string{r.From, r.Until} {
			if v != "" && !isVersion(v) {
				s.bad(of, "%q is no version", v)
			}
		}
		if r.From != "" && r.Until != "" && CompareUpstream(r.From, r.Until) >= 0 {
			s.bad(of, "range %s is empty", r)
		}
		if i == 0 {
			continue
		}
		if last := all[i-1]; last.Until == "" || r.From == "" || CompareUpstream(last.Until, r.From) > 0 {
			s.bad(of, "ranges %s and %s overlap or are out of order", last, r)
		}
	}
}

// row is a version that the family has.
func (s *schema) row(of, family, version string) {
	f, ok := s.b.Family(family)
	if !ok {
		s.bad(of, "names the C library %q, which is not in the data", family)
		return
	}
	if !slices.ContainsFunc(f.Versions, func(v Version) bool { return v.Version == version }) {
		s.bad(of, "names %s %s, which is no row", family, version)
	}
}

func (s *schema) ofFamily(of, family string, ranges []Range) {
	s.ranges(of, ranges)
	if _, ok := s.b.Family(family); !ok {
		s.bad(of, "names the C library %q, which is not in the data", family)
		return
	}
	for _, r := range ranges {
		for _, v := range []string{r.From, r.Until} {
			if v != "" {
				s.row(of, family, v)
			}
		}
	}
}

func (s *schema) family(f Family) {
	s.entry(f.ID, f.Basis, f.Sources)
	s.texts(f.ID, f.Name)
	s.list(f.ID, "summary", f.Summary)
	if len(f.Versions) == 0 {
		s.bad(f.ID, "no version")
	}
	for i, v := range f.Versions {
		if !slices.Contains([]string{"yes", "no", "corrupts"}, v.Malloc) {
			s.bad(f.ID, "%s: malloc %q is not one of yes, no, corrupts", v.Version, v.Malloc)
		}
		if v.Released != "" {
			if _, err := time.Parse(time.DateOnly, v.Released); err != nil {
				s.bad(f.ID, "%s: released %q is not a day", v.Version, v.Released)
			}
		}
		if i > 0 && !f.Documented && CompareUpstream(f.Versions[i-1].Version, v.Version) >= 0 {
			s.bad(f.ID, "versions %s and %s are not sorted", f.Versions[i-1].Version, v.Version)
		}
	}
}

func oneOf[T ~string](s *schema, of, what string, got T, all ...T) {
	if !slices.Contains(all, got) {
		s.bad(of, "%s %q is not one of %v", what, got, all)
	}
}

func (s *schema) defect(d *Defect) {
	s.entry(d.ID, d.Basis, d.Sources)
	s.texts(d.ID, d.Title, d.Mechanism, d.Trigger)
	s.list(d.ID, "steps", d.Steps)
	s.list(d.ID, "see", d.See)
	s.remedies(d.ID, d.Remedy)
	oneOf(s, d.ID, "severity", d.Severity, severities...)
	oneOf(s, d.ID, "where", d.Where, "worker", "master", "both")
	_, server := s.b.Server(d.Subject)
	if server {
		s.ranges(d.ID, d.Ranges)
	} else {
		s.ofFamily(d.ID, d.Subject, d.Ranges)
	}
	for _, x := range d.Branches {
		s.texts(d.ID, x.Commit)
		if !server {
			s.row(d.ID, d.Subject, x.Version)
		}
	}
	fixed := make(map[string]string)
	for _, x := range d.Packages {
		s.pkg(d, x.Distribution, x.Release, x.Ecosystem, x.Package, x.Fixed, x.Basis)
		fixed[x.Distribution+" "+x.Release] = x.Fixed
	}
	for _, x := range d.Still {
		s.pkg(d, x.Distribution, x.Release, x.Ecosystem, x.Package, x.Through, x.Basis)
		if f := fixed[x.Distribution+" "+x.Release]; f != "" {
			if c, err := ComparePackages(x.Ecosystem, x.Through, f); err == nil && c >= 0 {
				s.bad(d.ID, "%s %s is said to have it and to be mended", x.Package, x.Through)
			}
		}
	}
}

// pkg is a package of a release that is in the data, of its own libc's version.
func (s *schema) pkg(d *Defect, distribution, release string, e Ecosystem, name, version string, basis Basis) {
	i := slices.IndexFunc(s.b.distributions, func(x *Distribution) bool { return x.ID == distribution && x.Release == release })
	if i < 0 {
		s.bad(d.ID, "names %s %s, which is not in the data", distribution, release)
		return
	}
	x := s.b.distributions[i]
	if x.Ecosystem != e || x.Package != name || x.Family != d.Subject {
		s.bad(d.ID, "%s %s ships %s %s for %s, not %s %s for %s", distribution, release, x.Ecosystem, x.Package, x.Family, e, name, d.Subject)
	}
	s.packageVersion(d.ID, e, version, x.Version)
	oneOf(s, d.ID, "basis", basis, Run, Read)
	if !slices.ContainsFunc(d.Ranges, func(r Range) bool { return r.Holds(x.Version) }) {
		s.bad(d.ID, "says something of %s %s, whose %s %s has it not", distribution, release, x.Family, x.Version)
	}
}

func (s *schema) packageVersion(of string, e Ecosystem, version, upstream string) {
	if _, err := ComparePackages(e, version, version); err != nil {
		s.bad(of, "%v", err)
	}
	if u := Upstream(e, version); u != upstream {
		s.bad(of, "package version %s is of %s, not %s", version, u, upstream)
	}
}

func (s *schema) remedies(of string, r Remedies) {
	s.list(of, "remedy", r.Say)
	s.fixes(of, r.Fixes)
}

func (s *schema) fixes(of string, all []Fix) {
	for _, f := range all {
		s.texts(of, f.Says)
		code, env, server, language := f.Code != "", len(f.Env) > 0, f.Server != "", f.Language != ""
		ok := false
		switch f.When {
		case "setting":
			_, known := s.b.Server(f.Server)
			ok = code && !env && known && !language
		case "environment":
			ok = !code && env && !server && !language
		case "no-preload":
			ok = !code && !env && !server && !language
		case "before-fork", "after-fork":
			ok = code && !env && !server && (f.Language == "python" || f.Language == "ruby")
		}
		if !ok {
			s.bad(of, "fix %q lacks something, has too much, or names a server that is not in the data", f.When)
		}
	}
}

func (s *schema) library(l *Library) {
	s.entry(l.ID, l.Basis, l.Sources)
	s.texts(l.ID, l.Name)
	s.list(l.ID, "hazards", l.Hazards)
	for _, h := range l.Hazards {
		if _, ok := s.b.byName[strings.ToLower(h)].(*Hazard); !ok {
			s.bad(l.ID, "names the hazard %q, which is not in the data", h)
		}
	}
	if len(l.Files)+len(l.Packages)+len(l.Python)+len(l.Symbols) == 0 {
		s.bad(l.ID, "nothing to recognise it by")
	}
	for _, f := range l.Files {
		if _, err := regexp.Compile(f); err != nil {
			s.bad(l.ID, "file: %v", err)
		}
		if !strings.HasPrefix(f, "^") {
			s.bad(l.ID, "file %q matches in the middle of a name", f)
		}
	}
	for _, x := range l.Least {
		if re, err := regexp.Compile(x.File); err != nil || re.MatchString("") || !strings.HasPrefix(x.File, "^") || !isVersion(x.Version) {
			s.bad(l.ID, "least %q %q: no pattern of a file's name and version (%v)", x.File, x.Version, err)
		}
	}
	for _, p := range l.Python {
		if p != Normalise(p) {
			s.bad(l.ID, "Python distribution %q is not normalised", p)
		}
	}
	var ranges []Range
	for _, r := range l.Ranges {
		ranges = append(ranges, Range{From: r.From, Until: r.Until})
		oneOf(s, l.ID, "heals", r.Heals, healing...)
		oneOf(s, l.ID, "severity", r.Severity, severities...)
		s.texts(l.ID, r.What)
	}
	s.ranges(l.ID, ranges)
	s.remedies(l.ID, l.Remedy)
}

func (s *schema) server(v *Server) {
	s.entry(v.ID, v.Basis, v.Sources)
	s.texts(v.ID, v.Name, v.Preload)
	oneOf(s, v.ID, "language", v.Language, "", "python", "ruby", "ini")
	if (v.Language != "") != (writers[v.ID] != nil) {
		s.bad(v.ID, "language is %q, but a writer of its configuration exists: %v", v.Language, writers[v.ID] != nil)
	}
	if len(v.Hooks) == 0 {
		s.bad(v.ID, "no hook")
	}
	for _, h := range v.Hooks {
		s.texts(v.ID, h.Name, h.Says)
		oneOf(s, v.ID, "process", h.Process, "master", "worker")
		s.ranges(v.ID+" "+h.Name, []Range{{From: h.From, Until: h.Until}})
	}
}

func (s *schema) distributions() {
	seen := make(map[string]bool)
	last := make(map[string]*Distribution)
	for _, d := range s.b.distributions {
		of := d.ID + " " + d.Release
		s.entry(of, d.Basis, d.Sources)
		s.texts(of, d.ID, d.Release, d.Name, d.Package)
		oneOf(s, of, "ecosystem", d.Ecosystem, Deb, RPM, APK)
		if seen[of] {
			s.bad(of, "stands twice")
		}
		seen[of] = true
		if l := last[d.ID]; l != nil && d.ID != "amzn" && CompareUpstream(l.Release, d.Release) >= 0 {
			s.bad(of, "stands after %s: releases are not sorted", l.Release)
		}
		last[d.ID] = d
		if f, ok := s.b.Family(d.Family); !ok || CompareUpstream(d.Version, f.Oldest()) >= 0 {
			s.row(of, d.Family, d.Version)
		}
		if d.Seen != "" {
			s.packageVersion(of, d.Ecosystem, d.Seen, d.Version)
		}
		if (d.Seen != "") != (d.Basis == Run || d.Basis == Read) {
			s.bad(of, "basis is %s, the package looked at is %q", d.Basis, d.Seen)
		}
	}
}

func (s *schema) posix() {
	s.sources("posix", s.b.posix.Sources)
	seen := make(map[string]string)
	for _, i := range s.b.posix.Issues {
		s.list("posix "+i.Name, "functions", i.Functions)
		for _, f := range i.Functions {
			if seen[f] != "" {
				s.bad("posix", "%s stands in %s and %s", f, seen[f], i.Name)
			}
			seen[f] = i.Name
		}
		for _, r := range i.Removed {
			if seen[r.Function] == "" {
				s.bad("posix", "%s was never on the list, so it cannot be taken off", r.Function)
			}
		}
	}
}

func (s *schema) calls() {
	kinds := []CallKind{Plain, Ends, Idiom, Waits, Allocates, Reenters}
	seen := make(map[string]string)
	for _, c := range s.b.calls {
		s.entry(c.ID, c.Basis, c.Sources)
		s.texts(c.ID, c.Title)
		s.list(c.ID, "functions", c.Functions)
		if !slices.Contains(kinds, c.Kind) {
			s.bad(c.ID, "kind %q is not one of %v", c.Kind, kinds)
		}
		for _, f := range c.Functions {
			if seen[f] != "" {
				s.bad(c.ID, "%s stands in %s, too", f, seen[f])
			}
			seen[f] = c.ID
			// abort is on the list, and told apart as what ends the process.
			if s.b.listed(f) && f != "abort" {
				s.bad(c.ID, "%s is on POSIX's list", f)
			}
		}
	}
}

func TestDataFitTheSchema(t *testing.T) {
	if err := checkSchema(base(t)); err != nil {
		t.Fatal(err)
	}
}

// whole is a small set of data that fits the schema.
const whole = `
[[libc]]
id = "glibc"
name = "glibc"
documented = false
basis = "run"
summary = ["malloc works"]
source = [{ ref = "glibc 1", checked = "2026-01-02" }]
version = [{ version = "2.9", malloc = "yes" }, { version = "2.10", malloc = "yes" }, { version = "2.11", malloc = "no" }]

[[defect]]
id = "BZ-1"
aliases = ["RHBZ-2"]
subject = "glibc"
title = "fork hangs"
severity = "warning"
where = "worker"
threads = true
mechanism = "a lock"
steps = ["first"]
trigger = "fork"
see = ["a stack"]
basis = "read"
range = [{ from = "2.9", until = "2.10" }, { from = "2.10", until = "2.11" }]
branch = [{ version = "2.10", commit = "abc" }]
backport = [{ distribution = "debian", release = "7", ecosystem = "deb", package = "libc6", fixed = "2.10-5", basis = "read" }]
still = [{ distribution = "debian", release = "7", ecosystem = "deb", package = "libc6", through = "2.10-4", basis = "read" }]
remedy = { say = ["see BZ-1"], fix = [{ when = "setting", server = "gunicorn", says = "why", code = "x = 1" }] }
source = [{ url = "https://example.org/", checked = "2026-01-02" }]

[[lock]]
id = "glibc-lock"
family = "glibc"
symbol = "lock"
file = "a.c"
title = "a lock"
functions = ["f"]
range = [{}]
basis = "run"
ran_on = ["2.9"]
source = [{ ref = "x", checked = "2026-01-02" }]

[[hazard]]
id = "OL"
title = "orphaned"
steps = ["first"]
see = ["look"]
do = ["act"]
source = [{ ref = "x", checked = "2026-01-02" }]

[[library]]
id = "foo"
name = "Foo"
hazards = ["OL"]
files = ['^libfoo\.so']
python = ["foo-bar"]
basis = "reported"
range = [{ until = "2", heals = "no", severity = "warning", what = "hangs" }, { from = "2", heals = "yes", severity = "info", what = "works" }]
remedy = { say = ["upgrade"] }
source = [{ ref = "x", checked = "2026-01-02" }]

[[server]]
id = "gunicorn"
name = "gunicorn"
language = "python"
file = "gunicorn.conf.py"
preload = "never"
basis = "read"
hook = [{ name = "post_fork", process = "worker", says = "after the fork" }]
source = [{ ref = "x", checked = "2026-01-02" }]

[[distribution]]
id = "debian"
release = "6"
name = "Debian 6"
family = "glibc"
version = "2.9"
ecosystem = "deb"
package = "libc6"
basis = "unchecked"
source = [{ ref = "x", checked = "2026-01-02" }]

[[distribution]]
id = "debian"
release = "7"
name = "Debian 7"
family = "glibc"
version = "2.10"
ecosystem = "deb"
package = "libc6"
seen = "2.10-5"
basis = "read"
source = [{ ref = "x", checked = "2026-01-02" }]

[posix]
source = [{ ref = "x", checked = "2026-01-02" }]
issue = [{ name = "POSIX.1-2001", functions = ["write"] }]
`

func schemaOf(text string) error {
	b, err := read(fstest.MapFS{"a.toml": {Data: []byte(text)}})
	if err != nil {
		return err
	}
	return checkSchema(b)
}

// TestSchemaRefuses breaks a good document in one place each.
func TestSchemaRefuses(t *testing.T) {
	if err := schemaOf(whole); err != nil {
		t.Fatalf("the good document is refused: %v", err)
	}
	for name, c := range map[string]struct{ old, with, want string }{
		"unknown key":                     {`title = "fork hangs"`, "titel = \"fork hangs\"", `no entry has a key "defect.titel"`},
		"unknown table":                   {"[[hazard]]", "[[hazzard]]", `no entry has a key "hazzard`},
		"wrong type":                      {"threads = true", `threads = "yes"`, "line "},
		"no TOML":                         {"[[hazard]]", "[[hazard", "line "},
		"missing source":                  {"source = [{ url = \"https://example.org/\", checked = \"2026-01-02\" }]\n", "", "BZ-1: no source"},
		"source of nothing":               {`url = "https://example.org/", `, "", "neither url nor ref"},
		"source by http":                  {"https://example.org/", "http://example.org/", "no https address"},
		"missing date":                    {`"https://example.org/", checked = "2026-01-02"`, `"https://example.org/"`, `checked "" is not a day`},
		"wrong date":                      {`"https://example.org/", checked = "2026-01-02"`, `"https://example.org/", checked = "2026-13-02"`, `checked "2026-13-02"`},
		"overlapping ranges":              {`{ from = "2.10", until = "2.11" }`, `{ from = "2.9", until = "2.11" }`, "overlap or are out of order"},
		"range that never ends first":     {`{ from = "2.9", until = "2.10" }`, `{ from = "2.9" }`, "overlap or are out of order"},
		"ranges out of order":             {`{ from = "2.9", until = "2.10" }, { from = "2.10", until = "2.11" }`, `{ from = "2.10", until = "2.11" }, { from = "2.9", until = "2.10" }`, "overlap or are out of order"},
		"empty range":                     {`{ from = "2.9", until = "2.10" }`, `{ from = "2.10", until = "2.10" }`, "is empty"},
		"overlapping ranges of a library": {`{ from = "2", heals`, `{ from = "1", heals`, "foo: ranges"},
		"unsorted versions":               {`{ version = "2.9", malloc = "yes" }, { version = "2.10", malloc = "yes" }`, `{ version = "2.10", malloc = "yes" }, { version = "2.9", malloc = "yes" }`, "2.10 and 2.9 are not sorted"},
		"unsorted releases":               {`release = "6"`, `release = "8"`, "not sorted"},
		"range to no row":                 {`{ from = "2.9", until = "2.10" }`, `{ from = "2.8", until = "2.10" }`, "glibc 2.8, which is no row"},
		"branch of no row":                {`version = "2.10", commit`, `version = "2.12", commit`, "2.12, which is no row"},
		"dangling subject":                {`subject = "glibc"`, `subject = "glibcc"`, `"glibcc", which is not in the data`},
		"dangling family":                 {`family = "glibc"` + "\nsymbol", `family = "musl"` + "\nsymbol", `"musl", which is not in the data`},
		"dangling hazard":                 {`hazards = ["OL"]`, `hazards = ["LO"]`, `hazard "LO", which is not in the data`},
		"dangling distribution":           {`{ distribution = "debian", release = "7", ecosystem = "deb", package = "libc6", fixed`, `{ distribution = "debian", release = "9", ecosystem = "deb", package = "libc6", fixed`, "debian 9, which is not in the data"},
		"dangling server of a fix":        {`server = "gunicorn", says`, `server = "unicorn", says`, "fix \"setting\" lacks something"},
		"dangling bug in a remedy":        {`say = ["see BZ-1"]`, `say = ["see BZ-12"]`, "names BZ-12, which is not in the data"},
		"duplicate id":                    {`id = "foo"`, `id = "glibc-lock"`, `two facts have the name "glibc-lock"`},
		"duplicate alias":                 {`aliases = ["RHBZ-2"]`, `aliases = ["Foo"]`, `the name "foo"`},
		"duplicate release":               {`release = "6"`, `release = "7"`, "debian 7: stands twice"},
		"package of another version":      {`fixed = "2.10-5"`, `fixed = "2.9-5"`, "2.9-5 is of 2.9, not 2.10"},
		"package version of none":         {`fixed = "2.10-5"`, `fixed = "wrong"`, "no Debian version"},
		"package of another ecosystem":    {`ecosystem = "deb", package = "libc6", fixed`, `ecosystem = "rpm", package = "glibc", fixed`, "ships deb libc6"},
		"mended and not":                  {`through = "2.10-4"`, `through = "2.10-6"`, "said to have it and to be mended"},
		"unknown severity":                {`severity = "warning"` + "\nwhere", `severity = "high"` + "\nwhere", `severity "high"`},
		"unknown basis":                   {`basis = "reported"`, `basis = "proven"`, `basis "proven"`},
		"run on nothing":                  {`ran_on = ["2.9"]`, `ran_on = []`, "basis is run, ran_on has 0"},
		"run on no row":                   {`ran_on = ["2.9"]`, `ran_on = ["2.8"]`, "2.8, which is no row"},
		"no steps":                        {`steps = ["first"]` + "\ntrigger", "steps = []\ntrigger", "BZ-1: no steps"},
		"no remedy":                       {`remedy = { say = ["upgrade"] }`, `remedy = { say = [] }`, "foo: no remedy"},
		"pattern that does not compile":   {`'^libfoo\.so'`, `'^libfoo(\.so'`, "missing closing"},
		"least without a version":         {"python = [\"foo-bar\"]", "python = [\"foo-bar\"]\nleast = [{ file = '^libfoo\\.so\\.2', version = \"\" }]", "foo: least"},
		"pattern in the middle":           {`'^libfoo\.so'`, `'foo\.so'`, "in the middle of a name"},
		"Python name not normalised":      {`python = ["foo-bar"]`, `python = ["Foo_Bar"]`, "not normalised"},
		"seen but unchecked":              {`basis = "unchecked"`, `basis = "run"`, "basis is run, the package looked at is"},
		"fix with code it cannot have":    {`when = "setting"`, `when = "environment"`, "fix \"environment\" lacks"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Count(whole, c.old) != 1 {
				t.Fatalf("%q stands %d times in the good document", c.old, strings.Count(whole, c.old))
			}
			err := schemaOf(strings.Replace(whole, c.old, c.with, 1))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
