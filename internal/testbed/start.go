package testbed

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cmd is a program to start.
type Cmd struct {
	// Args is the program, looked up in the root's PATH, and its arguments.
	Args []string
	// Env is added to a small environment of PATH, HOME, LANG and
	// PYTHONDONTWRITEBYTECODE; nothing of the test's own comes along.
	Env []string
	// Dir is the working directory; empty means Work.
	Dir string
	// Work is a writable folder of the machine, seen at the same path inside;
	// empty means a new one, which ends with the test.
	Work string
	// User is whom to become, by name, in a root folder; empty means root.
	User string
}

// Proc is a started program. In a root folder it is process 1 of its own PID
// namespace; on the host it leads a session of its own.
type Proc struct {
	// PID is the process as the machine sees it.
	PID int
	// Work is its writable folder, at the same path inside and outside.
	Work string
	// Root is where it runs.
	Root *Root

	name   string
	log    string
	done   chan struct{}
	status error // of Wait; valid once done is closed
}

// Start starts a program. It is killed at the end of the test, with everything
// in its namespace.
func (r *Root) Start(t testing.TB, c Cmd) *Proc {
	t.Helper()
	work := c.Work
	if work == "" {
		work = t.TempDir()
	}
	dir := c.Dir
	if dir == "" {
		dir = work
	}
	log, err := os.CreateTemp(work, "output-*.log")
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	defer log.Close()

	cmd := &exec.Cmd{Stdout: log, Stderr: log, Dir: dir, Env: r.env(c.Env), SysProcAttr: &syscall.SysProcAttr{
		Setsid:    true,
		Pdeathsig: syscall.SIGKILL,
	}}
	if r.IsHost() {
		if cmd.Path, err = exec.LookPath(c.Args[0]); err != nil {
			t.Fatalf("testbed: %v", err)
		}
		cmd.Args = c.Args
	} else {
		cmd.Path = BuildGo(t, "enter")
		cmd.Args = []string{"enter", r.plan(t, c, dir, work)}
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	if err := start(cmd); err != nil {
		t.Fatalf("testbed: start %s in %s: %v", c.Args[0], r, err)
	}
	p := &Proc{PID: cmd.Process.Pid, Work: work, Root: r, name: filepath.Base(c.Args[0]), log: log.Name(), done: make(chan struct{})}
	go func() {
		awaitExit(p.PID)
		p.status = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			p.printLogs(t)
		}
	})
	if !r.IsHost() {
		// Until then PID is the helper, and nothing that a test looks at.
		Await(t, p.name+" to be entered", func() bool { return !p.Alive() || !strings.HasPrefix(comm(p.PID), "enter") })
	}
	return p
}

// plan is what the helper that enters a root is told.
func (r *Root) plan(t testing.TB, c Cmd, dir, work string) string {
	t.Helper()
	plan, err := json.Marshal(map[string]any{
		"Root": r.Dir, "Stage": t.TempDir(), "Name": r.Name, "Dir": dir, "User": c.User, "Env": r.env(c.Env), "Args": c.Args,
		"Binds": []map[string]any{
			{"Path": filepath.Join(sources(t), "victims")},
			{"Path": cache(t)},
			{"Path": work, "Writable": true},
		},
	})
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	return string(plan)
}

// Command is a command line of the machine that runs a program in r, for a test
// of what starts programs itself, and ends them. It can be run again and again.
func (r *Root) Command(t testing.TB, c Cmd) []string {
	t.Helper()
	work := c.Work
	if work == "" {
		work = t.TempDir()
	}
	dir := c.Dir
	if dir == "" {
		dir = work
	}
	if r.IsHost() {
		return append(append([]string{"env", "-i", "-C", dir}, r.env(c.Env)...), c.Args...)
	}
	return []string{"unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", BuildGo(t, "enter"), r.plan(t, c, dir, work)}
}

// env returns the environment of a program in r.
func (r *Root) env(more []string) []string {
	path, home := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/root"
	if r.IsHost() {
		path, home = os.Getenv("PATH"), os.Getenv("HOME")
	}
	return append([]string{"PATH=" + path, "HOME=" + home, "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}, more...)
}

// starter is the one thread that all programs are started from. The kernel
// sends a child its parent-death signal when the thread that made it ends, not
// the process (prctl(2), PR_SET_PDEATHSIG), and threads of a Go program come
// and go; this one stays as long as the test binary.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for fn := range work {
			fn()
		}
	}()
	return work
})

func start(cmd *exec.Cmd) error {
	result := make(chan error)
	starter() <- func() { result <- cmd.Start() }
	return <-result
}

