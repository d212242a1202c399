package testbed

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Build compiles a victim in C or C++ (by its ending) of victims/c with the
// compiler of bullseye, whose glibc is the oldest: what comes out runs in every
// root and on the machine. Flags come after the usual ones. A result is kept
// and used again as long as the sources and flags are the same.
func Build(t testing.TB, source string, flags ...string) string {
	t.Helper()
	compiler := "gcc"
	if filepath.Ext(source) == ".cc" {
		compiler = "g++"
	}
	return compile(t, Open(t, "bullseye"), compiler, source, append([]string{"-pthread", "-ldl"}, flags...))
}

// BuildMusl is Build with musl in place of glibc, linked dynamically unless the
// flags say -static. It runs where Debian's package musl is: in every root.
func BuildMusl(t testing.TB, source string, flags ...string) string {
	t.Helper()
	return compile(t, Open(t, "bullseye"), "musl-gcc", source, flags)
}

// BuildHost is Build with the machine's own gcc, for the machine.
func BuildHost(t testing.TB, source string, flags ...string) string {
	t.Helper()
	return compile(t, Host(t), "gcc", source, append([]string{"-pthread"}, flags...))
}

// BuildARM64 is Build for AArch64, with the compilers of the root folder cross.
// There is nothing to run the result on; it is to be read.
func BuildARM64(t testing.TB, source string, flags ...string) string {
	t.Helper()
	return compile(t, Cross(t), "aarch64-linux-gnu-gcc", source, append([]string{"-pthread"}, flags...))
}

func compile(t testing.TB, root *Root, compiler, source string, flags []string) string {
	t.Helper()
	path := Victim(t, filepath.Join("c", source))
	name := strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
	args := append([]string{compiler, "-O2", "-g", "-Wall", "-Werror", "-o", "", path}, flags...)
	if strings.HasPrefix(name, "lib") {
		name += ".so"
		args = append(args, "-shared", "-fPIC")
	}
	return cached(t, name, path, []string{root.Dir, fmt.Sprint(args)}, func(out string) {
		args[6] = out
		// The folder of results is read-only inside, so the result is made in
		// a work folder and moved by the caller of this function.
		p := root.Start(t, Cmd{Args: args, Work: filepath.Dir(out)})
		if err := p.Wait(t); err != nil {
			t.Fatalf("testbed: compile %s: %v\n%s", source, err, p.Output())
		}
	})
}

// BuildGo compiles a command of this module, named by its folder below this
// package, such as "victims/go/waiter", without cgo.
func BuildGo(t testing.TB, folder string) string {
	t.Helper()
	dir := filepath.Join(sources(t), folder)
	return cached(t, filepath.Base(folder), dir, []string{runtime.Version()}, func(out string) {
		cmd := exec.CommandContext(t.Context(), goTool(t), "build", "-o", out, ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("testbed: build %s: %v\n%s", folder, err, text)
		}
	})
}

// goTool finds the go command where sudo has taken it from PATH, too.
func goTool(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"go", "/usr/local/go/bin/go"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("testbed: no go command in PATH nor in /usr/local/go/bin")
	return ""
}

// cached returns the file that build writes, made once for the same contents
// of a source, a file or a folder, and the same keys.
func cached(t testing.TB, name, source string, keys []string, build func(out string)) string {
	t.Helper()
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q %s\n", name, keys, runtime.GOARCH)
	err := filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(hash, "%q %x\n", filepath.Base(path), sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	home := filepath.Join(cache(t), hex.EncodeToString(hash.Sum(nil))[:16])
	result := filepath.Join(home, name)
	if _, err := os.Stat(result); err == nil {
		return result
	}
	// Several test binaries may build the same at once: each builds its own,
	// and the last to be renamed stays.
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatalf("testbed: %v", err)
	}
	work := t.TempDir()
	made := filepath.Join(work, name)
	build(made)
	data, err := os.ReadFile(made)
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	if err := replace(result, data); err != nil {
		t.Fatalf("testbed: keep %s: %v", name, err)
	}
	return result
}

// replace writes an executable file so that nobody ever sees half of it.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
