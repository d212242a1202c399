package ptrace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
)

// TestMain lets the test binary be the process that stops a thread and holds it.
func TestMain(m *testing.M) {
	Reenter()
	if tid, err := strconv.Atoi(os.Getenv("PTRACE_HOLD")); err == nil {
		_, err := New().Stop(tid, func(*Regs) {
			fmt.Println("stopped")
			_, _ = io.Copy(io.Discard, os.Stdin)
		})
		fmt.Println("let go", err)
		os.Exit(0)
	}
	if job := os.Getenv("PTRACE_JOB"); job != "" {
		os.Exit(shelteredJob(job))
	}
	os.Exit(run(m))
}

// built is the folder of the programs that tests share.
var built string

func run(m *testing.M) int {
	var err error
	if built, err = os.MkdirTemp("", "ptrace"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built)
	return m.Run()
}

var fs = proc.New("/proc")

// running is a process that a test started.
type running struct {
	pid int
	in  io.Closer
	out *bufio.Reader
	cmd *exec.Cmd
}

func (p *running) line(t testing.TB) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("process %d wrote %q: %v", p.pid, s, err)
	}
	return strings.TrimSpace(s)
}

func lines(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

func start(t testing.TB, cmd *exec.Cmd) *running {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &running{pid: cmd.Process.Pid, in: in, out: lines(out), cmd: cmd}
}

func victim(t testing.TB, how string) *running {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "victim")
	if b, err := exec.Command("gcc", "-O1", "-pthread", "-o", bin, "testdata/victim.c").CombinedOutput(); err != nil {
		t.Fatalf("gcc is needed to build the process that is stopped: %v\n%s", err, b)
	}
	p := start(t, exec.Command(bin, how))
	if got, want := p.line(t), fmt.Sprintf("ready %d", p.pid); got != want {
		t.Fatalf("the victim wrote %q, want %q", got, want)
	}
	return p
}

func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func state(t testing.TB, pid int) proc.Status {
	t.Helper()
	st, err := fs.Status(pid)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// goesOn waits until a process computes and nobody traces it.
func goesOn(t testing.TB, pid int) {
	t.Helper()
	if by := state(t, pid).TracerPID; by != 0 {
		t.Errorf("process %d traces it still", by)
	}
	was, err := fs.RunTime(pid, pid)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the process to go on", func() bool {
		now, err := fs.RunTime(pid, pid)
		return err == nil && now > was+uint64(5*time.Millisecond)
	})
	if st := state(t, pid).State; st != 'R' {
		t.Errorf("it is in state %c", st)
	}
}

// stop is Stop until the thread gets a processor in time.
func stop(t testing.TB, tr *Tracer, tid int, look func(*Regs)) (s Stop) {
	t.Helper()
	until(t, "the thread to stop", func() bool {
		var err error
		s, err = tr.Stop(tid, look)
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
		return err == nil
	})
	return s
}

func TestStop(t *testing.T) {
	p := victim(t, "run")
	tr := New()
	defer tr.Close()
	maps, err := fs.Maps(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		during := byte(0)
		s := stop(t, tr, p.pid, func(r *Regs) {
			during = state(t, p.pid).State
			if m, ok := proc.Find(maps, r.PC()); !ok || !m.Exec {
				t.Errorf("the program counter %#x is not in code", r.PC())
			}
		})
		if during != 't' || s.Signal != 0 || s.Grouped {
			t.Fatalf("state %c while stopped, %+v", during, s)
		}
		if by := state(t, p.pid).TracerPID; by != 0 {
			t.Fatalf("process %d traces it still", by)
		}
	}
	goesOn(t, p.pid)
}

// TestTracedAlready asks for a thread that another process holds stopped.
func TestTracedAlready(t *testing.T) {
	p := victim(t, "run")
	other := holder(t, p.pid)
	tr := New()
	defer tr.Close()
	_, err := tr.Stop(p.pid, func(*Regs) { t.Error("the thread was looked at") })
	if !errors.Is(err, ErrTraced) || !strings.Contains(err.Error(), strconv.Itoa(other.pid)) {
		t.Errorf("error %v, want ErrTraced with process %d", err, other.pid)
	}
	if st := state(t, p.pid); st.State != 't' || state(t, st.TracerPID).TGID != other.pid {
		t.Errorf("state %c, tracer %d: the debugger was disturbed", st.State, st.TracerPID)
	}
	_ = other.in.Close()
	if got := other.line(t); got != "let go <nil>" {
		t.Error(got)
	}
	goesOn(t, p.pid)
}