// awaitExit waits until a process is a zombie. Waiting for a child is not enough
// where the test itself stops it by ptrace: wait4(2) then tells its parent of the
// stop, whatever it asked for (kernel/exit.c, wait_consider_task), and takes that
// for the end.
func awaitExit(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // gone, or a kernel before 5.3: then the wait itself must do
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Alive reports whether the program still runs.
func (p *Proc) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the program and everything it started, and waits until it is gone.
// In a root folder the end of process 1 takes the namespace along; on the host
// the descendants are ended one by one.
func (p *Proc) Kill() {
	var pids []int
	if p.Root.IsHost() {
		pids = Descendants(p.PID)
	}
	if p.Alive() {
		pids = append([]int{p.PID}, pids...)
	}
	for _, pid := range pids {
		// Gone already is what we want.
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
}

// Wait waits for the program to end by itself and returns how it did: nil for
// exit status 0.
func (p *Proc) Wait(t testing.TB) error {
	t.Helper()
	select {
	case <-p.done:
		return p.status
	case <-time.After(Patience):
		t.Fatalf("testbed: %s has not ended; its output:\n%s", p.name, p.Output())
		return nil
	}
}

// Output returns what the program and its children have written to their
// standard output and error so far.
func (p *Proc) Output() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return "no output: " + err.Error()
	}
	return string(data)
}

// AwaitLine waits for a whole line of output that matches the pattern, and
// returns it and its submatches, like [regexp.Regexp.FindStringSubmatch].
func (p *Proc) AwaitLine(t testing.TB, pattern string) []string {
	t.Helper()
	want := regexp.MustCompile(`(?m)^` + pattern + `\n`)
	var found []string
	p.await(t, "a line "+pattern, func() bool {
		found = want.FindStringSubmatch(p.Output())
		return found != nil
	})
	return found
}

// AwaitFields waits for a line of output that begins with a word, and returns
// its KEY=VALUE fields: the handshake of the victims in C.
func (p *Proc) AwaitFields(t testing.TB, word string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for field := range strings.FieldsSeq(p.AwaitLine(t, regexp.QuoteMeta(word)+`\b(.*)`)[1]) {
		if key, value, ok := strings.Cut(field, "="); ok {
			fields[key] = value
		}
	}
	return fields
}

// AwaitPID is AwaitFields for one field that holds a PID or TID as the
// program itself sees it; it is returned as the machine sees it.
func (p *Proc) AwaitPID(t testing.TB, word, key string) int {
	t.Helper()
	inner, err := strconv.Atoi(p.AwaitFields(t, word)[key])
	if err != nil {
		t.Fatalf("testbed: %s wrote no number %s after %q:\n%s", p.name, key, word, p.Output())
	}
	return p.Outer(t, inner)
}

// Outer translates a PID or TID of the program's own namespace to the
// machine's. It must exist.
func (p *Proc) Outer(t testing.TB, inner int) int {
	t.Helper()
	if p.Root.IsHost() {
		return inner
	}
	ns, err := os.Readlink(procPath(p.PID, "ns/pid"))
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	for _, pid := range append(Descendants(p.PID), p.PID) {
		for _, tid := range Threads(pid) {
			ids := strings.Fields(statusField(pid, tid, "NSpid"))
			if link, err := os.Readlink(procPath(pid, "ns/pid")); err == nil && link == ns &&
				len(ids) > 1 && ids[len(ids)-1] == strconv.Itoa(inner) {
				return tid
			}
		}
	}
	t.Fatalf("testbed: %s has no process or thread %d in its namespace", p.name, inner)
	return 0
}

// Signal sends a signal to the program.
func (p *Proc) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.PID, sig); err != nil {
		t.Fatalf("testbed: signal %s: %v", p.name, err)
	}
}

// Exec runs another program beside p, in its namespaces, to its end, and
// returns its output. The test fails if it does.
func (p *Proc) Exec(t testing.TB, args ...string) string {
	t.Helper()
	if !p.Root.IsHost() {
		target := strconv.Itoa(p.PID)
		args = append([]string{"nsenter", "--target", target, "--mount", "--pid", "--ipc", "--uts", "--root", "--wd", "--"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = p.Root.env(nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("testbed: %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// await is Await, cut short when the program has ended.
func (p *Proc) await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ended := false
	Await(t, what+" of "+p.name, func() bool {
		alive := p.Alive() // asked first: what a program did before its end counts
		met := cond()
		ended = !met && !alive
		return met || ended
	})
	if ended {
		t.Fatalf("testbed: %s ended (%v) before %s came; its output:\n%s", p.name, p.status, what, p.Output())
	}
}

// printLogs writes the ends of all log files to the test's output.
func (p *Proc) printLogs(t testing.TB) {
	const tail = 16 << 10
	logs, err := filepath.Glob(filepath.Join(p.Work, "*.log"))
	if err != nil || !slices.Contains(logs, p.log) {
		logs = append(logs, p.log)
	}
	for _, name := range logs {
		data, err := readRegular(name)
		if err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		if cut := len(data) - tail; cut > 0 {
			data = append([]byte("[...]"), data[cut:]...)
		}
		t.Logf("%s in %s, %s:\n%s", p.name, p.Root, filepath.Base(name), bytes.TrimSpace(data))
	}
}

// readRegular reads a file, unless it is something that a read could wait for.
func readRegular(name string) ([]byte, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	return os.ReadFile(name)
}
