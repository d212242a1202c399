package testbed

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// GoWaiter starts victims/go/waiter on the machine; what is "signal" or "http".
func GoWaiter(t testing.TB, what string) *Proc {
	t.Helper()
	return Host(t).Start(t, Cmd{Args: []string{BuildGo(t, "victims/go/waiter"), what}})
}

// Node starts victims/node/idle.js on the machine.
func Node(t testing.TB) *Proc {
	t.Helper()
	return Host(t).Start(t, Cmd{Args: []string{"node", Victim(t, "node/idle.js")}})
}

// Java compiles and starts victims/java/Idle.java on the machine.
func Java(t testing.TB) *Proc {
	t.Helper()
	source := Victim(t, "java/Idle.java")
	class := cached(t, "Idle.class", source, nil, func(out string) {
		cmd := exec.CommandContext(t.Context(), "javac", "-d", filepath.Dir(out), source)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("testbed: compile %s: %v\n%s", source, err, text)
		}
	})
	return Host(t).Start(t, Cmd{Args: []string{"java", "-Xshare:auto", "-Xmx64m", "-cp", filepath.Dir(class), "Idle"}})
}

// Traced attaches gdb to a process of the machine, which leaves it stopped
// under a tracer until the end of the test.
func Traced(t testing.TB, pid int) *Proc {
	t.Helper()
	p := Host(t).Start(t, Cmd{Args: []string{"gdb", "--batch", "--nx", "-iex", "set auto-load no", "-iex", "set debuginfod enabled off",
		"-p", strconv.Itoa(pid), "-ex", "echo attached\\n", "-ex", "shell sleep infinity"}})
	p.AwaitLine(t, "attached")
	return p
}
