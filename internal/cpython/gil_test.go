package cpython_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/cpython"
	"forkproof/internal/proc"
)

// eventually waits until a look at the victim shows what it must.
func eventually(t *testing.T, what string, look func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !look(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (v *victim) numbers(t *testing.T, to ...any) {
	t.Helper()
	s := v.line(t)
	if s == "no ctypes" {
		t.Skip("this Python has no ctypes")
	}
	if _, err := fmt.Sscan(s, to...); err != nil {
		t.Fatalf("victim says %q: %v", s, err)
	}
}

// waitsIn reports whether a thread sleeps on a futex within the GIL.
func waitsIn(pid, tid int, g cpython.GIL) bool {
	s, err := proc.New("/proc").Syscall(pid, tid)
	return err == nil && s.Nr == unix.SYS_FUTEX && s.Args[0] >= g.Addr && s.Args[0] < g.Addr+g.Size
}

func TestGILOfASpinningThread(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "gil.py", "/srv/gil.py")
		var ident, native uint64
		v.numbers(t, &ident, &native)
		r := v.find(t)
		var g cpython.GIL
		eventually(t, "the spinning thread holds the GIL", func() bool {
			var err error
			g, err = r.GIL()
			return err == nil && g.Locked && g.HolderIdent == ident
		})
		if !g.HolderListed || g.Holder == 0 || g.Holder != g.LastHolder {
			t.Errorf("holder: %+v", g)
		}
		if want := native; p.minor >= 11 && g.HolderNativeID != want || p.minor < 11 && g.HolderNativeID != 0 {
			t.Errorf("holder has the native ID %d, want %d", g.HolderNativeID, want)
		}
		if _, err := v.hold.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if s := v.line(t); s != "done" {
			t.Fatalf("victim says %q", s)
		}
		settle(t, v.pid)
		free, err := r.GIL()
		if err != nil {
			t.Fatal(err)
		}
		if free.Locked || free.Holder != 0 || free.HolderListed || free.HolderIdent != 0 {
			t.Errorf("nobody holds the GIL, but: %+v", free)
		}
		if free.SwitchNumber <= g.SwitchNumber {
			t.Errorf("switch number %d, was %d", free.SwitchNumber, g.SwitchNumber)
		}
		if f, err := r.Finalizing(); err != nil || f {
			t.Errorf("finalizing: %v, %v", f, err)
		}
	})
}

// TestGILHeldByAVanishedThread is the state that proves a hang: in a child, the
// GIL belongs to a thread that was not copied.
func TestGILHeldByAVanishedThread(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "held.py", "/srv/held.py")
		fs := proc.New("/proc")
		var a, b, native, mainIdent uint64
		first := v.line(t)
		if first == "no ctypes" {
			t.Skip("this Python has no ctypes")
		}
		// The lines of the two threads come in any order.
		for _, s := range []string{first, v.line(t)} {
			if strings.Contains(s, " ") {
				if _, err := fmt.Sscan(s, &a, &native); err != nil {
					t.Fatal(err)
				}
			} else if _, err := fmt.Sscan(s, &b); err != nil {
				t.Fatal(err)
			}
		}
		holder := a
		mainIdent = b
		pauses := func(pid, tid int) bool {
			s, err := fs.Syscall(pid, tid)
			return err == nil && !s.Running && s.Nr != unix.SYS_FUTEX
		}
		r := v.find(t)
		eventually(t, "the GIL is held by the thread that sleeps, the main thread sleeps without", func() bool {
			g, err := r.GIL()
			return err == nil && g.Locked && g.HolderIdent == holder && pauses(v.pid, int(native)) && pauses(v.pid, v.pid)
		})
		if err := unix.Tgkill(v.pid, v.pid, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		child := 0
		eventually(t, "a child is there", func() bool {
			pids, err := fs.PIDs()
			if err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				if st, err := fs.Stat(pid); err == nil && st.PPID == v.pid {
					child = pid
				}
			}
			return child != 0
		})
		t.Cleanup(func() { _ = syscall.Kill(child, syscall.SIGKILL) })
		c := findIn(t, child)
		var g cpython.GIL
		eventually(t, "the child's only thread waits for the GIL", func() bool {
			var err error
			g, err = c.GIL()
			return err == nil && waitsIn(child, child, g)
		})
		if !g.Locked || !g.HolderListed || g.HolderIdent != holder || p.minor >= 11 && g.HolderNativeID != native {
			t.Errorf("GIL of the child: %+v", g)
		}
		if g.CondAddr < g.Addr || g.MutexAddr+40 > g.Addr+g.Size {
			t.Errorf("parts outside of the GIL: %+v", g)
		}
		threads, err := c.Threads()
		if err != nil {
			t.Fatal(err)
		}
		if len(threads) != 2 {
			t.Errorf("%d thread states, want those of the survivor and the vanished thread", len(threads))
		}
		for _, th := range threads {
			want := "holder"
			if th.Ident == mainIdent {
				want = "main"
			}
			if th.Err != nil || th.Torn || len(th.Frames) == 0 || th.Frames[0].Function != want {
				t.Errorf("thread of %s: %+v", want, th)
			}
		}
	})
}

