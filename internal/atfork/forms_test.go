package atfork_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"forkproof/internal/atfork"
	"forkproof/internal/testbed"
)

func analyse(t testing.TB, path string) *atfork.Report {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := atfork.Analyse(f, atfork.Options{Path: path})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return r
}

// show is a handler in one word: the names of its functions, "-" for none, "?"
// for one that is not known.
func show(h *atfork.Handler) string {
	var names []string
	for _, f := range h.Funcs {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	switch {
	case h.Unknown != "":
		return "?"
	case h.None:
		return "-"
	}
	return strings.Join(names, "|")
}

// registered are the registrations, in words and in order.
func registered(r *atfork.Report) []string {
	var out []string
	for i := range r.Registrations {
		g := &r.Registrations[i]
		out = append(out, show(&g.Prepare)+" "+show(&g.Parent)+" "+show(&g.Child))
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// want has what libhandlers.c registers.
var want = []string{
	"- - choice1_child|choice2_child",
	"- - hook_child",
	"- - list_child",
	"- - object_child",
	"- - once_child",
	"- - passed2_child",
	"- - public_child",
	"- - switch_child",
	"- - tail_child",
	"- - ?",
	"left_prepare left_parent -",
	"loader_prepare loader_parent loader_child",
	"passed_prepare passed_parent passed_child",
	"plain_prepare plain_parent plain_child",
}

// tabled are the handlers of a static list. Which belong together is not told
// unless the compiler unrolled the loop.
var tabled = []string{"table1_child", "table2_prepare", "table2_child"}

// reached has, for each child handler, functions that must be leaves; one with
// a ! must not.
var reached = map[string][]string{
	"plain_child":  {"malloc", "pthread_mutex_unlock", "!free"},
	"tail_child":   {"localtime", "!malloc"},
	"passed_child": {"getpid"},
	"passed2_child": {
		"syslog",
	},
	"public_child": {"fflush"},
	"list_child":   {"tzset", "random"},
	"once_child":   {"pthread_once", "getenv", "rand"},
	"object_child": {"puts", "!malloc"},
	"hook_child":   {"!malloc"},
	"switch_child": {"sleep", "system", "strdup", "tzset", "getppid", "tmpfile", "srandom", "!realloc"},
	"loader_child": {"dlclose"},
}

// forms are the ways in which compilers and linkers make the same library.
var forms = [][]string{
	{},
	{"-O0"},
	{"-Os"},
	{"-O3"},
	{"-fno-plt"},
	{"-O2", "-fcf-protection"},
	{"-Wl,-z,now"},
	{"-O0", "-fcf-protection", "-fno-plt"},
	{"-Wl,--hash-style=sysv", "-Wl,-z,norelro"},
	{"-fno-asynchronous-unwind-tables"},
}

func TestForms(t *testing.T) {
	for _, flags := range forms {
		t.Run(named("amd64", flags), func(t *testing.T) {
			checkForms(t, testbed.Build(t, "libhandlers.c", flags...))
		})
	}
	for _, flags := range [][]string{{}, {"-O0"}, {"-Os"}, {"-fno-plt"}, {"-mbranch-protection=standard"}, {"-march=armv8.3-a", "-mbranch-protection=standard"}} {
		t.Run(named("arm64", flags), func(t *testing.T) {
			checkForms(t, testbed.BuildARM64(t, "libhandlers.c", flags...))
		})
	}
	t.Run("packed relocations", func(t *testing.T) {
		checkForms(t, testbed.BuildHost(t, "libhandlers.c", "-Wl,-z,pack-relative-relocs"))
	})
	t.Run("musl", func(t *testing.T) { checkForms(t, testbed.BuildMusl(t, "libhandlers.c")) })
}

// named is a name for a subtest, whose folder an overlay can be mounted on.
func named(arch string, flags []string) string {
	return strings.ReplaceAll(strings.Join(append([]string{arch}, flags...), " "), ",", " ")
}

func checkForms(t *testing.T, file string) {
	r := analyse(t, file)
	if len(r.Notes) > 0 {
		t.Errorf("notes: %q", r.Notes)
	}
	got := registered(r)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s is not found", w)
		}
	}
	all := strings.Join(got, "\n")
	for _, h := range tabled {
		if !strings.Contains(all, h) {
			t.Errorf("%s, of a table, is not found", h)
		}
	}
	for _, g := range got {
		// Inlining turns the function of this library that passes handlers on, and
		// the exported one, into registrations of their own.
		if !slices.Contains(want, g) && !strings.Contains(g, "table") {
			t.Errorf("%s is no registration of this library", g)
		}
	}
	for i := range r.Registrations {
		h := &r.Registrations[i].Child
		for _, f := range h.Funcs {
			for _, name := range reached[f.Name] {
				name, not := strings.CutPrefix(name, "!")
				k := slices.IndexFunc(h.Reach.Leaves, func(l atfork.Leaf) bool { return l.Name == name })
				if (k >= 0) == not {
					t.Errorf("%s reaches %s: %v", f.Name, name, !not)
				}
				if k >= 0 && (len(h.Reach.Leaves[k].Path) == 0 || h.Reach.Leaves[k].Path[0].Func != f.Name) {
					t.Errorf("the way to %s does not begin at %s: %v", name, f.Name, h.Reach.Leaves[k].Path)
				}
			}
			if f.Name == "hook_child" && len(h.Reach.Unresolved) != 1 {
				t.Errorf("hook_child calls a pointer that nobody knows, and that is not said: %v", h.Reach.Unresolved)
			}
		}
	}
	if t.Failed() {
		t.Logf("found:\n%s", all)
	}
}

// TestStripped sees that what is found without symbols is what is found with them.
func TestStripped(t *testing.T) {
	for _, tt := range []struct {
		file  string
		strip []string
	}{
		{testbed.Build(t, "libhandlers.c"), []string{"strip"}},
		{testbed.Build(t, "libhandlers.c", "-O0", "-fcf-protection"), []string{"strip"}},
		{testbed.BuildARM64(t, "libhandlers.c"), []string{"chroot", testbed.Cross(t).Dir, "aarch64-linux-gnu-strip"}},
	} {
		data, err := os.ReadFile(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		// Within the root folder of the compiler, where its strip sees it.
		dir := t.TempDir()
		if tt.strip[0] == "chroot" {
			if dir, err = os.MkdirTemp(filepath.Join(tt.strip[1], "tmp"), "strip-"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
		}
		file := filepath.Join(dir, "stripped.so")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		name := file
		if tt.strip[0] == "chroot" {
			name = strings.TrimPrefix(file, tt.strip[1])
		}
		if out, err := exec.Command(tt.strip[0], append(tt.strip[1:], name)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", tt.strip, err, out)
		}
		addrs := func(r *atfork.Report) (out []string) {
			for i := range r.Registrations {
				s := fmt.Sprintf("%#x:", r.Registrations[i].Addr)
				for _, h := range r.Registrations[i].Handlers() {
					s += fmt.Sprint(" ", h.None, h.Unknown != "")
					for _, f := range h.Funcs {
						s += fmt.Sprintf(" %#x", f.Addr)
					}
					for _, l := range h.Reach.Leaves {
						s += " " + l.Name
					}
				}
				out = append(out, s)
			}
			return out
		}
		with, without := addrs(analyse(t, tt.file)), addrs(analyse(t, file))
		if len(with) < 12 || !slices.Equal(with, without) {
			t.Errorf("with symbols:\n%s\nwithout:\n%s", strings.Join(with, "\n"), strings.Join(without, "\n"))
		}
	}
}
