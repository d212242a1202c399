package ptrace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sheltered is the name by which the second process of a shelter is started.
const sheltered = "forkproof-sheltered"

// Shelter keeps a program that puts breakpoints into others from leaving them
// there, whichever of its processes is killed. It starts the same program with
// the same arguments once more, in the same process group: the first process
// then only waits, and the second does the work.
//
// In the first process Shelter returns when the second has ended, with first set
// and the exit status to take over. If the second was killed, the first has
// taken out the breakpoints that were noted in the journal.
//
// In the second process it returns at once with the journal, which belongs into
// every session that sets breakpoints ([Session.Keep]). If the first process is
// killed, the second closes those sessions and ends.
func Shelter() (j *Journal, status int, first bool, err error) {
	if os.Args[0] == sheltered {
		j, err := second()
		return j, 0, false, err
	}
	status, err = guard()
	return nil, status, true, err
}

// guard is the first process.
func guard() (status int, err error) {
	j, mem, err := newJournal()
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	alive, lifeline, err := os.Pipe() // ends with us
	if err != nil {
		return 0, err
	}
	defer lifeline.Close()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	p, err := os.StartProcess("/proc/self/exe", append([]string{sheltered}, os.Args[1:]...), &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, mem, alive},
	})
	if err != nil {
		return 0, fmt.Errorf("start the process that traces: %w", err)
	}
	_ = alive.Close()
	ended := make(chan struct{})
	var mended sync.WaitGroup
	mended.Go(func() { watch(j, ended) })
	go func() {
		for sig := range signals {
			// What a terminal sends, all of its process group gets.
			if (sig == unix.SIGINT || sig == unix.SIGQUIT) && Foreground() {
				continue
			}
			if sig == unix.SIGHUP {
				sig = unix.SIGTERM
			}
			_ = p.Signal(sig)
		}
	}()
	st, err := p.Wait()
	close(ended)
	mended.Wait()
	// A child can have been made while we looked.
	for j.repair(0) > 0 {
	}
	j.disarm()
	if err != nil {
		return 0, fmt.Errorf("wait for the process that traces: %w", err)
	}
	ws := st.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// watch repairs as soon as the thread that traces dies: at that moment those that
// it traced still stand still or run as before.
func watch(j *Journal, ended <-chan struct{}) {
	runtime.LockOSThread() // never unlocked: nobody else shall have its rank
	urgent()
	for {
		select {
		case <-ended:
			return
		default:
		}
		if tracer := int(j.word().Load() & futexTIDMask); j.died() {
			j.repair(tracer)
			return
		}
	}
}

// Foreground reports whether our process group is what the terminal sends its
// signals to.
func Foreground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// second opens what the first process has left for us.
func second() (*Journal, error) {
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	j, err := openJournal(os.NewFile(3, "journal"))
	if err != nil {
		return nil, err
	}
	alive := os.NewFile(4, "lifeline")
	go func() {
		if _, err := alive.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			j.abandon()
		}
	}()
	return j, nil
}

// abandon closes all sessions, and ends this process.
func (j *Journal) abandon() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for s := range j.sessions {
		s.Close()
	}
	os.Exit(128 + int(unix.SIGKILL))
}

// Keep has the session note its breakpoints in j from now on.
func (s *Session) Keep(j *Journal) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sessions == nil {
		j.sessions = make(map[*Session]bool)
	}
	j.sessions[s] = true
	return s.Do(func() {
		s.journal = j
		j.own()
	})
}
