// Package probe measures what a C library does in the child of fork: small
// programs in C, carried along as binaries, that fork while other threads are
// inside one function, or that do one thing in one order, and are watched from
// outside. What it finds is the oracle for what is written down about libcs.
package probe

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed src/*/*.c
var sources embed.FS

// Group is the kind of a probe.
type Group string

// The groups.
const (
	// Defect: published or measured defects of a range of releases.
	Defect Group = "defect"
	// Case: objects of the program, such as a mutex, over fork. Deterministic.
	Case Group = "case"
	// ForkItself: the order of handlers, and the other ways to make a process.
	ForkItself Group = "fork"
	// Function: threads are in a function at the fork, the child calls it.
	Function Group = "function"
	// Pair: as Function, but the child calls another one.
	Pair Group = "pair"
	// Allocator: what an allocator must bear that stands in for libc's own.
	Allocator Group = "allocator"
)

// Groups lists them in the order of reports.
func Groups() []Group { return []Group{Defect, Case, ForkItself, Function, Pair, Allocator} }

// Probe is one probe.
type Probe struct {
	Name  string
	Group Group
	// Title is what it does, Claim what is said to come out, both from the
	// header of its source.
	Title, Claim string
}

// All lists the probes, by group and name.
func All() []Probe {
	var all []Probe
	for _, g := range Groups() {
		files, err := sources.ReadDir("src/" + string(g))
		if err != nil {
			panic(err) // embedded: it is there or this was not built
		}
		for _, f := range files {
			b, err := sources.ReadFile(path.Join("src", string(g), f.Name()))
			if err != nil {
				panic(err)
			}
			p := Probe{Name: strings.TrimSuffix(f.Name(), ".c"), Group: g}
			p.Title, p.Claim = header(string(b))
			all = append(all, p)
		}
	}
	return all
}

// header reads title and claim from the first comment of a source.
func header(source string) (title, claim string) {
	_, text, _ := strings.Cut(source, "/*")
	text, _, _ = strings.Cut(text, "*/")
	var words []string
	for line := range strings.Lines(text) {
		words = append(words, strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "*"))...)
	}
	title, claim, _ = strings.Cut(strings.Join(words, " "), " Claim: ")
	return title, claim
}

// Select returns the probes that names pick: the name of a probe, of a group, or
// a pattern of the shell such as "bz-24595-*"; none picks all. A name that picks
// nothing is an error.
func Select(names []string) ([]Probe, error) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	picked := make(map[string]bool)
	for _, n := range names {
		hits := 0
		for _, p := range all {
			ok, err := path.Match(n, p.Name)
			if err != nil {
				return nil, fmt.Errorf("%q is no pattern: %w", n, err)
			}
			if ok || n == p.Name || n == string(p.Group) {
				picked[p.Name] = true
				hits++
			}
		}
		if hits == 0 {
			return nil, fmt.Errorf("no probe and no group is called %q", n)
		}
	}
	return slices.DeleteFunc(all, func(p Probe) bool { return !picked[p.Name] }), nil
}
