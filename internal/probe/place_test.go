package probe

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"forkproof/internal/testbed"
)

// tree makes files and, by "path -> target", symbolic links.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, e := range entries {
		name, to, link := strings.Cut(e, " -> ")
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if link {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte("text"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestWithin(t *testing.T) {
	root := tree(t, "usr/lib/a.so", "lib -> usr/lib", "abs -> /usr/lib/a.so", "out -> ../../../../usr/lib/a.so", "loop -> /loop", "gone -> /etc/passwd", "usr/up -> ../lib/a.so")
	for path, want := range map[string]string{
		"/usr/lib/a.so":        "usr/lib/a.so",
		"lib/a.so":             "usr/lib/a.so",
		"/abs":                 "usr/lib/a.so",
		"/out":                 "usr/lib/a.so", // never outside
		"/usr/up":              "usr/lib/a.so",
		"/lib/../lib/./a.so":   "usr/lib/a.so",
		"../../usr/lib/a.so":   "usr/lib/a.so",
		"/loop":                "",
		"/gone":                "",
		"/usr/lib/a.so/beyond": "",
	} {
		got, err := within(root, path)
		if want == "" {
			if err == nil {
				t.Errorf("%s: %s, want an error", path, got)
			}
			continue
		}
		if err != nil || got != filepath.Join(root, want) {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
}

// header is the beginning of an ELF file for a processor.
func elfHeader(t *testing.T, name string, machine byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	h := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 57)...)
	h[16], h[18] = 3, machine
	if err := os.WriteFile(path, h, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLocateRefuses(t *testing.T) {
	mine := byte(machines[runtime.GOARCH].elf)
	text := filepath.Join(tree(t, "libc.so.6"), "libc.so.6")
	for name, tt := range map[string]struct{ root, libc, want string }{
		"no folder":          {"/nonexistent", "", "no such file"},
		"a file as root":     {text, "", "is no folder"},
		"an empty folder":    {t.TempDir(), "", "has no dynamic loader"},
		"no file":            {"", "/nonexistent/libc.so.6", "no such file"},
		"text":               {"", text, "is no library"},
		"another processor":  {"", elfHeader(t, "libc.so.6", 40), "another processor"},
		"a name of no libc":  {"", elfHeader(t, "libm.so.6", mine), "named like none of"},
		"no loader beside":   {"", elfHeader(t, "libc.so.6", mine), "no loader ld-linux"},
		"a link to the root": {tree(t, "lib64/x", "lib64/ld-linux-x86-64.so.2 -> /nonexistent"), "", "has no dynamic loader"},
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := locate(tt.root, tt.libc); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v, want %q", p, err, tt.want)
			}
		})
	}
}

func TestLocate(t *testing.T) {
	root := testbed.Open(t, "bullseye").Dir
	p, err := locate("", filepath.Join(root, "lib/x86_64-linux-gnu/libc.so.6"))
	if err != nil || p.family != "glibc" || filepath.Base(p.loader) != "ld-linux-x86-64.so.2" || p.chroot {
		t.Errorf("by file: %+v, %v", p, err)
	}
	p, err = locate(root, "")
	if err != nil || p.family != "glibc" || p.loader != "" || !p.chroot {
		t.Errorf("by root: %+v, %v", p, err)
	}
	p, err = locate(root, "/lib/ld-musl-x86_64.so.1")
	if err != nil || p.family != "musl" || p.loader != "/lib/ld-musl-x86_64.so.1" || !p.chroot {
		t.Errorf("musl in root: %+v, %v", p, err)
	}
}
