package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mapping is one line of /proc/PID/maps.
type Mapping struct {
	Start, End, Offset        uint64
	Read, Write, Exec, Shared bool
	Major, Minor              uint32
	Inode                     uint64
	// Path is the mapped file in the process's own mount namespace, a name in
	// brackets ("[heap]"), or empty for anonymous memory.
	Path string
	// Deleted: the file was removed or replaced since it was mapped.
	Deleted bool
}

// File reports whether a file is mapped here.
func (m Mapping) File() bool { return m.Inode != 0 }

// Name is the base name of the mapped file.
func (m Mapping) Name() string {
	if m.Path == "" || m.Path[0] == '[' {
		return m.Path
	}
	return filepath.Base(m.Path)
}

// Contains reports whether addr lies in the mapping.
func (m Mapping) Contains(addr uint64) bool { return addr >= m.Start && addr < m.End }

// Find returns the mapping that holds addr; maps must be in ascending order, as
// the kernel gives them.
func Find(maps []Mapping, addr uint64) (Mapping, bool) {
	lo, hi := 0, len(maps)
	for lo < hi {
		mid := (lo + hi) / 2
		if maps[mid].End <= addr {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(maps) && maps[lo].Contains(addr) {
		return maps[lo], true
	}
	return Mapping{}, false
}

// Maps reads the memory mappings of a process, in ascending order.
func (f FS) Maps(pid int) ([]Mapping, error) {
	b, err := read(f.Path(pid, "maps"))
	if err != nil {
		return nil, err
	}
	return ParseMaps(b)
}

// ParseMaps parses a maps file.
func ParseMaps(b []byte) ([]Mapping, error) {
	maps := make([]Mapping, 0, bytes.Count(b, []byte{'\n'}))
	for len(b) > 0 {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		m, err := parseMapping(line)
		if err != nil {
			return nil, err
		}
		maps = append(maps, m)
	}
	return maps, nil
}

func parseMapping(line []byte) (Mapping, error) {
	var m Mapping
	bad := func() (Mapping, error) { return m, fmt.Errorf("maps: %w: %.120q", ErrParse, line) }
	var w [5]string
	rest := string(line)
	for i := range w {
		var ok bool
		w[i], rest, ok = strings.Cut(rest, " ")
		if !ok && i < 4 {
			return bad()
		}
	}
	from, to, ok := strings.Cut(w[0], "-")
	maj, min, ok2 := strings.Cut(w[3], ":")
	if !ok || !ok2 || len(w[1]) != 4 {
		return bad()
	}
	var err error
	num := func(s string, base, bits int) uint64 {
		v, e := strconv.ParseUint(s, base, bits)
		if e != nil {
			err = e
		}
		return v
	}
	m.Start, m.End, m.Offset = num(from, 16, 64), num(to, 16, 64), num(w[2], 16, 64)
	m.Major, m.Minor = uint32(num(maj, 16, 32)), uint32(num(min, 16, 32))
	m.Inode = num(w[4], 10, 64)
	if err != nil || m.End < m.Start {
		return bad()
	}
	m.Read, m.Write, m.Exec, m.Shared = w[1][0] == 'r', w[1][1] == 'w', w[1][2] == 'x', w[1][3] == 's'
	path := strings.TrimLeft(rest, " ")
	if m.Inode != 0 {
		path, m.Deleted = strings.CutSuffix(path, " (deleted)")
	}
	// The kernel writes a line feed in a path as \012 and nothing else so.
	m.Path = strings.ReplaceAll(path, `\012`, "\n")
	return m, nil
}

// ErrReplaced is the error for a mapped file whose path leads to another file
// by now: the library was upgraded under the running process.
var ErrReplaced = errors.New("the file was replaced since the process mapped it")

// OpenMapped opens the very file that is mapped at m. It tries the kernel's own
// link first, which works for removed files too and needs CAP_SYS_ADMIN or
// CAP_CHECKPOINT_RESTORE, then the path as the process sees it, and for a
// program that was removed the link to it, which any debugger may follow.
func (f FS) OpenMapped(pid int, m Mapping) (*os.File, error) {
	file, err := os.Open(f.Path(pid, "map_files", fmt.Sprintf("%x-%x", m.Start, m.End)))
	if err == nil {
		return file, nil
	}
	if m.Deleted {
		if file, err := openSame(f.Path(pid, "exe"), m); err == nil {
			return file, nil
		}
		return nil, fmt.Errorf("open %s of process %d: %w", m.Path, pid, ErrReplaced)
	}
	file, err = openSame(f.Path(pid, "root")+f.Inside(pid, m.Path), m)
	if errors.Is(err, ErrReplaced) {
		return nil, fmt.Errorf("open %s of process %d: %w", m.Path, pid, err)
	}
	return file, gone(err)
}

// Inside turns a path as the kernel shows it to us into one as the process sees
// it, which differs where the process was started with chroot: the part that
// leads to its root is taken off. A path outside of that root stays as it is.
func (f FS) Inside(pid int, path string) string {
	root, err := os.Readlink(f.Path(pid, "root"))
	if err != nil || root == "/" {
		return path
	}
	if p, ok := strings.CutPrefix(path, root+"/"); ok {
		return "/" + p
	}
	return path
}

// openSame opens a path if it leads to the file that is mapped at m.
func openSame(path string, m Mapping) (*os.File, error) {
	// Never waits: a FIFO may have taken the file's place.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	// The device number is not compared: overlayfs and btrfs show another one
	// in maps than stat does.
	err = unix.Fstat(int(file.Fd()), &st)
	if err == nil && (st.Ino != m.Inode || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = ErrReplaced
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// HidePID reports the hidepid option of the proc file system at /proc, empty
// where every process is visible.
func (f FS) HidePID() string {
	b, err := read(filepath.Join(f.root, "self", "mountinfo"))
	if err != nil {
		return ""
	}
	hidden := ""
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) < 6 || w[4] != f.root || !strings.Contains(line, " - proc ") {
			continue
		}
		hidden = "" // the last of several mounts is the one that is seen
		for o := range strings.SplitSeq(w[len(w)-1], ",") {
			if v, ok := strings.CutPrefix(o, "hidepid="); ok && v != "0" && v != "off" {
				hidden = v
			}
		}
	}
	return hidden
}

// IsGone reports whether err says that the process or thread ended.
func IsGone(err error) bool { return errors.Is(err, ErrGone) }

// IsPermission reports whether err says that we may not look.
func IsPermission(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPERM)
}
