package facts

import (
	"fmt"
	"slices"
	"strings"
)

// Libc says of one build of a C library which defects it has, why each other is
// not in it, and which locks stay locked in a worker. An unknown family, or a
// version outside the data, is said instead of guessed.
func (b *Base) Libc(build Build) Verdict {
	v := Verdict{Family: build.Family, Version: build.Version, Standing: Covered}
	family, ok := b.Family(build.Family)
	switch {
	case !ok:
		v.Standing, v.Says = Unknown, fmt.Sprintf("the C library %q is not in forkproof's data: nothing is known of its fork", build.Family)
		return v
	case family.Documented:
		v.Standing = Unknown
		v.Says = fmt.Sprintf("%s is documented from its source alone: forkproof cannot tell what this build has of it", family.Name)
	case !isVersion(build.Version):
		v.Standing, v.Says = Unknown, fmt.Sprintf("the version of this %s could not be read, so nothing can be said of its defects", family.Name)
		v.Summary = family.Summary
		return v
	case CompareUpstream(build.Version, family.Oldest()) < 0:
		v.Standing = Older
		v.Says = fmt.Sprintf("%s %s is older than forkproof's data, which begin with %s: it may have defects that are not listed", family.Name, build.Version, family.Oldest())
	case newer(build.Version, family.Newest()):
		v.Standing = Newer
		v.Says = fmt.Sprintf("%s %s is newer than forkproof's data, which end with %s: what is open there may be mended here, and new defects are not listed", family.Name, build.Version, family.Newest())
	}
	v.Summary = family.Summary
	if row, ok := family.row(build.Version); ok && v.Standing == Covered {
		v.Malloc = row.Malloc
	}
	for _, d := range b.defects {
		if d.Subject == family.ID {
			v.Defects = append(v.Defects, b.judge(d, build, v.Standing))
		}
	}
	for _, l := range b.locks {
		if l.Family == family.ID && v.Standing != Unknown && slices.ContainsFunc(l.Ranges, func(r Range) bool { return r.Holds(build.Version) }) {
			v.Locks = append(v.Locks, l)
		}
	}
	return v
}

// OfServer says of one version of a server which of its own defects it has. Where
// the version is unknown each is Possible.
func (b *Base) OfServer(id, version string) []Judged {
	s, ok := b.Server(id)
	if !ok {
		return nil
	}
	var out []Judged
	for _, d := range b.defects {
		if d.Subject != s.ID {
			continue
		}
		j := Judged{Defect: d, ID: d.ID}
		i := slices.IndexFunc(d.Ranges, func(r Range) bool { return isVersion(version) && r.Holds(version) })
		switch {
		case !isVersion(version):
			j.State, j.Why = Possible, "the version of "+s.Name+" is not known; it is in "+d.Ranges[0].Of(s.Name)
		case i < 0:
			j.State, j.Why = outside(d, version)
		default:
			j.State, j.Why = Applies, d.Ranges[i].long(s.Name)
		}
		out = append(out, j)
	}
	return out
}

// row is the newest release that is not newer than a version: 2.36.1 is 2.36.
func (f Family) row(version string) (Version, bool) {
	for _, r := range slices.Backward(f.Versions) {
		if CompareUpstream(r.Version, version) <= 0 {
			return r, true
		}
	}
	return Version{}, false
}

// newer reports whether a version is of a later release than the newest in the
// data. A point release of it (2.43.1 after 2.43) is not.
func newer(version, newest string) bool {
	return CompareUpstream(version, newest) > 0 && !strings.HasPrefix(version, newest+".")
}

// judge says of one defect whether a build has it: first by the file itself, then
// by the package, then by the upstream version.
func (b *Base) judge(d *Defect, build Build, standing Standing) Judged {
	j := Judged{Defect: d, ID: d.ID}
	if standing == Unknown {
		j.State, j.Why = Possible, "as its source was read; the version of this build is not known"
		return j
	}
	if !slices.ContainsFunc(d.Ranges, func(r Range) bool { return r.Holds(build.Version) }) {
		j.State, j.Why = outside(d, build.Version)
		return j
	}
	until := d.Until(build.Version)
	if d.Mark != "" && build.Contains != nil {
		if build.Contains(d.Mark) {
			j.State, j.Why = Backported, fmt.Sprintf("%s has it, but this file contains %q, which came with the fix", build.Version, d.Mark)
		} else {
			j.State, j.Why = Applies, fmt.Sprintf("this file lacks %q, which comes with the fix", d.Mark)
		}
		return j
	}
	if state, why, ok := b.byPackage(d, build.Package); ok {
		j.State, j.Why = state, why
		return j
	}
	switch {
	case standing == Newer:
		j.State, j.Why = Possible, "not mended in the newest release that the data cover; nothing is known of this one"
	case until == "":
		j.State, j.Why = Applies, "no release is known to have mended it"
	default:
		j.State, j.Why = Possible, "mended upstream in "+until
		if len(d.Branches) > 0 {
			var br []string
			for _, x := range d.Branches {
				br = append(br, x.Version)
			}
			j.Why += " and later on the branches of " + strings.Join(br, ", ")
		}
		j.Why += "; whether this package has that fix is not known"
	}
	return j
}

