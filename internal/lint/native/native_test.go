package native

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/elffile"
	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

func linter(t *testing.T, opts Options) *Linter {
	t.Helper()
	l, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// about is the finding of a rule whose title has a text.
func about(r Result, rule finding.Rule, text string) (finding.Finding, bool) {
	i := slices.IndexFunc(r.Findings, func(f finding.Finding) bool { return f.Rule == rule && strings.Contains(f.Title, text) })
	if i < 0 {
		return finding.Finding{}, false
	}
	return r.Findings[i], true
}

// evidence is the first line that has all texts.
func evidence(f finding.Finding, texts ...string) string {
	for _, e := range f.Evidence {
		if !slices.ContainsFunc(texts, func(s string) bool { return !strings.Contains(e, s) }) {
			return e
		}
	}
	return ""
}

func TestHandlers(t *testing.T) {
	const none = finding.Severity(-1)
	file := testbed.Build(t, "libhandlers.c")
	versions := []string{"2.31", "2.36", ""}
	for _, tt := range []struct {
		rule finding.Rule
		text string
		// severity by version, then with Strict.
		severity [4]finding.Severity
		evidence []string
	}{
		{finding.AtforkUnsafeCall, "child handler plain_child", [4]finding.Severity{finding.Info, finding.Info, finding.Warning, finding.Warning}, []string{"plain_child", "-> malloc"}},
		{finding.AtforkUnsafeCall, "child handler tail_child", [4]finding.Severity{finding.Warning, finding.Warning, finding.Warning, finding.Warning}, []string{"tail_child", "-> localtime", "glibc-tzset-lock"}},
		{finding.AtforkUnsafeCall, "child handler passed2_child reaches syslog", [4]finding.Severity{finding.Warning, finding.Warning, finding.Warning, finding.Warning}, []string{"-> syslog"}},
		{finding.AtforkUnsafeCall, "child handler public_child", [4]finding.Severity{finding.Info, finding.Info, finding.Info, finding.Warning}, []string{"-> fflush"}},
		{finding.AtforkUnsafeCall, "child handler passed_child", [4]finding.Severity{none, none, none, none}, nil},
		{finding.AtforkUnsafeCall, "child handler choice1_child", [4]finding.Severity{none, none, none, none}, nil},
		{finding.AtforkUnsafeCall, "child handler hook_child", [4]finding.Severity{none, none, none, none}, nil},
		{finding.AtforkReentry, "call ", [4]finding.Severity{finding.Warning, finding.Info, finding.Warning, finding.Warning}, []string{"loader_child", "-> dlclose"}},
		{finding.AtforkReentry, "call ", [4]finding.Severity{finding.Warning, finding.Info, finding.Warning, finding.Warning}, []string{"prepare: loader_prepare", "-> fork"}},
		{finding.AtforkLockLeft, "left_prepare takes left_lock", [4]finding.Severity{finding.Warning, finding.Warning, finding.Warning, finding.Warning}, []string{"left_prepare", "pthread_mutex_lock(left_lock)"}},
		{finding.AtforkLockLeft, "plain_prepare", [4]finding.Severity{none, none, none, none}, nil},
		{finding.LibraryNoAtfork, "", [4]finding.Severity{none, none, none, none}, nil},
	} {
		for i, want := range tt.severity {
			opts := Options{Strict: i == 3, Versions: map[string]string{"glibc": versions[min(i, 1)]}}
			if i == 2 {
				opts.Versions["glibc"] = ""
			}
			r := linter(t, opts).File(file)
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			// Several handlers may call back; the one that is asked for is found by
			// its evidence.
			var f finding.Finding
			ok := false
			for _, g := range r.Findings {
				if g.Rule == tt.rule && strings.Contains(g.Title, tt.text) && (tt.evidence == nil || evidence(g, tt.evidence...) != "") {
					f, ok = g, true
				}
			}
			switch {
			case want == none && ok:
				t.Errorf("%v: %s: %s: %s", opts, tt.rule, f.Title, f.Evidence)
			case want == none:
			case !ok:
				t.Errorf("%v: no %s about %q with %q", opts, tt.rule, tt.text, tt.evidence)
			case f.Severity != want:
				t.Errorf("%v: %s: severity %v, want %v", opts, f.Title, f.Severity, want)
			case f.Confidence != finding.Inferred || f.Why == "" || len(f.Remedy) == 0 || len(f.Sources) == 0 || f.Place == nil || f.Place.File != file || evidence(f, "registered at 0x") == "":
				t.Errorf("%v: the finding is not whole: %+v", opts, f)
			}
		}
	}
	r := linter(t, Options{Versions: map[string]string{"glibc": "2.36"}}).File(file)
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "what the variable set_later has") }) {
		t.Errorf("that a handler is not known is not said: %q", r.Notes)
	}
	if f, _ := about(r, finding.AtforkUnsafeCall, "plain_child"); f.Fact != "glibc-malloc" || evidence(f, "malloc", "this C library repairs it") == "" {
		t.Errorf("the exception for malloc is not marked: %+v", f)
	}
}

