package symbol

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/elffile"
)

func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is needed to make the files this test reads: install gcc, binutils and xz-utils (%v)", name, err)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func table(t testing.TB, path string, opts Options) *Table {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	f, err := elffile.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	tab := New(f, opts)
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Error(err)
		}
	})
	return tab
}

func libcPath(t testing.TB) string {
	t.Helper()
	for _, p := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Fatal("no libc.so.6 in any of the places where distributions keep it")
	return ""
}

// realFiles are what is installed of files of very different makers and sizes.
func realFiles(t testing.TB) []string {
	t.Helper()
	found := []string{libcPath(t)}
	for _, p := range []string{
		"/lib64/ld-linux-x86-64.so.2", "/usr/bin/python3.11", "/usr/bin/gdb", "/usr/local/go/bin/go",
		"/usr/lib/*-linux-gnu/libstdc++.so.6", "/usr/lib/jvm/*/lib/server/libjvm.so",
	} {
		got, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range got {
			real, err := filepath.EvalSymlinks(g)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(found, real) {
				found = append(found, real)
			}
		}
	}
	return found
}

// oracle lists the symbols that name a place, read with debug/elf.
func oracle(t testing.TB, path string) []elf.Symbol {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all []elf.Symbol
	for _, get := range []func() ([]elf.Symbol, error){f.Symbols, f.DynamicSymbols} {
		syms, err := get()
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			t.Fatal(err)
		}
		for _, s := range syms {
			switch elf.ST_TYPE(s.Info) {
			case elf.STT_FUNC, elf.STT_OBJECT, elf.STT_NOTYPE, elf.STT_GNU_IFUNC:
				if s.Section != elf.SHN_UNDEF && s.Section < elf.SHN_LORESERVE && s.Name != "" {
					s.Name = withoutVersion(s.Name)
					all = append(all, s)
				}
			}
		}
	}
	return all
}

