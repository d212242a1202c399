package provoke_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/inspect"
	"forkproof/internal/provoke"
	"forkproof/internal/ptrace"
	"forkproof/internal/testbed"
)

func TestMain(m *testing.M) {
	provoke.Reenter()
	os.Exit(m.Run())
}

// run provokes, with bounds that suit victims which are quick.
func run(t *testing.T, req provoke.Request) *provoke.Result {
	t.Helper()
	r, err := try(t, req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func try(t *testing.T, req provoke.Request) (*provoke.Result, error) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "target.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	req.Output, req.CheckTime, req.Total, req.Tries = log, 10*time.Second, 3*time.Minute, 6
	if req.Seed == 0 {
		req.Seed = 1
	}
	if req.Learn == 0 {
		req.Learn = 3 * time.Second
	}
	if req.PerLock == 0 {
		req.PerLock = 20 * time.Second
	}
	req.Prove = func(ctx context.Context, pid int) (*finding.Document, error) {
		return inspect.Run(ctx, inspect.Request{PIDs: []int{pid}})
	}
	began := time.Now()
	r, err := provoke.Run(t.Context(), req)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("after %v, error %v; the target said:\n%s", time.Since(began), err, text)
			if r != nil {
				t.Log(table(r))
			}
		}
	})
	return r, err
}

// table is what was found, for the message of a failed test.
func table(r *provoke.Result) string {
	var b bytes.Buffer
	p := r.Document.Provoked
	fmt.Fprintf(&b, "plain: %s, %s\n", p.Plain.Outcome, p.Plain.Detail)
	for i := range p.Locks {
		l := &p.Locks[i]
		fmt.Fprintf(&b, "%s: %s, %s (%s; held by %q, %s; %d tries, %.1f s)\n", l.Name, l.Outcome, l.Detail, strings.Join(l.Threads, ","), l.Holder, l.HolderAt, l.Tries, l.Seconds)
	}
	for _, n := range r.Document.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}

// only is the one lock of a result.
func only(t *testing.T, r *provoke.Result) *finding.ProvokedLock {
	t.Helper()
	if locks := r.Document.Provoked.Locks; len(locks) == 1 {
		return &locks[0]
	}
	t.Fatalf("%d locks instead of one:\n%s", len(r.Document.Provoked.Locks), table(r))
	return nil
}

// expect checks the outcome of a lock, and what belongs to it.
func expect(t *testing.T, r *provoke.Result, l *finding.ProvokedLock, want finding.ProvokedOutcome) {
	t.Helper()
	if l.Outcome != want {
		t.Fatalf("%s: %q (%s) instead of %q:\n%s", l.Name, l.Outcome, l.Detail, want, table(r))
	}
	proven := 0
	for i := range r.Document.Findings {
		f := &r.Document.Findings[i]
		if f.PID == l.Worker && l.Worker != 0 && f.Confidence == finding.Proven && f.Severity == finding.Critical {
			proven++
			if !strings.Contains(strings.Join(f.Evidence, "\n"), l.Name) {
				t.Errorf("the evidence does not name %s: %q", l.Name, f.Evidence)
			}
		}
	}
	switch {
	case want == finding.ProvokedDeadlock && proven == 0:
		t.Error("a deadlock without a proof")
	case want != finding.ProvokedDeadlock && want != finding.ProvokedHidden && proven > 0:
		t.Errorf("%d proofs of what is well", proven)
	case want == finding.ProvokedDeadlock && (!l.Forced || l.Holder == "" || len(l.Threads) == 0 || len(l.Native) == 0):
		t.Errorf("who held it is missing: %+v", l)
	}
	if l.Seconds > 60 {
		t.Errorf("it took %.0f s", l.Seconds)
	}
}

