// Package factsheet renders what package facts knows: the matrix of C libraries,
// and the article on one thing. It is to facts what package report is to findings.
package factsheet

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"forkproof/internal/facts"
)

// Schemas of the JSON forms.
const (
	MatrixSchema  = "forkproof/matrix/v1"
	ExplainSchema = "forkproof/explain/v1"
	RemedySchema  = "forkproof/remedy/v1"
)

// Formats of the matrix and of articles.
var (
	MatrixFormats  = []string{"text", "json", "html", "md"}
	ArticleFormats = []string{"text", "json", "md"}
)

// JSON writes one value with its schema first.
func JSON(w io.Writer, schema, version string, key string, value any) error {
	body, err := encode(value)
	if err != nil {
		return fmt.Errorf("write %s as JSON: %w", key, err)
	}
	head, err := encode(struct {
		Schema  string `json:"schema"`
		Version string `json:"version"`
	}{schema, version})
	if err != nil {
		return fmt.Errorf("write %s as JSON: %w", key, err)
	}
	_, err = fmt.Fprintf(w, "%s,\n  %q: %s\n}\n", strings.TrimSuffix(strings.TrimSpace(head), "\n}"), key, strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n  "))
	return err
}

func encode(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.String(), err
}

// width of a line of text, in columns.
const width = 100

// fill breaks a text into lines that fit, each after the first with an indent. A
// label that is wider than the indent has a line of its own.
func fill(text, first, rest string) string {
	var b strings.Builder
	if label := strings.TrimRight(first, " "); len([]rune(label)) >= len(rest) && strings.TrimSpace(rest) == "" && rest != "" && label != "" {
		b.WriteString(label + "\n")
		first = rest
	}
	line, empty := first, true
	for _, word := range strings.Fields(text) {
		if !empty && len([]rune(line))+1+len([]rune(word)) > width {
			b.WriteString(line + "\n")
			line, empty = rest, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	b.WriteString(line + "\n")
	return b.String()
}

// visible writes what a terminal would obey as question marks: package versions
// and names of releases are foreign bytes.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// cell writes a text as the cell of a Markdown table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", "*", "\\*", "_", "\\_").Replace(visible(s))
}

// sources are lines, each with the day of the last check.
func sources(all []facts.Source) []string {
	var out []string
	for _, s := range all {
		line := s.String() + " (checked " + s.Checked + ")"
		if len(out) == 0 || out[len(out)-1] != line {
			out = append(out, line)
		}
	}
	return out
}
