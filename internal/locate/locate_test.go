package locate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	idA = "4f6a1be9c0d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6"
	idB = "4f6a99e9c0d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6"
)

// Paths as the engines make them: version 2 has one line, version 1 many.
func TestGroupForms(t *testing.T) {
	for what, tt := range map[string]struct {
		file string
		ids  []string
		unit string
	}{
		"docker, systemd":            {"0::/system.slice/docker-" + idA + ".scope\n", []string{idA}, "system.slice"},
		"docker, cgroupfs":           {"0::/docker/" + idA + "\n", []string{idA}, ""},
		"docker, version 1":          {"12:pids:/docker/" + idA + "\n1:name=systemd:/docker/" + idA + "\n0::/\n", []string{idA}, ""},
		"podman":                     {"0::/machine.slice/libpod-" + idA + ".scope/container\n", []string{idA}, "machine.slice"},
		"podman's monitor":           {"0::/machine.slice/libpod-conmon-" + idA + ".scope\n", nil, "machine.slice"},
		"cri-o":                      {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/crio-" + idA + ".scope\n", []string{idA}, ""},
		"containerd in kubernetes":   {"0::/kubepods.slice/kubepods-pod12.slice/cri-containerd-" + idA + ".scope\n", []string{idA}, ""},
		"containerd, colons":         {"0::/system.slice/containerd.service/kubepods-pod12.slice:cri-containerd:" + idA + "\n", []string{idA}, "containerd.service"},
		"kubernetes, cgroupfs":       {"4:memory:/kubepods/burstable/pod0c3f9bd1-1111-2222-3333-444455556666/" + idA + "\n", []string{idA}, ""},
		"seen from another one":      {"0::/../docker-" + idA + ".scope\n", []string{idA}, ""},
		"a container in a container": {"0::/docker/" + idA + "/docker/" + idB + "\n", []string{idA, idB}, ""},
		"a service":                  {"0::/system.slice/gunicorn.service\n", nil, "gunicorn.service"},
		"an instance":                {"0::/system.slice/system-web.slice/web@a\\x2db.service\n", nil, "web@a\\x2db.service"},
		"a short number":             {"0::/docker/abcdef\n", nil, ""},
		"damaged":                    {"nonsense\n::\n0\n0:", nil, ""},
	} {
		parts := parseGroups(tt.file)
		if got := containers(parts); !slices.Equal(got, tt.ids) {
			t.Errorf("%s: containers %q, want %q", what, got, tt.ids)
		}
		if tt.unit != "" && !slices.Contains(parts, tt.unit) {
			t.Errorf("%s: components %q lack %s", what, parts, tt.unit)
		}
	}
}

func FuzzGroups(f *testing.F) {
	f.Add("0::/system.slice/docker-" + idA + ".scope\n")
	f.Add("::::\n0:a:b//../c\x00")
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range parseGroups(s) {
			if c == "" || strings.Contains(c, "/") {
				t.Fatalf("component %q", c)
			}
		}
		containers(parseGroups(s))
	})
}

// sleeper starts a process that waits until the test ends.
func sleeper(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read x; : "+name)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return cmd
}

func TestName(t *testing.T) {
	word := fmt.Sprintf("locate-victim-%d", os.Getpid())
	cmd := sleeper(t, word)
	got, err := New("/proc").Name(regexp.MustCompile(word + "$"))
	if err != nil || !slices.Equal(got, []int{cmd.Process.Pid}) {
		t.Fatalf("got %v, %v; want %d", got, err, cmd.Process.Pid)
	}
	if _, err := New("/proc").Name(regexp.MustCompile(word + "-none")); !errors.Is(err, ErrNone) {
		t.Errorf("error %v", err)
	}
	// Whoever asks is not what is asked for.
	if pids, err := New("/proc").Name(regexp.MustCompile(regexp.QuoteMeta(filepath.Base(os.Args[0])))); err == nil && slices.Contains(pids, os.Getpid()) {
		t.Errorf("forkproof found itself: %v", pids)
	}
}

