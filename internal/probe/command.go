package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"forkproof/internal/elffile"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
)

// Command prepares a program of forkproof's own to run on a libc: that of the system
// in the folder root, of the file libc (within root where both are given), or this
// machine's. It is given the program for each family and gets the one that fits; name
// is what it is called in a list of processes, self the command line that calls Enter
// with what follows as argument. Done is to be called once the program was started or
// is not wanted any more.
func Command(root, libc string, self []string, name string, program func(family string) ([]byte, error), args ...string) (cmd *exec.Cmd, family string, done func(), err error) {
	p, err := locate(root, libc)
	if err != nil {
		return nil, "", nil, err
	}
	b, err := program(p.family)
	if err != nil {
		return nil, "", nil, err
	}
	cmd, done, err = command(p, name, b, args, nil, self)
	return cmd, p.family, done, err
}

// Identify reads which libc a program of a family has mapped: the truth, whatever was
// asked for.
func Identify(pid int, family string) (Libc, error) {
	l, _, err := identify(pid, family)
	return l, err
}

// command prepares a program on a place.
func command(p place, name string, binary []byte, args, preload, self []string) (*exec.Cmd, func(), error) {
	file, err := inMemory(name, binary)
	if err != nil {
		return nil, nil, err
	}
	done := func() { file.Close() }
	all := append([]string{name}, args...)
	if p.loader != "" {
		all = []string{p.loader}
		if len(p.folders) > 0 {
			all = append(all, "--library-path", strings.Join(p.folders, ":"))
		}
		all = append(append(all, descriptor(program)), args...)
	}
	// Little is passed on: the environment is part of what is measured. Old
	// releases tell of fatal errors on the terminal, unless the last is set.
	env := []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "LIBC_FATAL_STDERR_=1"}
	if len(preload) > 0 {
		env = append(env, "LD_PRELOAD="+strings.Join(preload, ":"))
	}
	cmd := &exec.Cmd{Path: descriptor(program), Args: all, Env: env, ExtraFiles: []*os.File{file}}
	// In a group of its own, it gets no ctrl-C: it ends when its input does,
	// and tidies up, however forkproof ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	switch {
	case p.chroot:
		b, err := json.Marshal(plan{Root: p.root, Loader: p.loader, Args: all, Env: env})
		if err != nil {
			done()
			return nil, nil, err
		}
		cmd.Path, cmd.Args, cmd.Env = self[0], append(self, string(b)), nil
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWNET
	case p.loader != "":
		cmd.Path = p.loader
	}
	return cmd, done, nil
}

// identify reads which libc a program has mapped, and all else that it has.
func identify(pid int, family string) (Libc, []proc.Mapping, error) {
	fs := proc.New("/proc")
	maps, err := fs.Maps(pid)
	if err != nil {
		return Libc{}, nil, fmt.Errorf("look which libc the program runs on: %w", err)
	}
	l := Libc{Family: family}
	for _, m := range maps {
		base := filepath.Base(m.Path)
		// musl is one file, of which Debian's has no name of its own.
		if !m.File() || libc.Named(base) == "" && (family != "musl" || base != "libc.so") {
			continue
		}
		l.Path = m.Path
		f, err := fs.OpenMapped(pid, m)
		if err != nil {
			break
		}
		id := libc.Read(family, m.Path, f)
		l.Version, l.Package = id.Version, id.Package
		if e, err := elffile.Open(f); err == nil {
			l.BuildID = e.BuildID()
		}
		f.Close()
		break
	}
	if l.Family == "musl" {
		l.Version = muslVersion(filepath.Join(fs.Path(pid), "root", l.Path))
	}
	return l, maps, nil
}

// muslVersion asks musl's loader, which tells when it is run without arguments.
func muslVersion(path string) string {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	b, _ := cmd.CombinedOutput() // it ends with status 1, having said it
	_, rest, ok := strings.Cut(string(b), "\nVersion ")
	if !ok {
		return ""
	}
	v, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(v)
}
