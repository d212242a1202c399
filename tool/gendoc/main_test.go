package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The documents in the repository are those that the program says of itself.
func TestDocumentsAreCurrent(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("../../docs", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not what 'make docs' writes (%v): run it", name, err)
		}
	}
	pages, err := filepath.Glob("../../docs/man/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if _, ok := files["man/"+filepath.Base(p)]; !ok {
			t.Errorf("%s belongs to no command", p)
		}
	}
}

// A man page must be one: man reads it without a complaint, where there is man.
func TestManPages(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	page := files["man/forkproof-inspect.1"]
	for _, want := range []string{".SH NAME", "wait-for", ".SH EXAMPLE"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page of inspect lacks %q", want)
		}
	}
	if strings.Contains(string(files["man/forkproof-doctor.1"]), "stand-in") {
		t.Error("a hidden flag is documented")
	}
	man, err := exec.LookPath("man")
	if err != nil {
		t.Log("there is no man here to read them with")
		return
	}
	for name, b := range files {
		if !strings.HasPrefix(name, "man/") {
			continue
		}
		path := filepath.Join(t.TempDir(), filepath.Base(name))
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(man, "--warnings=all", "-l", path)
		cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8", "MANPAGER=cat")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "SYNOPSIS") || strings.Contains(string(out), "warning:") {
			t.Errorf("%s: %v: %.400s", name, err, out)
		}
	}
}
