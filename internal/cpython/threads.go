package cpython

import (
	"errors"
	"fmt"

	"forkproof/internal/procmem"
)

// Thread is one PyThreadState: a thread that has run Python or is about to.
type Thread struct {
	Addr   uint64 // of the PyThreadState
	Interp uint64 // of its PyInterpreterState
	// Ident is threading.get_ident(): on Linux pthread_self(). A fork keeps it.
	Ident uint64
	// NativeID is the kernel's thread ID, as seen in the PID namespace of the
	// process; 0 where it is not recorded (until 3.10, and in a thread state that
	// no thread has taken). It may be that of the parent in a child forked by
	// 3.11.0 (gh-100649) or by C code that left out PyOS_AfterFork_Child.
	NativeID uint64
	// Frames are those of Python functions, the innermost first. It is empty for
	// a thread that runs no Python code now.
	Frames []Frame
	// Truncated says that there are more than the 2000 frames given.
	Truncated bool
	// Torn says that the thread went on while it was read: Frames may mix two
	// moments. It is never set for a thread that sleeps. A thread that was
	// interrupted while it resumed a generator is not torn, and the stack then
	// ends with the generator.
	Torn bool
	// Err says why Frames is not the whole stack. What is in Frames was read
	// before.
	Err error
}

// Threads returns all thread states of all interpreters with their frames. The
// newest interpreter and the newest thread come first. A thread whose frames
// cannot be read has Err set; an error is returned where the list itself
// cannot be followed.
func (r *Runtime) Threads() ([]Thread, error) {
	interps, err := r.Interpreters()
	if err != nil {
		return nil, err
	}
	// A list that changed under us is read again.
	var threads []Thread
	for range 3 {
		if threads, err = r.threadStates(interps); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	v := r.newView()
	chains := make([][]link, len(threads))
	left := maxAllFrames
	for i := range threads {
		if left <= 0 {
			threads[i].Err = errMany
			continue
		}
		chains[i] = v.stack(&threads[i])
		left -= 1 + len(chains[i])
	}
	again := r.newView()
	for i := range threads {
		t := &threads[i]
		if errors.Is(t.Err, errMany) {
			continue
		}
		same := again.sameChain(t, chains[i])
		for try := 0; try < 2 && left > 0 && (!same || t.Err != nil); try++ {
			fresh := r.newView()
			chain := fresh.stack(t)
			left -= 1 + len(chain)
			same = r.newView().sameChain(t, chain)
		}
		t.Torn = !same
	}
	return threads, nil
}

// errMany is the error for what goes beyond maxAllFrames.
var errMany = fmt.Errorf("the threads of the process have more than %d frames: %w", maxAllFrames, ErrImplausible)

func (r *Runtime) threadStates(interps []Interpreter) ([]Thread, error) {
	mem := procmem.Cached(r.mem)
	l := &r.lay.thread
	size := max(l.next, l.interp, l.ident, l.native) + 8
	var threads []Thread
	seen := make(map[uint64]bool)
	b := make(block, size)
	for _, in := range interps {
		for at := in.threads; at != 0; {
			if seen[at] || len(threads) >= maxThreads {
				return nil, fmt.Errorf("list of Python threads has no end: %w", ErrImplausible)
			}
			seen[at] = true
			if _, err := mem.ReadAt(b, at); err != nil {
				return nil, fmt.Errorf("read Python thread state: %w", err)
			}
			t := Thread{Addr: at}
			t.Interp, _ = b.u64(l.interp)
			t.Ident, _ = b.u64(l.ident)
			t.NativeID, _ = b.u64(l.native)
			if t.Interp != in.Addr {
				return nil, fmt.Errorf("thread state 0x%x does not point back to its interpreter: %w", at, ErrImplausible)
			}
			threads = append(threads, t)
			at, _ = b.u64(l.next)
		}
	}
	return threads, nil
}
