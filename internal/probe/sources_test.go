package probe

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"forkproof/internal/testbed"
)

// Each source says what it claims, and is the probe that its name says.
func TestSources(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range All() {
		if seen[p.Name] {
			t.Errorf("there are two probes %s", p.Name)
		}
		seen[p.Name] = true
		if p.Title == "" || p.Claim == "" || len(p.Title) > 150 {
			t.Errorf("%s: title %q, claim %q: the header must have both", p.Name, p.Title, p.Claim)
		}
		b, err := sources.ReadFile("src/" + string(p.Group) + "/" + p.Name + ".c")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(b, []byte("\nPROBE("+strconv.Quote(p.Name)+")\n")) && !bytes.Contains(b, []byte("\nPROBE("+strconv.Quote(p.Name)+") {")) {
			t.Errorf("%s/%s.c defines no probe of its name", p.Group, p.Name)
		}
	}
	if len(seen) < 120 {
		t.Errorf("%d probes", len(seen))
	}
	for _, name := range []string{"malloc", "setenv", "getaddrinfo", "popen", "bz-19431", "bz-24595-child", "bz-27054-prepare", "order"} {
		if !seen[name] {
			t.Errorf("no probe %s", name)
		}
	}
}

var kinds = []struct {
	family, arch string
	machine      elf.Machine
	needs        []string
}{
	{"glibc", "amd64", elf.EM_X86_64, []string{"libdl.so.2", "librt.so.1", "libpthread.so.0", "libc.so.6"}},
	{"glibc", "arm64", elf.EM_AARCH64, []string{"libdl.so.2", "librt.so.1", "libpthread.so.0", "libc.so.6"}},
	{"musl", "amd64", elf.EM_X86_64, []string{"libc.so"}},
	{"musl", "arm64", elf.EM_AARCH64, []string{"libc.so"}},
}

// The programs run on glibc 2.17 and later, depend on libc alone, and tell
// nothing of where they were built.
func TestPrograms(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.family+"-"+k.arch, func(t *testing.T) {
			b, err := embedded(k.family, k.arch)
			if err != nil {
				t.Fatal(err)
			}
			f, err := elf.NewFile(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if f.Machine != k.machine {
				t.Errorf("it is for %v", f.Machine)
			}
			needs, err := f.ImportedLibraries()
			if err != nil || slices.ContainsFunc(needs, func(n string) bool { return !slices.Contains(k.needs, n) }) {
				t.Errorf("it needs %v, %v", needs, err)
			}
			symbols, err := f.ImportedSymbols()
			if err != nil || len(symbols) < 100 {
				t.Fatalf("%d imported symbols, %v", len(symbols), err)
			}
			versioned := 0
			for _, s := range symbols {
				minor, ok := strings.CutPrefix(s.Version, "GLIBC_2.")
				if !ok {
					continue
				}
				versioned++
				minor, _, _ = strings.Cut(minor, ".")
				if n, err := strconv.Atoi(minor); err != nil || n > 17 {
					t.Errorf("%s needs %s: it must run on 2.17", s.Name, s.Version)
				}
			}
			if (versioned > 0) != (k.family == "glibc") {
				t.Errorf("%d symbols have a version of glibc", versioned)
			}
			if f.Section(".note.gnu.build-id") != nil {
				t.Error("it has a build id, which differs from build to build")
			}
			if i := bytes.Index(b, []byte("/tmp/probes")); i >= 0 {
				t.Error("it tells where it was built")
			}
			interpreter := f.Section(".interp")
			if interpreter == nil {
				t.Fatal("it has no interpreter")
			}
			path, err := interpreter.Data()
			if want := machines[k.arch].loaders[k.family]; err != nil || string(bytes.TrimRight(path, "\x00")) != want {
				t.Errorf("its loader is %q, %v, want %s", path, err, want)
			}
			if machines[k.arch].elf != uint16(f.Machine) {
				t.Errorf("machines says %d", machines[k.arch].elf)
			}
		})
	}
}

// What is embedded is what the sources give.
func TestProgramsAreCurrent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("building in a root folder needs root")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "bash", "scripts/probes.sh", "probe", dir)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	for _, k := range kinds {
		name := "probe-" + k.family + "-" + k.arch
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := embedded(k.family, k.arch); err != nil || !bytes.Equal(got, want) {
			t.Errorf("bin/%s is not what the sources give (%v): run make probes", name, err)
		}
	}
}

// written puts an embedded program where it can be run.
func written(t *testing.T, family, arch string) string {
	t.Helper()
	b, err := embedded(family, arch)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// The programs have the probes that the sources have, also those of the other
// processor, which an emulator runs.
func TestList(t *testing.T) {
	cross := filepath.Dir(testbed.Open(t, "bullseye").Dir) + "/cross"
	if _, err := os.Stat(cross); err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	for name, command := range map[string][]string{
		"glibc-amd64": {written(t, "glibc", "amd64")},
		"musl-amd64":  {written(t, "musl", "amd64")},
		"glibc-arm64": {"qemu-aarch64", "-L", cross + "/usr/aarch64-linux-gnu", written(t, "glibc", "arm64")},
		"musl-arm64":  {"qemu-aarch64", "-L", cross, written(t, "musl", "arm64")},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), command[0], append(command[1:], "list")...).Output()
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Fields(string(out))
			var want []string
			for _, p := range All() {
				want = append(want, p.Name)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("it has\n%v\nand the sources\n%v", got, want)
			}
			// One that needs no thread runs as well.
			out, err = exec.CommandContext(t.Context(), command[0], append(command[1:], "order")...).Output()
			if err != nil || !regexp.MustCompile(`(?m)^end order works 1 -1 0 0 $`).Match(out) {
				t.Errorf("order: %s, %v", out, err)
			}
		})
	}
}