func TestThreads(t *testing.T) {
	r := linter(t, Options{}).File(testbed.Build(t, "libthreads.c"))
	f, ok := about(r, finding.LibraryNoAtfork, "libthreads.so starts threads, has 2 static locks, and registers no fork handler")
	if !ok || f.Severity != finding.Info || evidence(f, "threads_start -> pthread_create") == "" || evidence(f, "pthread_mutex_lock(pool_lock)") == "" {
		t.Errorf("findings %+v", r.Findings)
	}
	if f, ok = about(r, finding.ForkWithoutExec, "threads_fork"); !ok || f.Severity != finding.Warning {
		t.Errorf("findings %+v", r.Findings)
	}
	if len(r.Findings) != 2 {
		t.Errorf("%d findings, want 2: %+v", len(r.Findings), r.Findings)
	}
}

// TestDeep follows a handler into the library that has what it calls.
func TestDeep(t *testing.T) {
	deep := testbed.Build(t, "libdeep.c", "-Wl,-soname,libdeep.so")
	handlers := testbed.Build(t, "libdeephandlers.c", deep)
	dir := t.TempDir()
	for _, f := range []string{deep, handlers} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "libdeephandlers.so")
	root := testbed.Open(t, "bookworm").Dir
	shallow := linter(t, Options{Root: root}).File(file)
	if f, ok := about(shallow, finding.AtforkUnsafeCall, "far_child reaches deep_reset"); !ok || f.Severity != finding.Info {
		t.Errorf("without Deep: %+v", shallow.Findings)
	}
	r := linter(t, Options{Root: root, Deep: true}).File(file)
	f, ok := about(r, finding.AtforkUnsafeCall, "far_child reaches localtime")
	if !ok || f.Severity != finding.Warning || evidence(f, "far_child -> libdeep.so`deep_reset -> libdeep.so`renew", "localtime") == "" {
		t.Errorf("with Deep: %+v, notes %q", r.Findings, r.Notes)
	}
	if err := os.Remove(filepath.Join(dir, "libdeep.so")); err != nil {
		t.Fatal(err)
	}
	r = linter(t, Options{Root: root, Deep: true}).File(file)
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "libdeep.so was not followed") }) {
		t.Errorf("that a library is missing is not said: %q", r.Notes)
	}
}

// TestOtherFiles has files that are no libraries, and none of them is opened for
// ever.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good, err := os.ReadFile(testbed.Build(t, "libhandlers.c"))
	if err != nil {
		t.Fatal(err)
	}
	lib := put("lib.so", string(good))
	cut := put("cut.so", string(good[:3000]))
	text := put("text.so", "INPUT(libc.so.6)\n")
	object := put("object.o", string(good[:16])+"\x01\x00"+string(good[18:]))
	other := put("riscv.so", string(good[:18])+"\xf3\x00"+string(good[20:]))
	if err := os.Symlink(dir, filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("lib.so", filepath.Join(dir, "lib.so.1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(lib, filepath.Join(dir, "same.so")); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	mkfifo(t, fifo)
	l := linter(t, Options{})
	for path, want := range map[string]error{
		cut: elffile.ErrDamaged, text: elffile.ErrNotELF, object: nil, other: nil,
		filepath.Join(dir, "none"): fs.ErrNotExist,
	} {
		r := l.File(path)
		if _, said := about(r, finding.UnreadableSource, filepath.Base(path)); said != (want == elffile.ErrDamaged) {
			t.Errorf("%s: damage is said: %v", path, said)
		}
		if !errors.Is(r.Err, want) || want == nil && len(r.Findings) > 0 {
			t.Errorf("%s: %v, want %v; %d findings", path, r.Err, want, len(r.Findings))
		}
		if r.Err != nil && !strings.Contains(r.Err.Error(), path) {
			t.Errorf("the error does not say where: %v", r.Err)
		}
	}
	if r := l.File(fifo); r.Err == nil || !strings.Contains(r.Err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", r.Err)
	}
	paths, notes, err := Find(context.Background(), dir)
	slices.Sort(paths)
	if want := []string{cut, lib, object, other}; err != nil || !slices.Equal(paths, want) || len(notes) > 0 {
		t.Errorf("found %q, notes %q, %v; want %q", paths, notes, err, want)
	}
	results, err := l.Run(context.Background(), paths)
	if err != nil || len(results) != 4 || results[1].Path != lib || len(results[1].Findings) < 10 {
		t.Errorf("%v, %d results", err, len(results))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Run(ctx, paths); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run: %v", err)
	}
}

// TestPackage looks up what a package of a root folder installed.
func TestPackage(t *testing.T) {
	root := testbed.Libraries(t).Dir
	paths, err := Package(root, "libtcl8.6")
	if err != nil || !slices.ContainsFunc(paths, func(p string) bool { return strings.HasSuffix(p, "/libtcl8.6.so") }) {
		t.Fatalf("%q, %v", paths, err)
	}
	results, err := linter(t, Options{Root: root}).Run(context.Background(), paths)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range results {
		f, ok := about(r, finding.AtforkUnsafeCall, "libtcl8.6.so: the child handler reaches pthread_")
		found = found || ok && f.Severity == finding.Warning
	}
	if !found {
		t.Errorf("Tcl's handler, which takes locks, is not found: %+v", results)
	}
	if _, err := Package(root, "no-such-package"); err == nil {
		t.Error("a package that is not installed has files")
	}
}
