package cpython_test

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkproof/internal/cpython"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// python is an interpreter of this machine or of a root folder.
type python struct {
	name  string // for the test's name
	root  string // "" for this machine
	path  string // within root
	minor int
}

// releases that the root folders of the project's set-up must hold.
var rootFolders = []struct {
	name  string
	path  string
	minor int
}{
	{"bullseye", "/usr/bin/python3.9", 9},
	{"bookworm", "/usr/bin/python3.11", 11},
	{"trixie", "/usr/bin/python3.13", 13},
	{"forky", "/usr/bin/python3.14", 14},
}

var minorOf = regexp.MustCompile(`python3\.([0-9]+)$`)

// interpreters returns what is installed: Debian's python3, those of pyenv, and
// those of the root folders named by FORKPROOF_TEST_ROOTS, which must be there.
func interpreters(t testing.TB) []python {
	t.Helper()
	var all []python
	add := func(name, root, path string) bool {
		real, err := filepath.EvalSymlinks(filepath.Join(root, path))
		if err != nil {
			return false
		}
		m := minorOf.FindStringSubmatch(real)
		if m == nil {
			return false
		}
		p := python{name: name, root: root, path: path}
		if _, err := fmt.Sscan(m[1], &p.minor); err != nil || p.minor < 8 || p.minor > 14 {
			return false
		}
		all = append(all, p)
		return true
	}
	add("system", "", "/usr/bin/python3")
	home, _ := os.UserHomeDir()
	pyenv, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.*/bin/python3"))
	for _, p := range pyenv {
		add("pyenv-"+filepath.Base(filepath.Dir(filepath.Dir(p))), "", p)
	}
	if roots := os.Getenv("FORKPROOF_TEST_ROOTS"); roots != "" {
		for _, r := range rootFolders {
			if !add(r.name, filepath.Join(roots, r.name), r.path) {
				t.Fatalf("FORKPROOF_TEST_ROOTS is %s, but there is no %s in %s of it", roots, r.path, r.name)
			}
		}
	}
	if len(all) == 0 {
		t.Skip("no Python 3.8 to 3.14 is installed, and FORKPROOF_TEST_ROOTS is not set")
	}
	return all
}

// each runs a test with every interpreter.
func each(t *testing.T, f func(t *testing.T, p python)) {
	for _, p := range interpreters(t) {
		t.Run(p.name, func(t *testing.T) { f(t, p) })
	}
}

// victim is a running Python program.
type victim struct {
	python
	pid    int
	cmd    *exec.Cmd
	out    *bufio.Reader // its standard output
	report *os.File      // what it writes to the descriptor in its argv[1]
	hold   *os.File      // it reads from argv[2], for ever
}

// start runs a program from testdata under the file name it shall believe to
// have. The program is read from standard input: nothing is written into a root
// folder.
func start(t testing.TB, p python, program, as string) *victim {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("testdata", program))
	if err != nil {
		t.Fatal(err)
	}
	report, reportW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	holdR, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	boot := fmt.Sprintf("import sys; exec(compile(sys.stdin.buffer.read(), %q, 'exec'))", as)
	cmd := exec.Command(p.path, "-S", "-E", "-c", boot, "3", "4")
	cmd.Env = []string{"LANG=C.UTF-8", "PATH=/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader(string(source))
	cmd.Stderr = os.Stderr
	// A root folder that is entered by chroot alone has no /proc of its own.
	procDir, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer procDir.Close()
	cmd.ExtraFiles = []*os.File{reportW, holdR, procDir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.root != "" {
		cmd.Dir = "/"
		cmd.SysProcAttr.Chroot = p.root
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s in %q: %v", p.path, p.root, err)
	}
	_ = reportW.Close()
	_ = holdR.Close()
	v := &victim{python: p, pid: cmd.Process.Pid, cmd: cmd, out: bufio.NewReader(out), report: report, hold: hold}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, v.out)
		_ = cmd.Wait()
		_ = report.Close()
		_ = hold.Close()
	})
	return v
}

// line waits for a line of the victim's output.
func (v *victim) line(t testing.TB) string {
	t.Helper()
	s, err := v.out.ReadString('\n')
	if err != nil {
		t.Fatalf("victim ended early: %v", err)
	}
	return strings.TrimSpace(s)
}

// settle waits until every thread of a process sleeps in one place.
func settle(t testing.TB, pid int) {
	t.Helper()
	fs := proc.New("/proc")
	look := func() string {
		tids, err := fs.Threads(pid)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, tid := range tids {
			raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
			if err != nil || strings.HasPrefix(string(raw), "running") {
				return ""
			}
			st, err := fs.TaskStat(pid, tid)
			if err != nil {
				return ""
			}
			fmt.Fprintf(&b, "%d %s %d\n", tid, raw, st.UTime+st.STime)
		}
		return b.String()
	}
	deadline := time.Now().Add(time.Minute)
	was, same := "", 0
	for same < 3 {
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not come to rest:\n%s", pid, was)
		}
		now := look()
		if now != "" && now == was {
			same++
		} else {
			same = 0
		}
		was = now
		time.Sleep(5 * time.Millisecond) // between two looks; nothing depends on it
	}
}

// elfImage is what Find needs of a file, by the standard library.
type elfImage struct {
	file    *elf.File
	symbols []elf.Symbol
}

func (e elfImage) Symbol(name string) (addr, size uint64, ok bool) {
	for _, s := range e.symbols {
		if s.Name == name && s.Section != elf.SHN_UNDEF {
			return s.Value, s.Size, true
		}
	}
	return 0, 0, false
}

func (e elfImage) Section(name string) (addr, size uint64, ok bool) {
	if s := e.file.Section(name); s != nil {
		return s.Addr, s.Size, true
	}
	return 0, 0, false
}

// objects returns the executable and libpython of a process.
func objects(t testing.TB, pid int) []cpython.Object {
	t.Helper()
	maps, err := proc.New("/proc").Maps(pid)
	if err != nil {
		t.Fatal(err)
	}
	var all []cpython.Object
	for _, m := range maps {
		if m.Offset != 0 || !strings.Contains(filepath.Base(m.Path), "python") || strings.Contains(m.Path, "-linux-gnu.so") {
			continue
		}
		file, err := proc.New("/proc").OpenMapped(pid, m)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		f, err := elf.NewFile(file)
		if err != nil {
			t.Fatal(err)
		}
		symbols, err := f.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		bias := uint64(0)
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Off == 0 {
				bias = m.Start - p.Vaddr
			}
		}
		all = append(all, cpython.Object{Path: m.Path, Bias: bias, Image: elfImage{f, symbols}})
	}
	return all
}

// find opens the runtime of a victim.
func (v *victim) find(t testing.TB) *cpython.Runtime {
	t.Helper()
	return findIn(t, v.pid)
}

func findIn(t testing.TB, pid int) *cpython.Runtime {
	t.Helper()
	r, err := cpython.Find(procmem.Open(pid), objects(t, pid))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
