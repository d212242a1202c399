package symbol

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forkproof/internal/elffile"
)

func TestDebugFileByBuildID(t *testing.T) {
	l := build(t)
	root := t.TempDir()
	debug := splitDebug(t, l)
	id := buildID(t, l.full)
	at := filepath.Join(root, "usr/lib/debug/.build-id", id[:2], id[2:]+".debug")
	install(t, debug, at)
	checkPrivate(t, table(t, l.full, Options{Root: root}), DebugFile)

	t.Run("forbidden", func(t *testing.T) {
		tab := table(t, l.full, Options{Root: root, NoDebugFiles: true})
		if _, ok := tab.ByName("hidden"); ok {
			t.Error("a debug file was read")
		}
	})
	t.Run("absolute link stays in the root", func(t *testing.T) {
		// In the root the link's target exists; outside of it there is no such file.
		install(t, debug, filepath.Join(root, "store/d.debug"))
		relink(t, "/store/d.debug", at)
		checkPrivate(t, table(t, l.full, Options{Root: root}), DebugFile)
	})
	t.Run("link out of the root", func(t *testing.T) {
		relink(t, debug, at) // an absolute path that exists only outside
		tab := table(t, l.full, Options{Root: root})
		if _, ok := tab.ByName("hidden"); ok {
			t.Error("a link led out of the root")
		}
	})
	t.Run("of another build", func(t *testing.T) {
		other := build(t, "-DOTHER=1", "-g3")
		install(t, splitDebug(t, other), at)
		tab := table(t, l.full, Options{Root: root})
		if _, ok := tab.ByName("hidden"); ok || tab.Err() == nil {
			t.Errorf("the debug file of another build was taken (%v)", tab.Err())
		}
	})
	t.Run("pipe in its place", func(t *testing.T) {
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
		tool(t, "mkfifo", at)
		tab := table(t, l.full, Options{Root: root})
		if _, ok := tab.ByName("hidden"); ok || tab.Err() == nil {
			t.Errorf("a pipe was taken for a debug file (%v)", tab.Err())
		}
	})
}

func TestDebugLink(t *testing.T) {
	// Without build-ids only the checksum says that the files belong together.
	l := build(t, "-Wl,--build-id=none")
	root := t.TempDir()
	debug := splitDebug(t, l)
	for _, place := range []string{"opt/app/lib.so.debug", "opt/app/.debug/lib.so.debug", "usr/lib/debug/opt/app/lib.so.debug"} {
		t.Run(place, func(t *testing.T) {
			at := filepath.Join(root, place)
			install(t, debug, at)
			checkPrivate(t, table(t, l.full, Options{Root: root, Path: "/opt/app/lib.so"}), DebugFile)
			raw, err := os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			raw[len(raw)-1] ^= 1
			if err := os.WriteFile(at, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			tab := table(t, l.full, Options{Root: root, Path: "/opt/app/lib.so"})
			if _, ok := tab.ByName("hidden"); ok || tab.Err() == nil || !strings.Contains(tab.Err().Error(), "checksum") {
				t.Errorf("a debug file with a wrong checksum: found %v, error %v", ok, tab.Err())
			}
			if err := os.Remove(at); err != nil {
				t.Fatal(err)
			}
		})
	}
	tab := table(t, l.full, Options{Root: root, Path: "/opt/app/lib.so"})
	if _, ok := tab.ByName("hidden"); ok || tab.Err() != nil {
		t.Errorf("a debug file that is nowhere: found %v, error %v", ok, tab.Err())
	}
}

// TestMiniDebugInfo makes .gnu_debugdata in the way of Fedora's
// find-debuginfo: the functions that .dynsym does not have, packed with xz.
func TestMiniDebugInfo(t *testing.T) {
	l := build(t)
	addMini(t, l, false)
	checkPrivate(t, table(t, l.full, Options{Root: t.TempDir()}), MiniDebug)
	tab := table(t, l.full, Options{Root: t.TempDir()})
	if s, ok := tab.ByName("api"); !ok || s.Source != DynSym {
		t.Errorf("api: %+v %v", s, ok)
	}
	if s, ok := tab.ByName("api"); ok {
		if got, ok := tab.Lookup(s.Value); !ok || got.Name != "api" {
			t.Errorf("api by address: %+v %v", got, ok)
		}
	}
}

func TestMiniDebugInfoDamaged(t *testing.T) {
	l := build(t)
	addMini(t, l, true)
	tab := table(t, l.full, Options{Root: t.TempDir()})
	if _, ok := tab.ByName("hidden"); ok {
		t.Error("found in damaged mini debug information")
	}
	if err := tab.Err(); !errors.Is(err, elffile.ErrDamaged) {
		t.Errorf("error %v, want ErrDamaged", err)
	}
	if s, ok := tab.ByName("api"); !ok {
		t.Errorf("exported names must go on: %+v", s)
	}
}

func addMini(t testing.TB, l library, damage bool) {
	t.Helper()
	in := func(n string) string { return filepath.Join(l.dir, n) }
	exported := map[string]bool{}
	for line := range strings.Lines(tool(t, "nm", "-D", l.full, "--format=posix", "--defined-only")) {
		exported[withoutVersion(strings.Fields(line)[0])] = true
	}
	var keep []string
	for line := range strings.Lines(tool(t, "nm", l.full, "--format=posix", "--defined-only")) {
		if f := strings.Fields(line); (f[1] == "T" || f[1] == "t") && !exported[withoutVersion(f[0])] {
			keep = append(keep, f[0])
		}
	}
	if err := os.WriteFile(in("keep"), []byte(strings.Join(keep, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "objcopy", "--only-keep-debug", l.full, in("debug"))
	tool(t, "objcopy", "-S", "--remove-section", ".gdb_index", "--remove-section", ".comment", "--keep-symbols="+in("keep"), in("debug"), in("mini"))
	tool(t, "strip", l.full)
	tool(t, "xz", "-f", in("mini"))
	if damage {
		raw, err := os.ReadFile(in("mini.xz"))
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 0xff
		if err := os.WriteFile(in("mini.xz"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, "objcopy", "--add-section", ".gnu_debugdata="+in("mini.xz"), l.full)
}

func splitDebug(t testing.TB, l library) string {
	t.Helper()
	debug := filepath.Join(l.dir, "lib.so.debug")
	tool(t, "objcopy", "--only-keep-debug", l.full, debug)
	tool(t, "strip", l.full)
	tool(t, "objcopy", "--add-gnu-debuglink="+debug, l.full)
	return debug
}

func buildID(t testing.TB, path string) string {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	f, err := elffile.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	id, err := f.ReadBuildID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func install(t testing.TB, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func relink(t testing.TB, target, at string) {
	t.Helper()
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, at); err != nil {
		t.Fatal(err)
	}
}
