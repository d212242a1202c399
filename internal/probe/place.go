package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"forkproof/internal/libc"
)

// place is a libc to measure: where it is and how a program comes to run on it.
type place struct {
	// root is the folder that the libc is of, empty for the machine itself.
	root   string
	family string
	// loader is the dynamic loader and folders where it is to look, as seen from
	// within root where chroot is set. Empty: the program's own.
	loader  string
	folders []string
	// chroot: the program runs with root as its root folder.
	chroot bool
	notes  []string
}

// locate finds the libc that a request names.
func locate(root, file string) (place, error) {
	machine, ok := machines[runtime.GOARCH]
	if !ok {
		return place{}, fmt.Errorf("there are no probes for %s", runtime.GOARCH)
	}
	p := place{root: root}
	if root != "" {
		st, err := os.Stat(root)
		if err != nil {
			return p, fmt.Errorf("--root: %w", err)
		}
		if !st.IsDir() {
			return p, fmt.Errorf("--root: %s is no folder", root)
		}
		if p.root, err = filepath.Abs(root); err != nil {
			return p, err
		}
		p.chroot = mayEnter()
		if !p.chroot {
			p.notes = append(p.notes, "without the capabilities SYS_ADMIN and SYS_CHROOT (run as root) the libc of "+root+" was run by its own loader: users, hosts, locales and conversions are those of this machine")
		}
	}
	if file != "" {
		return p.byFile(file)
	}
	var missing []string
	for _, family := range []string{"glibc", "musl"} {
		loader := machine.loaders[family]
		real, err := within(p.root, loader)
		if err != nil {
			missing = append(missing, loader)
			continue
		}
		if err := p.check(real); err != nil {
			return p, err
		}
		p.family = family
		if p.root != "" && !p.chroot {
			p.loader = real
			p.folders = p.usual()
		}
		return p, nil
	}
	where := "this machine"
	if root != "" {
		where = root
	}
	return p, fmt.Errorf("%s has no dynamic loader that a program of %s needs (looked for %s): name the libc with --libc FILE", where, runtime.GOARCH, strings.Join(missing, " and "))
}

// usual are the folders of a root folder that hold libraries, as the machine
// sees them.
func (p *place) usual() []string {
	gnu := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] + "-linux-" + map[string]string{"glibc": "gnu", "musl": "musl"}[p.family]
	var out []string
	for _, dir := range []string{"/lib/" + gnu, "/usr/lib/" + gnu, "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
		if real, err := within(p.root, dir); err == nil {
			out = append(out, real)
		}
	}
	return out
}

// byFile completes the place by the name of a library.
func (p place) byFile(file string) (place, error) {
	if p.root == "" {
		var err error
		if file, err = filepath.Abs(file); err != nil {
			return p, err
		}
	}
	real, err := within(p.root, file)
	if err != nil {
		return p, fmt.Errorf("--libc: %w", err)
	}
	if err := p.check(real); err != nil {
		return p, err
	}
	base := filepath.Base(file)
	p.family = libc.Named(base)
	if p.family == "" {
		p.family = libc.Named(filepath.Base(real))
	}
	dir := filepath.Dir(file)
	p.loader = file
	switch {
	case p.family == "musl": // musl's libc is its own loader
	case p.family == "glibc" || strings.HasPrefix(base, "ld-linux"):
		p.family = "glibc"
		if !strings.HasPrefix(base, "ld-") {
			if p.loader, err = p.beside(real, dir); err != nil {
				return p, err
			}
		}
		p.folders = []string{dir}
	default:
		return p, fmt.Errorf("--libc: %s is named like none of libc.so.6, ld-linux*.so.*, ld-musl-*.so.1: forkproof measures glibc and musl", file)
	}
	if !p.chroot && p.root != "" {
		if p.loader, err = within(p.root, p.loader); err != nil {
			return p, fmt.Errorf("--libc: %w", err)
		}
		for i, f := range p.folders {
			if p.folders[i], err = within(p.root, f); err != nil {
				return p, fmt.Errorf("--libc: %w", err)
			}
		}
	}
	return p, nil
}

// beside finds the loader in the folder of a libc.so.6: they belong together.
func (p *place) beside(real, dir string) (string, error) {
	want := filepath.Base(machines[runtime.GOARCH].loaders["glibc"])
	for _, d := range []string{dir, filepath.Dir(strings.TrimPrefix(real, p.root))} {
		if _, err := within(p.root, filepath.Join(d, want)); err == nil {
			return filepath.Join(d, want), nil
		}
	}
	return "", fmt.Errorf("--libc: no loader %s in %s: a glibc runs with the loader of its own build alone; put it beside", want, dir)
}

// check reads a library's header.
func (p *place) check(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var h [20]byte
	if _, err := f.ReadAt(h[:], 0); err != nil || string(h[:4]) != "\x7fELF" {
		return fmt.Errorf("%s is no library (ELF)", path)
	}
	if h[5] != 1 || h[4] != 2 || binary.LittleEndian.Uint16(h[18:]) != machines[runtime.GOARCH].elf {
		return fmt.Errorf("%s is for another processor: this forkproof measures libraries of %s; run that of the other processor on such a machine", path, runtime.GOARCH)
	}
	return nil
}

// mayEnter reports whether this process may make a file tree of its own.
func mayEnter() bool {
	var caps [2]unix.CapUserData
	if unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]) != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_CHROOT
	return caps[0].Effective&need == need
}

// maxLinks bounds the symbolic links of one path, as the kernel does.
const maxLinks = 40

// within returns where a path of a root folder is for the machine: links are
// followed as a process would whose root it is. An empty root is the machine.
func within(root, path string) (string, error) {
	at, links := "/", 0
	rest := strings.Split(filepath.Clean(path), "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		st, err := os.Lstat(filepath.Join(root, next))
		if err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return "", fmt.Errorf("%s: %w", filepath.Join(root, path), err)
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many symbolic links", filepath.Join(root, path))
		}
		to, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return filepath.Join(root, at), nil
}
