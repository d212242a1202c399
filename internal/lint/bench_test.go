package lint

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"forkproof/internal/testbed"
)

// benchLines is how large the project is that is linted.
const benchLines = 100_000

// BenchmarkLint lints a project of 100000 lines: real modules of Python's own
// library and Debian's packages, all of which the application imports. It should
// take less than 3 s. The peer parses the same files with CPython's ast, in turns
// and in the same run, and does nothing else.
func BenchmarkLint(b *testing.B) {
	root := testbed.Open(b, "bookworm")
	dir := b.TempDir()
	lines, files := 0, 0
	var imports strings.Builder
	for _, from := range []string{"usr/lib/python3.11", "usr/lib/python3/dist-packages"} {
		err := filepath.WalkDir(filepath.Join(root.Dir, from), func(path string, d fs.DirEntry, err error) error {
			if err != nil || lines >= benchLines || !d.Type().IsRegular() || !strings.HasSuffix(path, ".py") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("m%d", files)
			if err := os.WriteFile(filepath.Join(dir, name+".py"), text, 0o600); err != nil {
				return err
			}
			fmt.Fprintf(&imports, "import %s\n", name)
			files++
			lines += bytes.Count(text, []byte("\n"))
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if lines < benchLines {
		b.Fatalf("%d lines in %d files: the wrong folder", lines, files)
	}
	for name, text := range map[string]string{"app.py": imports.String() + starts, "Procfile": "web: gunicorn --preload app:app\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	peer := func() {
		script := "import ast, glob, sys, warnings\nwarnings.simplefilter('ignore')\nfor f in glob.glob(sys.argv[1] + '/*.py'):\n    ast.parse(open(f, 'rb').read())\n"
		// The root folder's Python, and the machine's files: no folder is entered.
		loaders, _ := filepath.Glob(filepath.Join(root.Dir, "lib/*-linux-gnu/ld-*.so*"))
		var libs []string
		for _, l := range []string{"lib", "usr/lib"} {
			found, _ := filepath.Glob(filepath.Join(root.Dir, l, "*-linux-gnu"))
			libs = append(libs, found...)
		}
		cmd := exec.Command(loaders[0], "--library-path", strings.Join(libs, ":"), filepath.Join(root.Dir, "usr/bin/python3.11"), "-S", "-c", script, dir)
		cmd.Env = []string{"PYTHONHOME=" + filepath.Join(root.Dir, "usr")}
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	var own, theirs time.Duration
	found := 0
	for b.Loop() {
		start := time.Now()
		doc, err := Run(context.Background(), Request{Paths: []string{dir}})
		own += time.Since(start)
		if err != nil {
			b.Fatal(err)
		}
		found = 0
		for _, f := range doc.Findings {
			if strings.HasSuffix(f.Place.File, "/app.py") {
				found++
			}
		}
		start = time.Now()
		peer()
		theirs += time.Since(start)
	}
	if found != 1 {
		b.Errorf("%d findings in app.py, want one", found)
	}
	b.ReportMetric(own.Seconds()/float64(b.N), "s/lint")
	b.ReportMetric(float64(lines)*float64(b.N)/own.Seconds(), "lines/s")
	b.ReportMetric(float64(theirs)/float64(own), "x-ast.parse")
}
