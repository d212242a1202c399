package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// However trace ends, the process that it follows goes on, untraced, and forks.
func TestTraceLeavesNothing(t *testing.T) {
	const script = `
import os, sys, threading
lock = threading.Lock()
def hold():
    with lock:
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    print("well" if os.waitpid(pid, 0)[1] == 7 << 8 else "wrong", flush=True)
`
	victim := exec.Command("/usr/bin/python3", "-c", script)
	in, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatalf("python3 of the system is needed: %v", err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = victim.Wait() })
	lines := bufio.NewReader(out)
	line := func() string {
		s, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the target ended: %v", err)
		}
		return strings.TrimSpace(s)
	}
	line()
	pid := victim.Process.Pid
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 100 {
		sig := syscall.SIGKILL
		if i%10 == 9 {
			sig = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}[i/10%2]
		}
		cmd := exec.Command("forkproof", "trace", "--max-stop", "1s", "--pid", fmt.Sprint(pid))
		cmd.Env = append(cmd.Environ(), "XDG_STATE_HOME="+t.TempDir())
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		var report strings.Builder
		cmd.Stdout = &report
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "it to be traced", func() bool { return statusField(pid, "TracerPid") != "0" })
		if sig != syscall.SIGKILL {
			await(t, "a fork to be seen", func() bool {
				_, _ = io.WriteString(in, "\n")
				said := line() == "well"
				_, err := bufio.NewReader(stderr).ReadString('\n')
				return said && err == nil
			})
		}
		const forks = 3
		for range forks {
			if _, err := io.WriteString(in, "\n"); err != nil {
				t.Fatal(err)
			}
		}
		if sig == syscall.SIGKILL {
			time.Sleep(time.Duration(rnd.IntN(20_000)) * time.Microsecond)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for range forks {
			if got := line(); got != "well" {
				t.Fatalf("round %d, %v: its child went %s", i, sig, got)
			}
		}
		if sig != syscall.SIGKILL && (cmd.ProcessState.ExitCode() != 0 || !strings.Contains(report.String(), "LOCKS HELD AT FORKS")) {
			t.Errorf("round %d, %v: status %v, report:\n%s", i, sig, cmd.ProcessState, report.String())
		}
		if by := statusField(pid, "TracerPid"); by != "0" {
			t.Fatalf("round %d, %v: traced by %s", i, sig, by)
		}
		if state := statusField(pid, "State"); strings.HasPrefix(state, "t") || strings.HasPrefix(state, "T") {
			t.Fatalf("round %d, %v: it is in state %s", i, sig, state)
		}
	}
}
