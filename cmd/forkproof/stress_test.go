package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// left lists the processes that have a word in their environment or command line.
func left(t *testing.T, word string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join(dir, "environ")) // gone or a zombie: not left
		if strings.Contains(string(environ), word) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Nothing that stress started outlives it, however it ends: not the two ends of a
// pipeline, nor a daemon that left its session, nor one that ignores what it may,
// nor the load.
func TestStressLeavesNothing(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			word := fmt.Sprintf("STRESS_TEST=%d-%d", os.Getpid(), sig)
			name, value, _ := strings.Cut(word, "=")
			t.Setenv(name, value)
			const script = `trap '' TERM INT HUP
				setsid sh -c 'trap "" TERM HUP; (sleep 1000 & sleep 1000); :' </dev/null &
				(while :; do (:); sleep 0.05; done) | cat`
			cmd, stdout, stderr := run(t, "stress", "--forks", "1000000", "--reload", "true", "--load-cmd", "sleep 1000; :", "--", "sh", "-c", script)
			// forkproof, two keepers, and what they started.
			await(t, "all to run", func() bool { return len(left(t, word)) >= 9 })
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			await(t, "all to be gone", func() bool { return len(left(t, word)) == 0 })
			if sig == syscall.SIGKILL {
				return
			}
			if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(stderr.String(), "interrupted before the end; what was started was ended") ||
				!strings.Contains(stdout.String(), "NONE HUNG: 0 of ") || !strings.Contains(stdout.String(), "note: interrupted") {
				t.Errorf("status %d, said %q, wrote %q", code, stderr, stdout)
			}
		})
	}
}

// A keeper that is killed takes the program along, and forkproof ends the rest.
func TestStressKeeperKilled(t *testing.T) {
	word := fmt.Sprintf("STRESS_TEST=%d-keeper", os.Getpid())
	name, value, _ := strings.Cut(word, "=")
	t.Setenv(name, value)
	cmd, _, stderr := run(t, "stress", "--forks", "1000000", "--", "sh", "-c", "(sleep 1000; :) & while :; do (:); sleep 0.05; done")
	await(t, "all to run", func() bool { return len(left(t, word)) >= 5 })
	for _, pid := range left(t, word) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(line), "\x00--keep\x00") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await(t, "all to be gone", func() bool { return len(left(t, word)) == 0 })
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("status %d: %s", code, stderr)
	}
}
