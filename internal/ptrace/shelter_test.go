package ptrace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"forkproof/internal/proc"
)

// shelteredJob is a program that puts a breakpoint into a process until that
// ends, or its own input does.
func shelteredJob(job string) int {
	j, status, first, err := Shelter()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if first {
		return status
	}
	var pid int
	var addr uint64
	if _, err := fmt.Sscanf(job, "%d %x", &pid, &addr); err != nil {
		fmt.Println(err)
		return 1
	}
	s, err := Attach(pid)
	if err == nil {
		err = s.Keep(j)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s.Hook(func(e Event) bool {
		switch e.Kind {
		case Breakpoint:
			_ = s.PassBreakpoint(e.TID)
		case Fork:
			_ = s.Resume(e.Child)
		case Gone:
			return true
		}
		return s.Resume(e.TID) == nil
	})
	if err := s.SetBreakpoint(pid, addr); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up", os.Getpid())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		s.Close()
	}()
	if _, err := s.Next(context.Background()); !errors.Is(err, ErrOver) {
		fmt.Println(err)
		return 1
	}
	return 5
}

// pause is that of the target between two calls, in microseconds.
const pause = "2000"

// TestShelter kills either process of a shelter with SIGKILL at random moments,
// while the target's threads come to a breakpoint and its children are made. The
// target goes on, nobody traces it, its code is that of its file, and it forks.
// What dies of it is counted: a thread that came to a breakpoint just then.
func TestShelter(t *testing.T) {
	const rounds = 50
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, which := range []string{"first", "second"} {
		t.Run(which, func(t *testing.T) {
			died := 0
			var p *running
			var at uint64
			var code [64]byte
			for range rounds {
				if p == nil {
					p, at, code = again(t)
				}
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), fmt.Sprintf("PTRACE_JOB=%d %x", p.pid, at))
				job := start(t, cmd)
				up := job.line(t)
				second, err := strconv.Atoi(strings.TrimPrefix(up, "up "))
				if err != nil {
					t.Fatalf("the job wrote %q; the target is %v", up, p.cmd.Wait())
				}
				go func() { // a line for each round of the target
					for range 4 {
						_, _ = io.WriteString(p.in.(io.Writer), "\n")
					}
				}()
				time.Sleep(time.Duration(rnd.IntN(8000)) * time.Microsecond)
				victim := second
				if which == "first" {
					victim = job.pid
				}
				kill, err := os.FindProcess(victim)
				if err == nil {
					err = kill.Kill()
				}
				if err != nil {
					t.Fatal(err)
				}
				err = job.cmd.Wait()
				var exit *exec.ExitError
				if !errors.As(err, &exit) {
					t.Fatalf("the job ended with %v", err)
				}
				if which == "second" && exit.ExitCode() != 128+9 {
					t.Fatalf("the first process told %v of the second's end", exit)
				}
				until(t, "the second process to end", func() bool {
					st, err := fs.Status(second)
					return proc.IsGone(err) || err == nil && st.State == 'Z'
				})
				if !settled(t, p, at, code) {
					died++
					p = nil
				}
			}
			t.Logf("killed %d times: %d times a process of the target died of it", rounds, died)
			// Where the first process is killed none may die. Where the tracer itself is,
			// a thread whose registers are borrowed just then is lost: docs/trace.md has
			// how often. With no handler for it (arm64) those die that are at it just then.
			const unlucky = 3
			if died > 0 && which == "first" || died > unlucky && runtime.GOARCH == "amd64" {
				t.Errorf("%d of %d died", died, rounds)
			}
		})
	}
}

// again starts forker in a loop of calls and forks.
func again(t *testing.T) (p *running, at uint64, code [64]byte) {
	t.Helper()
	bin, err := forker()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "again", pause)
	cmd.Stderr = os.Stderr // what a C library says when it aborts
	p = start(t, cmd)
	p.line(t)
	at = symbolAddress(t, p.pid, "marked")
	return p, at, readCode(t, p.pid, at)
}

// settled reads what the target wrote and looks at its state. False: a process
// of it died of a breakpoint.
func settled(t *testing.T, p *running, at uint64, code [64]byte) bool {
	t.Helper()
	for range 4 {
		line, err := p.out.ReadString('\n')
		switch {
		case err == nil && strings.TrimSpace(line) == "well":
		case err == nil && strings.HasPrefix(line, "child went wrong"):
			t.Logf("%q", line)
			return false
		default:
			t.Logf("the target: %v", p.cmd.Wait())
			return false // the target itself
		}
	}
	st := state(t, p.pid)
	if st.TracerPID != 0 || st.State == 't' || st.State == 'T' {
		t.Errorf("it is in state %c, traced by %d", st.State, st.TracerPID)
	}
	// The first process takes the handler away that was put in with the breakpoint.
	if caught := state(t, p.pid).SigCgt; caught&(1<<(5-1)) != 0 {
		t.Errorf("it has a handler for SIGTRAP: %#x", caught)
	}
	if now := readCode(t, p.pid, at); now != code {
		t.Errorf("the code is % x, was % x", now[:8], code[:8])
	}
	return true
}

// TestShelterEnds: the status of the second process comes out of the first.
func TestShelterEnds(t *testing.T) {
	p, at, code := again(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("PTRACE_JOB=%d %x", p.pid, at))
	job := start(t, cmd)
	job.line(t)
	_ = job.in.Close()
	var exit *exec.ExitError
	if err := job.cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("it ended with %v, want 5", err)
	}
	for range 4 {
		_, _ = io.WriteString(p.in.(io.Writer), "\n")
	}
	if !settled(t, p, at, code) {
		t.Error("the target died")
	}
}
