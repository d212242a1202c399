package stress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a keeper is told and tells. Its descriptors are those of exec.Cmd's
// ExtraFiles: it reads orders from the first, and writes a line per event to
// the second.
const (
	ordersFD, reportsFD = 3, 4
	orderTerm           = 't' // ask the program to end
	orderKill           = 'k' // end all; so does the end of the input
)

// Keep is the whole of a process that stands between forkproof and what it
// started, so that nothing outlives forkproof, SIGKILL included: it is the
// parent that orphans come to (PR_SET_CHILD_SUBREAPER), so that a pipeline of
// the shell's and a daemon stay below it, and when its input ends it ends them
// all, by their numbers. If the keeper itself is killed, the kernel ends the program
// that it started, and forkproof the rest. It returns the exit status.
func Keep(args []string) int {
	// The kernel sends a child its parent-death signal when the thread that
	// made it ends (prctl(2)), so this one must stay.
	runtime.LockOSThread()
	for _, fd := range []int{ordersFD, reportsFD} {
		unix.CloseOnExec(fd)
	}
	// Only forkproof ends a keeper; and what is ignored would stay so in the
	// program, so it is caught.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	reports := os.NewFile(reportsFD, "reports")
	tell := func(format string, a ...any) { _, _ = fmt.Fprintf(reports, format+"\n", a...) } // nobody listens once forkproof is gone
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		tell("failed become the parent of orphans: %v", err)
		return 1
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tell("failed %v", err)
		return 1
	}
	root := cmd.Process.Pid
	tell("pid %d", root)
	var mu sync.Mutex
	reaped := false
	go func() {
		orders := os.NewFile(ordersFD, "orders")
		b := make([]byte, 1)
		for {
			n, err := orders.Read(b)
			if n == 1 && b[0] == orderTerm {
				mu.Lock() // not reaped: the number is still the program's
				if !reaped {
					_ = unix.Kill(root, unix.SIGTERM)
				}
				mu.Unlock()
				continue
			}
			if n == 1 || err != nil {
				endAll()
				return
			}
		}
	}()
	for {
		// Looked at first and taken away under the lock.
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return 0 // no child is left
		}
		var status unix.WaitStatus
		mu.Lock()
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == nil && pid == root {
			reaped = true
			tell("exit %d", status)
		}
		mu.Unlock()
	}
}

// endAll kills the descendants of this process until there are none: it ends
// with the process, when its last child was taken away.
func endAll() {
	for {
		for _, pid := range below(os.Getpid()) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
}

// below lists the descendants of a process, each after its parent.
func below(pid int) []int {
	var all []int
	for _, child := range children(pid) {
		all = append(append(all, child), below(child)...)
	}
	return all
}

// children lists the processes that a process made, zombies included.
func children(pid int) []int {
	var all []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is good
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(word); err == nil {
				all = append(all, child)
			}
		}
	}
	slices.Sort(all)
	return all
}

// kept is a program under a keeper.
type kept struct {
	// pid is the program's.
	pid    int
	keeper *exec.Cmd
	orders *os.File
	output *tail
	// ended is closed when the program has; status is how.
	ended  chan struct{}
	status unix.WaitStatus
	// gone is closed when the keeper and all below it are.
	gone chan struct{}
}

// launch starts a program under a keeper: self is the command line that calls
// [Keep] with what follows. f follows all that is forked below the keeper;
// it may be nil.
func launch(self, args []string, watch io.Writer, f *follower) (*kept, error) {
	ordersOut, ordersIn, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ordersOut.Close()
	reportsOut, reportsIn, err := os.Pipe()
	if err != nil {
		_ = ordersIn.Close()
		return nil, err
	}
	defer reportsIn.Close()
	k := &kept{orders: ordersIn, output: &tail{also: watch}, ended: make(chan struct{}), gone: make(chan struct{})}
	k.keeper = exec.Command(self[0], append(slices.Clone(self[1:]), args...)...)
	k.keeper.ExtraFiles = []*os.File{ordersOut, reportsIn}
	k.keeper.Stdout, k.keeper.Stderr = k.output, k.output
	k.keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	k.keeper.WaitDelay = grace // for the ends of the output, should others hold them
	begin := k.keeper.Start
	if f != nil {
		begin = func() error { return f.start(k.keeper) }
	}
	if err := begin(); err != nil {
		_ = reportsOut.Close()
		_ = ordersIn.Close()
		return nil, fmt.Errorf("start the keeper of %s: %w", args[0], err)
	}
	go func() {
		_ = k.keeper.Wait() // its status says nothing that its reports do not
		_ = ordersIn.Close()
		close(k.gone)
	}()
	first := make(chan error, 1)
	go k.listen(reportsOut, first)
	if err := <-first; err != nil {
		<-k.gone
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	return k, nil
}

// listen takes the keeper's reports; the first says whether there is a program.
func (k *kept) listen(reports *os.File, first chan<- error) {
	defer reports.Close()
	b, started := make([]byte, 0, 64), false
	defer close(k.ended)
	defer func() {
		if !started {
			first <- errors.New("its keeper ended before it")
		}
	}()
	buf := make([]byte, 4096)
	for {
		n, err := reports.Read(buf)
		b = append(b, buf[:n]...)
		for {
			line, rest, whole := strings.Cut(string(b), "\n")
			if !whole {
				break
			}
			b = []byte(rest)
			word, value, _ := strings.Cut(line, " ")
			switch word {
			case "pid":
				k.pid, _ = strconv.Atoi(value) // written by Keep
				started = true
				first <- nil
			case "failed":
				started = true
				first <- errors.New(value)
			case "exit":
				status, _ := strconv.ParseUint(value, 10, 32)
				k.status = unix.WaitStatus(status)
				return
			}
		}
		if err != nil {
			// Without a report of its end the program was killed with its keeper.
			k.status = unix.WaitStatus(unix.SIGKILL)
			return
		}
	}
}

// grace is how long a program may take to end when it is asked to.
const grace = time.Second

// end ends the program and everything below it, and returns when that is done.
func (k *kept) end() {
	if _, err := k.orders.Write([]byte{orderTerm}); err == nil {
		select {
		case <-k.ended:
		case <-time.After(grace):
		}
	}
	k.kill()
}

// kill is end for a program that hangs: it is not asked first.
func (k *kept) kill() {
	_, _ = k.orders.Write([]byte{orderKill}) // if the keeper is gone already, all the better
	<-k.gone
}

// tail keeps the end of what a program writes.
type tail struct {
	also io.Writer // may be nil

	mu  sync.Mutex
	end []byte
}

const tailSize = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - tailSize; over > tailSize {
		t.end = append([]byte(nil), t.end[over:]...)
	}
	if t.also != nil {
		_, _ = t.also.Write(b) // for a person to follow; the work goes on without
	}
	return len(b), nil
}

// last returns the last lines, at most n.
func (t *tail) last(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.end)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
