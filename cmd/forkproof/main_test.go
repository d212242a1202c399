package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"forkproof/internal/cli"
	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

func TestMain(m *testing.M) {
	cli.Reenter()
	if os.Args[0] == "forkproof-sheltered" { // started by forkproof provoke, to do its work
		main()
	}
	testscript.Main(m, map[string]func(){"forkproof": main})
}

// deadline bounds each wait for a condition.
const deadline = time.Minute

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain for %s", deadline, what)
		}
	}
}

// deadlocked starts a process that waits for a lock which only it could release.
func deadlocked(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", "-c", "import threading\nl = threading.Lock()\nl.acquire()\nprint('ready', flush=True)\nwith l: pass", "self-deadlock")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("python3 of the system is needed: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the victim said %q, %v", line, err)
	}
	await(t, "the victim to sleep in a futex", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", cmd.Process.Pid))
		return err == nil && bytes.HasPrefix(b, []byte("futex"))
	})
	return cmd.Process.Pid
}

// healthy starts a process that reads what nobody writes.
func healthy(t *testing.T, args ...string) int {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", "read x", "sh"}, args...)...)
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
	return cmd.Process.Pid
}

func TestScripts(t *testing.T) {
	bad, good := deadlocked(t), healthy(t)
	misfits, provoked := misfits(t), testbed.Build(t, "provoked.c")
	testscript.Run(t, testscript.Params{
		Dir:  filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status},
		Setup: func(e *testscript.Env) error {
			e.Setenv("DEADLOCKED", strconv.Itoa(bad))
			e.Setenv("HEALTHY", strconv.Itoa(good))
			e.Setenv("PROVOKED", provoked)
			for name, value := range misfits {
				e.Setenv(name, value)
			}
			open(t, e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "xdg"))
			return nil
		},
	})
}

// status runs a command and demands its exit status: status 2 forkproof inspect.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG...]")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, want %s", got, args[0])
	}
}

// run starts forkproof, in the manner of TestMain.
func run(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command("forkproof", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, &stdout, &stderr
}

// A signal ends an inspection in order: status 3, a reason, and no half report.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		// The config file is a pipe: once it is read, signals are handled.
		config, out := filepath.Join(dir, sig.String()), filepath.Join(dir, "report.json")
		if err := syscall.Mkfifo(config, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd, stdout, stderr := run(t, "inspect", "--config", config, "--gap", "1h", "-o", out, strconv.Itoa(healthy(t)))
		w, err := os.OpenFile(config, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(stderr.String(), "interrupted") || stdout.Len() > 0 {
			t.Errorf("%s: status %d, said %q, wrote %q", sig, code, stderr, stdout)
		}
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range left {
			if strings.Contains(f.Name(), "report") {
				t.Errorf("%s: %s was left behind", sig, f.Name())
			}
		}
	}
}

func TestWaitFor(t *testing.T) {
	word := fmt.Sprintf("waited-for-%d", os.Getpid())
	cmd, stdout, stderr := run(t, "inspect", "--wait-for", word+"$", "--format", "json")
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	started := make(map[int]bool)
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v: %s", err, stderr)
			}
			var doc finding.Document
			if err := json.Unmarshal(stdout.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			if len(doc.Targets) != 1 || !started[doc.Targets[0].PID] {
				t.Errorf("looked at %+v, want one of %v", doc.Targets, started)
			}
			if stderr.Len() > 0 {
				t.Errorf("said %q though nobody watches", stderr)
			}
			return
		case <-time.After(300 * time.Millisecond):
			started[healthy(t, word)] = true
		}
	}
}

// The product must not carry what makes the manual.
func TestManualIsNotLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "github.com/spf13/cobra\n") {
		t.Fatal("the list is not that of this command")
	}
	for _, bad := range []string{"cobra/doc", "go-md2man", "testscript"} {
		if strings.Contains(string(out), bad) {
			t.Errorf("%s is linked", bad)
		}
	}
}
