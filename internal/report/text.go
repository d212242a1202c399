package report

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"forkproof/internal/finding"
)

// theme holds terminal escapes; its zero value prints none.
type theme struct{ bad, warn, good, bold, dim, off string }

var colours = theme{bad: "\x1b[1;31m", warn: "\x1b[1;33m", good: "\x1b[1;32m", bold: "\x1b[1m", dim: "\x1b[2m", off: "\x1b[0m"}

// of is the colour of a class of verdict.
func (t theme) of(class string) string {
	switch class {
	case bad:
		return t.bad
	case warn:
		return t.warn
	case good:
		return t.good
	}
	return t.bold
}

// Bounds of a line of text, in columns. Beyond the upper one the eye loses the
// line; below the lower one addresses do not fit.
const (
	minWidth     = 40
	defaultWidth = 100
	maxWidth     = 120
)

// label is the column of the words on the left: "waits", "lock".
const label = 8

type printer struct {
	*bufio.Writer
	theme
	width   int
	verbose bool
}

// Text writes the document for a person: the verdict first, then who waits on
// what, then the rest.
func Text(w io.Writer, doc *finding.Document, opts Options) error {
	p := &printer{Writer: bufio.NewWriter(w), width: defaultWidth, verbose: opts.Verbose}
	if opts.Width != 0 {
		p.width = min(max(opts.Width, minWidth), maxWidth)
	}
	if opts.Colour {
		p.theme = colours
	}
	if doc.Command == "lint" {
		p.source(doc)
		return p.Flush()
	}
	v := verdict(doc)
	p.wrap(v.Word+": "+v.Rest, p.of(v.Class), len(v.Word), "", "")
	p.answers(doc)
	p.trials(doc)
	p.provoked(doc)
	var before []string
	var information []*block
	for _, b := range blocks(doc) {
		if p.terse(doc, b) {
			information = append(information, b)
			continue
		}
		p.block(doc, b, slices.Equal(before, b.remedy()))
		before = b.remedy()
	}
	p.information(information)
	p.forks(doc)
	if !slices.Contains([]string{"check", "provoke", "stress", "trace"}, doc.Command) {
		p.servers(doc)
		if len(doc.Targets) == 0 {
			p.host(doc)
		}
	}
	p.notes(doc)
	return p.Flush()
}

func (p *printer) line(s string) { _, _ = p.WriteString(s + "\n") } // bufio keeps the first error for Flush

// wrap writes text in lines of at most the width, breaking between words; a word
// is never broken, so that paths can be copied. The first painted bytes have a
// colour. first begins the first line, next all others.
func (p *printer) wrap(text, colour string, painted int, first, next string) {
	room := p.width - utf8.RuneCountInString(first)
	var b strings.Builder
	b.WriteString(first)
	if colour != "" && painted > 0 && painted <= len(text) {
		b.WriteString(colour)
	} else {
		painted = 0
	}
	done, used := 0, 0
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		if i > 0 {
			if used > 0 && used+1+n > room {
				b.WriteString("\n" + next)
				room, used = p.width-utf8.RuneCountInString(next), 0
			} else {
				b.WriteByte(' ')
				used++
			}
			done++
		}
		if painted > done && painted <= done+len(word) {
			b.WriteString(word[:painted-done] + p.off + word[painted-done:])
		} else {
			b.WriteString(word)
		}
		done += len(word)
		used += n
	}
	p.line(b.String())
}

// field writes one labelled paragraph of a block.
func (p *printer) field(word, text string) {
	p.wrap(text, "", 0, fmt.Sprintf("  %-*s", label, word), strings.Repeat(" ", label+2))
}

// list writes a labelled list, an item a paragraph.
func (p *printer) list(word string, items []string) {
	for i, s := range items {
		first := strings.Repeat(" ", label+2)
		if i == 0 {
			first = fmt.Sprintf("  %-*s", label, word)
		}
		if len(items) == 1 {
			p.wrap(prose(s), "", 0, first, strings.Repeat(" ", label+2))
			continue
		}
		p.wrap(prose(s), "", 0, first+"- ", strings.Repeat(" ", label+4))
	}
}