// TestPrograms provokes programs of which one thread uses a lock for an instant
// every other millisecond, while the other one forks forty times.
func TestPrograms(t *testing.T) {
	victim := testbed.Build(t, "provoked.c")
	for _, tt := range []struct {
		lock, name string
		want       finding.ProvokedOutcome
	}{
		{"mutex", "provoked`mutex", finding.ProvokedDeadlock},
		{"heap_mutex", "a pthread_mutex on the heap, taken in provoked`use_heap_mutex", finding.ProvokedDeadlock},
		{"rwlock", "provoked`rwlock", finding.ProvokedDeadlock},
		{"sem", "provoked`sem", finding.ProvokedDeadlock},
		{"env", "glibc's environment lock (envlock)", finding.ProvokedDeadlock},
		{"tz", "glibc's time zone lock (tzset_lock)", finding.ProvokedDeadlock},
		{"random", "glibc's random lock (lock in random.c)", finding.ProvokedDeadlock},
		{"pwnam", "glibc's password database lock (lock in getpwnam.c)", finding.ProvokedDeadlock},
		{"locale", "glibc's locale lock (__libc_setlocale_lock)", finding.ProvokedDeadlock},
		{"syslog", "glibc's syslog lock (syslog_lock)", finding.ProvokedDeadlock},
		{"resolver", "glibc's lock of network interfaces (lock in check_pf.c)", finding.ProvokedDeadlock},
		{"loader", "glibc's list of loaded libraries (_dl_load_write_lock)", finding.ProvokedDeadlock},
		{"gconv", "glibc's character conversion lock (__gconv_lock)", finding.ProvokedDeadlock},
		// What glibc looks after itself.
		{"malloc", "glibc's main malloc arena (main_arena)", finding.ProvokedReset},
		{"dlopen", "glibc's lock of the dynamic loader (_dl_load_lock)", finding.ProvokedReset},
		{"stdio", "the lock of a stream used in provoked`other", finding.ProvokedReset},
		{"flockfile", "the lock of a stream used in provoked`use_flockfile", finding.ProvokedReset},
		// The healthy twins, with fork handlers.
		{"mutex_safe", "provoked`mutex", finding.ProvokedGuarded},
		{"heap_mutex_safe", "a pthread_mutex on the heap, taken in provoked`use_heap_mutex", finding.ProvokedGuarded},
		{"rwlock_safe", "provoked`rwlock", finding.ProvokedGuarded},
		{"sem_safe", "provoked`sem", finding.ProvokedGuarded},
	} {
		t.Run(tt.lock, func(t *testing.T) {
			r := run(t, provoke.Request{Command: []string{victim, tt.lock}, Only: regexp.MustCompile("^" + regexp.QuoteMeta(tt.name) + "$")})
			expect(t, r, only(t, r), tt.want)
		})
	}
}

// TestCheckFailed: a child that tries the lock again and again is no proven
// deadlock, and the program does not end.
func TestCheckFailed(t *testing.T) {
	r := run(t, provoke.Request{Command: []string{testbed.Build(t, "provoked.c"), "trylock"}, PerLock: 2 * time.Second})
	expect(t, r, only(t, r), finding.ProvokedCheckFailed)
	if len(r.Document.Findings) != 1 || r.Document.Findings[0].Rule != finding.CheckFailed {
		t.Errorf("the findings are %+v", r.Document.Findings)
	}
}

// TestReplay repeats a schedule in another run of the program, and on its healthy
// twin, which has the same locks.
func TestReplay(t *testing.T) {
	victim := testbed.Build(t, "provoked.c")
	r := run(t, provoke.Request{Command: []string{victim, "rwlock"}, Seed: 7})
	expect(t, r, only(t, r), finding.ProvokedDeadlock)
	b, err := r.Schedules.JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "found.json")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	kept, err := provoke.ReadSchedules(path)
	if err != nil {
		t.Fatal(err)
	}
	want := r.Schedules.Found[0]
	for range 3 {
		again := run(t, provoke.Request{Command: []string{victim, "rwlock"}, Replay: kept})
		expect(t, again, only(t, again), finding.ProvokedDeadlock)
		if got := again.Schedules.Found[0]; got.Lock != want.Lock || got.Taking != want.Taking || got.Fork != want.Fork {
			t.Errorf("replayed as %+v, found as %+v", got, want)
		}
	}
	twin := run(t, provoke.Request{Command: []string{victim, "rwlock_safe"}, Replay: kept})
	expect(t, twin, only(t, twin), finding.ProvokedGuarded)
}

