package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/testbed"
)

// TestProvokeKilled kills provoke by SIGKILL at random moments, one or the other of
// its two processes. The process that it provokes goes on: not stopped, not traced,
// without a byte of its code changed, and it forks.
func TestProvokeKilled(t *testing.T) {
	const times = 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	victim := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{testbed.Build(t, "provoked.c"), "env", "serve"}})
	victim.AwaitFields(t, "ready")
	during := 0
	for i := range times {
		first := exec.Command("forkproof", "provoke", "--pid", fmt.Sprint(victim.PID), "--fork-by", "kill -USR1 $FORKPROOF_PID", "--learn", "300ms", "--log", os.DevNull, "-o", os.DevNull)
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		var second int
		await(t, "the second process", func() bool {
			for _, c := range children(first.Process.Pid) {
				second = c
			}
			return second != 0
		})
		time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
		if isTraced(victim.PID) {
			during++
		}
		kill := first.Process.Pid
		if i%2 == 0 {
			kill = second
		}
		_ = syscall.Kill(kill, unix.SIGKILL) // one that has ended is as well
		_ = first.Wait()
		testbed.AwaitGone(t, second)
		await(t, "the victim to be left alone", func() bool { return !isTraced(victim.PID) })
		if !victim.Alive() {
			t.Fatalf("the victim ended after kill %d:\n%s", i, victim.Output())
		}
		await(t, "the victim to go on", func() bool { return !isStopped(victim.PID) })
		if n := changed(t, victim.PID); n != 0 {
			t.Fatalf("%d bytes of code are changed after kill %d", n, i)
		}
		before := strings.Count(victim.Output(), "child pid=")
		victim.Signal(t, unix.SIGUSR1)
		await(t, "another child", func() bool { return strings.Count(victim.Output(), "child pid=") > before })
		for _, c := range testbed.Children(victim.PID) {
			if isStopped(c) || isTraced(c) {
				t.Errorf("child %d is stopped or traced", c)
			}
			_ = syscall.Kill(c, unix.SIGKILL) // gone is as good
		}
	}
	if during < times/3 {
		t.Errorf("only %d of %d kills came while the victim was traced", during, times)
	}
}

func statuses(pid int) (all [][]byte) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		all = append(all, b)
	}
	return all
}

func isTraced(pid int) bool {
	for _, b := range statuses(pid) {
		if len(b) > 0 && !bytes.Contains(b, []byte("TracerPid:\t0\n")) {
			return true
		}
	}
	return false
}

func isStopped(pid int) bool {
	for _, b := range statuses(pid) {
		if bytes.Contains(b, []byte("State:\tt")) || bytes.Contains(b, []byte("State:\tT")) {
			return true
		}
	}
	return false
}

// changed counts the bytes of the C library's code in a process's memory that differ
// from its file.
func changed(t *testing.T, pid int) (n int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var start, end, offset int64
		f := strings.Fields(line)
		if len(f) < 6 || !strings.Contains(f[1], "x") || !strings.Contains(f[5], "libc") {
			continue
		}
		if _, err := fmt.Sscanf(f[0]+" "+f[2], "%x-%x %x", &start, &end, &offset); err != nil {
			t.Fatal(err)
		}
		now, then := make([]byte, end-start), make([]byte, end-start)
		file, err := os.Open(f[5])
		if err != nil {
			t.Fatal(err)
		}
		a, _ := mem.ReadAt(now, start)
		b, _ := file.ReadAt(then, offset)
		_ = file.Close()
		if a < 1<<16 || b < 1<<16 {
			t.Fatalf("%d and %d bytes of code could be read", a, b)
		}
		for i := range min(a, b) {
			if now[i] != then[i] {
				n++
			}
		}
	}
	return n
}
