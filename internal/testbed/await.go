package testbed

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Await looks at a condition, often at first and then less so, until it holds.
// The test fails if it does not within [Patience].
func Await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	const least, most = time.Millisecond, 50 * time.Millisecond
	end := time.Now().Add(Patience)
	for pause := least; !cond(); pause = min(pause*3/2, most) {
		if time.Now().After(end) {
			t.Fatalf("testbed: waited %v in vain for %s", Patience, what)
		}
		time.Sleep(pause)
	}
}

// AwaitBlocked waits until every thread of a process sleeps in a system call
// and none has run between two looks, and returns the thread IDs.
func AwaitBlocked(t testing.TB, pid int) []int {
	t.Helper()
	return awaitStill(t, pid, "in a system call", func(string) bool { return true })
}

// AwaitFutex is [AwaitBlocked], with every thread in a futex call.
func AwaitFutex(t testing.TB, pid int) []int {
	t.Helper()
	return awaitStill(t, pid, "in a futex", func(call string) bool { return call == sysFutex })
}

// looks is how many times in a row nothing may have moved, and apart how far
// from one look to the next: long enough for a thread that only waits for a
// processor or for a timed wait of CPython's (5 ms) to be seen running.
const (
	looks = 2
	apart = 60 * time.Millisecond
)

func awaitStill(t testing.TB, pid int, how string, want func(call string) bool) []int {
	t.Helper()
	var last map[int]string
	same := 0
	end := time.Now().Add(Patience)
	for {
		now, err := still(pid, want)
		switch {
		case err == nil && last != nil && maps.Equal(now, last):
			if same++; same >= looks {
				return slices.Sorted(maps.Keys(now))
			}
		default:
			same = 0
		}
		last = now
		if time.Now().After(end) {
			t.Fatalf("testbed: process %d does not stand still %s: %v\n%s", pid, how, err, describe(pid))
		}
		time.Sleep(apart)
	}
}

// still returns, for each thread, what changes when it runs; an error if a
// thread is not asleep in a wanted system call.
func still(pid int, want func(call string) bool) (map[int]string, error) {
	threads := Threads(pid)
	if len(threads) == 0 {
		return nil, fmt.Errorf("process %d has no threads", pid)
	}
	marks := map[int]string{}
	for _, tid := range threads {
		mark, err := stillThread(pid, tid, want)
		if err != nil {
			return nil, err
		}
		marks[tid] = mark
	}
	return marks, nil
}

// stillThread is still for one thread.
func stillThread(pid, tid int, want func(call string) bool) (string, error) {
	if state := statusField(pid, tid, "State"); !strings.HasPrefix(state, "S") {
		return "", fmt.Errorf("thread %d is in state %q", tid, state)
	}
	data, err := os.ReadFile(taskPath(pid, tid, "syscall"))
	if err != nil {
		return "", err
	}
	call, _, _ := strings.Cut(string(data), " ")
	if call == "-1" || strings.HasPrefix(call, "running") || !want(call) {
		return "", fmt.Errorf("thread %d is at %q", tid, strings.TrimSpace(string(data)))
	}
	return string(data) + statusField(pid, tid, "voluntary_ctxt_switches") + " " + statusField(pid, tid, "nonvoluntary_ctxt_switches"), nil
}

// AwaitState waits until the main thread of a process has one of the states of
// proc_pid_stat(5), as in "T" or "tT".
func AwaitState(t testing.TB, pid int, states string) {
	t.Helper()
	Await(t, fmt.Sprintf("process %d to be in a state of %q", pid, states), func() bool {
		state := statusField(pid, pid, "State")
		return state != "" && strings.Contains(states, state[:1])
	})
}

// AwaitGone waits until a process does not exist any more.
func AwaitGone(t testing.TB, pid int) {
	t.Helper()
	Await(t, fmt.Sprintf("process %d to be gone", pid), func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}

// Threads returns the thread IDs of a process; none if it is gone.
func Threads(pid int) []int {
	entries, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return nil
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// Children returns the processes that a process is the parent of, zombies
// left out, in rising order.
func Children(pid int) []int {
	var children []int
	for _, tid := range Threads(pid) {
		data, err := os.ReadFile(taskPath(pid, tid, "children"))
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(field)
			if err == nil && !strings.HasPrefix(statusField(child, child, "State"), "Z") {
				children = append(children, child)
			}
		}
	}
	slices.Sort(children)
	return children
}

// Descendants returns the children of a process, their children, and so on.
func Descendants(pid int) []int {
	var all []int
	for _, child := range Children(pid) {
		all = append(append(all, child), Descendants(child)...)
	}
	return all
}

// describe says what each thread of a process does, for the message of a
// failed test.
func describe(pid int) string {
	var b strings.Builder
	for _, tid := range Threads(pid) {
		call, _ := os.ReadFile(taskPath(pid, tid, "syscall"))
		wchan, _ := os.ReadFile(taskPath(pid, tid, "wchan"))
		fmt.Fprintf(&b, "  thread %d (%s) %s, wchan %s, syscall %s\n", tid, comm(tid),
			statusField(pid, tid, "State"), wchan, strings.TrimSpace(string(call)))
	}
	if b.Len() == 0 {
		return fmt.Sprintf("  process %d is gone\n", pid)
	}
	return b.String()
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

func taskPath(pid, tid int, name string) string {
	return procPath(pid, filepath.Join("task", strconv.Itoa(tid), name))
}

func comm(pid int) string {
	data, err := os.ReadFile(procPath(pid, "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// statusField returns one field of /proc/PID/task/TID/status, or "".
func statusField(pid, tid int, name string) string {
	data, err := os.ReadFile(taskPath(pid, tid, "status"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
