package factsheet

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"sync"

	"forkproof/internal/crosscheck"
	"forkproof/internal/probe"
)

// MeasuredSchema is that of the JSON form of Measured.
const MeasuredSchema = "forkproof/measured/v1"

//go:embed measured.html
var measuredPage string

var measuredTemplate = sync.OnceValues(func() (*template.Template, error) {
	return template.New("measured").Funcs(template.FuncMap{"found": found, "name": probe.Libc.Name, "remarks": remarks, "tally": tally}).Parse(measuredPage)
})

// remarkable are the cells that a person should look at, worst first.
var remarkable = []struct {
	agreement crosscheck.Agreement
	title     string
}{
	{crosscheck.Contradicts, "Measured to break where it is documented to be sound"},
	{crosscheck.News, "Measured to break, and nothing is documented"},
	{crosscheck.NotSeen, "Documented to break and not seen to: evidence by the number of forks, no proof"},
}

// Measured writes what was measured beside what is documented as text, json,
// html or md.
func Measured(w io.Writer, format, version string, t crosscheck.Table) error {
	var b strings.Builder
	switch format {
	case "json":
		return JSON(w, MeasuredSchema, version, "measured", t)
	case "html":
		page, err := measuredTemplate()
		if err != nil {
			return fmt.Errorf("read the page of what was measured: %w", err)
		}
		if err := page.Execute(&b, t); err != nil {
			return fmt.Errorf("write what was measured as HTML: %w", err)
		}
	case "md":
		measuredMarkdown(&b, t)
	default:
		measuredText(&b, t)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tally is one sentence on the whole.
func tally(t crosscheck.Table) string {
	return fmt.Sprintf("%d probes on %d builds: %d agree with what is documented, %d contradict it, %d broke undocumented, %d documented breaks were not seen, %d tell nothing",
		len(t.Rows), len(t.Builds), t.Count(crosscheck.Agrees), t.Count(crosscheck.Contradicts), t.Count(crosscheck.News), t.Count(crosscheck.NotSeen), t.Count(crosscheck.Open))
}

// found is one cell in a word or two.
func found(c crosscheck.Cell) string {
	if c.Measured == "" {
		return ""
	}
	out := string(c.Measured)
	switch {
	case c.Proven:
		out += fmt.Sprintf(", proven at fork %d", c.Forks)
	case c.Measured == probe.Works && c.Forks > 1:
		out += fmt.Sprintf(" in %d forks", c.Forks)
	}
	return out
}

// remark is one probe with the builds on which it stands so.
type remark struct {
	Probe, Title, Facts string
	Builds              []string
}

// remarks are the rows that have cells of one agreement.
func remarks(t crosscheck.Table, a crosscheck.Agreement) []remark {
	var out []remark
	for _, r := range t.Rows {
		m := remark{Probe: r.Probe, Title: r.Title, Facts: strings.Join(r.Facts, ", ")}
		for i, c := range r.Cells {
			if c.Agreement == a {
				m.Builds = append(m.Builds, t.Builds[i].Name()+" ("+found(c)+")")
			}
		}
		if len(m.Builds) > 0 {
			out = append(out, m)
		}
	}
	return out
}

func measuredText(b *strings.Builder, t crosscheck.Table) {
	b.WriteString(fill(tally(t)+".", "", ""))
	for _, kind := range remarkable {
		all := remarks(t, kind.agreement)
		if len(all) == 0 {
			continue
		}
		b.WriteString("\n" + fill(strings.ToUpper(kind.title), "", ""))
		for _, m := range all {
			facts := ""
			if m.Facts != "" {
				facts = " [" + m.Facts + "]"
			}
			b.WriteString(fill(m.Title+facts, fmt.Sprintf("  %-26s ", m.Probe), strings.Repeat(" ", 29)))
			b.WriteString(fill(strings.Join(m.Builds, "; "), strings.Repeat(" ", 29), strings.Repeat(" ", 31)))
		}
	}
	b.WriteString("\n" + fill("The whole table: --format md, html or json. To measure the C library here: forkproof probe.", "", ""))
}

func measuredMarkdown(b *strings.Builder, t crosscheck.Table) {
	fmt.Fprintf(b, "%s.\n", tally(t))
	for _, kind := range remarkable {
		all := remarks(t, kind.agreement)
		if len(all) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n## %s\n\n| probe | says | facts | builds |\n|---|---|---|---|\n", kind.title)
		for _, m := range all {
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", cell(m.Probe), cell(m.Title), cell(m.Facts), cell(strings.Join(m.Builds, "; ")))
		}
	}
	b.WriteString("\n## All\n\n| probe | documented |")
	for _, l := range t.Builds {
		fmt.Fprintf(b, " %s |", cell(l.Name()))
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(t.Builds)) + "\n")
	for _, r := range t.Rows {
		fmt.Fprintf(b, "| %s | %s |", cell(r.Probe), cell(documented(r)))
		for _, c := range r.Cells {
			text := found(c)
			if c.Agreement != crosscheck.Agrees && c.Agreement != crosscheck.Open {
				text += " (" + string(c.Agreement) + ")"
			}
			fmt.Fprintf(b, " %s |", cell(text))
		}
		b.WriteString("\n")
	}
}

// documented is what the facts say of a row: one word where it is the same for
// all builds.
func documented(r crosscheck.Row) string {
	var words []string
	for _, c := range r.Cells {
		if w := string(c.Documented); !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	if len(words) > 1 {
		return "by version: " + strings.Join(r.Facts, ", ")
	}
	if len(r.Facts) > 0 {
		return strings.Join(words, "") + ": " + strings.Join(r.Facts, ", ")
	}
	return strings.Join(words, "")
}
