package inspect

import (
	"bufio"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/proc"
)

// hanging starts a program that deadlocks itself, and waits until it has.
func hanging(t *testing.T, name string, args ...string) int {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "PYTHONHOME=/usr")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the victim to sleep", func() bool { return asleep(pid) })
	return pid
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func text(doc *finding.Document) string {
	var b strings.Builder
	for _, t := range doc.Targets {
		fmt.Fprintf(&b, "%d %s\n", t.PID, t.Verdict)
		for _, n := range t.Notes {
			fmt.Fprintf(&b, "note: %s\n", n)
		}
		for _, th := range t.Threads {
			for _, f := range th.Native {
				fmt.Fprintf(&b, "  %s`%s guessed=%t\n", f.Object, f.Function, f.Guessed)
			}
		}
	}
	for _, f := range doc.Findings {
		fmt.Fprintf(&b, "%s %s %s\n", f.Confidence, f.Rule, f.Title)
	}
	return b.String()
}

// The files of a hung process change under it: the proof comes all the same, as
// much is named as can be, and the report says what is wrong with which file.
func TestChangedFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	command(t, "gcc", "-O1", "-fno-optimize-sibling-calls", "-o", path("host"), "testdata/host.c", "-ldl")
	command(t, "gcc", "-O1", "-fno-optimize-sibling-calls", "-shared", "-fPIC", "-o", path("libhang.so"), "testdata/libhang.c", "-pthread")
	command(t, "gcc", "-O1", "-shared", "-fPIC", "-o", path("other.so"), "-x", "c", os.DevNull)
	replace := func(t *testing.T, file string) {
		t.Helper()
		command(t, "mv", filepath.Join(copyOf(t, path("other.so")), "other.so"), file)
	}
	type files struct{ exe, lib string }
	const lock, inner, outer = "libhang.so`g_library_lock", "libhang.so`wait_within", "host`main"
	for name, tc := range map[string]struct {
		before, after func(t *testing.T, f files)
		where         string   // the lock's name
		frames, notes []string // that must be there
		silent        bool     // no note about any file
	}{
		"nothing": {where: lock, frames: []string{inner, outer}, silent: true},
		"executable removed": {
			after: func(t *testing.T, f files) { command(t, "rm", f.exe) },
			where: lock, frames: []string{inner, outer}, notes: []string{"the program ", "host was replaced or removed since this process started"},
		},
		"executable replaced": {
			after: func(t *testing.T, f files) { replace(t, f.exe) },
			where: lock, frames: []string{inner, outer}, notes: []string{"host was replaced or removed since this process started"},
		},
		"library removed": {
			after: func(t *testing.T, f files) { command(t, "rm", f.lib) },
			where: lock, frames: []string{inner, outer}, notes: []string{"the library ", "libhang.so was replaced or removed since process"},
		},
		"library replaced": {
			after: func(t *testing.T, f files) { replace(t, f.lib) },
			where: lock, frames: []string{inner, outer}, notes: []string{"libhang.so was replaced or removed since process"},
		},
		"stripped": {
			before: func(t *testing.T, f files) { command(t, "strip", f.exe, f.lib) },
			// What a library exports keeps its name, what a program does not.
			where: lock, frames: []string{inner, "host`"}, silent: true,
		},
		"library overwritten": {
			after: func(t *testing.T, f files) { overwrite(t, f.lib, 0, -1, 0xa5) },
			where: "libhang.so+0x", frames: []string{"libhang.so`", outer}, notes: []string{"libhang.so could not be read ("},
		},
		"library emptied": {
			after: func(t *testing.T, f files) { truncate(t, f.lib, 0) },
			where: "libhang.so+0x", notes: []string{"libhang.so could not be read ("},
		},
		"library cut off": {
			after: func(t *testing.T, f files) { truncate(t, f.lib, 4096+64) },
			where: "libhang.so", notes: []string{"libhang.so could not be read ("},
		},
		"damaged frame tables": {
			before: func(t *testing.T, f files) { spoil(t, f.lib, ".eh_frame", 0xff) },
			where:  lock, frames: []string{inner, outer}, notes: []string{"the tables for unwinding of ", "libhang.so are damaged ("},
		},
		"empty frame tables": {
			before: func(t *testing.T, f files) { spoil(t, f.lib, ".eh_frame", 0) },
			where:  lock, frames: []string{inner, outer}, notes: []string{"libhang.so are damaged ("},
		},
		"damaged index of frames": {
			before: func(t *testing.T, f files) { spoil(t, f.lib, ".eh_frame_hdr", 0xff) },
			where:  lock, frames: []string{inner, outer}, silent: true,
		},
		"damaged section headers": {
			before: func(t *testing.T, f files) { sections(t, f.lib) },
			where:  lock, frames: []string{inner, outer}, silent: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			f := files{filepath.Join(home, "host"), filepath.Join(home, "libhang.so")}
			command(t, "cp", path("host"), path("libhang.so"), home)
			if tc.before != nil {
				tc.before(t, f)
			}
			pid := hanging(t, f.exe, f.lib)
			if tc.after != nil {
				tc.after(t, f)
			}
			doc := inspectPID(t, pid)
			said := text(doc)
			got := proofs(doc)
			if len(got) != 1 || got[0].PID != pid {
				t.Fatalf("not proven:\n%s", said)
			}
			if !strings.Contains(got[0].Lock.Where, tc.where) {
				t.Errorf("the lock is called %q, want %q", got[0].Lock.Where, tc.where)
			}
			for _, want := range append(tc.frames, tc.notes...) {
				if !strings.Contains(said, want) {
					t.Errorf("no %q in:\n%s", want, said)
				}
			}
			if tc.silent && strings.Contains(said, "note:") {
				t.Errorf("notes where nothing is wrong:\n%s", said)
			}
		})
	}
}