// TestRealFiles asks for the first and last byte of every symbol with a size,
// and for the byte after it, and compares with a slow search of all symbols.
func TestRealFiles(t *testing.T) {
	for _, path := range realFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			syms := oracle(t, path)
			tab := table(t, path, Options{NoDebugFiles: true})
			slices.SortStableFunc(syms, func(a, b elf.Symbol) int {
				switch {
				case a.Value < b.Value:
					return -1
				case a.Value > b.Value:
					return 1
				}
				return 0
			})
			// The slow search is what takes the time: as many as it can do in a few seconds.
			step := max(1, len(syms)/3000, len(syms)*len(syms)/(50<<20))
			bad := 0
			for i := 0; i < len(syms) && bad < 10; i += step {
				s := syms[i]
				for _, addr := range []uint64{s.Value, s.Value + s.Size - 1, s.Value + s.Size} {
					if s.Size == 0 && addr != s.Value {
						continue
					}
					if msg := checkAddress(tab, syms, addr); msg != "" {
						t.Error(msg)
						bad++
					}
				}
			}
			if err := tab.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// checkAddress compares one answer with the slow search.
func checkAddress(tab *Table, syms []elf.Symbol, addr uint64) string {
	var start uint64
	covered := false
	var names []string
	for _, s := range syms {
		if s.Value > addr {
			break
		}
		if addr-s.Value >= s.Size {
			continue
		}
		if !covered || s.Value > start {
			start, covered, names = s.Value, true, nil
		}
		names = append(names, s.Name)
	}
	got, ok := tab.Lookup(addr)
	switch {
	case covered && (!ok || got.NoSize || got.Value != start || !slices.Contains(names, got.Name)):
		return fmt.Sprintf("%#x is %+v %v, want one of %v at %#x", addr, got, ok, names, start)
	case !covered && ok && !got.NoSize:
		return fmt.Sprintf("%#x is %+v, but no symbol covers it", addr, got)
	case ok && got.NoSize && (got.Size != 0 || got.Value > addr):
		return fmt.Sprintf("%#x is %+v", addr, got)
	}
	return ""
}

func TestWellKnownNames(t *testing.T) {
	tab := table(t, libcPath(t), Options{})
	for _, name := range []string{
		"pthread_mutex_lock", "pthread_rwlock_wrlock", "fork", "malloc", "free", "open", "read", "environ", "sem_wait",
		"pthread_self", "printf", "localtime_r",
	} {
		s, ok := tab.ByName(name)
		if !ok || s.Name != name || s.Local {
			t.Errorf("%s: %+v %v", name, s, ok)
			continue
		}
		got, ok := tab.Lookup(s.Value)
		if !ok || got.Name != name {
			t.Errorf("%s is at %#x, where there is %+v %v", name, s.Value, got, ok)
		}
	}
	if s, ok := tab.ByName("no_such_name_anywhere"); ok {
		t.Errorf("found what is not there: %+v", s)
	}
	if s, ok := tab.ByName(""); ok {
		t.Errorf("found the empty name: %+v", s)
	}
	if s, ok := tab.ByName("errno"); ok && s.Kind != TLS {
		t.Errorf("errno is %v", s.Kind)
	}
	if err := tab.Err(); err != nil {
		t.Error(err)
	}
}

// A library with everything that is awkward: private variables of one name in
// two files, aliases, versions, a function in assembly without a size.
const (
	sourceA = `
static int lock = 1;
__attribute__((noinline)) static int hidden(int n) { return lock += n; }
int api(int n) { return hidden(n) + 1; }
int __api(int n) __attribute__((alias("api")));
int apiapi(int n) __attribute__((alias("api")));
_Thread_local int per_thread = 5;
int *where(void) { return &per_thread; }
`
	sourceB = `
static int lock = 2;
int *other(void) { return &lock; }
int old_impl(void) { return 1; }
int new_impl(void) { return 2; }
__asm__(".symver old_impl,versioned@V1");
__asm__(".symver new_impl,versioned@@V2");
`
	sourceAsm = `
	.text
	.globl unsized
	.type unsized, %function
unsized:
	nop
	nop
	nop
	nop
	.globl sized_after
	.type sized_after, %function
sized_after:
	nop
	nop
	nop
	nop
inner_label:
	nop
	nop
	nop
	nop
	.size sized_after, .-sized_after
	nop
	nop
	nop
	nop
	.section .note.GNU-stack,"",%progbits
`
	versionScript = "V1 { };\nV2 { } V1;\n"
)

type library struct{ dir, full string }

func build(t testing.TB, flags ...string) library {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.c": sourceA, "b.c": sourceB, "s.S": sourceAsm, "v.map": versionScript} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := library{dir, filepath.Join(dir, "lib.so")}
	in := func(n string) string { return filepath.Join(dir, n) }
	args := []string{"-O1", "-shared", "-fPIC", "-o", l.full, in("a.c"), in("b.c"), in("s.S"), "-Wl,--version-script=" + in("v.map"), "-Wl,--build-id=sha1"}
	tool(t, "gcc", append(args, flags...)...)
	return l
}

// private names that only a full symbol table has.
func checkPrivate(t *testing.T, tab *Table, want Source) {
	t.Helper()
	if got := tab.Sources(); !slices.Equal(got, []Source{want, DynSym}) {
		t.Fatalf("sources %v, want %v and .dynsym (%v)", got, want, tab.Err())
	}
	hidden, ok := tab.ByName("hidden")
	if !ok || hidden.Kind != Func || !hidden.Local || hidden.Source != want {
		t.Fatalf("hidden: %+v %v", hidden, ok)
	}
	if got, ok := tab.Lookup(hidden.Value + 1); !ok || got != hidden {
		t.Errorf("within hidden: %+v %v, want %+v", got, ok, hidden)
	}
	if again, ok := tab.ByName("hidden"); !ok || again != hidden {
		t.Errorf("asked twice: %+v, then %+v", hidden, again)
	}
	if err := tab.Err(); err != nil {
		t.Error(err)
	}
}

func TestPrivateNames(t *testing.T) {
	tab := table(t, build(t).full, Options{NoDebugFiles: true})
	checkPrivate(t, tab, SymTab)
	locks := tab.AllByName("lock")
	var got []string
	for _, s := range locks {
		got = append(got, s.String())
		if at, ok := tab.Lookup(s.Value + 3); !ok || at != s {
			t.Errorf("%v: within it there is %+v %v", s, at, ok)
		}
		if at, ok := tab.Lookup(s.Value + 4); ok && at.Value == s.Value {
			t.Errorf("%v claims the byte after it", s)
		}
	}
	slices.Sort(got)
	if want := []string{"lock (a.c)", "lock (b.c)"}; !slices.Equal(got, want) {
		t.Errorf("locks %v, want %v", got, want)
	}
	if s, ok := tab.ByName("api"); !ok || s.File != "" || s.String() != "api" {
		t.Errorf("api: %+v %v", s, ok)
	}
}

func TestAliases(t *testing.T) {
	tab := table(t, build(t).full, Options{})
	s, ok := tab.ByName("__api")
	if !ok {
		t.Fatal("no __api")
	}
	if got, ok := tab.Lookup(s.Value); !ok || got.Name != "api" {
		t.Errorf("of api, __api and apiapi, %+v %v was chosen", got, ok)
	}
}

func TestVersions(t *testing.T) {
	l := build(t)
	for _, stripped := range []bool{false, true} {
		if stripped {
			tool(t, "strip", l.full)
		}
		tab := table(t, l.full, Options{})
		s, ok := tab.ByName("versioned")
		want, ok2 := tab.ByName("new_impl")
		if !ok || !ok2 || s.Value != want.Value {
			t.Errorf("stripped %v: versioned is %+v %v, the default version is %+v %v", stripped, s, ok, want, ok2)
		}
		for _, s := range tab.AllByName("versioned") {
			if s.Name != "versioned" {
				t.Errorf("the name %q has a version", s.Name)
			}
		}
		if n := len(tab.AllByName("versioned")); n != 2 {
			t.Errorf("stripped %v: %d versions, want 2", stripped, n)
		}
	}
}

func TestThreadLocal(t *testing.T) {
	tab := table(t, build(t).full, Options{})
	s, ok := tab.ByName("per_thread")
	if !ok || s.Kind != TLS {
		t.Fatalf("per_thread: %+v %v", s, ok)
	}
	if got, ok := tab.Lookup(s.Value); ok && got.Name == "per_thread" {
		t.Errorf("an offset in thread-local storage passes for an address: %+v", got)
	}
}

func TestSymbolsWithoutSize(t *testing.T) {
	l := build(t)
	for _, stripped := range []bool{false, true} {
		if stripped {
			tool(t, "strip", l.full)
		}
		tab := table(t, l.full, Options{})
		open, ok := tab.ByName("unsized")
		after, ok2 := tab.ByName("sized_after")
		if !ok || !ok2 || open.Size != 0 || after.Size == 0 {
			t.Fatalf("the library is not what the test needs: %+v, %+v", open, after)
		}
		for _, c := range []struct {
			what   string
			addr   uint64
			name   string
			noSize bool
		}{
			{"its first byte", open.Value, "unsized", true},
			{"its last byte", after.Value - 1, "unsized", true},
			{"the next symbol", after.Value, "sized_after", false},
			{"a label within a function", after.Value + after.Size - 1, "sized_after", false},
		} {
			got, ok := tab.Lookup(c.addr)
			if !ok || got.Name != c.name || got.NoSize != c.noSize {
				t.Errorf("stripped %v, %s: %+v %v, want %s", stripped, c.what, got, ok, c.name)
			}
		}
		if got, ok := tab.Lookup(after.Value + after.Size); ok && got.Name != "_fini" {
			t.Errorf("stripped %v: the bytes after a function are claimed by %+v", stripped, got)
		}
	}
	// The ends of sections are symbols without a size: what comes after is not theirs.
	tab := table(t, l.full, Options{})
	if s, ok := tab.Lookup(1 << 40); ok {
		t.Errorf("an address far outside is %+v", s)
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	tab := table(t, build(t).full, Options{})
	done := make(chan string)
	const users = 8
	for range users {
		go func() {
			s, ok := tab.ByName("hidden")
			if !ok {
				done <- "hidden was not found"
				return
			}
			if got, ok := tab.Lookup(s.Value); !ok || got != s {
				done <- fmt.Sprintf("%+v %v, want %+v", got, ok, s)
				return
			}
			_, _ = tab.ByName("no_such_name")
			_ = tab.AllByName("lock")
			done <- ""
		}()
	}
	for range users {
		if msg := <-done; msg != "" {
			t.Error(msg)
		}
	}
}
