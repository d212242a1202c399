package provoke

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/proc"
	"forkproof/internal/ptrace"
	"forkproof/internal/target"
	"forkproof/internal/unwind"
)

// running is the target while it runs: started by us, or attached to.
type running struct {
	s        *ptrace.Session
	g        *engine
	fs       proc.FS
	pid      int
	launched bool
	begun    time.Time
}

// start launches the program, or attaches to the process. prepare sets up the
// engine before the program makes its first thread; for a process that runs, at
// once.
func start(req *Request, files *unwind.Files, b *book, prepare func(*engine)) (*running, error) {
	r := &running{fs: proc.New("/proc"), pid: req.PID, begun: time.Now()}
	var err error
	if req.PID != 0 {
		r.s, err = ptrace.Attach(req.PID)
	} else {
		var null *os.File
		if null, err = os.Open(os.DevNull); err != nil {
			return nil, err
		}
		defer null.Close()
		r.launched = true
		r.s, r.pid, err = ptrace.Launch(ptrace.Command{Path: req.Command[0], Args: req.Command, Env: os.Environ(), Files: [3]*os.File{null, req.Output, req.Output}})
	}
	if err != nil {
		return nil, err
	}
	if err := r.s.Keep(req.Shelter); err != nil {
		r.s.Close()
		return nil, err
	}
	r.g = newEngine(r.s, r.fs, files, b, r.pid)
	_ = r.s.Do(func() { prepare(r.g) }) // the session has just begun
	// What came before the engine was there.
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		e, err := r.s.Next(over)
		if err != nil {
			break
		}
		_ = r.s.Do(func() { r.g.hook(e) }) // a session that is over has nothing to deal with
	}
	return r, nil
}

// do runs f where all that belongs to the engine is used.
func (r *running) do(f func(g *engine)) { _ = r.s.Do(func() { f(r.g) }) }

// await waits until a condition holds that events may bring about, the end of the
// target included; false says that it did not within d.
func (r *running) await(ctx context.Context, d time.Duration, cond func(g *engine) bool) (bool, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		met, ended := false, false
		if err := r.s.Do(func() { met, ended = cond(r.g), r.g.ended }); err != nil {
			return false, err
		}
		if met || ended {
			return met, nil
		}
		select {
		case <-r.g.changed:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// over reports whether the target has ended, and how.
func (r *running) over() (ended bool, status syscall.WaitStatus) {
	if err := r.s.Do(func() { ended, status = r.g.ended, r.g.status }); err != nil {
		return true, r.g.status
	}
	return ended, status
}

// stopTime is how long a program that we started may take to end in order.
const stopTime = 8 * time.Second

// stop ends what we started, with its children, and lets go of what we did not.
func (r *running) stop() error {
	ended, _ := r.over()
	if !r.launched || ended {
		r.s.Close()
		r.sweep()
		return nil
	}
	r.do(func(g *engine) {
		if g.a != nil {
			g.a.release(g)
			g.a = nil
		}
		g.clear()
	})
	var err error
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGKILL} {
		if e := unix.Kill(r.pid, sig); e != nil && !errors.Is(e, unix.ESRCH) {
			err = fmt.Errorf("end process %d: %w", r.pid, e)
		}
		if sig == unix.SIGKILL {
			r.sweep()
		}
		if met, _ := r.await(context.Background(), stopTime, func(g *engine) bool { return g.ended }); met {
			break
		}
	}
	r.s.Close()
	r.sweep()
	return err
}

// made are all processes that the target made, in this run of the program.
func (r *running) made() (ids []target.ID) {
	if err := r.s.Do(func() { ids = slices.Clone(r.g.ids) }); err != nil {
		return r.g.ids // the session is over, and nothing changes any more
	}
	return ids
}

// sweep ends the children of a program that we started: one that hangs would stay
// for ever.
func (r *running) sweep() {
	if !r.launched {
		return
	}
	for _, id := range r.made() {
		if r.fs.Same(id) {
			_ = unix.Kill(id.PID, unix.SIGKILL) // gone is as good
		}
	}
}

// children are those of the target that run, but one.
func (r *running) children(but int) []int {
	var out []int
	for _, id := range r.made() {
		if id.PID != but && r.fs.Same(id) {
			if st, err := r.fs.Stat(id.PID); err == nil && st.State != 'Z' && st.State != 'X' {
				out = append(out, id.PID)
			}
		}
	}
	return out
}