func overwrite(t *testing.T, path string, from, n int64, with byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n < 0 {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		n = st.Size()
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = with
	}
	if _, err := f.WriteAt(b, from); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// spoil fills a section of a file.
func spoil(t *testing.T, path, section string, with byte) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(section)
	if s == nil || s.Size == 0 {
		t.Fatalf("%s has no %s", path, section)
	}
	overwrite(t, path, int64(s.Offset), int64(s.Size), with)
}

// sections lets the file header point its section headers into nowhere.
func sections(t *testing.T, path string) {
	t.Helper()
	overwrite(t, path, 0x28, 8, 0x7f) // e_shoff
}

// The interpreter is upgraded under a running program.
func TestReplacedPython(t *testing.T) {
	real, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), filepath.Base(real))
	command(t, "cp", real, exe)
	const program = `import os, threading
def outer():
    lock = threading.Lock()
    lock.acquire()
    print(os.getpid(), flush=True)
    with lock: pass
outer()`
	pid := hanging(t, exe, "-c", program)
	command(t, "mv", filepath.Join(copyOf(t, "/bin/true"), "true"), exe)
	doc := inspectPID(t, pid)
	said := text(doc)
	if got := proofs(doc); len(got) != 1 || got[0].Lock.Kind != "python-lock" {
		t.Fatalf("not proven as a lock of Python's:\n%s", said)
	}
	target := doc.Targets[0]
	if py := target.Threads[0].Python; len(py) < 2 || py[0].Function != "outer" || py[0].Line != 6 || target.Python == "" {
		t.Errorf("Python %q, frames %+v", target.Python, py)
	}
	if !strings.Contains(said, "was replaced or removed since this process started") {
		t.Errorf("nothing said of the replaced program:\n%s", said)
	}
}

func copyOf(t *testing.T, path string) string {
	t.Helper()
	dir := t.TempDir()
	command(t, "cp", path, dir)
	return dir
}

