package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the stand-in, and doctor itself as another
// user.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "stand-in" {
		if err := StandIn(os.Args[2], []string{os.Args[0], "stand-in"}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "doctor" {
		r, err := Run(context.Background(), Request{Self: []string{os.Args[0], "stand-in"}})
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program is a copy of this test that every user may run and read: of a program
// that its user cannot read the kernel hides the memory.
func program(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(dir, "doctor.test")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func diagnose(t *testing.T, attr *syscall.SysProcAttr, wrap ...string) *Report {
	t.Helper()
	args := append(wrap, program(t), "doctor")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var r Report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return &r
}

func (r *Report) check(t *testing.T, name string) Check {
	t.Helper()
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("there is no check %q in %+v", name, r.Checks)
	}
	return r.Checks[i]
}

// sound holds for every report: what is not ok says what is lost.
func sound(t *testing.T, r *Report) {
	t.Helper()
	for _, c := range r.Checks {
		if c.Found == "" || (c.State == OK) != (c.Without == "") && c.State != Unknown {
			t.Errorf("check %+v is not complete", c)
		}
	}
	for _, a := range r.Commands {
		if a.Works == (len(a.Missing) > 0) || (!a.Works && a.Run == "") || (a.Works && a.On == "") {
			t.Errorf("the conclusion %+v is not complete", a)
		}
	}
}

func TestRoot(t *testing.T) {
	needRoot(t)
	r := diagnose(t, nil)
	sound(t, r)
	if !r.Works("inspect") || r.User != 0 {
		t.Fatalf("root with all capabilities cannot inspect: %+v", r)
	}
	for _, name := range []string{"memory", "mappings", "system calls", "kcmp", "get_robust_list", "mapped files"} {
		if c := r.check(t, name); c.State != OK {
			t.Errorf("%+v", c)
		}
	}
}

// An ordinary user can look at his own processes, unless Yama forbids it, and
// never at root's.
func TestOrdinaryUser(t *testing.T) {
	needRoot(t)
	r := diagnose(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	sound(t, r)
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	free := err != nil || strings.TrimSpace(string(scope)) == "0"
	if r.Works("inspect") != free || r.User != 65534 {
		t.Errorf("with Yama %q: %+v", scope, r.Commands)
	}
	if c := r.check(t, "other users' processes"); c.State != Limited {
		t.Errorf("another user's processes: %+v", c)
	}
	if c := r.check(t, "capabilities"); c.State != Limited || strings.Contains(c.Found, "with SYS_PTRACE,") {
		t.Errorf("capabilities: %+v", c)
	}
	if a := r.Commands[0]; !strings.Contains(a.Run, "sudo") {
		t.Errorf("what to run instead: %+v", a)
	}
}

// Without the mounts of its PID namespace nothing can be looked at, and it is
// said how it could.
func TestForeignProc(t *testing.T) {
	needRoot(t)
	r := diagnose(t, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
	sound(t, r)
	if r.Works("inspect") || r.check(t, "/proc").State != Missing {
		t.Errorf("with another namespace's /proc: %+v", r)
	}
}

// In a namespace of its own, as in a container, it works and says what is not
// seen.
func TestNamespace(t *testing.T) {
	needRoot(t)
	r := diagnose(t, nil, "unshare", "--pid", "--fork", "--mount-proc")
	sound(t, r)
	if !r.Works("inspect") || r.check(t, "PID namespace").State != Limited {
		t.Errorf("in a PID namespace: %+v", r)
	}
}

// /proc that hides other users' processes.
func TestHidePID(t *testing.T) {
	needRoot(t)
	r := diagnose(t, nil, "unshare", "--mount", "sh", "-c",
		`mount -t proc -o hidepid=invisible proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`, "sh")
	sound(t, r)
	if c := r.check(t, "hidepid"); c.State != Limited {
		t.Errorf("%+v", c)
	}
}

// Root without the capability is an ordinary user in this regard.
func TestRootWithoutCapability(t *testing.T) {
	needRoot(t)
	r := diagnose(t, nil, "setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
	sound(t, r)
	if c := r.check(t, "capabilities"); c.State != Limited || !strings.Contains(c.Found, "without SYS_PTRACE") || r.Commands[0].Run == "" {
		t.Errorf("%+v, %+v", c, r.Commands)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test changes users and namespaces: run it as root")
	}
}

// The stand-in ends with whoever started it.
func TestStandInEnds(t *testing.T) {
	s, err := start(t.Context(), []string{program(t), "stand-in"})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(s.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	st, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil || strings.Contains(string(st), fmt.Sprintf(") S %d ", os.Getpid())) {
		t.Errorf("the stand-in is a child of ours: %s, %v", st, err)
	}
	s.end()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000); n != 1 || err != nil {
		t.Errorf("the stand-in lives on: %d, %v", n, err)
	}
}

func TestStandInThatFails(t *testing.T) {
	for _, self := range [][]string{nil, {"/does/not/exist"}, {"/bin/true"}} {
		if _, err := Run(t.Context(), Request{Self: self}); err == nil {
			t.Errorf("%q: no error", self)
		}
	}
}
