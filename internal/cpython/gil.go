package cpython

import (
	"errors"
	"fmt"

	"forkproof/internal/procmem"
)

// GIL is the global interpreter lock of an interpreter. Interpreters share one
// unless they were made with one of their own (3.12 and later).
type GIL struct {
	Addr   uint64 // of _gil_runtime_state
	Size   uint64 // in bytes: a futex of the GIL lies in [Addr, Addr+Size)
	Interp uint64 // the interpreter in which it was found
	Locked bool
	// LastHolder is the PyThreadState that took the GIL last, 0 if it is gone
	// or none did. Holder is the same while the GIL is locked, else 0.
	LastHolder, Holder uint64
	// HolderListed says that Holder is in the list of its interpreter's threads.
	// Only then are HolderIdent and HolderNativeID known; see Thread for them.
	HolderListed   bool
	HolderIdent    uint64
	HolderNativeID uint64
	// SwitchNumber counts how often the GIL went to another thread.
	SwitchNumber uint64
	// CondAddr and MutexAddr are the pthread_cond_t on which threads that want
	// the GIL wait, in steps of the switch interval (5 ms by default), and the
	// pthread_mutex_t that protects it.
	CondAddr, MutexAddr uint64
}

// ErrNoGIL says that the GIL was not made yet.
var ErrNoGIL = errors.New("the interpreter has no GIL yet")

// GIL reads the lock of the main interpreter. It must be read twice, with the
// SwitchNumber unchanged, before one may say that it does not move.
func (r *Runtime) GIL() (GIL, error) {
	all, err := r.GILs()
	if err != nil {
		return GIL{}, err
	}
	return all[len(all)-1], nil
}

// GILs reads the locks of all interpreters, each lock once, that of the main
// interpreter last.
func (r *Runtime) GILs() ([]GIL, error) {
	interps, err := r.Interpreters()
	if err != nil {
		return nil, err
	}
	threads, err := r.threadStates(interps)
	if err != nil {
		// Without the list only the holder stays unnamed.
		threads = nil
	}
	var all []GIL
	for i, in := range interps {
		shared := false
		for _, later := range interps[i+1:] {
			shared = shared || later.gil == in.gil
		}
		if shared {
			continue
		}
		g, err := r.gil(in, threads)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

func (r *Runtime) gil(in Interpreter, threads []Thread) (GIL, error) {
	if in.gil == 0 {
		return GIL{}, ErrNoGIL
	}
	b, err := procmem.Bytes(r.mem, in.gil, gilCond, gilCond)
	if err != nil {
		return GIL{}, fmt.Errorf("read GIL: %w", err)
	}
	g := GIL{
		Addr: in.gil, Size: gilSize, Interp: in.Addr,
		CondAddr: in.gil + gilCond, MutexAddr: in.gil + gilMutex,
	}
	locked, _ := block(b).i32(gilLocked)
	g.LastHolder, _ = block(b).u64(gilLastHolder)
	g.SwitchNumber, _ = block(b).u64(gilSwitches)
	switch locked {
	case -1:
		return GIL{}, ErrNoGIL
	case 0:
	case 1:
		g.Locked, g.Holder = true, g.LastHolder
	default:
		return GIL{}, fmt.Errorf("GIL at 0x%x has the state %d: %w", in.gil, locked, ErrImplausible)
	}
	for _, t := range threads {
		if g.Holder != 0 && t.Addr == g.Holder {
			g.HolderListed, g.HolderIdent, g.HolderNativeID = true, t.Ident, t.NativeID
		}
	}
	return g, nil
}
