// Package report renders a document for people and for machines.
package report

import (
	"encoding/json"
	"fmt"
	"io"

	"forkproof/internal/finding"
)

// Options are the choices of a rendering.
type Options struct {
	// Verbose shows healthy processes with their stacks.
	Verbose bool
	Colour  bool
}

// Renderer writes a document.
type Renderer func(w io.Writer, doc *finding.Document, opts Options) error

// Lookup returns the renderer of a format.
func Lookup(format string) (Renderer, error) {
	switch format {
	case "text":
		return Text, nil
	case "json":
		return JSON, nil
	}
	return nil, fmt.Errorf("--format %q is not one of text, json", format)
}

// JSON writes the document by the schema forkproof/v1.
func JSON(w io.Writer, doc *finding.Document, _ Options) error {
	d := *doc
	if d.Targets == nil {
		d.Targets = []finding.Target{}
	}
	if d.Findings == nil {
		d.Findings = []finding.Finding{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(&d)
}
