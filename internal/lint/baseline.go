package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/finding"
)

// baselineSchema is the value of the field of that name in a baseline file.
const baselineSchema = "forkproof-baseline/v1"

// baseline is a file of findings that are known: those alone are told that came
// later. It has no lines, so that code may move.
type baseline struct {
	Schema   string         `json:"schema"`
	Findings []knownFinding `json:"findings"`
}

type knownFinding struct {
	Rule  finding.Rule `json:"rule"`
	File  string       `json:"file"`
	Title string       `json:"title"`
	// Count is how many of them the file has.
	Count int `json:"count"`
}

func readBaseline(path string) (*baseline, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("read the baseline %s: %w; --write-baseline makes one", path, err)
	}
	var out baseline
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&out); err != nil || out.Schema != baselineSchema {
		return nil, fmt.Errorf("read the baseline %s: it is no file that --write-baseline wrote (%w)", path, errors.Join(err, fs.ErrInvalid))
	}
	return &out, nil
}

func key(f finding.Finding) knownFinding {
	k := knownFinding{Rule: f.Rule, Title: f.Title}
	if f.Place != nil {
		k.File = f.Place.File
	}
	return k
}

func writeBaseline(path string, all []finding.Finding) error {
	count := make(map[knownFinding]int)
	for _, f := range all {
		count[key(f)]++
	}
	b := baseline{Schema: baselineSchema, Findings: []knownFinding{}}
	for k, n := range count {
		k.Count = n
		b.Findings = append(b.Findings, k)
	}
	slices.SortFunc(b.Findings, func(a, b knownFinding) int {
		return strings.Compare(a.File+"\x00"+string(a.Rule)+"\x00"+a.Title, b.File+"\x00"+string(b.Rule)+"\x00"+b.Title)
	})
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("write the baseline: %w", err)
	}
	// A name beside it first: a baseline is never half written.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".baseline-*")
	if err != nil {
		return fmt.Errorf("write the baseline %s: %w", path, err)
	}
	_, err = tmp.Write(append(text, '\n'))
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write the baseline %s: %w", path, err)
	}
	return nil
}

// subtract takes known findings out of all, and returns how many they were and
// how many entries were not needed.
func (b *baseline) subtract(all *[]finding.Finding) (known, stale int) {
	left := make(map[knownFinding]int)
	for _, k := range b.Findings {
		n := k.Count
		k.Count = 0
		left[k] += n
	}
	*all = slices.DeleteFunc(*all, func(f finding.Finding) bool {
		k := key(f)
		if left[k] == 0 {
			return false
		}
		left[k]--
		known++
		return true
	})
	for _, n := range left {
		if n > 0 {
			stale++
		}
	}
	return known, stale
}