func (p *printer) block(doc *finding.Document, b *block, sameRemedy bool) {
	p.line("")
	word := strings.ToUpper(b.Severity.String())
	p.wrap(word+": "+b.title(), p.of(class(b.Severity)), len(word), "", "  ")
	if len(b.pids) > 1 {
		p.field("who", many(b.noun())+" "+numbers(b.pids))
	}
	if s := b.waits(doc); s != "" {
		p.field("waits", s)
		if b.thread != nil {
			p.stack(label+4, merged(b.thread.Native, b.thread.Python))
		}
	}
	if l := b.Lock; l != nil {
		p.field("lock", lockLine(l))
		if s := ownerLine(l); s != "" {
			p.field("owner", s)
			if l.Owner != nil && l.Owner.Alive {
				p.stack(label+4, merged(l.Owner.Native, l.Owner.Python))
			}
		}
		for i := range l.Suspects {
			o := &l.Suspects[i]
			p.wrap("thread "+ownerOf(o), "", 0, strings.Repeat(" ", label+2), strings.Repeat(" ", label+2))
			p.stack(label+4, merged(o.Native, o.Python))
		}
	}
	if sameRemedy && len(b.Remedy) > 0 {
		p.field("do", "as above")
	} else {
		p.list("do", b.remedy())
	}
	p.field("why", fmt.Sprintf("%s [%s, %s]", prose(b.Why), b.Rule, b.Confidence))
	seen := "seen"
	if len(b.pids) > 1 && len(b.Evidence) > 0 {
		p.field(seen, seenIn(b))
		seen = ""
	}
	p.list(seen, b.Evidence)
	p.list("source", b.Sources)
}

// information lists blocks in one line each.
func (p *printer) information(all []*block) {
	for i, b := range all {
		if i == 0 {
			p.line("")
			p.wrap("For information (-v says more):", "", 0, "", "  ")
		}
		text := b.title()
		if b.Fact != "" {
			text += " (" + name(b.Fact) + ")"
		}
		p.wrap(text, "", 0, "  - ", "    ")
	}
}

// stack writes a stack, in short unless the whole was asked for.
func (p *printer) stack(indent int, rows []row) {
	left := 0
	if !p.verbose {
		rows, left = brief(rows)
	}
	pad := strings.Repeat(" ", indent)
	for _, r := range rows {
		// A frame is never wrapped: a file and line that is whole can be clicked.
		if r.Python {
			p.line(pad + r.Text)
		} else {
			p.line(pad + p.dim + r.Text + p.off)
		}
	}
	if left > 0 {
		p.line(pad + p.dim + fmt.Sprintf("%s (-v shows all)", plural(left, "more frame")) + p.off)
	}
}

// servers lists what was looked at, one line for processes of one kind and state.
func (p *printer) servers(doc *finding.Document) {
	for _, s := range servers(doc) {
		p.line("")
		p.wrap(s.Title, p.bold, len(s.Title), "", "  ")
		if s.About != "" {
			p.line("  " + p.dim + cut(s.About, p.width-2) + p.off)
		}
		if s.Command != "" {
			p.line("  " + p.dim + cut(s.Command, p.width-2) + p.off)
		}
		if s.Inside != "" {
			p.wrap(s.Inside, p.dim, len(s.Inside), "  ", "  ")
		}
		for _, g := range s.Groups {
			text := fmt.Sprintf("%-10s  %s", g.Verdict, g.Who)
			p.wrap(text, p.of(g.Class), len(g.Verdict), "  ", strings.Repeat(" ", 14))
			if !p.verbose {
				continue
			}
			for _, t := range g.targets {
				p.threads(t)
			}
		}
	}
}

func (p *printer) threads(t *finding.Target) {
	for _, th := range t.Threads {
		p.line(fmt.Sprintf("    thread %s of %d: %s", threadName(th.Name, th.TID), t.PID, name(th.State)))
		p.stack(label, merged(th.Native, th.Python))
	}
}

// cut shortens a line that need not be whole.
func cut(s string, width int) string {
	r := []rune(s)
	if len(r) <= width || width < 4 {
		return s
	}
	return string(r[:width-3]) + "..."
}

func (p *printer) host(doc *finding.Document) {
	title, means := hostMeans(doc)
	if title == "" {
		return
	}
	p.line("")
	p.wrap(title+":", "", 0, "", "  ")
	for _, m := range means {
		p.wrap(prose(m), "", 0, "  - ", "    ")
	}
}

func (p *printer) notes(doc *finding.Document) {
	for i, n := range notes(doc) {
		if i == 0 {
			p.line("")
		}
		p.wrap("note: "+n, p.bold, len("note"), "", "  ")
	}
}
