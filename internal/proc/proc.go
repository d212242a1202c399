// Package proc reads what the Linux kernel tells about processes in /proc, and
// the few system calls that answer such questions without stopping anybody.
//
// The root of the file system is injected, so that another machine's /proc and
// a fixture are read by the same code. Nothing here ever stops or changes a
// process.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/target"
)

var (
	// ErrGone is the error for a process or thread that ended, before or
	// while it was read.
	ErrGone = errors.New("no such process or thread")
	// ErrParse is the error for a line that the kernel wrote in a form we do
	// not know.
	ErrParse = errors.New("unknown form")
)

// maxFile bounds what is read of one file: maps of a large process have some
// ten thousand lines of about 100 bytes.
const maxFile = 64 << 20

// FS is a mounted proc file system.
type FS struct{ root string }

// New returns the proc file system mounted at root, usually "/proc".
func New(root string) FS { return FS{root: root} }

// Path returns the path of a file of process pid.
func (f FS) Path(pid int, elem ...string) string {
	return filepath.Join(append([]string{f.root, strconv.Itoa(pid)}, elem...)...)
}

// Read returns the whole of a file of process pid.
func (f FS) Read(pid int, elem ...string) ([]byte, error) { return read(f.Path(pid, elem...)) }

func (f FS) taskPath(pid, tid int, name string) string {
	return f.Path(pid, "task", strconv.Itoa(tid), name)
}

// read reads a whole file. Files of /proc have no size and must be read to the
// end; ESRCH while reading means that the process ended in between. An os.File
// would cost three more system calls each, and there are thousands of files.
func read(path string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, gone(&fs.PathError{Op: "open", Path: path, Err: err})
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			if cap(buf) >= maxFile {
				return nil, fmt.Errorf("read %s: larger than %d bytes", path, maxFile)
			}
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := retry(func() (int, error) { return unix.Read(fd, buf[len(buf):cap(buf)]) })
		if err != nil {
			return nil, gone(&fs.PathError{Op: "read", Path: path, Err: err})
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}

// retry repeats a call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// gone maps what the kernel says of a process that ended to ErrGone.
func gone(err error) error {
	if err != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)) {
		return fmt.Errorf("%w (%w)", ErrGone, err)
	}
	return err
}

// PIDs lists the processes, in ascending order.
func (f FS) PIDs() ([]int, error) { return numbers(f.root) }

// Threads lists the thread ids of a process, in ascending order.
func (f FS) Threads(pid int) ([]int, error) { return numbers(f.Path(pid, "task")) }

func numbers(dir string) ([]int, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, gone(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, gone(err)
	}
	ids := make([]int, 0, len(names))
	for _, n := range names {
		if id, err := strconv.Atoi(n); err == nil {
			ids = append(ids, id)
		}
	}
	sort.Ints(ids)
	return ids, nil
}

// Identity returns the identity of the process that has pid now.
func (f FS) Identity(pid int) (target.ID, error) {
	st, err := f.Stat(pid)
	if err != nil {
		return target.ID{}, err
	}
	return target.ID{PID: pid, Start: st.StartTime}, nil
}

// Same reports whether id still names the process that it was taken of.
func (f FS) Same(id target.ID) bool {
	now, err := f.Identity(id.PID)
	return err == nil && now == id
}

// Cmdline returns the arguments of a process. A process that wrote a title over
// them (setproctitle) has that title as its first argument.
func (f FS) Cmdline(pid int) ([]string, error) {
	b, err := read(f.Path(pid, "cmdline"))
	if err != nil {
		return nil, err
	}
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil, nil
	}
	return strings.Split(string(b), "\x00"), nil
}

// Exe returns the path of the program that a process runs, in the process's own
// mount namespace; deleted where that file was removed or replaced since.
func (f FS) Exe(pid int) (path string, deleted bool, err error) {
	p, err := os.Readlink(f.Path(pid, "exe"))
	if err != nil {
		return "", false, gone(err)
	}
	p, deleted = strings.CutSuffix(p, " (deleted)")
	return p, deleted, nil
}

// Namespace returns the identity of a namespace of a process, for example
// "pid:[4026531836]" for kind "pid".
func (f FS) Namespace(pid int, kind string) (string, error) {
	p, err := os.Readlink(f.Path(pid, "ns", kind))
	return p, gone(err)
}

// Wchan returns the kernel function in which a thread sleeps, empty where the
// kernel does not tell.
func (f FS) Wchan(pid, tid int) (string, error) {
	b, err := read(f.taskPath(pid, tid, "wchan"))
	if err != nil {
		return "", err
	}
	if s := string(b); s != "0" {
		return s, nil
	}
	return "", nil
}

// RunTime returns for how many nanoseconds a thread ran on a processor, far
// finer than the clock ticks of stat.
func (f FS) RunTime(pid, tid int) (uint64, error) {
	b, err := read(f.taskPath(pid, tid, "schedstat"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), " ")
	v, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("schedstat of thread %d: %w: %q", tid, ErrParse, b)
	}
	return v, nil
}

// LastRan returns how long ago a thread last ran, from se.exec_start of
// /proc/PID/task/TID/sched; ok is false where the kernel does not have it. The
// field counts by the scheduler's own clock, which no other file shows: the
// calling thread's own entry, which is of this moment to within a tick of 10 ms,
// stands for now.
func (f FS) LastRan(pid, tid int) (ago time.Duration, ok bool) {
	then, ok := execStart(f.taskPath(pid, tid, "sched"))
	if !ok {
		return 0, false
	}
	now, ok := execStart(filepath.Join(f.root, "thread-self", "sched"))
	if !ok {
		return 0, false
	}
	return max(now-then, 0), true
}

func execStart(path string) (time.Duration, bool) {
	b, err := read(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "se.exec_start") {
			continue
		}
		_, v, _ := strings.Cut(line, ":")
		ms, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil || ms < 0 {
			return 0, false
		}
		return time.Duration(ms * 1e6), true
	}
	return 0, false
}
