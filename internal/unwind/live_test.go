package unwind_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"forkproof/internal/elffile"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/symbol"
	"forkproof/internal/unwind"
)

// compile builds test programs and returns the path of what came out.
func compile(t testing.TB, compiler string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "victim")
	for i, a := range args {
		if strings.HasSuffix(a, ".c") || strings.HasSuffix(a, ".cc") {
			args[i] = filepath.Join("testdata", a)
		}
	}
	if b, err := exec.Command(compiler, append([]string{"-o", out}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s is needed to build the processes that are looked at: %v\n%s", compiler, err, b)
	}
	return out
}

// start runs a command until it writes "ready" and all its threads sleep, and
// returns its pid.
func start(t testing.TB, name string, args ...string) int {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe() // keeps it open
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%s %v wrote %q, not ready: %v\n%s", name, args, line, err, stderr.String())
	}
	asleep(t, cmd.Process.Pid)
	return cmd.Process.Pid
}

// asleep waits until every thread sleeps in a system call and has stayed in it.
func asleep(t testing.TB, pid int) {
	t.Helper()
	fs := proc.New("/proc")
	deadline := time.Now().Add(time.Minute)
	state := func() string {
		tids, err := fs.Threads(pid)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, tid := range tids {
			s, err := fs.Syscall(pid, tid)
			st, err2 := fs.TaskStat(pid, tid)
			if err != nil || err2 != nil || s.Running || s.Outside || st.State != 'S' {
				return ""
			}
			n, err := fs.RunTime(pid, tid)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%d %+v %d\n", tid, s, n)
		}
		return b.String()
	}
	for last := ""; ; {
		now := state()
		if now != "" && now == last {
			return
		}
		last = now
		if time.Now().After(deadline) {
			t.Fatalf("process %d did not come to rest:\n%s", pid, now)
		}
		time.Sleep(time.Millisecond) // between two looks, not a wait for anything
	}
}

// opener opens mapped files as inspect does, in short.
func opener(fs proc.FS, pid int) unwind.Opener {
	return func(m proc.Mapping) (unwind.Opened, error) {
		if m.Path == "[vdso]" {
			img := make([]byte, m.End-m.Start)
			if _, err := procmem.Open(pid).ReadAt(img, m.Start); err != nil {
				return unwind.Opened{}, err
			}
			e, err := elffile.Open(bytes.NewReader(img))
			return unwind.Opened{File: e}, err
		}
		f, err := fs.OpenMapped(pid, m)
		if err != nil {
			return unwind.Opened{}, err
		}
		e, err := elffile.Open(f)
		return unwind.Opened{File: e, Symbols: symbol.Options{NoDebugFiles: true}, Close: f.Close}, err
	}
}

func space(t testing.TB, pid int, files *unwind.Files) *unwind.ProcessSpace {
	t.Helper()
	fs := proc.New("/proc")
	maps, err := fs.Maps(pid)
	if err != nil {
		t.Fatal(err)
	}
	s := unwind.NewSpace(maps, files, opener(fs, pid))
	t.Cleanup(func() { _ = s.Close() })
	return s
}

type walked struct {
	name   string
	frames []unwind.Frame
	err    error
}

// walk returns the stacks of all threads, by thread id.
func walk(t testing.TB, pid int) map[int]walked {
	t.Helper()
	fs := proc.New("/proc")
	files := unwind.NewFiles()
	t.Cleanup(func() { _ = files.Close() })
	sp := space(t, pid, files)
	tids, err := fs.Threads(pid)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[int]walked)
	for _, tid := range tids {
		s, err := fs.Syscall(pid, tid)
		if err != nil {
			t.Fatal(err)
		}
		st, err := fs.TaskStat(pid, tid)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := unwind.Stack(procmem.Open(pid), sp, unwind.FromSyscall(s.SP, s.PC), 0)
		out[tid] = walked{st.Comm, frames, err}
	}
	for path, err := range sp.Missing() {
		t.Errorf("%s: %v", path, err)
	}
	return out
}

// byGDB asks gdb for the same, which stops the process and knows all registers.
func byGDB(t testing.TB, pid int) map[int][]string {
	t.Helper()
	cmd := exec.Command("gdb", "-nx", "-batch", "-p", strconv.Itoa(pid), "-x", "testdata/bt.py")
	cmd.Env = append(os.Environ(), "DEBUGINFOD_URLS=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gdb with Python is needed to compare with: %v\n%s", err, out)
	}
	all := make(map[int][]string)
	for line := range strings.Lines(string(out)) {
		w := strings.Fields(line)
		if len(w) < 3 || w[0] != "THREAD" {
			continue
		}
		tid, err := strconv.Atoi(w[1])
		if err != nil {
			t.Fatal(err)
		}
		all[tid] = w[2:]
	}
	if len(all) == 0 {
		t.Fatalf("gdb showed no threads:\n%s", out)
	}
	asleep(t, pid)
	return all
}

type tally struct{ threads, frames, equal, searched, guessed int }

// anyThread allows guesses in all threads.
const anyThread = "*"

