package probe

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// What was measured, one report for each build of a libc, made by `make measure`.
//
//go:embed measured/*.json
var measured embed.FS

// Measured returns what was measured on builds of libcs, glibc before musl and
// old before new. Each report has the outcome of each probe that there was when
// it was made; titles and claims are those of today.
func Measured() ([]Report, error) {
	files, err := measured.ReadDir("measured")
	if err != nil {
		return nil, err
	}
	today := make(map[string]Probe)
	for _, p := range All() {
		today[p.Name] = p
	}
	var all []Report
	for _, f := range files {
		b, err := measured.ReadFile("measured/" + f.Name())
		if err != nil {
			return nil, err
		}
		var r Report
		if err := json.Unmarshal(b, &r); err != nil {
			return nil, fmt.Errorf("read the embedded measurement %s: %w", f.Name(), err)
		}
		for i := range r.Results {
			p := today[r.Results[i].Probe]
			r.Results[i].Title, r.Results[i].Claim = p.Title, p.Claim
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b Report) int {
		if a.Libc.Family != b.Libc.Family {
			return strings.Compare(a.Libc.Family, b.Libc.Family)
		}
		return slices.Compare(numbers(a.Libc.Version), numbers(b.Libc.Version))
	})
	return all, nil
}

// numbers are those in a version: 2.9 is before 2.31.
func numbers(version string) []int {
	var out []int
	for _, w := range strings.Split(version, ".") {
		n := 0
		for _, c := range w {
			if c < '0' || c > '9' {
				break
			}
			n = n*10 + int(c-'0')
		}
		out = append(out, n)
	}
	return out
}
