package inspect

import (
	"bufio"
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/proc"
)

// deadline bounds every wait for a condition; it is never waited for in full
// unless something is wrong.
const deadline = 60 * time.Second

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("waited %s in vain for %s", deadline, what)
}

// asleep reports whether no thread of pid ran between two looks.
func asleep(pid int) bool {
	fs := proc.New("/proc")
	sum := func() (n uint64, ok bool) {
		tids, err := fs.Threads(pid)
		if err != nil {
			return 0, false
		}
		for _, tid := range tids {
			st, err := fs.TaskStatus(pid, tid)
			if err != nil || st.State != 'S' {
				return 0, false
			}
			n += st.Switches
		}
		return n, true
	}
	a, ok := sum()
	time.Sleep(50 * time.Millisecond)
	b, ok2 := sum()
	return ok && ok2 && a == b
}

// start runs a command in a process group of its own, which ends with the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

func victim(t *testing.T, bin, state string) int {
	t.Helper()
	cmd := exec.Command(bin, state)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", state, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func inspectPID(t *testing.T, pid int) *finding.Document {
	t.Helper()
	doc, err := Run(context.Background(), Request{PIDs: []int{pid}})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func proofs(doc *finding.Document) []finding.Finding {
	var out []finding.Finding
	for _, f := range doc.Findings {
		if f.Confidence == finding.Proven {
			out = append(out, f)
		}
	}
	return out
}

func TestBadTargets(t *testing.T) {
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = zombie.Wait() })
	await(t, "a zombie", func() bool {
		st, err := proc.New("/proc").Stat(zombie.Process.Pid)
		return err == nil && st.State == 'Z'
	})
	for name, tc := range map[string]struct {
		pid  int
		want string
	}{
		"no such process": {1 << 30, "no process"},
		"kernel thread":   {2, "thread of the kernel"},
		"zombie":          {zombie.Process.Pid, "zombie"},
	} {
		if name == "kernel thread" {
			if st, err := proc.New("/proc").Stat(2); err != nil || !st.Kthread() {
				continue // a container does not show the kernel's threads
			}
		}
		_, err := Run(context.Background(), Request{PIDs: []int{tc.pid}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
}
