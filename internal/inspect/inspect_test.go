package inspect

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
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

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "zoo")
	out, err := exec.Command("gcc", "-O1", "-pthread", "-o", bin, "testdata/zoo.c").CombinedOutput()
	if err != nil {
		t.Fatalf("compile the victims (gcc is needed): %v\n%s", err, out)
	}
	return bin
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

func TestStuck(t *testing.T) {
	bin := build(t)
	for state, want := range map[string]struct {
		rule        finding.Rule
		kind, where string
		owner       bool
	}{
		"stuck-normal":      {finding.DeadlockOwnerGone, "pthread_mutex", "zoo`g_lock", true},
		"stuck-idle-thread": {finding.DeadlockOwnerGone, "pthread_mutex", "zoo`g_lock", true},
		"stuck-recursive":   {finding.DeadlockOwnerGone, "pthread_mutex", "zoo`g_lock", true},
		"stuck-errorcheck":  {finding.DeadlockOwnerGone, "pthread_mutex", "zoo`g_lock", true},
		"stuck-adaptive":    {finding.DeadlockOwnerGone, "pthread_mutex", "zoo`g_lock", true},
		// A known limit: the owner of a robust mutex is not decoded yet.
		"stuck-robust":        {finding.DeadlockNobodyLeft, "pthread_mutex", "zoo`g_lock", false},
		"stuck-writer":        {finding.DeadlockOwnerGone, "pthread_rwlock", "zoo`g_rwlock", true},
		"stuck-behind-writer": {finding.DeadlockOwnerGone, "pthread_rwlock", "zoo`g_rwlock", true},
		"stuck-readers":       {finding.DeadlockNobodyLeft, "pthread_rwlock", "zoo`g_rwlock", false},
		"stuck-semaphore":     {finding.DeadlockNobodyLeft, "semaphore", "zoo`g_sem", false},
		"stuck-cycle":         {finding.DeadlockCycle, "pthread_mutex", "", false},
	} {
		t.Run(state, func(t *testing.T) {
			pid := victim(t, bin, state)
			await(t, "the victim to sleep", func() bool { return asleep(pid) })
			if state == "stuck-cycle" {
				await(t, "the ring to close", func() bool { return len(proofs(inspectPID(t, pid))) > 0 })
			}
			doc := inspectPID(t, pid)
			got := proofs(doc)
			if len(got) != 1 {
				t.Fatalf("%d proofs: %+v", len(got), doc.Findings)
			}
			f := got[0]
			if f.Rule != want.rule || f.Lock.Kind != want.kind || (want.where != "" && f.Lock.Where != want.where) {
				t.Errorf("got %s on %s %q, want %s on %s %q", f.Rule, f.Lock.Kind, f.Lock.Where, want.rule, want.kind, want.where)
			}
			if want.owner && (f.Lock.Owner == nil || f.Lock.Owner.Name != "refresher" || !f.Lock.Owner.Alive || len(f.Lock.Owner.Native) == 0) {
				t.Errorf("the owner is %+v, want the refresher, alive, with its stack", f.Lock.Owner)
			}
			if doc.Targets[0].Verdict != "deadlocked" {
				t.Errorf("verdict %q", doc.Targets[0].Verdict)
			}
		})
	}
}

// None of these is a deadlock; a false proof is the worst mistake there is.
func TestNotStuck(t *testing.T) {
	bin := build(t)
	for _, state := range []string{
		"poll", "pause", "busy", "accept", "epoll", "select", "timed", "shared", "shared-private-op", "clone-vm", "pool",
		"stopped", "survivor", "semaphore-handler",
	} {
		t.Run(state, func(t *testing.T) {
			pid := victim(t, bin, state)
			switch state {
			case "busy":
			case "stopped":
				await(t, "the victim to stop", func() bool { st, err := proc.New("/proc").Stat(pid); return err == nil && st.State == 'T' })
			default:
				await(t, "the victim to sleep", func() bool { return asleep(pid) })
			}
			for range 3 {
				if got := proofs(inspectPID(t, pid)); len(got) != 0 {
					t.Fatalf("a false proof: %+v", got)
				}
			}
		})
	}
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