// equal compares our stacks with gdb's, frame by frame. Frames of these threads
// may be guessed; nowhere else.
func equal(t *testing.T, pid int, mayGuess ...string) map[int]walked {
	t.Helper()
	ours, theirs := walk(t, pid), byGDB(t, pid)
	var sum tally
	if len(ours) != len(theirs) {
		t.Errorf("%d threads here, %d in gdb", len(ours), len(theirs))
	}
	for tid, w := range ours {
		want := theirs[tid]
		sum.threads++
		sum.frames += len(want)
		bad := len(want) != len(w.frames)
		for i, f := range w.frames {
			if f.Searched {
				sum.searched++
			}
			if f.Guessed {
				sum.guessed++
				if !contains(mayGuess, w.name) && !contains(mayGuess, anyThread) {
					t.Errorf("%s: frame %d is guessed", w.name, i)
				}
			}
			if i < len(want) && strings.HasPrefix(want[i], fmt.Sprintf("%x:", f.PC)) {
				sum.equal++
			} else {
				bad = true
			}
		}
		if w.err != nil {
			t.Errorf("%s: %v", w.name, w.err)
		}
		if bad {
			t.Errorf("%s (%d):\n%s", w.name, tid, sideBySide(w.frames, want))
		}
	}
	t.Logf("%d threads, %d frames, %d equal to gdb's, %d searched for, %d of them guessed", sum.threads, sum.frames, sum.equal, sum.searched, sum.guessed)
	return ours
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func sideBySide(frames []unwind.Frame, want []string) string {
	var b strings.Builder
	for i := range max(len(frames), len(want)) {
		if i > 30 {
			b.WriteString("...\n")
			break
		}
		line := ""
		if i < len(frames) {
			f := frames[i]
			line = fmt.Sprintf("%x sp=%x cfa=%x entry=%x", f.PC, f.SP, f.CFA, f.Entry)
			if f.Module != nil {
				line += " " + filepath.Base(f.Module.Name)
			}
			if f.Searched {
				line += " searched"
			}
			if f.Guessed {
				line += " guessed"
			}
			if f.Signal {
				line += " signal"
			}
		}
		w := ""
		if i < len(want) {
			w = want[i]
		}
		fmt.Fprintf(&b, "%3d %-100s | %s\n", i, line, w)
	}
	return b.String()
}

// waysToSleep are those of testdata/victim.c that need no guessing.
var waysToSleep = []string{
	"read", "poll", "nanosleep", "usleep", "sem", "mutex", "rwlock", "cond", "futex", "alloca", "aligned",
	"alloca_read", "alloca_big", "deep", "args", "qsort", "signal", "altstack", "fault", "foreign", "foreign_read",
}

func TestSleepingThreads(t *testing.T) {
	for _, flags := range []string{
		"-O2 -fomit-frame-pointer",
		"-O2 -fno-omit-frame-pointer",
		"-O0",
		"-O2 -fcf-protection=full -Wl,-z,ibtplt",
		"-O2 -fno-plt -no-pie -fno-pie",
		"-O1 -fomit-frame-pointer -static",
		"-O2 -Wl,-z,lazy",
	} {
		t.Run(flags, func(t *testing.T) {
			t.Parallel()
			victim := compile(t, "gcc", append(strings.Fields(flags), "victim.c", "foreign.c", "-lpthread")...)
			mayGuess := ""
			if strings.Contains(flags, "-O0") || strings.Contains(flags, "-fno-omit") {
				// The innermost function with a frame pointer has to be
				// searched for, and here some are called through pointers.
				mayGuess = anyThread
			}
			equal(t, start(t, victim, waysToSleep...), mayGuess)
		})
	}
}

func TestCPlusPlusExceptions(t *testing.T) {
	victim := compile(t, "g++", "-O2", "throws.cc")
	equal(t, start(t, victim))
}

// TestGuesses has threads whose frames cannot be told for sure; they must be
// right nonetheless, and marked.
func TestGuesses(t *testing.T) {
	victim := compile(t, "gcc", "-O2", "-fomit-frame-pointer", "victim.c", "foreign.c", "-lpthread")
	ways := []string{"alloca_recurse", "alloca_pointer"}
	got := equal(t, start(t, victim, ways...), ways...)
	for _, w := range got {
		guessed := 0
		for _, f := range w.frames {
			if f.Guessed {
				guessed++
			}
		}
		if contains(ways, w.name) && guessed != 1 {
			t.Errorf("%s: %d frames are marked as guessed, want 1", w.name, guessed)
		}
	}
}

// TestLimit asks for fewer frames than there are.
func TestLimit(t *testing.T) {
	victim := compile(t, "gcc", "-O2", "victim.c", "foreign.c", "-lpthread")
	pid := start(t, victim, "deep")
	fs := proc.New("/proc")
	files := unwind.NewFiles()
	defer func() { _ = files.Close() }()
	tids, err := fs.Threads(pid)
	if err != nil {
		t.Fatal(err)
	}
	s, err := fs.Syscall(pid, tids[1])
	if err != nil {
		t.Fatal(err)
	}
	frames, err := unwind.Stack(procmem.Open(pid), space(t, pid, files), unwind.FromSyscall(s.SP, s.PC), 100)
	if len(frames) != 100 || !errors.Is(err, unwind.ErrLimit) {
		t.Errorf("%d frames, %v", len(frames), err)
	}
}
