package ptrace

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

var forker = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(built, "forker")
	if b, err := exec.Command("gcc", "-O1", "-g", "-pthread", "-o", bin, "testdata/forker.c").CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc is needed to build the program that is followed: %w\n%s", err, b)
	}
	return bin, nil
})

// launched is a program that a session started.
type launched struct {
	*running
	s *Session
}

// launch starts forker under a session, with its input and output in pipes.
func launch(t testing.TB, args ...string) launched {
	t.Helper()
	bin, err := forker()
	if err != nil {
		t.Fatal(err)
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s, pid, err := Launch(Command{Path: bin, Args: append([]string{bin}, args...), Env: os.Environ(), Files: [3]*os.File{inR, outW, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = inR.Close(), outW.Close()
	t.Cleanup(func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = inW.Close(), outR.Close()
		s.Close()
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	})
	return launched{&running{pid: pid, in: inW, out: lines(outR)}, s}
}

func (l launched) say(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(l.in.(io.Writer), "go on\n"); err != nil {
		t.Fatal(err)
	}
}

// next is the next event; the test fails where none comes in a minute.
func next(t testing.TB, s *Session) (Event, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	e, err := s.Next(ctx)
	if errors.Is(err, ErrOver) {
		return e, false
	}
	if err != nil {
		t.Fatalf("next event: %v", err)
	}
	return e, true
}

// want is the next event, of the given kind.
func want(t testing.TB, s *Session, kind Kind) Event {
	t.Helper()
	e, ok := next(t, s)
	if !ok || e.Kind != kind {
		t.Fatalf("event %v (%+v), want %v", e.Kind, e, kind)
	}
	return e
}

// resume lets all threads of an event go on.
func resume(t testing.TB, s *Session, e Event) {
	t.Helper()
	for _, tid := range []int{e.TID, e.Child} {
		if tid == 0 || e.Kind == Gone {
			continue
		}
		if err := s.Resume(tid); err != nil && !errors.Is(err, proc.ErrGone) && !errors.Is(err, ErrUnknown) {
			t.Fatalf("resume thread %d after %v: %v", tid, e.Kind, err)
		}
	}
}

// follow resumes all that comes until nothing is left, and returns it.
func follow(t testing.TB, s *Session) (all []Event) {
	t.Helper()
	for {
		e, ok := next(t, s)
		if !ok {
			return all
		}
		all = append(all, e)
		resume(t, s, e)
	}
}

// tally writes events in short: each process by the order of its coming.
func tally(root int, all []Event) string {
	names := map[int]string{root: "a"}
	name := func(pid int) string {
		if names[pid] == "" {
			names[pid] = string(rune('a' + len(names)))
		}
		return names[pid]
	}
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "%s %v", name(e.PID), e.Kind)
		switch e.Kind {
		case Fork, VFork:
			fmt.Fprintf(&b, " %s", name(e.Child))
			if e.Shared {
				b.WriteString(" shared")
			}
		case Gone:
			if e.Status.Signaled() {
				fmt.Fprintf(&b, " %v", e.Status.Signal())
			} else {
				fmt.Fprintf(&b, " %d", e.Status.ExitStatus())
			}
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// TestFollow sees every way to make a process and to become another program.
func TestFollow(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"status", "42"}, "a exec; a gone 42"},
		{[]string{"abort"}, "a exec; a gone aborted"},
		{[]string{"forks", "2"}, "a exec; a fork b; b gone 7; a fork c; c gone 7; a gone 0"},
		{[]string{"clone"}, "a exec; a fork b; b gone 5; a fork c; c gone 6; a gone 0"},
		{[]string{"vfork"}, "a exec; a vfork b shared; b exec; b gone 0; a vfork c shared; c exec; c gone 0; a gone 0"},
		{[]string{"thread-exec"}, "a exec; a exec; a gone 42"},
	} {
		t.Run(tc.args[0], func(t *testing.T) {
			l := launch(t, tc.args...)
			if tc.args[0] != "status" && tc.args[0] != "abort" {
				l.say(t)
			}
			if got := tally(l.pid, follow(t, l.s)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if err := l.s.Resume(l.pid); !errors.Is(err, ErrUnknown) {
				t.Errorf("resuming what is gone: %v", err)
			}
		})
	}
}

// TestDoubleFork follows a grandchild whose parent ends first.
func TestDoubleFork(t *testing.T) {
	l := launch(t, "double")
	l.say(t)
	ends := map[int]int{}
	for _, e := range follow(t, l.s) {
		if e.Kind == Gone {
			ends[e.Status.ExitStatus()]++
		}
	}
	if len(ends) != 3 || ends[0] != 1 || ends[8] != 1 || ends[9] != 1 {
		t.Errorf("ended with %v, want 0, 8 and 9", ends)
	}
}

// TestStorm follows threads that fork at the same time.
func TestStorm(t *testing.T) {
	const threads, each = 12, 20
	l := launch(t, "storm", fmt.Sprint(threads))
	l.say(t)
	forks, ends := 0, map[int]int{}
	for _, e := range follow(t, l.s) {
		switch e.Kind {
		case Fork:
			forks++
		case Gone:
			ends[e.Status.ExitStatus()]++
			if e.Status.Signaled() {
				t.Errorf("process %d ended by %v", e.PID, e.Status.Signal())
			}
		}
	}
	if forks != threads*each || ends[0] != threads*each/2+1 || ends[1] != threads*each/2 {
		t.Errorf("%d forks, ends %v", forks, ends)
	}
}

// TestManyThreads has a fork within a thousand threads, stops them all, and lets go.
func TestManyThreads(t *testing.T) {
	const n = 1000
	l := launch(t, "threads", fmt.Sprint(n))
	resume(t, l.s, want(t, l.s, Exec))
	l.say(t)
	e := want(t, l.s, Fork)
	tids := l.s.Threads(l.pid)
	if len(tids) != n+1 {
		t.Fatalf("%d threads, want %d", len(tids), n+1)
	}
	began := time.Now()
	late, err := l.s.Freeze(10*time.Second, tids...)
	if err != nil || len(late) > 0 {
		t.Fatalf("%d threads did not stop: %v", len(late), err)
	}
	t.Logf("%d threads stopped in %v", n, time.Since(began))
	for _, tid := range tids {
		if st, err := fs.TaskStatus(l.pid, tid); err != nil || st.State != 't' {
			t.Fatalf("thread %d is in state %c: %v", tid, st.State, err)
		}
	}
	if err := l.s.Thaw(tids...); err != nil {
		t.Fatal(err)
	}
	resume(t, l.s, e)
	want(t, l.s, Gone)
	l.line(t)
	if got := l.line(t); got != "up" {
		t.Fatal(got)
	}
	if err := l.s.Detach(l.pid); err != nil {
		t.Fatal(err)
	}
	for _, tid := range tids {
		if st, err := fs.TaskStatus(l.pid, tid); err != nil || st.TracerPID != 0 || st.State == 't' {
			t.Fatalf("thread %d is in state %c, traced by %d: %v", tid, st.State, st.TracerPID, err)
		}
	}
	l.say(t)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(l.pid, &status, 0, nil); err != nil || status != 0 {
		t.Errorf("it ended with %v: %v", status, err)
	}
}

// TestAttach follows a process that somebody else started, who still gets its status.
func TestAttach(t *testing.T) {
	bin, err := forker()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "forks", "3")
	p := start(t, cmd)
	p.line(t)
	s, err := Attach(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Attach(p.pid); !errors.Is(err, ErrTraced) {
		t.Errorf("a second session: %v, want ErrTraced", err)
	}
	if _, err := io.WriteString(p.in.(io.Writer), "\n"); err != nil {
		t.Fatal(err)
	}
	if got, want := tally(p.pid, follow(t, s)), "a fork b; b gone 7; a fork c; c gone 7; a fork d; d gone 7; a gone 0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("whoever started it was told %v", err)
	}
	if _, err := Attach(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("attach to what is gone: %v", err)
	}
}

// TestSignalsUnderTrace sends ordinary and real-time signals to a followed
// process: each is handled once, in order.
func TestSignalsUnderTrace(t *testing.T) {
	const n = 10_000
	l := launch(t, "signals")
	resume(t, l.s, want(t, l.s, Exec))
	l.line(t)
	usr := 0
	for i := 1; i <= n; i++ {
		for {
			err := queue(l.pid, i)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Microsecond) // its queue is full
		}
		// An ordinary signal is not counted while one waits: the next is sent
		// when that has been handled.
		if i%100 == 0 {
			for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGUSR2} {
				if err := unix.Kill(l.pid, sig); err != nil {
					t.Fatal(err)
				}
				until(t, "the signal to be handled", func() bool {
					return !pending(t, l.pid, sig)
				})
			}
			usr++
		}
	}
	if err := unix.Kill(l.pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, want := l.line(t), fmt.Sprintf("%d %d %d 0", n, usr, usr); got != want {
		t.Errorf("it counted %q, want %q", got, want)
	}
	if e := want(t, l.s, Gone); e.Status != 0 {
		t.Errorf("status %v", e.Status)
	}
}