// holder starts a process that has stopped a thread, until its input ends.
func holder(t testing.TB, tid int) *running {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PTRACE_HOLD="+strconv.Itoa(tid))
	for {
		p := start(t, cmd)
		got := p.line(t)
		if got == "stopped" {
			return p
		}
		if !strings.Contains(got, ErrBusy.Error()) {
			t.Fatalf("the other tracer wrote %q", got)
		}
		next := exec.Command(cmd.Path)
		next.Env = cmd.Env
		cmd = next
	}
}

// TestKilled kills the tracer with SIGKILL while it holds the thread: the
// target goes on.
func TestKilled(t *testing.T) {
	p := victim(t, "run")
	for range 3 {
		other := holder(t, p.pid)
		if st := state(t, p.pid); st.State != 't' || state(t, st.TracerPID).TGID != other.pid {
			t.Fatalf("state %c, tracer %d", st.State, st.TracerPID)
		}
		if err := other.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = other.cmd.Wait()
		goesOn(t, p.pid)
	}
}

// TestGroupStop looks at a process that SIGSTOP has stopped: it must not go on.
func TestGroupStop(t *testing.T) {
	p := victim(t, "run")
	if err := syscall.Kill(p.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	until(t, "the process to stop", func() bool { return state(t, p.pid).State == 'T' })
	was, err := fs.RunTime(p.pid, p.pid)
	if err != nil {
		t.Fatal(err)
	}
	tr := New()
	defer tr.Close()
	for range 30 {
		if s := stop(t, tr, p.pid, func(*Regs) {}); !s.Grouped || s.Signal != 0 {
			t.Fatalf("%+v, want it grouped", s)
		}
		until(t, "it to stand again", func() bool { return state(t, p.pid).State == 'T' })
	}
	if _, err := tr.StopRunning(p.pid, p.pid, func(*Regs) {}); !errors.Is(err, ErrAsleep) {
		t.Errorf("StopRunning: %v", err)
	}
	until(t, "it to stand again", func() bool { return state(t, p.pid).State == 'T' })
	if now, _ := fs.RunTime(p.pid, p.pid); now-was > uint64(time.Second) {
		t.Errorf("it ran for %v while it was stopped", time.Duration(now-was))
	}
	if err := syscall.Kill(p.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	goesOn(t, p.pid)
}

// queue sends a signal with a value, as sigqueue(3) does.
func queue(pid int, value int) error {
	sig := 34 // SIGRTMIN of glibc
	// siginfo_t: si_signo, si_errno, si_code, then si_pid, si_uid, si_value.
	var info [128]byte
	*(*int32)(unsafe.Pointer(&info[0])) = int32(sig)
	*(*int32)(unsafe.Pointer(&info[8])) = -1 // SI_QUEUE
	*(*int32)(unsafe.Pointer(&info[16])) = int32(os.Getpid())
	*(*int32)(unsafe.Pointer(&info[24])) = int32(value)
	_, _, errno := unix.Syscall(unix.SYS_RT_SIGQUEUEINFO, uintptr(pid), uintptr(sig), uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return errno
	}
	return nil
}

// TestSignals sends signals while the thread is stopped again and again: none is
// lost, doubled, out of order or stripped of what came along.
func TestSignals(t *testing.T) {
	p := victim(t, "signals")
	tr := New()
	defer tr.Close()
	sent, caught := 0, 0
	send := func() {
		sent++
		if err := queue(p.pid, sent); err != nil {
			t.Errorf("signal %d: %v", sent, err)
		}
	}
	until(t, "signals that stop the thread first", func() bool {
		send()
		// One comes before the request to stop, one while the thread stands.
		s, err := tr.stop(p.pid, func(*Regs) { send() }, func() error { send(); return nil })
		if err != nil && !errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
		if s.Signal != 0 {
			caught++
		}
		return caught >= 30
	})
	if err := queue(p.pid, 0); err != nil {
		t.Fatal(err)
	}
	if got, want := p.line(t), fmt.Sprintf("%d 0", sent); got != want {
		t.Errorf("the victim counted %q, want %q", got, want)
	}
	t.Logf("%d signals, %d of them stopped the thread", sent, caught)
	goesOn(t, p.pid)
}

// TestEnding stops threads that end at any moment.
func TestEnding(t *testing.T) {
	p := victim(t, "threads")
	tr := New()
	defer tr.Close()
	stopped, gone := 0, 0
	until(t, "threads that ended", func() bool {
		tids, err := fs.Threads(p.pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, tid := range tids {
			if tid == p.pid {
				continue
			}
			switch _, err := tr.Stop(tid, func(*Regs) {}); {
			case err == nil:
				stopped++
			case errors.Is(err, proc.ErrGone):
				gone++
			case !errors.Is(err, ErrBusy):
				t.Fatal(err)
			}
		}
		return stopped > 10 && gone > 10
	})
	// The process joins each of them: it would wait for ever for one that is
	// left uncollected.
	first := map[int]bool{}
	until(t, "the process to start more threads", func() bool {
		tids, err := fs.Threads(p.pid)
		if err != nil {
			t.Fatal(err)
		}
		for _, tid := range tids {
			first[tid] = true
		}
		return len(first) > 5
	})
	// A whole process that ends.
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Stop(p.pid, func(*Regs) {}); err != nil && !errors.Is(err, proc.ErrGone) && !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) {
		t.Errorf("its parent was told %v", err)
	}
}

// TestUninterruptible gives up on a thread that the kernel does not let stop,
// and leaves nothing behind that stops it later.
func TestUninterruptible(t *testing.T) {
	p := victim(t, "vfork")
	until(t, "state D", func() bool { return state(t, p.pid).State == 'D' })
	tr := New()
	defer tr.Close()
	for range 3 {
		if _, err := tr.Stop(p.pid, func(*Regs) { t.Error("it stopped") }); !errors.Is(err, ErrBusy) {
			t.Errorf("error %v, want ErrBusy", err)
		}
		if st := state(t, p.pid); st.State != 'D' || st.TracerPID != 0 {
			t.Errorf("state %c, tracer %d after giving up", st.State, st.TracerPID)
		}
	}
	_ = p.in.Close() // the child ends, and vfork returns
	until(t, "vfork to return", func() bool { return state(t, p.pid).State == 'R' })
	goesOn(t, p.pid)
}

// TestAsleep leaves a thread alone whose system call a stop would end.
func TestAsleep(t *testing.T) {
	p := victim(t, "sleep")
	until(t, "the victim to sleep", func() bool { return state(t, p.pid).State == 'S' })
	switches := state(t, p.pid).Switches
	tr := New()
	defer tr.Close()
	for range 20 {
		if _, err := tr.StopRunning(p.pid, p.pid, func(*Regs) { t.Error("it was stopped") }); !errors.Is(err, ErrAsleep) {
			t.Errorf("error %v, want ErrAsleep", err)
		}
	}
	if st := state(t, p.pid); st.Switches != switches || st.State != 'S' || st.TracerPID != 0 {
		t.Errorf("it ran: %d switches, was %d; state %c", st.Switches, switches, st.State)
	}
}

// BenchmarkStop reports how long a thread that computes stands still at most,
// while its stack (256 KiB around it) is copied.
func BenchmarkStop(b *testing.B) {
	p := victim(b, "run")
	tr := New()
	defer tr.Close()
	var took []time.Duration
	buf := make([]byte, 256<<10)
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	busy := 0
	for range b.N {
		s, err := tr.StopRunning(p.pid, p.pid, func(r *Regs) {
			remote := []unix.RemoteIovec{{Base: uintptr(SP(r)) &^ 4095, Len: len(buf)}}
			if _, err := unix.ProcessVMReadv(p.pid, local, remote, 0); err != nil {
				b.Error(err)
			}
		})
		switch {
		case errors.Is(err, ErrBusy):
			busy++
		case err != nil:
			b.Fatal(err)
		default:
			took = append(took, s.Took)
		}
	}
	slices.Sort(took)
	if len(took) > 0 {
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
		b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-µs")
	}
	b.ReportMetric(float64(busy), "given-up")
}
