package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDir: links lead where they would lead a program that was started in the
// folder, and nowhere else.
func TestDir(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "root")
	put := func(name, text string) {
		t.Helper()
		p := filepath.Join(outside, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	put("secret", "secret")
	put("root/secret", "inside")
	put("root/usr/lib/libc.so", "libc")
	link("usr/lib", "lib")
	link("/usr/lib", "abs")
	link("/secret", "usr/absolute")
	link("../../../../../../secret", "usr/up")
	link(outside+"/secret", "usr/full")
	link("ring2", "ring1")
	link("ring1", "ring2")
	link("/proc/self/root/etc/passwd", "usr/proc")
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for name, want := range map[string]string{
		"lib/libc.so": "libc", "abs/libc.so": "libc", "usr/absolute": "inside", "usr/up": "inside",
	} {
		if b, err := fs.ReadFile(d, name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for name, want := range map[string]error{
		"usr/full": fs.ErrNotExist, "usr/proc": fs.ErrNotExist, "ring1": ErrHostile, "../secret": fs.ErrInvalid, "absent": fs.ErrNotExist,
	} {
		b, err := fs.ReadFile(d, name)
		if !errors.Is(err, want) || len(b) > 0 {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if _, err := d.Open("pipe"); err == nil || !strings.Contains(err.Error(), "neither a file nor a folder") {
		t.Errorf("a pipe: %v", err)
	}
	if l, err := d.ReadDir("abs"); err != nil || len(l) != 1 || l[0].Name() != "libc.so" {
		t.Errorf("list: %v, %v", l, err)
	}
	if _, err := OpenDir(filepath.Join(outside, "secret")); err == nil {
		t.Error("a file was opened as a root")
	}
}
