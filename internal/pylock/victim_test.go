package pylock_test

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

	"golang.org/x/sys/unix"

	"forkproof/internal/cpython"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/pylock"
)

// python is an interpreter of this machine or of a root folder.
type python struct {
	name  string
	root  string // "" for this machine
	path  string // within root
	minor int
}

var minorOf = regexp.MustCompile(`python3\.([0-9]+)$`)

// interpreters returns Debian's python3, those of pyenv, and those of the root
// folders named by FORKPROOF_TEST_ROOTS, which must be there.
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
		for root, path := range map[string]string{"trixie": "/usr/bin/python3.13", "forky": "/usr/bin/python3.14"} {
			if !add(root, filepath.Join(roots, root), path) {
				t.Fatalf("FORKPROOF_TEST_ROOTS is %s, but there is no %s in %s of it", roots, path, root)
			}
		}
	}
	if len(all) == 0 {
		t.Skip("no Python 3.8 to 3.14 is installed, and FORKPROOF_TEST_ROOTS is not set")
	}
	return all
}

// victim is a running Python program.
type victim struct {
	python
	pid int
	out *bufio.Reader
}

// start runs a program, given on standard input so that nothing need be written
// into a root folder.
func start(t testing.TB, p python, program string, args ...string) *victim {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("testdata", program))
	if err != nil {
		t.Fatal(err)
	}
	boot := fmt.Sprintf("import sys; exec(compile(sys.stdin.buffer.read(), %q, 'exec'))", "/srv/"+program)
	cmd := exec.Command(p.path, append([]string{"-E", "-c", boot}, args...)...)
	cmd.Stdin = strings.NewReader(string(source))
	return launch(t, p, cmd)
}

func launch(t testing.TB, p python, cmd *exec.Cmd) *victim {
	t.Helper()
	cmd.Env = []string{"LANG=C.UTF-8", "PATH=/usr/bin:/bin"}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	// A root folder that is entered by chroot alone has no /proc of its own.
	procDir, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer procDir.Close()
	cmd.ExtraFiles = []*os.File{procDir}
	if p.root != "" {
		cmd.SysProcAttr.Chroot = p.root
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s in %q: %v", p.path, p.root, err)
	}
	v := &victim{python: p, pid: cmd.Process.Pid, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, v.out)
		_ = cmd.Wait()
	})
	return v
}

func (v *victim) line(t testing.TB) string {
	t.Helper()
	s, err := v.out.ReadString('\n')
	if err != nil {
		t.Fatalf("victim ended early: %v", err)
	}
	return strings.TrimSpace(s)
}

// child starts the scenario and returns the PID of the forked child, which ends
// with the test, and the ident of the holder.
func child(t testing.TB, p python, scenario, mode string) (pid int, ident uint64) {
	t.Helper()
	v := start(t, p, "victim.py", scenario, mode)
	s := v.line(t)
	if why, ok := strings.CutPrefix(s, "skip "); ok {
		t.Skip(why)
	}
	if _, err := fmt.Sscan(s, &pid, &ident); err != nil {
		t.Fatalf("victim says %q: %v", s, err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	return pid, ident
}

// asleep waits until the main thread of a process sleeps in one of some system
// calls, in a futex without a timeout in particular.
func asleep(t testing.TB, pid int, calls ...int64) proc.Syscall {
	t.Helper()
	fs := proc.New("/proc")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s, err := fs.Syscall(pid, pid)
		if err != nil {
			t.Fatal(err)
		}
		if st, err := fs.Stat(pid); err != nil || st.State == 'Z' {
			t.Fatalf("process %d ended (%v)", pid, err)
		}
		for _, nr := range calls {
			if !s.Running && !s.Outside && s.Nr == nr && (nr != unix.SYS_FUTEX || s.Args[3] == 0) {
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not come to wait in %v: %+v", pid, calls, s)
		}
	}
}

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

// runtimeOf finds the interpreter of a process.
func runtimeOf(t testing.TB, pid int) (*procmem.Memory, *cpython.Runtime) {
	t.Helper()
	fs := proc.New("/proc")
	maps, err := fs.Maps(pid)
	if err != nil {
		t.Fatal(err)
	}
	var all []cpython.Object
	for _, m := range maps {
		if m.Offset != 0 || !strings.Contains(filepath.Base(m.Path), "python") || strings.Contains(m.Path, "-linux-gnu.so") {
			continue
		}
		file, err := fs.OpenMapped(pid, m)
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
		var bias uint64
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && p.Off == 0 {
				bias = m.Start - p.Vaddr
			}
		}
		all = append(all, cpython.Object{Path: m.Path, Bias: bias, Image: elfImage{f, symbols}})
	}
	mem := procmem.Open(pid)
	rt, err := cpython.Find(mem, all)
	if err != nil {
		t.Fatal(err)
	}
	return mem, rt
}

// look opens the heap of a process, with limits that a busy machine keeps too.
func look(t testing.TB, pid int) (*pylock.Heap, *cpython.Runtime) {
	t.Helper()
	mem, rt := runtimeOf(t, pid)
	h, err := pylock.Open(mem, rt, pylock.Limits{Time: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return h, rt
}

// mainThread returns the thread that a process was made with, or forked by: it
// is the oldest, and a thread's state is put at the head of the list.
func mainThread(t testing.TB, rt *cpython.Runtime) cpython.Thread {
	t.Helper()
	threads, err := rt.Threads()
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads: %d, %v", len(threads), err)
	}
	th := threads[len(threads)-1]
	if th.Err != nil {
		t.Fatal(th.Err)
	}
	return th
}
