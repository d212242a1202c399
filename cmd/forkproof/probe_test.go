package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/probe"
	"forkproof/internal/testbed"
)

// children lists those of a process, whichever of its threads made them.
func children(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var out []int
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, w := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(w)
			out = append(out, n)
		}
	}
	return out
}

// group lists the processes whose process group is one of these.
func group(t *testing.T, groups ...int) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, e := range entries {
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		for _, g := range groups {
			if len(fields) > 2 && fields[2] == strconv.Itoa(g) {
				pid, _ := strconv.Atoi(e.Name())
				out = append(out, pid)
			}
		}
	}
	return out
}

// However forkproof ends, its probes end too, those that hang and those that run,
// and their files are gone.
func TestProbeLeavesNothing(t *testing.T) {
	root := testbed.Open(t, "trixie").Dir
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM} {
		for where, flags := range map[string][]string{"host": nil, "root": {"--root", root}} {
			t.Run(sig.String()+"/"+where, func(t *testing.T) {
				// It goes on without end.
				flags = append([]string{"probe", "--only", "drand48", "--forks", "10000000", "--time", "24h"}, flags...)
				cmd, stdout, stderr := run(t, flags...)
				var server, subject int
				await(t, "a probe to run", func() bool {
					for _, s := range children(cmd.Process.Pid) {
						for _, p := range children(s) {
							if len(children(p)) > 0 {
								server, subject = s, p
								return true
							}
						}
					}
					return false
				})
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				if sig != syscall.SIGKILL && cmd.ProcessState.ExitCode() != 3 {
					t.Errorf("status %d, said %q", cmd.ProcessState.ExitCode(), stderr)
				}
				if stdout.Len() > 0 {
					t.Errorf("wrote %q", stdout)
				}
				await(t, "all processes of the probe to end", func() bool { return len(group(t, server, subject)) == 0 })
			})
		}
	}
	// A probe's file goes with it.
	cmd, _, _ := run(t, "probe", "--only", "sem_open", "--forks", "10000000", "--time", "24h")
	var file string
	var server int
	await(t, "the probe's semaphore", func() bool {
		for _, s := range children(cmd.Process.Pid) {
			f := fmt.Sprintf("/dev/shm/sem.forkproof-%d", s)
			if _, err := os.Stat(f); err == nil {
				file, server = f, s
				return true
			}
		}
		return false
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await(t, "the server to end", func() bool { return len(group(t, server)) == 0 })
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was left behind (%v)", file, err)
	}
}

// No folder needs to be writable, or to allow programs.
func TestProbeNeedsNoFolder(t *testing.T) {
	const script = `set -e
mount --make-rprivate /
mount -t tmpfs -o ro,noexec none "$1"
mount -o remount,bind,ro / 2>/dev/null || mount -o bind,ro / / # the whole system, for this shell alone
if touch /usr/forkproof-test 2>/dev/null || touch "$1/x" 2>/dev/null; then exit 9; fi
cd "$1"; TMPDIR=$1 exec forkproof probe --only malloc --only order --only setenv --format json`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script, "sh", t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var r probe.Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	if m, o, s := r.Result("malloc"), r.Result("order"), r.Result("setenv"); m.Outcome != probe.Works || o.Outcome != probe.Works || !s.Proven {
		t.Errorf("%+v", r.Results)
	}
}

// noFork is the environment variable that makes TestProbeMayNotFork run
// forkproof under a filter.
const noFork = "FORKPROOF_TEST_NO_FORK"

// Where fork is forbidden the probes say so, and claim nothing.
func TestProbeMayNotFork(t *testing.T) {
	if path := os.Getenv(noFork); path != "" {
		runtime.LockOSThread()
		if err := forbidFork(); err != nil {
			t.Fatal(err)
		}
		os.Unsetenv(noFork)
		t.Fatal(syscall.Exec(path, []string{"forkproof", "probe", "--only", "malloc", "--only", "order", "--format", "json"}, os.Environ()))
	}
	path, err := exec.LookPath("forkproof")
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run", "^TestProbeMayNotFork$")
	cmd.Env = append(os.Environ(), noFork+"="+path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var r probe.Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, res := range r.Results {
		if res.Outcome != probe.Refused || !strings.Contains(res.Text, "Operation not permitted") {
			t.Errorf("%+v", res)
		}
	}
	if len(r.Results) != 2 {
		t.Errorf("%d results", len(r.Results))
	}
}

// forbidFork sets a seccomp filter for this thread and what it becomes, under
// which clone makes threads and processes that share memory until they run
// another program, as Go starts its own, but no copy of a process.
func forbidFork() error {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		bits  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		give  = unix.BPF_RET | unix.BPF_K
		// Offsets in struct seccomp_data.
		number, firstArg = 0, 16
	)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return errors.New("the filter is for little endian")
	}
	filter := []unix.SockFilter{
		{Code: load, K: number},
		{Code: equal, Jt: 0, Jf: 1, K: unix.SYS_CLONE3},
		{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: equal, Jt: 0, Jf: 3, K: unix.SYS_CLONE},
		{Code: load, K: firstArg},
		{Code: bits, Jt: 1, Jf: 0, K: unix.CLONE_VM},
		{Code: give, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: give, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
