package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/report"
)

// reporting is what all commands that report have in common.
type reporting struct {
	format, output, failOn string
	verbose                bool
}

func (r *reporting) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.format, "format", "text", "what to write: "+strings.Join(report.Formats(), ", "))
	f.StringVarP(&r.output, "output", "o", "", "write the report to this `FILE`, whole or not at all")
	f.StringVar(&r.failOn, "fail-on", "critical", "exit with status 1 from this `SEVERITY` on: info, warning, critical, none")
	f.BoolVarP(&r.verbose, "verbose", "v", false, "show whole stacks, and those of healthy processes too")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(report.Formats(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions([]string{"info", "warning", "critical", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

// prepared is a checked reporting: what can go wrong with flags and files is
// said before the work, not after it.
type prepared struct {
	reporting
	render report.Renderer
	least  finding.Severity
	never  bool
}

func (r *reporting) prepare() (*prepared, error) {
	p := &prepared{reporting: *r, never: r.failOn == "none"}
	var err error
	if p.render, err = report.Lookup(r.format); err != nil {
		return nil, &status{exitUsage, err}
	}
	if !p.never {
		if err := p.least.UnmarshalText([]byte(r.failOn)); err != nil {
			return nil, usage("--fail-on: %q is not one of info, warning, critical, none", r.failOn)
		}
	}
	if r.output == "-" {
		p.output = ""
	}
	if p.output != "" {
		if err := writable(p.output); err != nil {
			return nil, blind(fmt.Errorf("the report could not be written to %s: %w; nothing was looked at", p.output, err))
		}
	}
	return p, nil
}

// write renders the document to the file or to stdout, and returns the exit
// status as an error.
func (p *prepared) write(doc *finding.Document, stdout io.Writer) error {
	doc.Version = Version
	opts := report.Options{Verbose: p.verbose}
	if p.output == "" {
		opts.Colour, opts.Width = terminal(stdout)
	}
	var b bytes.Buffer
	if err := p.render(&b, doc, opts); err != nil {
		return blind(fmt.Errorf("write the report: %w", err))
	}
	if p.output == "" {
		if _, err := stdout.Write(b.Bytes()); err != nil {
			return blind(fmt.Errorf("write the report: %w", err))
		}
	} else if err := replace(p.output, b.Bytes()); err != nil {
		// What was found must not be lost for want of space.
		_, _ = stdout.Write(b.Bytes())
		return blind(fmt.Errorf("the report could not be written to %s: %w; it went to standard output", p.output, err))
	}
	if worst, ok := doc.Worst(); ok && !p.never && worst >= p.least {
		return &status{code: exitFindings}
	}
	return nil
}

// place says where a file is really written: through symbolic links, and
// whether it is to be replaced as a whole, which a pipe or terminal cannot be.
func place(path string) (real string, whole bool, err error) {
	real, err = filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, e := os.Lstat(path); e == nil {
			return "", false, fmt.Errorf("it is a symbolic link to a file that is not there")
		}
		return path, true, nil
	}
	if err != nil {
		return "", false, err
	}
	st, err := os.Stat(real)
	switch {
	case err != nil:
		return "", false, err
	case st.IsDir():
		return "", false, errors.New("it is a folder")
	}
	return real, st.Mode().IsRegular(), nil
}

// writable finds out whether replace will be able to write a file.
func writable(path string) error {
	real, whole, err := place(path)
	if err != nil {
		return err
	}
	if !whole {
		return nil
	}
	f, err := beside(real)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// beside makes a new file in the folder of another, with the permissions that a
// new file has.
func beside(path string) (*os.File, error) {
	for range 100 {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d.part", filepath.Base(path), rand.Uint32()))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, os.ErrExist) {
			if p := (*os.PathError)(nil); errors.As(err, &p) {
				err = fmt.Errorf("create a file in %s: %w", filepath.Dir(path), p.Err)
			}
			return f, err
		}
	}
	return nil, errors.New("no free name for a new file beside it")
}

// replace writes a file so that it holds, at any moment, all of the old or all
// of the new.
func replace(path string, b []byte) error {
	real, whole, err := place(path)
	if err != nil {
		return err
	}
	if !whole {
		f, err := os.OpenFile(real, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(b)
		return errors.Join(err, f.Close())
	}
	f, err := beside(real)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if st, e := os.Stat(real); e == nil && err == nil {
		err = f.Chmod(st.Mode().Perm())
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), real)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// terminal says whether to use colours and how wide lines may be: colours on a
// terminal alone, unless NO_COLOR is set or it can do none; a width of 0 leaves
// the choice to the report.
func terminal(w io.Writer) (colour bool, width int) {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		width = n
	}
	f, ok := w.(*os.File)
	if !ok || !isTerminal(w) {
		return false, width
	}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		width = int(size.Col)
	}
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", width
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// harmless writes what a terminal would obey as escapes.
func harmless(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != ' ' && !unicode.IsPrint(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
