package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// plan tells the process that Enter runs in where to go and what to become.
type plan struct {
	// Root is the folder to show, read-only, as the root folder.
	Root string
	// Args are those of the program; Loader, if not empty, is what runs it.
	Loader string
	Args   []string
	Env    []string
}

// program is the descriptor of the program in a started process.
const program = 3

// Enter turns this process, which must be in mount and network namespaces of its
// own, into the probes on another root folder. The folder itself stays as it is:
// it is shown read-only, with folders in memory where programs write. It returns
// only on failure.
func Enter(arg string) error {
	var p plan
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		return fmt.Errorf("read where to enter: %w", err)
	}
	if err := enter(p.Root); err != nil {
		return err
	}
	unix.CloseOnExec(program)
	path := ""
	if p.Loader != "" {
		path = p.Loader // it opens the program by its number
		if _, err := unix.FcntlInt(program, unix.F_SETFD, 0); err != nil {
			return err
		}
	}
	return fmt.Errorf("run the probes in %s: %w", p.Root, execAt(path, p.Args, p.Env))
}

// execAt runs a program by its path, or that of the descriptor program.
func execAt(path string, args, env []string) error {
	if path != "" {
		return unix.Exec(path, args, env)
	}
	name, err := unix.BytePtrFromString("")
	if err != nil {
		return err
	}
	argv, err := pointers(args)
	if err != nil {
		return err
	}
	envv, err := pointers(env)
	if err != nil {
		return err
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, program, uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return errno
}

func pointers(words []string) ([]*byte, error) {
	out := make([]*byte, len(words)+1)
	for i, w := range words {
		p, err := unix.BytePtrFromString(w)
		if err != nil {
			return nil, err
		}
		out[i] = p
	}
	return out, nil
}

// enter builds the file tree on a folder in memory and makes it the root.
func enter(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	from, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", root, err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	// Any folder of the machine will do: what is below it is hidden from this
	// process alone. /proc is there, or forkproof itself could not work.
	stageDir, err := staging()
	if err != nil {
		return err
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	devices := make(map[string]int)
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		if devices[name], err = unix.Open("/dev/"+name, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open /dev/%s: %w", name, err)
		}
	}
	if err := unix.Mount("tmpfs", stageDir, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return fmt.Errorf("mount a folder in memory: %w", err)
	}
	for _, e := range entries {
		to := filepath.Join(stageDir, e.Name())
		switch {
		case e.Name() == "proc" || e.Name() == "dev" || e.Name() == "tmp":
		case e.Type()&os.ModeSymlink != 0:
			link, err := os.Readlink(filepath.Join(descriptor(from), e.Name()))
			if err == nil {
				err = os.Symlink(link, to)
			}
			if err != nil {
				return err
			}
		case e.IsDir():
			if err := show(filepath.Join(descriptor(from), e.Name()), to); err != nil {
				return err
			}
		}
	}
	for _, dir := range []string{"proc", "dev", "tmp", "dev/shm"} {
		if err := os.Mkdir(filepath.Join(stageDir, dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp", "dev/shm"} {
		if err := os.Chmod(filepath.Join(stageDir, dir), 0o1777); err != nil {
			return err
		}
	}
	for name, fd := range devices {
		to := filepath.Join(stageDir, "dev", name)
		if err := os.WriteFile(to, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount(descriptor(fd), to, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("show /dev/%s: %w", name, err)
		}
	}
	if err := unix.Mount(descriptor(proc), filepath.Join(stageDir, "proc"), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("show /proc: %w", err)
	}
	// pivot_root(2), notes: with the same folder for both, the old root lies
	// over the new one and can be taken away at once.
	if err := os.Chdir(stageDir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("make %s the root folder: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("take the old root folder away: %w", err)
	}
	return os.Chdir("/")
}

// staging returns a folder to mount on.
func staging() (string, error) {
	for _, dir := range []string{os.TempDir(), "/tmp", "/mnt", "/root", "/usr"} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir, nil
		}
	}
	return "", errors.New("no folder to mount on: none of /tmp, /mnt, /root, /usr is there")
}

// descriptor is the path of an open file.
func descriptor(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// show makes a folder of the root folder visible in the new tree, read-only.
func show(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s: %w", to, err)
	}
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", to, err)
	}
	return nil
}