// i386 is a whole program: pause(2) for ever, by int 0x80.
func i386(t *testing.T) string {
	t.Helper()
	const base, entry = 0x08048000, 0x08048000 + 52 + 32
	code := []byte{0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7} // mov $29,%eax; int $0x80; jmp to the first
	size := byte(52 + 32 + len(code))
	le := func(v uint32) []byte { return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)} }
	var b []byte
	add := func(p ...[]byte) {
		for _, x := range p {
			b = append(b, x...)
		}
	}
	add([]byte{0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{2, 0, 3, 0}, le(1), le(entry), le(52), le(0), le(0),
		[]byte{52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	add(le(1), le(0), le(base), le(base), []byte{size, 0, 0, 0}, []byte{size, 0, 0, 0}, le(5), le(0x1000))
	add(code)
	path := filepath.Join(t.TempDir(), "i386")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Nothing that is known of 64-bit programs may be said of a 32-bit one.
func TestOtherProgram(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only x86-64 runs programs of i386")
	}
	cmd := exec.Command(i386(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	switch err := cmd.Start(); {
	case errors.Is(err, syscall.ENOEXEC):
		t.Skip("this kernel does not run 32-bit programs (CONFIG_IA32_EMULATION)")
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	await(t, "the program to sleep", func() bool { return asleep(cmd.Process.Pid) })
	_, err := Run(context.Background(), Request{PIDs: []int{cmd.Process.Pid}})
	if err == nil || !strings.Contains(err.Error(), "runs a 32-bit i386 program") || !strings.Contains(err.Error(), "gdb -p") || !errors.Is(err, ErrNothing) {
		t.Errorf("error %v", err)
	}
	doc, err := Run(context.Background(), Request{PIDs: []int{cmd.Process.Pid, os.Getppid()}})
	if err != nil {
		t.Fatal(err)
	}
	if doc.Targets[0].Verdict != "unreadable" || doc.Targets[1].Verdict == "unreadable" || !strings.Contains(text(doc), "32-bit") {
		t.Errorf("said of it beside another one:\n%s", text(doc))
	}
}

// ended says what may be said of a process that ended at any time.
func ended(err error) bool {
	for _, s := range []string{"ended while it was looked at", "no process ", "a zombie"} {
		if strings.Contains(err.Error(), s) {
			return errors.Is(err, ErrNothing)
		}
	}
	return false
}

// A process ends at any moment of an inspection. One that was certainly gone
// before the second look is never called healthy.
func TestEndsMeanwhile(t *testing.T) {
	const gap = 20 * time.Millisecond
	random := rand.New(rand.NewPCG(1, 2))
	early := 0
	other := exec.Command("sleep", "1000")
	start(t, other)
	// On a busy machine fewer of them end in time.
	for round, until := 0, time.Now().Add(deadline); round < 60 || early < 5; round++ {
		if time.Now().After(until) {
			t.Fatalf("%d of %d processes ended before the second look: too little was tried", early, round)
		}
		victim := exec.Command("sleep", "1000")
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		reap := round%2 == 0 // else it stays a zombie
		pause := time.Duration(random.Int64N(int64(2 * gap)))
		begin := time.Now()
		gone := make(chan time.Time, 1)
		go func() {
			time.Sleep(pause)
			_ = victim.Process.Kill()
			if reap {
				_ = victim.Wait()
			} else {
				for fs := proc.New("/proc"); ; time.Sleep(100 * time.Microsecond) {
					if st, err := fs.Stat(victim.Process.Pid); err != nil || st.State == 'Z' {
						break
					}
				}
			}
			gone <- time.Now()
		}()
		pids := []int{victim.Process.Pid}
		if round%3 == 0 {
			pids = append(pids, other.Process.Pid)
		}
		doc, err := Run(context.Background(), Request{PIDs: pids, Gap: gap})
		end := <-gone
		if !reap {
			_ = victim.Wait()
		}
		certain := end.Sub(begin) < gap
		if certain {
			early++
		}
		if err != nil {
			if !ended(err) || len(pids) > 1 {
				t.Errorf("round %d: %v", round, err)
			}
			continue
		}
		for _, target := range doc.Targets {
			switch {
			case target.PID == other.Process.Pid:
				if target.Verdict != "healthy" {
					t.Errorf("round %d: the other process is %s", round, target.Verdict)
				}
			case certain && target.Verdict != "unreadable":
				t.Errorf("round %d: %s of a process that was gone %s after the start:\n%s", round, target.Verdict, end.Sub(begin), text(doc))
			case target.Verdict == "unreadable" && !strings.Contains(text(doc), "ended while it was looked at"):
				t.Errorf("round %d: no reason:\n%s", round, text(doc))
			case len(doc.Findings) > 0:
				t.Errorf("round %d: %s", round, text(doc))
			}
		}
	}
}

// Short-lived processes, looked at as they come and go.
func TestShortLived(t *testing.T) {
	said := make(map[string]int)
	for round, until := 0, time.Now().Add(deadline); round < 60 || said["error"] == 0; round++ {
		if time.Now().After(until) {
			t.Fatalf("no process ended while it was looked at: %v", said)
		}
		victim := exec.Command("sh", "-c", fmt.Sprintf("sleep 0.%03d", round%12))
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = victim.Wait()
		}()
		doc, err := Run(context.Background(), Request{PIDs: []int{victim.Process.Pid}})
		switch {
		case err != nil && !ended(err):
			t.Errorf("round %d: %v", round, err)
		case err != nil:
			said["error"]++
		case len(proofs(doc)) > 0:
			t.Errorf("round %d: a false proof:\n%s", round, text(doc))
		default:
			said[doc.Targets[0].Verdict]++
		}
		<-done
	}
}
