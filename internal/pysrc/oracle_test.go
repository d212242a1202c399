package pysrc

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/testbed"
)

// every is which part of the standard library is read: one file of so many. All
// of it takes a minute on two processors.
var every = flag.Int("stdlib.every", 29, "read one file of so many of each standard library")

// TestStandardLibrary compares trees with those of CPython's own parser, node by
// node with names, values and places, in the four versions there is a root folder of.
func TestStandardLibrary(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		var files []string
		for _, dir := range []string{"usr/lib/python3", "usr/lib/python3.9", "usr/lib/python3.11", "usr/lib/python3.13", "usr/lib/python3.14"} {
			_ = filepath.WalkDir(filepath.Join(root.Dir, dir), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".py") {
					files = append(files, path)
				}
				return nil
			})
		}
		var some []string
		for i, f := range files {
			if i%*every == 0 {
				some = append(some, f)
			}
		}
		if len(some) < 1000 / *every {
			t.Fatalf("%d files of %d: the test looks at the wrong folders", len(some), len(files))
		}
		compare(t, root, some)
	})
}

// TestNewSyntax compares files that are there for the newest syntax with the
// newest CPython there is a root folder of.
func TestNewSyntax(t *testing.T) {
	files, err := filepath.Glob("testdata/syntax/*.py")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	compare(t, testbed.Open(t, "forky"), files)
	if t.Failed() {
		t.Log("each of these files is valid for that version")
	}
}

// compare runs the root folder's Python with the machine's files: it needs the
// folder's libraries alone, so that no folder is entered.
func compare(t *testing.T, root *testbed.Root, files []string) {
	t.Helper()
	script, err := filepath.Abs("testdata/dump.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := python(root, script)
	var abs []string
	for _, f := range files {
		a, err := filepath.Abs(f)
		if err != nil {
			t.Fatal(err)
		}
		abs = append(abs, a)
	}
	cmd.Stdin = strings.NewReader(strings.Join(abs, "\n"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var name string
	var want []string
	read, nodes := 0, 0
	ended := ""
	check := func() {
		if name != "" && !slices.Contains(want, "E") {
			read++
			nodes += len(want)
			compareFile(t, name, want, root.Name == "trixie" || root.Name == "forky")
		}
		want = nil
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "F "):
			check()
			name = line[2:]
		case strings.HasPrefix(line, "E "):
			compareError(t, name, line[2:])
			name = ""
		case strings.HasPrefix(line, "END "):
			check()
			name, ended = "", line[4:]
		case line != "":
			want = append(want, line)
		}
	}
	if err := cmd.Wait(); err != nil || lines.Err() != nil || ended == "" {
		t.Fatalf("%v: %v, %v\n%s", cmd, err, lines.Err(), stderr.String())
	}
	t.Logf("Python %s: %d files, %d nodes", ended, read, nodes)
	if read < len(files)-refused(files) {
		t.Errorf("%d of %d files compared", read, len(files))
	}
}

func python(root *testbed.Root, script string) *exec.Cmd {
	names, _ := filepath.Glob(filepath.Join(root.Dir, "usr/bin/python3.*"))
	// By its own name: the link in lib64 may be absolute.
	loaders, _ := filepath.Glob(filepath.Join(root.Dir, "lib/*-linux-gnu/ld-*.so*"))
	var dirs []string
	for _, d := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu"} {
		dirs = append(dirs, filepath.Join(root.Dir, d))
	}
	cmd := exec.Command(loaders[0], "--library-path", strings.Join(dirs, ":"), names[0], "-S", script)
	cmd.Env = []string{"PYTHONHOME=" + filepath.Join(root.Dir, "usr"), "PYTHONIOENCODING=utf-8", "PYTHONUTF8=1", "PYTHONDONTWRITEBYTECODE=1"}
	return cmd
}

func compareFile(t *testing.T, name string, want []string, fields bool) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := Read(b)
	for _, e := range f.Errors {
		t.Errorf("%s:%d:%d: %s", name, e.Line, e.Col+1, e.Message)
	}
	got := dump(f, fields)
	// Within f-strings 3.12 has other places; Starred arguments come twice here.
	slices.Sort(got)
	slices.Sort(want)
	shown := 0
	for i, j := 0, 0; i < len(got) || j < len(want); {
		switch {
		case j < len(want) && i < len(got) && same(got[i], want[j]):
			i++
			j++
			continue
		case j >= len(want) || i < len(got) && got[i] < want[j]:
			t.Errorf("%s: only here: %s", name, got[i])
			i++
		default:
			t.Errorf("%s: only CPython: %s", name, want[j])
			j++
		}
		if shown++; shown > 6 {
			return
		}
	}
}

// same compares two lines; a text with \N{...}, which is not looked up, stands
// for any.
func same(got, want string) bool {
	if got == want {
		return true
	}
	s, ok := strings.CutSuffix(got, "Constant ?")
	return ok && strings.HasPrefix(want, s+"Constant s")
}

// refused is how many files CPython may refuse: its library has some with errors
// for tests, our own have none.
func refused(files []string) int {
	if strings.HasPrefix(files[0], "testdata") {
		return 0
	}
	return len(files) / 10
}

// compareError sees that what CPython does not take is an error here too.
func compareError(t *testing.T, name, message string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if f, _ := Read(b); len(f.Errors) == 0 {
		t.Logf("%s: CPython says %s, here it is no error", name, message)
	}
}

func ExampleRead() {
	f, _ := Read([]byte("import os\nos.fork(\n\nx = 1\ndef f(): pass\n"))
	for _, e := range f.Errors {
		fmt.Printf("%d:%d: %s\n", e.Line, e.Col+1, e.Message)
	}
	fmt.Println(len(f.Body), "statements")
	// Output:
	// 5:1: a ( was never closed
	// 3 statements
}