// Until is the first version that is free again of a defect which this version
// has; empty where no release is known to have mended it. Where one range ends and
// the next begins the defect only changed.
func (d *Defect) Until(version string) string {
	until := ""
	for i, r := range d.Ranges {
		if r.Holds(version) || i > 0 && until != "" && r.From == until {
			until = r.Until
		}
	}
	return until
}

// outside says why a version has a defect in none of its ranges.
func outside(d *Defect, version string) (State, string) {
	for _, r := range slices.Backward(d.Ranges) {
		if r.Until != "" && CompareUpstream(version, r.Until) >= 0 {
			return FixedUpstream, "fixed upstream in " + r.Until + commit(r.Mended)
		}
	}
	return Later, "it came with " + d.Ranges[0].From + commit(d.Ranges[0].Made)
}

func commit(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// byPackage judges by what is known of a distribution's package.
func (b *Base) byPackage(d *Defect, p Package) (State, string, bool) {
	if p.Version == "" {
		return "", "", false
	}
	var mended Backport
	for _, x := range d.Packages {
		if x.Ecosystem != p.Ecosystem || !b.same(p, x.Distribution, x.Release, x.Package) {
			continue
		}
		c, err := ComparePackages(p.Ecosystem, p.Version, x.Fixed)
		if err != nil {
			continue
		}
		switch {
		case c >= 0:
			return Backported, fmt.Sprintf("%s %s has the fix, which %s %s got with %s", x.Package, p.Version, x.Distribution, x.Release, x.gotWith()), true
		case !x.Latest:
			return Applies, fmt.Sprintf("%s %s is older than %s, with which %s %s got the fix", x.Package, p.Version, x.Fixed, x.Distribution, x.Release), true
		}
		mended = x
	}
	for _, x := range d.Still {
		if x.Ecosystem != p.Ecosystem || !b.same(p, x.Distribution, x.Release, x.Package) {
			continue
		}
		c, err := ComparePackages(p.Ecosystem, p.Version, x.Through)
		switch {
		case err != nil:
		case c <= 0:
			return Applies, fmt.Sprintf("%s %s of %s %s was looked at and has it%s", x.Package, x.Through, x.Distribution, x.Release, map[bool]string{true: ", and this one is older"}[c < 0]), true
		default:
			return Possible, fmt.Sprintf("%s %s still had it; %s is newer and was not looked at", x.Package, x.Through, p.Version), true
		}
	}
	if mended.Fixed != "" {
		return Possible, fmt.Sprintf("%s %s has the fix; whether %s has it is not known", mended.Package, mended.Fixed, p.Version), true
	}
	return "", "", false
}

// gotWith names the package version of a fix.
func (x Backport) gotWith() string {
	if x.Latest {
		return x.Fixed + " at the latest"
	}
	return x.Fixed
}

// same reports whether a package is the named one of a distribution's release, or
// of one that ships the same packages.
func (b *Base) same(p Package, distribution, release, name string) bool {
	if p.Name != name && p.Source != name {
		return false
	}
	for _, d := range b.distributions {
		if d.ID == distribution && d.Release == release {
			return d.is(p)
		}
	}
	return false
}

// is reports whether a package is of this release, or of a distribution that ships
// the same packages.
func (d *Distribution) is(p Package) bool {
	if p.Release == "" || p.Distribution != d.ID && !slices.Contains(d.Also, p.Distribution) {
		return false
	}
	// RHEL and its kin count minor releases in VERSION_ID, Alpine its updates.
	return p.Release == d.Release || strings.HasPrefix(p.Release, d.Release+".") || p.Release == d.Codename
}