// pending reports whether a signal waits for a process.
func pending(t testing.TB, pid int, sig unix.Signal) bool {
	t.Helper()
	b, err := fs.Read(pid, "status")
	if err != nil {
		t.Fatal(err)
	}
	all := uint64(0)
	for line := range strings.Lines(string(b)) {
		var mask uint64
		if _, err := fmt.Sscanf(line, "SigPnd: %x", &mask); err == nil {
			all |= mask
		}
		if _, err := fmt.Sscanf(line, "ShdPnd: %x", &mask); err == nil {
			all |= mask
		}
	}
	return all>>(sig-1)&1 != 0
}

// TestStopAndContinue: SIGSTOP and SIGCONT work as without a tracer, also
// through Freeze and Detach.
func TestStopAndContinue(t *testing.T) {
	l := launch(t, "signals")
	resume(t, l.s, want(t, l.s, Exec))
	l.line(t)
	for range 20 {
		if err := unix.Kill(l.pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// A traced thread in a group stop is shown as traced.
		until(t, "it to stop", func() bool { return strings.ContainsRune("tT", rune(state(t, l.pid).State)) })
		if _, err := l.s.Freeze(time.Second, l.pid); err != nil {
			t.Fatal(err)
		}
		if err := l.s.Thaw(l.pid); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(l.pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		until(t, "it to go on", func() bool { return state(t, l.pid).State == 'S' })
	}
	if err := unix.Kill(l.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "it to stop", func() bool { return strings.ContainsRune("tT", rune(state(t, l.pid).State)) })
	if err := l.s.Detach(l.pid); err != nil {
		t.Fatal(err)
	}
	until(t, "it to stand by itself", func() bool { return state(t, l.pid).State == 'T' })
	if by := state(t, l.pid).TracerPID; by != 0 {
		t.Errorf("traced by %d", by)
	}
	for _, sig := range []unix.Signal{unix.SIGCONT, unix.SIGTERM} {
		if err := unix.Kill(l.pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.line(t); got != "0 0 0 0" {
		t.Errorf("it counted %s", got)
	}
}

// TestOwnTraps: the program's own SIGTRAP and breakpoint instruction reach it.
func TestOwnTraps(t *testing.T) {
	l := launch(t, "trap")
	l.say(t)
	all := follow(t, l.s)
	l.line(t)
	if got := l.line(t); got != "2" {
		t.Errorf("it handled %s, want 2", got)
	}
	if got := tally(l.pid, all); got != "a exec; a gone 0" {
		t.Error(got)
	}
}

// TestSyscalls follows the system calls of a child.
func TestSyscalls(t *testing.T) {
	l := launch(t, "forks", "1")
	resume(t, l.s, want(t, l.s, Exec))
	l.say(t)
	e := want(t, l.s, Fork)
	if err := l.s.Resume(e.TID); err != nil {
		t.Fatal(err)
	}
	var calls []uint64
	for {
		if err := l.s.Syscalls(e.Child); err != nil {
			t.Fatal(err)
		}
		c, _ := next(t, l.s)
		if c.Kind == Gone {
			break
		}
		if c.Kind == SyscallEntry {
			calls = append(calls, c.Call.Number)
			if c.Call.Number == unix.SYS_EXIT_GROUP && c.Call.Args[0] != 7 {
				t.Errorf("exit_group(%d)", c.Call.Args[0])
			}
		}
	}
	if len(calls) == 0 || calls[len(calls)-1] != unix.SYS_EXIT_GROUP {
		t.Errorf("system calls %v, want exit_group last", calls)
	}
}

// symbolAddress is where a function of a running forker is.
func symbolAddress(t testing.TB, pid int, name string) uint64 {
	t.Helper()
	bin, err := forker()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	maps, err := fs.Maps(pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		for _, m := range maps {
			if s.Name == name && m.Path == bin && m.Offset == 0 {
				return m.Start + s.Value
			}
		}
	}
	t.Fatalf("no symbol %s in process %d", name, pid)
	return 0
}

// TestBreakpoints has four threads come to one breakpoint again and again, on
// instructions that are emulated and on ones that are stepped: each call is
// seen once.
func TestBreakpoints(t *testing.T) {
	const n = 250
	l := launch(t, "calls", fmt.Sprint(n))
	resume(t, l.s, want(t, l.s, Exec))
	l.line(t)
	at := symbolAddress(t, l.pid, "marked")
	var calls, steps int
	l.s.Hook(func(e Event) bool {
		if e.Kind != Breakpoint {
			return false
		}
		if e.Addr == at {
			calls++
		} else {
			steps++
		}
		if err := l.s.PassBreakpoint(e.TID); err != nil {
			t.Error(err)
		}
		return l.s.Resume(e.TID) == nil
	})
	addresses := instructions(t, l.pid, at, 6)
	for _, a := range addresses {
		if err := l.s.SetBreakpoint(l.pid, a); err != nil {
			t.Fatal(err)
		}
	}
	l.say(t)
	all := follow(t, l.s)
	if got := l.line(t); got != fmt.Sprint(4*n) {
		t.Errorf("it counted %s calls", got)
	}
	if calls != 4*n || steps != 4*n*(len(addresses)-1) {
		t.Errorf("seen %d calls and %d others, want %d and %d", calls, steps, 4*n, 4*n*(len(addresses)-1))
	}
	if got := tally(l.pid, all); got != "a gone 0" {
		t.Error(got)
	}
}

// TestDetachWithBreakpoints lets go while threads come to breakpoints and
// children are made: nothing is left, nobody dies of it.
func TestDetachWithBreakpoints(t *testing.T) {
	bin, err := forker()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, exec.Command(bin, "again"))
	p.line(t)
	at := symbolAddress(t, p.pid, "marked")
	code := readCode(t, p.pid, at)
	hits := 0
	for i := range 50 {
		s, err := Attach(p.pid)
		if err != nil {
			t.Fatal(err)
		}
		before := hits
		s.Hook(func(e Event) bool {
			if e.Kind == Fork {
				if got := readCode(t, e.Child, at); got != code {
					t.Errorf("the child has a breakpoint")
				}
				return s.Resume(e.TID) == nil && s.Resume(e.Child) == nil
			}
			if e.Kind != Breakpoint {
				return e.Kind == Gone
			}
			hits++
			if err := s.PassBreakpoint(e.TID); err != nil {
				t.Error(err)
			}
			return s.Resume(e.TID) == nil
		})
		if err := s.SetBreakpoint(p.pid, at); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(p.in.(io.Writer), "\n"); err != nil {
			t.Fatal(err)
		}
		// Let go before, at the beginning of, and within the calls.
		until(t, "breakpoints", func() bool {
			n := 0
			_ = s.Do(func() { n = hits - before })
			return n >= i%5
		})
		s.Close()
		if got := readCode(t, p.pid, at); got != code {
			t.Fatalf("round %d: the code is % x, was % x", i, got, code)
		}
		if by := state(t, p.pid).TracerPID; by != 0 {
			t.Fatalf("traced by %d", by)
		}
		if got := p.line(t); got != "well" {
			t.Fatal(got)
		}
	}
	t.Logf("%d breakpoints were come to", hits)
	_ = p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func readCode(t testing.TB, pid int, addr uint64) (b [64]byte) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Error(err)
		return b
	}
	defer f.Close()
	if _, err := f.ReadAt(b[:], int64(addr)); err != nil {
		t.Error(err)
	}
	return b
}

// TestLaunchErrors: what cannot be run is told as the kernel tells it.
func TestLaunchErrors(t *testing.T) {
	files := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("\x7fnothing"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/nonexistent": "no such file", "no-such-program": "not found", text: "exec format error", "/etc/passwd": "permission denied"} {
		_, _, err := Launch(Command{Path: path, Args: []string{path}, Files: files})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); pid > 0 || err == nil {
		t.Errorf("a child %d is left: %v", pid, err)
	}
}