// TestForkedChildren reads children of both kinds of fork.
func TestForkedChildren(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "forks.py", "/srv/forks.py")
		kinds := []string{"os.fork", "fork(2) by C code"}
		for range kinds {
			s := v.line(t)
			if s == "no ctypes" {
				t.Logf("this Python has no ctypes: no %s", kinds[1])
				continue
			}
			var i, pid int
			var ident uint64
			if _, err := fmt.Sscan(s, &i, &pid, &ident); err != nil {
				t.Fatal(err)
			}
			kind := kinds[i]
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			settle(t, pid)
			threads, err := findIn(t, pid).Threads()
			if err != nil {
				t.Fatal(err)
			}
			// os.fork drops the states of vanished threads, C code cannot.
			if want := 1 + i; len(threads) != want {
				t.Errorf("%s: %d thread states, want %d", kind, len(threads), want)
			}
			for _, th := range threads {
				want := "child"
				if th.Ident != ident {
					want = "vanishing"
				}
				if th.Err != nil || th.Torn || len(th.Frames) == 0 || th.Frames[0].Function != want {
					t.Errorf("%s: thread that runs %s: %+v", kind, want, th)
				}
			}
			if i == 0 && p.minor >= 12 && threads[0].NativeID != uint64(pid) {
				t.Errorf("%s: native ID %d in process %d", kind, threads[0].NativeID, pid)
			}
		}
	})
}

// TestRunningThreads reads threads that never stand still: whatever is not
// flagged must be a stack that the program can have.
func TestRunningThreads(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "running.py", "/srv/running.py")
		v.line(t)
		r := v.find(t)
		whole, torn, failed := 0, 0, 0
		for range 300 {
			threads, err := r.Threads()
			if err != nil {
				t.Fatal(err)
			}
			for _, th := range threads {
				switch {
				case th.Err != nil:
					failed++
				case th.Torn:
					torn++
				default:
					whole++
					if s := impossible(th); s != "" {
						t.Errorf("cannot be: %s", s)
					}
				}
				for _, f := range th.Frames {
					if f.File == "/srv/running.py" && (f.Line < 0 || f.Line > 30) {
						t.Errorf("line %d in %s", f.Line, f.Function)
					}
				}
			}
		}
		t.Logf("%d whole, %d torn, %d with an error", whole, torn, failed)
		if whole == 0 {
			t.Error("never a whole stack, not even of the thread that sleeps")
		}
	})
}

// impossible says what is wrong with the stack of a thread of running.py.
func impossible(th cpython.Thread) string {
	after := map[string]string{
		"second.<locals>.<listcomp>": "second", "<listcomp>": "second",
		"third.<locals>.<genexpr>": "third", "<genexpr>": "third",
		"second": "first", "first": "run Thread.run",
	}
	for i, f := range th.Frames {
		var next string
		if i+1 < len(th.Frames) {
			next = th.Frames[i+1].Function
		}
		want := after[f.Function]
		if f.Function == "third" {
			want = "second second.<locals>.<listcomp> <listcomp>"
		}
		if next == "" && strings.Contains(f.Function, "<genexpr>") {
			// While a generator is being resumed it has no caller yet, and on a busy
			// machine a thread may be made to wait right there.
			return ""
		}
		if want != "" && !strings.Contains(" "+want+" ", " "+next+" ") {
			return fmt.Sprintf("%s called by %q", f.Function, next)
		}
	}
	return ""
}
