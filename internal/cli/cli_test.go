package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Colours and the width are those of a real terminal, and of nothing else.
func TestTerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	t.Setenv("COLUMNS", "")
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 72, Row: 24}); err != nil {
		t.Fatal(err)
	}
	if colour, width := terminal(tty); !colour || width != 72 {
		t.Errorf("a terminal of 72 columns: %t, %d", colour, width)
	}
	t.Setenv("NO_COLOR", "1")
	if colour, width := terminal(tty); colour || width != 72 {
		t.Errorf("with NO_COLOR: %t, %d", colour, width)
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	if colour, _ := terminal(tty); colour {
		t.Error("colours on a dumb terminal")
	}
	t.Setenv("TERM", "xterm")
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if colour, _ := terminal(null); colour {
		t.Error("colours to a device that is no terminal")
	}
	if colour, _ := terminal(&bytes.Buffer{}); colour {
		t.Error("colours to a buffer")
	}
}

// What is replaced keeps its permissions, and what is made new has those of any
// new file.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace(old, []byte("after")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(old); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if b, err := os.ReadFile(old); err != nil || string(b) != "after" {
		t.Errorf("%q, %v", b, err)
	}
	loose := filepath.Join(dir, "loose")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), loose); err != nil {
		t.Fatal(err)
	}
	if err := replace(loose, nil); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a loose link: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestErrorsAreHarmless(t *testing.T) {
	err := errors.Join(errors.New("one \x1b[2J\u009b"), errors.New("two"), errors.New("two"))
	if got := lines(err); len(got) != 2 || got[0] != `one \x1b[2J\u009b` || got[1] != "two" {
		t.Errorf("got %q", got)
	}
}

// No config file, whatever it holds, does more than be refused.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"", "format = 'json'\n[inspect]\ngap = '1s'\nname = ['a']\nall = true", "[inspect]\nformt = 1", "inspect = 3", "= =", "[[inspect]]", "name = 'x'", "format = ['x']",
		"inspect.format = 'json'", "\x00", "[inspect.inspect]", "all = 1e9", "config = 'x'", "help = true",
	} {
		f.Add([]byte(s))
	}
	root := Command(&bytes.Buffer{}, &bytes.Buffer{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(root, "file", b)
		if err != nil {
			var s *status
			if !errors.As(err, &s) || s.code != exitUsage || !strings.HasPrefix(err.Error(), "file:") {
				t.Fatalf("error %v", err)
			}
			return
		}
		for _, cmd := range configured(root) {
			c.value(cmd.Name(), "format")
		}
	})
}

// Every command's flags can be set from a file: none has a type that files do
// not know.
func TestEveryFlagIsASetting(t *testing.T) {
	root := Command(&bytes.Buffer{}, &bytes.Buffer{})
	var out, errs bytes.Buffer
	if code := Run(context.Background(), []string{"config", "show"}, &out, &errs); code != 0 {
		t.Fatalf("status %d: %s", code, &errs)
	}
	c, err := parseConfig(root, "file", out.Bytes())
	if err != nil {
		t.Fatalf("what config show prints is no config file: %v\n%s", err, &out)
	}
	for _, key := range []string{"all", "name", "unit", "container", "wait-for", "format", "output", "fail-on", "gap", "verbose"} {
		if _, _, has := c.value("inspect", key); !has {
			t.Errorf("%s is no setting of inspect", key)
		}
	}
}
