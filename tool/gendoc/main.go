// Gendoc writes the man pages, docs/commands.md, docs/rules.md and docs/measured.md from the same
// source as the help texts and reports. 'make docs' runs it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"forkproof/internal/cli"
	"forkproof/internal/report"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendoc FOLDER")
		os.Exit(2)
	}
	files, err := generate()
	if err == nil {
		err = write(os.Args[1], files)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "gendoc: %v\n", err)
		os.Exit(1)
	}
}

func write(folder string, files map[string][]byte) error {
	for name, b := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generate returns all files by their path in the folder of documents.
func generate() (map[string][]byte, error) {
	root := cli.Command(io.Discard, io.Discard)
	files := map[string][]byte{"rules.md": rules()}
	var commands bytes.Buffer
	commands.WriteString("# Commands\n\nMade by `make docs` from the help texts; the man pages in [man](man) say the same.\n")
	// The month is part of a man page, and one that is made again must be the same.
	month := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range documented(root) {
		var page bytes.Buffer
		header := &doc.GenManHeader{Section: "1", Date: &month, Source: "forkproof " + cli.Version, Manual: "forkproof manual"}
		if err := doc.GenMan(c, header, &page); err != nil {
			return nil, fmt.Errorf("man page of %s: %w", c.CommandPath(), err)
		}
		files["man/"+strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = page.Bytes()
		command(&commands, c)
	}
	files["commands.md"] = commands.Bytes()
	var measured bytes.Buffer
	if err := cli.Measured(&measured); err != nil {
		return nil, err
	}
	files["measured.md"] = measured.Bytes()
	return files, nil
}

// documented are the commands in the order of their names, a parent before its
// children. The command for shells' completion is cobra's own and left out: its
// help says how each shell takes it.
func documented(c *cobra.Command) []*cobra.Command {
	c.DisableAutoGenTag = true
	out := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		sub.Hidden = sub.Hidden || sub.Name() == "completion"
		if sub.IsAvailableCommand() {
			out = append(out, documented(sub)...)
		}
	}
	return out
}

func command(w *bytes.Buffer, c *cobra.Command) {
	about := c.Long
	if about == "" {
		about = c.Short + "."
	}
	fmt.Fprintf(w, "\n## %s\n\n%s\n", c.CommandPath(), about)
	if c.Runnable() && c.HasParent() {
		fmt.Fprintf(w, "\n    %s\n", c.UseLine())
	}
	if c.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n\n%s\n", indented(c.Example, "  "))
	}
	if flags := c.NonInheritedFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n\n%s\n", strings.TrimRight(indented(flags.FlagUsages(), "  "), "\n "))
	}
}

func indented(s, by string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = by + l
		}
	}
	return strings.Join(lines, "\n")
}

func rules() []byte {
	var b bytes.Buffer
	b.WriteString(`# Rules

What each finding means, what it is concluded from, and what to do. Made by ` + "`make docs`" + `; SARIF reports carry the same text.
[proofs.md](proofs.md) has the conditions in full.

A finding has a confidence: *proven* (it follows from what was read that no thread left can ever release the lock), *observed* (the
state was seen, its effect not yet), *known* (a published defect matches this version), *inferred* (static or heuristic).
The names of rules never change.

| rule | usually | confidence | says |
|---|---|---|---|
`)
	for _, r := range report.Rules() {
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s | %s |\n", r.Name, r.Name, r.Severity, r.Confidence, r.Short)
	}
	for _, r := range report.Rules() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n*How it is known:* %s\n\n*What to do:*\n\n", r.Name, r.Means, r.How)
		for _, d := range r.Do {
			fmt.Fprintf(&b, "- %s\n", d)
		}
	}
	return b.Bytes()
}
