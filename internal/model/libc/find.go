package libc

import (
	"fmt"
	"strconv"
	"strings"
)

// Find returns the libc that a release belongs to: "glibc-2.31", "musl-1.2.3", the
// name of one that is known in one form, or a family alone, whose newest it is.
func Find(name string) (Libc, error) {
	all := All()
	for _, l := range all {
		if l.Name == name {
			return l, nil
		}
	}
	family, release, _ := strings.Cut(name, "-")
	var found *Libc
	for i := range all {
		if l := &all[i]; l.Family == family && (release == "" || l.First != "" && !older(release, l.First)) {
			found = l
		}
	}
	if found == nil || release != "" && !isRelease(release) {
		return Libc{}, fmt.Errorf("no C library %q is known; they are %s, and releases of glibc from 2.17 and of musl from 1.1.22 such as glibc-2.31", name, strings.Join(names(all), ", "))
	}
	return *found, nil
}

func names(all []Libc) []string {
	var s []string
	for _, l := range all {
		s = append(s, l.Name)
	}
	return s
}

func isRelease(s string) bool {
	for _, part := range strings.Split(s, ".") {
		if _, err := strconv.Atoi(part); err != nil {
			return false
		}
	}
	return true
}

// older compares releases, number by number.
func older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(x), len(y)) {
		if n, m := part(x, i), part(y, i); n != m {
			return n < m
		}
	}
	return false
}

func part(s []string, i int) int {
	if i >= len(s) {
		return 0
	}
	n, _ := strconv.Atoi(s[i]) // what is no number counts as nought
	return n
}

// Releases says which releases a libc stands for.
func (l Libc) Releases() string {
	switch {
	case l.First == "":
		return ""
	case l.Last == "":
		return l.First + " and later"
	case l.First == l.Last:
		return l.First
	}
	return l.First + " to " + l.Last
}