// TestLibcs provokes a process that runs, on each C library: one thread uses a lock,
// and the process forks when it is told to.
func TestLibcs(t *testing.T) {
	victim, musl := testbed.Build(t, "provoked.c"), testbed.BuildMusl(t, "provoked.c")
	for _, tt := range []struct{ release, program, lock, name string }{
		{"bullseye", victim, "tz", "glibc's time zone lock (tzset_lock)"},
		{"bullseye", victim, "mutex", "provoked`mutex"},
		{"trixie", victim, "env", "glibc's environment lock (envlock)"},
		{"forky", victim, "random", "glibc's random lock (lock in random.c)"},
		{"forky", victim, "heap_mutex", "a pthread_mutex on the heap, taken in provoked`use_heap_mutex"},
		{"bookworm", musl, "mutex", "provoked`mutex"},
		{"trixie", musl, "sem", "provoked`sem"},
	} {
		name := tt.release + "/" + tt.lock
		if tt.program == musl {
			name += "_musl"
		}
		t.Run(name, func(t *testing.T) {
			p := testbed.Open(t, tt.release).Start(t, testbed.Cmd{Args: []string{tt.program, tt.lock, "serve"}})
			p.AwaitFields(t, "ready")
			r := run(t, provoke.Request{PID: p.PID, ForkBy: "kill -USR1 $FORKPROOF_PID", Learn: time.Second, Only: regexp.MustCompile("^" + regexp.QuoteMeta(tt.name) + "$")})
			expect(t, r, only(t, r), finding.ProvokedDeadlock)
			unharmed(t, p)
		})
	}
}

// unharmed checks that a process goes on, untraced, with its code as the file has
// it.
func unharmed(t *testing.T, p *testbed.Proc) {
	t.Helper()
	if !p.Alive() {
		t.Fatalf("the target has ended:\n%s", p.Output())
	}
	for _, tid := range testbed.Threads(p.PID) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", p.PID, tid))
		if err == nil && !bytes.Contains(text, []byte("TracerPid:\t0\n")) {
			t.Errorf("thread %d is traced", tid)
		}
		if bytes.Contains(text, []byte("State:\tT")) || bytes.Contains(text, []byte("State:\tt")) {
			t.Errorf("thread %d is stopped", tid)
		}
	}
	if n := patched(t, p.PID); n > 0 {
		t.Errorf("%d bytes of the C library's code differ from its file", n)
	}
}

// patched counts the bytes by which the code of the C library and of the program in
// memory differ from their files.
func patched(t *testing.T, pid int) (differ int) {
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
	looked := 0
	for line := range strings.Lines(string(maps)) {
		var start, end, offset int64
		f := strings.Fields(line)
		if len(f) < 6 || !strings.Contains(f[1], "x") || !strings.HasPrefix(f[5], "/") {
			continue
		}
		if _, err := fmt.Sscanf(f[0]+" "+f[2], "%x-%x %x", &start, &end, &offset); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, start, end))
		if err != nil {
			t.Fatal(err)
		}
		now, then := make([]byte, end-start), make([]byte, end-start)
		n, _ := mem.ReadAt(now, start)
		m, _ := file.ReadAt(then, offset)
		_ = file.Close()
		for i := range min(n, m) {
			if now[i] != then[i] {
				differ++
			}
		}
		looked += min(n, m)
	}
	if looked < 1<<18 {
		t.Fatalf("only %d bytes of code could be compared", looked)
	}
	return differ
}

// TestRefused: what cannot be provoked is said.
func TestRefused(t *testing.T) {
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{testbed.Build(t, "provoked.c"), "mutex", "serve"}})
	p.AwaitFields(t, "ready")
	for _, tt := range []struct {
		name string
		req  provoke.Request
		want string
	}{
		{"no program", provoke.Request{Command: []string{"/nonexistent/program"}}, "/nonexistent/program"},
		{"no fork", provoke.Request{Command: []string{"true"}}, "without a fork"},
		{"fails", provoke.Request{Command: []string{"false"}}, "status 1"},
		{"gone", provoke.Request{PID: 1 << 22}, "no such process"},
		{"command fails", provoke.Request{PID: p.PID, ForkBy: "echo no; exit 3"}, "exit status 3"},
		{"check fails", provoke.Request{PID: p.PID, ForkBy: "kill -USR1 $FORKPROOF_PID", Check: "echo broken; exit 4"}, "status 4: broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := try(t, tt.req); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, not one that says %q", err, tt.want)
			}
		})
	}
	t.Run("traced", func(t *testing.T) {
		other := exec.CommandContext(t.Context(), "gdb", "-p", strconv.Itoa(p.PID), "-batch", "-ex", "shell sleep 60")
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		testbed.AwaitState(t, p.PID, "t")
		_, err := try(t, provoke.Request{PID: p.PID})
		_ = other.Process.Kill() // its end is what lets the target go on
		_ = other.Wait()
		if !errors.Is(err, ptrace.ErrTraced) {
			t.Errorf("the error is %v", err)
		}
		testbed.AwaitState(t, p.PID, "SR")
	})
	unharmed(t, p)
}
