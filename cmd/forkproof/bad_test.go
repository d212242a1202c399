package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// open lets nobody, the user, run what the tests run: the temporary folders are
// closed to everybody but root.
func open(t *testing.T, work string) {
	t.Helper()
	bin, err := exec.LookPath("forkproof")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(filepath.Dir(bin)), filepath.Dir(bin), filepath.Dir(work), work} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// say starts a program and returns what it wrote first.
func say(t *testing.T, cmd *exec.Cmd) (pid int, line string) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil && err != io.EOF {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return cmd.Process.Pid, strings.TrimSpace(line)
}

func statusField(pid int, field string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && k == field {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// misfits starts processes that cannot be looked at as others can, and returns
// their numbers by what they are called in the scripts.
func misfits(t *testing.T) map[string]string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests become other users and make namespaces: run them as root")
	}
	all := make(map[string]string)

	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = zombie.Wait() })
	await(t, "a zombie", func() bool { return strings.HasPrefix(statusField(zombie.Process.Pid, "State"), "Z") })
	all["ZOMBIE"] = strconv.Itoa(zombie.Process.Pid)

	// The first thread ends by exit(2), which ends no other.
	const headless = `import ctypes, os, threading, time
t = threading.Thread(target=time.sleep, args=(1e6,)); t.start()
print(t.native_id, flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)`
	pid, tid := say(t, exec.Command("/usr/bin/python3", "-c", headless))
	await(t, "the first thread to end", func() bool { return strings.HasPrefix(statusField(pid, "State"), "Z") })
	all["HEADLESS"], all["THREAD"] = strconv.Itoa(pid), tid

	// Any user may look at this one, whatever Yama says.
	const open = `import ctypes, sys
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_long(-1))
print("ready", flush=True)
sys.stdin.read()`
	own := exec.Command("/usr/bin/python3", "-c", open)
	own.Dir = "/"
	own.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	pid, _ = say(t, own)
	all["NOBODYS"] = strconv.Itoa(pid)

	// A process of nobody's that nobody may not look at.
	const closed = `import ctypes, sys
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()`
	shut := exec.Command("/usr/bin/python3", "-c", closed)
	shut.Dir = "/"
	shut.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	pid, _ = say(t, shut)
	all["CLOSED"] = strconv.Itoa(pid)

	pid = healthy(t)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	await(t, "a stopped process", func() bool { return strings.HasPrefix(statusField(pid, "State"), "T") })
	all["STOPPED"] = strconv.Itoa(pid)

	all["TRACED"] = strconv.Itoa(traced(t))
	all["TRACER"] = strconv.Itoa(os.Getpid())

	outer, inner := contained(t)
	all["OUTER"], all["INNER"] = strconv.Itoa(outer), strconv.Itoa(inner)
	return all
}

// traced starts a process that its tracer, a thread of this one, holds.
func traced(t *testing.T) int {
	t.Helper()
	started, end, ended := make(chan int), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		// It ends with the thread, which is never given back.
		runtime.LockOSThread()
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		if err := cmd.Start(); err != nil {
			t.Errorf("trace a process: %v", err)
			close(started)
			return
		}
		started <- cmd.Process.Pid
		<-end
		_ = cmd.Process.Kill()
		_, _ = unix.Wait4(cmd.Process.Pid, nil, 0, nil)
	}()
	t.Cleanup(func() {
		close(end)
		<-ended
	})
	pid := <-started
	await(t, "a traced process", func() bool { return strings.HasPrefix(statusField(pid, "State"), "t") })
	return pid
}

// contained starts a deadlocked process in a PID namespace of its own, where it
// has a number that nobody has outside.
func contained(t *testing.T) (outer, inner int) {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	// Not the same as in another run of this test, whose process would be named too.
	for inner = most - 100 - os.Getpid()%10000; syscall.Kill(inner, 0) == nil; inner-- {
	}
	const program = `import os, threading
open("/proc/sys/kernel/ns_last_pid", "w").write("%d")
pid = os.fork()
if pid == 0:
    l = threading.Lock(); l.acquire()
    with l: pass
print(pid, flush=True)
os.wait()`
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "/usr/bin/python3", "-c", fmt.Sprintf(program, inner-1))
	_, line := say(t, cmd)
	if line != strconv.Itoa(inner) {
		t.Fatalf("the number inside is %q, want %d", line, inner)
	}
	await(t, "the process inside", func() bool {
		outer = child(child(cmd.Process.Pid))
		wchan, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", outer))
		return err == nil && strings.HasPrefix(string(wchan), "futex")
	})
	return outer, inner
}

// child is the only child of a process, 0 where it has none yet.
func child(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}
