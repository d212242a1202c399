package pylock_test

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/cpython"
	"forkproof/internal/procmem"
	"forkproof/internal/pylock"
	"forkproof/internal/testbed"
)

// most is how much may be read of a process that lies about its objects: the
// search looks at no more than 60,000, and each cost two blocks of 8 KiB.
const most = 2 << 30

// everything asks for all that a caller can ask for.
func everything(t *testing.T, mem procmem.Reader, v cpython.Version, roots pylock.Roots, w pylock.Waiter) {
	t.Helper()
	// Not by the clock, or the same bytes would do something else each time.
	h, err := pylock.New(mem, v, roots, pylock.Limits{Objects: 500, Time: time.Hour})
	if err != nil {
		return
	}
	l, err := h.Identify(w)
	if err == nil && l.Kind == "" {
		t.Errorf("a lock of no kind: %+v", l)
	}
	_ = l.Name.String()
	pylock.WaitKind(w.Frames, pylock.Clues{Lock: &l})
	held := h.Held()
	for _, l := range held {
		_ = l.Name.String()
		if !l.Locked && !l.OwnerKnown {
			t.Errorf("not held: %+v", l)
		}
		_ = h.Locked(l.Object)
		h.Entering(w.Frames, l.Object)
		h.Uses(w.Frames, l.Object)
	}
	if names := h.ThreadNames(); len(names) > 4096 {
		t.Errorf("%d names of threads", len(names))
	}
	_, _ = h.Name(l.Object)
}

type recording struct {
	mem     *testbed.Recorded
	version cpython.Version
	roots   pylock.Roots
	waiter  pylock.Waiter
}

func recordings(f *testing.F) []recording {
	f.Helper()
	var all []recording
	seen := make(map[int]bool)
	for _, p := range interpreters(f) {
		if seen[p.minor] {
			continue
		}
		seen[p.minor] = true
		pid, _ := child(f, p, "queue", "hold")
		call := asleep(f, pid, unix.SYS_FUTEX)
		_, rt := runtimeOf(f, pid)
		in, err := rt.Main()
		if err != nil {
			f.Fatal(err)
		}
		r := recording{
			mem: testbed.Record(procmem.Open(pid)), version: rt.Version, roots: pylock.Roots{Modules: in.Modules, Interp: in.Addr},
			waiter: pylock.Waiter{Futex: call.Args[0], SP: call.SP, Frames: mainThread(f, rt).Frames},
		}
		h, err := pylock.New(r.mem, r.version, r.roots, pylock.Limits{Time: time.Minute})
		if err != nil {
			f.Fatal(err)
		}
		l, err := h.Identify(r.waiter)
		if err != nil || len(h.Held()) == 0 || len(h.ThreadNames()) == 0 {
			f.Fatalf("%s: %+v, %v", p.name, l, err)
		}
		h.Entering(r.waiter.Frames, l.Object)
		h.Uses(r.waiter.Frames, l.Object)
		r.mem.Stop()
		// It is not needed any more, and must not outlive a fuzzing worker.
		_ = unix.Kill(pid, unix.SIGKILL)
		all = append(all, r)
	}
	return all
}

// FuzzDamaged looks for locks among real objects of which some words are wrong.
func FuzzDamaged(f *testing.F) {
	all := recordings(f)
	for i, r := range all {
		f.Add([]byte{byte(i)})
		for _, at := range []uint64{r.roots.Modules + 8, r.roots.Modules + 16, r.roots.Modules + 32, r.waiter.SP + 64, r.waiter.Futex, r.waiter.Frames[0].Code + 8} {
			f.Add(append([]byte{byte(i)}, r.mem.Edit(at&^7, 1<<4)...))
			f.Add(append([]byte{byte(i)}, r.mem.Edit(at&^7, ^uint64(0))...))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 1<<12 {
			return
		}
		r := all[int(b[0])%len(all)]
		mem := r.mem.Patch(b[1:])
		everything(t, mem, r.version, r.roots, r.waiter)
		if mem.Read > most {
			t.Errorf("%d bytes were read", mem.Read)
		}
	})
}

// FuzzMirrors looks for locks in memory where every pointer leads to an object.
func FuzzMirrors(f *testing.F) {
	for minor := byte(8); minor <= 14; minor++ {
		image := make([]byte, 4096)
		for i := 0; i < len(image); i += 8 {
			binary.LittleEndian.PutUint64(image[i:], uint64(0x10000+i*8))
		}
		f.Add(minor, uint64(0x10000), uint64(0x20000), image)
		ones := make([]byte, 512)
		for i := range ones {
			ones[i] = byte(i * i)
		}
		f.Add(minor, uint64(0x10000), uint64(0x10000), ones)
	}
	f.Fuzz(func(t *testing.T, minor byte, modules, at uint64, image []byte) {
		if len(image) > 1<<16 {
			return
		}
		mem := &testbed.Mirrors{Image: image}
		w := pylock.Waiter{Futex: at, SP: at, Frames: []cpython.Frame{{Function: "f", File: "/srv/f.py", Addr: at, Code: modules}}}
		everything(t, mem, cpython.Version{Major: 3, Minor: int(minor)}, pylock.Roots{Modules: modules, Interp: at}, w)
		if mem.Read > most {
			t.Errorf("%d bytes were read", mem.Read)
		}
	})
}
