package symbol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"forkproof/internal/elffile"
)

// debugDir is where distributions put separate debug files, below the root.
const debugDir = "/usr/lib/debug"

// maxChecked is the largest debug file whose checksum is computed: all of it
// has to be read for that.
const maxChecked = 2 << 30

// findDebugFile opens the separate debug file of f: by build-id, else by
// .gnu_debuglink. Without one the error wraps elffile.ErrAbsent. The caller
// must call closer.
func findDebugFile(f *elffile.File, opts Options) (debug *elffile.File, closer func() error, err error) {
	var problems []error
	id, err := f.ReadBuildID()
	if err != nil && !errors.Is(err, elffile.ErrAbsent) {
		problems = append(problems, err)
	}
	if len(id) > 2 {
		p := path.Join(debugDir, ".build-id", id[:2], id[2:]+".debug")
		// A container hardly ever has debug files; the machine that it runs on may,
		// and a build-id means the same everywhere.
		for _, root := range slices.Compact([]string{opts.Root, ""}) {
			debug, closer, err := openDebugFile(f, id, p, root, nil)
			if err == nil {
				return debug, closer, nil
			}
			problems = append(problems, err)
		}
	}
	name, crc, err := debugLink(f)
	if err != nil {
		problems = append(problems, err)
	} else {
		for _, p := range linkPlaces(name, opts.Path) {
			debug, closer, err := openDebugFile(f, id, p, opts.Root, &crc)
			if err == nil {
				return debug, closer, nil
			}
			problems = append(problems, err)
		}
	}
	for _, p := range problems {
		if !errors.Is(p, elffile.ErrAbsent) && !errors.Is(p, fs.ErrNotExist) {
			return nil, nil, p
		}
	}
	return nil, nil, fmt.Errorf("separate debug file: %w", elffile.ErrAbsent)
}

// linkPlaces are the places where gdb looks for the file that .gnu_debuglink
// names ("Debugging Information in Separate Files" in its manual).
func linkPlaces(name, file string) []string {
	if file == "" {
		return nil
	}
	dir := path.Dir(file)
	return []string{path.Join(dir, name), path.Join(dir, ".debug", name), path.Join(debugDir, dir, name)}
}

// debugLink reads .gnu_debuglink: a file name, padded to four bytes, and the
// CRC-32 of that file.
func debugLink(f *elffile.File) (name string, crc uint32, err error) {
	s, err := f.SectionNamed(".gnu_debuglink")
	if err != nil {
		return "", 0, err
	}
	data, err := f.SectionData(s)
	if err != nil {
		return "", 0, err
	}
	if data.Size > 4096 {
		return "", 0, fmt.Errorf(".gnu_debuglink of %d bytes: %w", data.Size, elffile.ErrDamaged)
	}
	raw, err := data.Bytes()
	if err != nil {
		return "", 0, err
	}
	name, _, ok := strings.Cut(string(raw), "\x00")
	at := (len(name) + 4) &^ 3
	if !ok || at+4 > len(raw) || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return "", 0, fmt.Errorf(".gnu_debuglink %.80q: %w", raw, elffile.ErrDamaged)
	}
	return name, binary.LittleEndian.Uint32(raw[at:]), nil
}

// openDebugFile opens the file at p and makes sure that it belongs to f: the
// build-ids must be the same, or, where one of them has none, the checksum.
func openDebugFile(f *elffile.File, id, p, root string, crc *uint32) (_ *elffile.File, closer func() error, err error) {
	file, err := openIn(root, p)
	if err != nil {
		return nil, nil, fmt.Errorf("debug file %s: %w", p, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	debug, err := elffile.Open(file)
	if err != nil {
		return nil, nil, fmt.Errorf("debug file %s: %w", p, err)
	}
	if debug.Machine() != f.Machine() {
		return nil, nil, fmt.Errorf("debug file %s is for another machine", p)
	}
	theirs, err := debug.ReadBuildID()
	if err != nil && !errors.Is(err, elffile.ErrAbsent) {
		return nil, nil, fmt.Errorf("debug file %s: %w", p, err)
	}
	switch {
	case id != "" && theirs != "":
		if id != theirs {
			return nil, nil, fmt.Errorf("debug file %s is of another build: build-id %s, not %s", p, theirs, id)
		}
	case crc == nil:
		return nil, nil, fmt.Errorf("debug file %s has no build-id", p)
	default:
		sum, err := checksum(file)
		if err != nil {
			return nil, nil, fmt.Errorf("debug file %s: %w", p, err)
		}
		if sum != *crc {
			return nil, nil, fmt.Errorf("debug file %s is of another build: checksum %08x, not %08x", p, sum, *crc)
		}
	}
	if _, err := debug.StaticSymbols(); err != nil {
		// Among others the file itself, if the link has its own name.
		return nil, nil, fmt.Errorf("debug file %s: %w", p, err)
	}
	return debug, file.Close, nil
}

func checksum(file *os.File) (uint32, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if info.Size() > maxChecked {
		return 0, fmt.Errorf("%d bytes are too many to check", info.Size())
	}
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, info.Size())); err != nil {
		return 0, err
	}
	return sum.Sum32(), nil
}

// openIn opens the regular file p of the file system below root, as a process
// chrooted there would: links of the target, absolute ones too, stay inside. It
// does not wait for a pipe that lies in the place of the file.
func openIn(root, p string) (*os.File, error) {
	if root == "" {
		root = "/"
	}
	file, err := openAt2(root, strings.TrimPrefix(path.Clean("/"+p), "/"))
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("not a regular file but %v", info.Mode().Type())
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func openAt2(root, rel string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	// openat2 is of Linux 5.6; some container runtimes refuse it with EPERM.
	fd, err := unix.Openat2(int(dir.Fd()), rel, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), path.Join(root, rel)), nil
	case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM):
		// os.Root refuses absolute links: fewer files are found, none outside.
		r, err := os.OpenRoot(root)
		if err != nil {
			return nil, err
		}
		defer func() { _ = r.Close() }()
		return r.OpenFile(rel, flags, 0)
	}
	return nil, &fs.PathError{Op: "open", Path: path.Join(root, rel), Err: err}
}
