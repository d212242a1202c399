package facts

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	apk "github.com/knqyf263/go-apk-version"
	deb "github.com/knqyf263/go-deb-version"
	rpm "github.com/knqyf263/go-rpm-version"
)

// Ecosystem is a family of package managers, each with its own order of versions.
type Ecosystem string

// The ecosystems.
const (
	Deb Ecosystem = "deb"
	RPM Ecosystem = "rpm"
	APK Ecosystem = "apk"
)

// longest bounds what is compared as a version: package databases of images are
// foreign bytes.
const longest = 256

// ComparePackages compares two whole package versions by the rules of their
// ecosystem: negative if a is older than b. A version that the ecosystem does not
// allow is an error.
func ComparePackages(e Ecosystem, a, b string) (int, error) {
	for _, v := range []string{a, b} {
		if v == "" || len(v) > longest {
			return 0, fmt.Errorf("compare package versions: %q is no version of %s: empty or longer than %d bytes", v[:min(len(v), 40)], e, longest)
		}
	}
	switch e {
	case Deb:
		x, err := deb.NewVersion(a)
		if err != nil {
			return 0, fmt.Errorf("compare package versions: %q is no Debian version: %w", a, err)
		}
		y, err := deb.NewVersion(b)
		if err != nil {
			return 0, fmt.Errorf("compare package versions: %q is no Debian version: %w", b, err)
		}
		return x.Compare(y), nil
	case RPM:
		return rpm.NewVersion(a).Compare(rpm.NewVersion(b)), nil
	case APK:
		for _, v := range []string{a, b} {
			if !apk.Valid(v) {
				return 0, fmt.Errorf("compare package versions: %q is no Alpine version", v)
			}
		}
		return apk.Version(a).Compare(apk.Version(b)), nil
	}
	return 0, fmt.Errorf("compare package versions: ecosystem %q is not one of deb, rpm, apk", e)
}

// Upstream is the upstream part of a package version: without epoch, revision,
// and what distributions append to it (+dfsg, ~rc).
func Upstream(e Ecosystem, version string) string {
	if i := strings.IndexByte(version, ':'); i >= 0 {
		version = version[i+1:]
	}
	switch e {
	case Deb, RPM:
		if i := strings.LastIndexByte(version, '-'); i >= 0 {
			version = version[:i]
		}
	case APK:
		if i := strings.LastIndex(version, "-r"); i >= 0 {
			version = version[:i]
		}
	}
	if i := strings.IndexAny(version, "+~_^"); i > 0 {
		version = version[:i]
	}
	return version
}

// parts splits a version into its runs of digits and of letters.
func parts(v string) []string {
	var out []string
	for len(v) > 0 {
		n := 1
		digit := v[0] >= '0' && v[0] <= '9'
		if !digit && !letter(v[0]) {
			v = v[1:]
			continue
		}
		for n < len(v) && (v[n] >= '0' && v[n] <= '9') == digit && (digit || letter(v[n])) {
			n++
		}
		out = append(out, v[:n])
		v = v[n:]
	}
	return out
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// CompareUpstream compares two upstream versions: numbers by value, then a
// missing part before a number, and a word before a number and before nothing,
// as in 2.9.rc2 < 2.9 < 2.9.1; but a single letter counts upwards, as in OpenSSL's
// 1.1.1 < 1.1.1d.
func CompareUpstream(a, b string) int {
	x, y := parts(a), parts(b)
	for i := range max(len(x), len(y)) {
		if c := cmp.Or(cmp.Compare(rank(x, i), rank(y, i)), compareParts(x, y, i)); c != 0 {
			return c
		}
	}
	return 0
}

// rank orders the sorts of parts: word, nothing, letter, number.
func rank(p []string, i int) int {
	switch {
	case i >= len(p):
		return 1
	case !letter(p[i][0]):
		return 3
	case len(p[i]) == 1:
		return 2
	}
	return 0
}

func compareParts(x, y []string, i int) int {
	if i >= len(x) || i >= len(y) {
		return 0
	}
	n, errN := strconv.ParseUint(x[i], 10, 64)
	m, errM := strconv.ParseUint(y[i], 10, 64)
	if errN == nil && errM == nil {
		return cmp.Compare(n, m)
	}
	return strings.Compare(x[i], y[i])
}

// isVersion reports whether a text can be compared as an upstream version.
func isVersion(v string) bool { return v != "" && len(v) <= longest && v[0] >= '0' && v[0] <= '9' }
