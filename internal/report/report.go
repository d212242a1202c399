// Package report renders a document for people and for machines: text, HTML,
// JSON and SARIF. It reads nothing but the document, and trusts none of the
// names in it: they are the target's.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"forkproof/internal/finding"
)

// Options are the choices of a rendering.
type Options struct {
	// Verbose shows whole stacks, and those of healthy processes too.
	Verbose bool
	// Colour writes terminal escapes; only the text report has any.
	Colour bool
	// Width is how many columns a line of text may have, from 40 to 120; values
	// outside are brought into that range, 0 means 100.
	Width int
}

// Renderer writes a document.
type Renderer func(w io.Writer, doc *finding.Document, opts Options) error

// Formats are the names that Lookup knows.
func Formats() []string { return []string{"text", "json", "html", "sarif"} }

// Lookup returns the renderer of a format.
func Lookup(format string) (Renderer, error) {
	switch format {
	case "text":
		return Text, nil
	case "json":
		return JSON, nil
	case "html":
		return HTML, nil
	case "sarif":
		return SARIF, nil
	}
	return nil, fmt.Errorf("--format %q is not one of %s", format, strings.Join(Formats(), ", "))
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
	return encode(w, &d)
}

// encode writes indented JSON in which every character that a terminal could
// take for a command is escaped: JSON itself asks that of the first 32 only.
func encode(w io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escapeJSON(b.Bytes()))
	return err
}

func escapeJSON(b []byte) []byte {
	if !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x7f }) {
		return b
	}
	out := make([]byte, 0, len(b)+64)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		// Beyond ASCII and 0x7f the encoder has left valid UTF-8 within strings
		// only, so that an escape is right wherever such a rune stands.
		if r >= 0x7f && r <= 0xffff && hostile(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}
