package factsheet

import (
	"fmt"
	"io"
	"strings"

	"forkproof/internal/facts"
)

// Remedy writes a recipe as text or json. A single file is written as it is;
// several follow one another, each after a line that names it.
func Remedy(w io.Writer, format, version string, r facts.Recipe) error {
	if format == "json" {
		return JSON(w, RemedySchema, version, "remedy", r)
	}
	var b strings.Builder
	for i, f := range r.Files {
		if len(r.Files) > 1 {
			if i > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "# ---- %s ----\n", f.Name)
		}
		b.WriteString(f.Text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
