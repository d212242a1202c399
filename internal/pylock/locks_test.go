package pylock_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/cpython"
	"forkproof/internal/pylock"
)

var stuck = []struct {
	scenario string
	kind     pylock.Kind
	path     string
	typ      string
	local    string
	owner    bool
}{
	{"lock", pylock.KindLock, "app.refresh_lock", "", "lock", false},
	{"bare", pylock.KindLock, "app.refresh_lock", "", "lock", false},
	{"rlock", pylock.KindRLock, "app.state_lock", "", "lock", true},
	{"queue", pylock.KindLock, "app.jobs.mutex", "queue.Queue", "", false},
	{"class", pylock.KindLock, "app.Cache._lock", "class app.Cache", "lock", false},
	{"instance", pylock.KindLock, "app.cache.guard", "app.Cache", "", false},
	{"nested", pylock.KindLock, "app.services['db'].pool.guard", "app.Cache", "lock", false},
	{"closure", pylock.KindLock, "app.count.__closure__[0].cell_contents", "", "hidden", false},
	{"local", pylock.KindLock, "", "", "private", false},
	{"handler", pylock.KindRLock, "logging.getLogger('app.errors').handlers[0].lock", "logging.StreamHandler", "self.lock", true},
	{"buffered", pylock.KindBuffered, "app.out.buffer", "_io.TextIOWrapper", "", true},
	{"stderr", pylock.KindBuffered, "sys.stderr.buffer", "_io.TextIOWrapper", "", true},
	{"log-stream", pylock.KindBuffered, "logging.getLogger('app.errors').handlers[0].stream.buffer", "_io.TextIOWrapper", "self.stream.buffer", true},
	{"import", pylock.KindImport, "import of 'slow'", "", "", true},
}

func TestStuckChild(t *testing.T) {
	for _, p := range interpreters(t) {
		for _, c := range stuck {
			t.Run(p.name+"/"+c.scenario, func(t *testing.T) {
				t.Parallel()
				pid, ident := child(t, p, c.scenario, "hold")
				s := asleep(t, pid, unix.SYS_FUTEX)
				h, rt := look(t, pid)
				frames := mainThread(t, rt).Frames
				l, err := h.Identify(pylock.Waiter{Futex: s.Args[0], SP: s.SP, Frames: frames})
				if err != nil {
					t.Fatal(err)
				}
				if l.Kind != c.kind || l.Name.Path != c.path || l.Name.Type != c.typ || !l.Locked || l.Object == 0 {
					t.Errorf("got %+v, want %s %q of %q, locked", l, c.kind, c.path, c.typ)
				}
				if c.local != "" && l.Name.Local != c.local {
					t.Errorf("local name is %q, want %q", l.Name.Local, c.local)
				}
				if l.OwnerKnown != c.owner || l.OwnerKnown && l.Owner != ident {
					t.Errorf("owner is 0x%x (known: %v), want 0x%x", l.Owner, l.OwnerKnown, ident)
				}
				if p, what := pylock.WaitKind(frames, pylock.Clues{Lock: &l}); p != pylock.Acquire || what == "" {
					t.Errorf("waits for %v, %q; want acquire", p, what)
				}
				if c.kind == pylock.KindLock && h.Entering(frames, l.Object) != (c.scenario != "bare" && c.scenario != "local") {
					t.Errorf("enters a with statement: %v", h.Entering(frames, l.Object))
				}
				// The stack alone must lead to the same object, for there are
				// threads whose Python frames cannot be read.
				h2, _ := look(t, pid)
				if c.kind != pylock.KindImport {
					l2, err := h2.Identify(pylock.Waiter{Futex: s.Args[0], SP: s.SP})
					if err != nil || l2.Object != l.Object {
						t.Errorf("without frames: %+v, %v; want object 0x%x", l2, err, l.Object)
					}
				}

				held := heldByOthers(t, h, rt)
				want := 1
				if c.path == "" {
					want = 0
				}
				if len(held) != want {
					t.Fatalf("held locks: %+v, want %d", held, want)
				}
				for _, got := range held {
					if got.Kind != c.kind || got.Object != l.Object || got.Name.Path != c.path || got.Word == 0 ||
						got.OwnerKnown != c.owner || got.OwnerKnown && got.Owner != ident {
						t.Errorf("held lock: %+v, want %+v", got, l)
					}
				}
				if h.Truncated() {
					t.Error("the search was cut short")
				}
			})
		}
	}
}

// heldByOthers leaves out the locks that the waiting thread has itself: that of
// the handler while it waits for that of its stream.
func heldByOthers(t *testing.T, h *pylock.Heap, rt *cpython.Runtime) []pylock.Lock {
	self := mainThread(t, rt).Ident
	return slices.DeleteFunc(h.Held(), func(l pylock.Lock) bool { return l.OwnerKnown && l.Owner == self })
}

// TestFreeChild looks at the same programs with nothing held.
func TestFreeChild(t *testing.T) {
	for _, p := range interpreters(t) {
		for _, c := range stuck {
			t.Run(p.name+"/"+c.scenario, func(t *testing.T) {
				t.Parallel()
				pid, _ := child(t, p, c.scenario, "free")
				asleep(t, pid, unix.SYS_READ)
				h, _ := look(t, pid)
				if held := h.Held(); len(held) > 0 {
					t.Errorf("held locks: %+v, want none", held)
				}
			})
		}
	}
}

func TestWaitsForEvents(t *testing.T) {
	cases := []struct {
		scenario string
		want     pylock.Purpose
		what     string
	}{
		{"event", pylock.ForEvent, "wait"},
		{"get", pylock.ForEvent, "get"},
		{"simplequeue", pylock.ForEvent, "SimpleQueue.get"},
		{"condition", pylock.ForEvent, "Condition.wait"},
		{"semaphore", pylock.ForEvent, "acquire"},
		{"join", pylock.Join, ""},
		{"future", pylock.ForEvent, "result"},
	}
	for _, p := range interpreters(t) {
		for _, c := range cases {
			t.Run(p.name+"/"+c.scenario, func(t *testing.T) {
				t.Parallel()
				pid, _ := child(t, p, c.scenario, "hold")
				// A thread that is started is waited for too, for a moment: look until
				// it is as it must stay.
				var l pylock.Lock
				for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
					s := asleep(t, pid, unix.SYS_FUTEX)
					h, rt := look(t, pid)
					frames := mainThread(t, rt).Frames
					var err error
					l, err = h.Identify(pylock.Waiter{Futex: s.Args[0], SP: s.SP, Frames: frames})
					got, what := pylock.WaitKind(frames, pylock.Clues{Lock: &l})
					if err == nil && got == c.want && strings.Contains(what, c.what) {
						t.Log(what)
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("waits for %v, %q (%+v, %v, %v); want %v, %q", got, what, l, frames, err, c.want, c.what)
					}
				}
				if c.scenario == "simplequeue" && (l.Kind != pylock.KindQueue || l.Name.Path != "app.inbox") {
					t.Errorf("queue: %+v, want app.inbox", l)
				}
			})
		}
	}
}