func TestAwait(t *testing.T) {
	word := fmt.Sprintf("locate-awaited-%d", os.Getpid())
	old := sleeper(t, word)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := New("/proc")
	type result struct {
		pid int
		err error
	}
	done := make(chan result, 1)
	go func() {
		pid, err := m.Await(ctx, regexp.MustCompile(word))
		done <- result{pid, err}
	}()
	// Processes are started until one is seen: the first may come before Await
	// has looked for the first time, and then rightly does not count.
	started := map[int]bool{}
	for tick := time.NewTicker(2 * poll); ; {
		select {
		case r := <-done:
			tick.Stop()
			if r.err != nil || r.pid == old.Process.Pid || !started[r.pid] {
				t.Fatalf("got %d, %v; want one of %v", r.pid, r.err, started)
			}
			stop, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := m.Await(stop, regexp.MustCompile(word)); !errors.Is(err, context.Canceled) {
				t.Errorf("an interrupted wait: %v", err)
			}
			return
		case <-tick.C:
			started[sleeper(t, word).Process.Pid] = true
		}
	}
}

// TestRealGroups puts a process into control groups as an engine and systemd
// name them, which needs root and a writable hierarchy.
func TestRealGroups(t *testing.T) {
	var dir string
	unit := fmt.Sprintf("locate-%d.service", os.Getpid())
	id := fmt.Sprintf("%064x", 0xfeed0000+os.Getpid())
	for _, at := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(at + "/cgroup.procs"); err != nil {
			continue
		}
		dir = filepath.Join(at, unit)
		if err := os.MkdirAll(filepath.Join(dir, "docker-"+id+".scope"), 0o755); err == nil {
			break
		}
		dir = ""
	}
	if dir == "" {
		t.Skip("no hierarchy of control groups can be written here")
	}
	inner := filepath.Join(dir, "docker-"+id+".scope")
	t.Cleanup(func() {
		_ = os.Remove(inner)
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	pid := cmd.Process.Pid
	if err := os.WriteFile(filepath.Join(inner, "cgroup.procs"), fmt.Appendf(nil, "%d", pid), 0o644); err != nil {
		t.Skipf("a process cannot be put into a control group here: %v", err)
	}
	m := New("/proc")
	for _, u := range []string{unit, strings.TrimSuffix(unit, ".service")} {
		if got, err := m.Unit(u); err != nil || !slices.Equal(got, []int{pid}) {
			t.Errorf("unit %s: got %v, %v; want %d", u, got, err, pid)
		}
	}
	// Leading zeros are part of an ID.
	if got, err := m.Container(id[:60]); err != nil || !slices.Equal(got, []int{pid}) {
		t.Errorf("container: got %v, %v; want %d", got, err, pid)
	}
}

func TestNamesThatAreNone(t *testing.T) {
	m := New("/proc")
	for _, c := range []string{"", "abc", "web", "xyz12345", "../../etc", idA + "0"} {
		if _, err := m.Container(c); !errors.Is(err, ErrName) {
			t.Errorf("container %q: %v", c, err)
		}
	}
	for _, u := range []string{"", "a/b", "a b"} {
		if _, err := m.Unit(u); !errors.Is(err, ErrName) {
			t.Errorf("unit %q: %v", u, err)
		}
	}
	if _, err := m.Container("ffffffffffffffff"); !errors.Is(err, ErrNone) {
		t.Errorf("a container that is not there: %v", err)
	}
	if _, err := m.Unit("not-there-at-all"); !errors.Is(err, ErrNone) {
		t.Errorf("a unit that is not there: %v", err)
	}
}

// Two containers with one prefix are told apart, not taken together.
func TestAmbiguousPrefix(t *testing.T) {
	root := t.TempDir()
	for pid, id := range map[int]string{11: idA, 12: idB, 13: idA} {
		dir := filepath.Join(root, fmt.Sprint(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup"), []byte("0::/docker/"+id+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := New(root)
	if _, err := m.Container("4f6a"); !errors.Is(err, ErrName) || !strings.Contains(err.Error(), "4f6a1be9") {
		t.Errorf("error %v", err)
	}
	if got, err := m.Container("4F6A1"); err != nil || !slices.Equal(got, []int{11, 13}) {
		t.Errorf("got %v, %v", got, err)
	}
}
