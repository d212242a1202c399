// Command enter is the first process in the namespaces that the testbed makes:
// it builds the view of a container on top of a root folder, moves into it and
// becomes the program that the test asked for. The root folder stays as it is:
// what is written goes to a layer in memory that ends with the namespace.
//
// Its one argument is a Plan in JSON. It must be started in new mount, PID, IPC
// and UTS namespaces.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Plan says where to go and what to become there.
type Plan struct {
	Root  string   // root folder; the lower layer
	Stage string   // empty folder of the machine, to put mounts on
	Name  string   // host name
	Binds []Bind   // folders of the machine to show at their own paths
	Dir   string   // working directory
	User  string   // name of the user to become; empty: root
	Env   []string // the whole environment
	Args  []string // program and arguments
}

// Bind is one folder of the machine, shown inside at the same path.
type Bind struct {
	Path     string
	Writable bool
}

func main() {
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "enter:", err)
		os.Exit(125)
	}
}

func enter() error {
	if len(os.Args) != 2 {
		return errors.New("want one argument: a plan in JSON")
	}
	var plan Plan
	if err := json.Unmarshal([]byte(os.Args[1]), &plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if os.Getpid() != 1 {
		return errors.New("not the first process of a PID namespace")
	}
	if err := assemble(&plan); err != nil {
		return err
	}
	return become(&plan)
}

// assemble builds the file tree and makes it the root.
func assemble(plan *Plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", plan.Stage, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", plan.Stage, err)
	}
	merged := filepath.Join(plan.Stage, "merged")
	upper := filepath.Join(plan.Stage, "upper")
	work := filepath.Join(plan.Stage, "work")
	for _, dir := range []string{merged, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	layers := "lowerdir=" + plan.Root + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", merged, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount an overlay of %s: %w", plan.Root, err)
	}
	if err := kernelFolders(merged); err != nil {
		return err
	}
	for _, bind := range plan.Binds {
		if err := bindAt(merged, bind); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(merged, "etc/hosts"), []byte("127.0.0.1 localhost "+plan.Name+"\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(plan.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	// pivot_root(2), notes: with the same folder for both, the old root lies
	// over the new one and can be taken away at once.
	if err := os.Chdir(merged); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("make %s the root: %w", plan.Root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("take the old root away: %w", err)
	}
	return os.Chdir("/")
}

// kernelFolders mounts what programs expect from the kernel.
func kernelFolders(merged string) error {
	mounts := []struct {
		kind, at string
		flags    uintptr
		data     string
	}{
		{"proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "sys", unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "dev", unix.MS_NOSUID, "mode=755"},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.kind, filepath.Join(merged, m.at), m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on /%s: %w", m.kind, m.at, err)
		}
	}
	dev := filepath.Join(merged, "dev")
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		at := filepath.Join(dev, name)
		if err := os.WriteFile(at, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("show /dev/%s: %w", name, err)
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := os.Mkdir(shm, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return fmt.Errorf("mount a tmpfs on /dev/shm: %w", err)
	}
	return nil
}

func bindAt(merged string, bind Bind) error {
	at := filepath.Join(merged, bind.Path)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(bind.Path, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s: %w", bind.Path, err)
	}
	if bind.Writable {
		return nil
	}
	if err := unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", bind.Path, err)
	}
	return nil
}

// become replaces this process with the program.
func become(plan *Plan) error {
	if plan.User != "" {
		uid, gid, err := lookup(plan.User)
		if err != nil {
			return err
		}
		if err := os.Chown(plan.Dir, uid, gid); err != nil {
			return err
		}
		if err := errors.Join(unix.Setgroups([]int{gid}), unix.Setgid(gid), unix.Setuid(uid)); err != nil {
			return fmt.Errorf("become user %s: %w", plan.User, err)
		}
	}
	if err := os.Chdir(plan.Dir); err != nil {
		return err
	}
	for _, v := range plan.Env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			if err := os.Setenv("PATH", path); err != nil {
				return err
			}
		}
	}
	path, err := exec.LookPath(plan.Args[0])
	if err != nil {
		return err
	}
	// The test asked for this when it started the process, but the kernel keeps
	// it per thread, and forgets it when the user changes: prctl(2), PR_SET_PDEATHSIG.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask to die with the test: %w", err)
	}
	// A program just compiled is busy while another child of the test, between
	// its fork and its exec, still has it open for writing.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Exec(path, plan.Args, plan.Env)
		if !errors.Is(err, unix.ETXTBSY) || time.Now().After(end) {
			return fmt.Errorf("run %s: %w", path, err)
		}
	}
}

// lookup finds a user in the root's own /etc/passwd.
func lookup(name string) (uid, gid int, err error) {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Split(lines.Text(), ":")
		if len(field) < 4 || field[0] != name {
			continue
		}
		uid, errUID := strconv.Atoi(field[2])
		gid, errGID := strconv.Atoi(field[3])
		return uid, gid, errors.Join(errUID, errGID)
	}
	return 0, 0, errors.Join(fmt.Errorf("no user %s in /etc/passwd", name), lines.Err())
}
