package scenario

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed shipped/*.yaml
var files embed.FS

// Shipped returns the scenarios that forkproof knows, in the order of their names.
// They are part of the program: an error is a fault of it.
func Shipped() ([]*Scenario, error) {
	entries, err := files.ReadDir("shipped")
	if err != nil {
		return nil, fmt.Errorf("list the scenarios: %w", err)
	}
	var all []*Scenario
	for _, e := range entries {
		s, err := shippedFile(e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func shippedFile(name string) (*Scenario, error) {
	text, err := files.ReadFile("shipped/" + name)
	if err != nil {
		return nil, fmt.Errorf("read the scenario %s: %w", name, err)
	}
	s, err := Read(name, text)
	if err != nil {
		return nil, err
	}
	if want := strings.TrimSuffix(name, ".yaml"); s.Name != want {
		return nil, fmt.Errorf("the scenario in %s is named %q", name, s.Name)
	}
	return s, nil
}

// Text returns the YAML of a shipped scenario; false if there is none of the name.
func Text(name string) ([]byte, bool) {
	text, err := files.ReadFile("shipped/" + name + ".yaml")
	return text, err == nil
}

// Find returns the shipped scenario of a name, whatever the case of its letters, or
// one that shows the fact of that name, such as BZ-27054.
func Find(name string) (*Scenario, bool, error) {
	all, err := Shipped()
	if err != nil {
		return nil, false, err
	}
	for _, s := range all {
		if strings.EqualFold(s.Name, name) {
			return s, true, nil
		}
	}
	for _, s := range all {
		if slices.ContainsFunc(s.Known, func(k string) bool { return strings.EqualFold(k, name) }) {
			return s, true, nil
		}
	}
	return nil, false, nil
}
