// Package libc knows what C libraries look like in memory: which one a process
// has mapped, how its locks and threads are laid out, and what a thread that
// sleeps in a futex waits for.
package libc

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// Identity is a C library.
type Identity struct {
	// Family is glibc, musl, bionic, uclibc or unknown.
	Family       string
	Version      string
	Major, Minor int
	// Package is the distribution's version as the banner has it.
	Package string
	Path    string
}

// maxLibrary bounds how much of a library is searched for its banner.
const maxLibrary = 32 << 20

var (
	glibcBanner = regexp.MustCompile(`GNU C Library \(([^)]*)\)[^\n]{0,40} version (\d+)\.(\d+)`)
	glibcFile   = regexp.MustCompile(`^libc-2\.\d+\.so$`)
	muslVersion = regexp.MustCompile(`^\x00(\d)\.(\d{1,2})\.(\d{1,3})\x00`)
)

// Named returns the family that a mapped file of this name belongs to, empty
// for a file that is no C library.
func Named(base string) string {
	switch {
	case base == "libc.so.6", glibcFile.MatchString(base):
		return "glibc"
	case strings.HasPrefix(base, "ld-musl-"), strings.HasPrefix(base, "libc.musl-"), base == "libc.so":
		// Debian's is a libc.so; where glibc is, that is no library but a text for
		// the linker. Read looks closer.
		return "musl"
	case strings.HasPrefix(base, "libuClibc-"):
		return "uclibc"
	}
	return ""
}

// Loader reports whether a file of this name is a dynamic loader or one of
// glibc's libraries before 2.34 joined them into libc.so.6.
func Loader(base string) bool {
	return strings.HasPrefix(base, "ld-linux") || strings.HasPrefix(base, "ld-2.") ||
		strings.HasPrefix(base, "libpthread") || strings.HasPrefix(base, "libdl")
}

// Read completes an identity from the library's own text. glibc says what it is
// in one line that its file executed as a program prints; musl does too, and has
// its version elsewhere. The family becomes unknown where a file that is called
// just libc.so is not musl.
func Read(family, path string, r io.ReaderAt) Identity {
	id := Identity{Family: family, Path: path}
	switch family {
	case "glibc":
		return readGlibc(id, r)
	case "musl":
		return readMusl(id, r)
	}
	return id
}

func readMusl(id Identity, r io.ReaderAt) Identity {
	const chunk, overlap = 256 << 10, 64
	buf := make([]byte, chunk+overlap)
	found := !strings.HasSuffix(id.Path, "/libc.so")
	for off := int64(0); off < maxLibrary; off += chunk {
		n, err := r.ReadAt(buf, off)
		found = found || bytes.Contains(buf[:n], []byte("musl libc ("))
		if m := findMusl(buf[:n]); m != nil && id.Version == "" {
			id.Major, _ = strconv.Atoi(string(m[1]))
			id.Minor, _ = strconv.Atoi(string(m[2]))
			id.Version = string(m[1]) + "." + string(m[2]) + "." + string(m[3])
		}
		if err != nil {
			break
		}
	}
	if !found {
		return Identity{Family: "unknown", Path: id.Path}
	}
	return id
}

// findMusl finds the version among the strings of a library. Only what stands
// before a full stop that follows a digit is tried: the pattern alone costs more
// than all else that is read of the library.
func findMusl(b []byte) [][]byte {
	for at := 0; ; at++ {
		i := bytes.IndexByte(b[at:], '.')
		if i < 0 {
			return nil
		}
		at += i
		if at >= 2 && b[at-2] == 0 {
			if m := muslVersion.FindSubmatch(b[at-2 : min(at+9, len(b))]); m != nil {
				return m
			}
		}
	}
}

func readGlibc(id Identity, r io.ReaderAt) Identity {
	const chunk, overlap = 256 << 10, 256
	buf := make([]byte, chunk+overlap)
	// The banner lies in the read-only data, behind the code: search backwards
	// would be quicker, but a library is some 2 MB of page cache.
	for off := int64(0); off < maxLibrary; off += chunk {
		n, err := r.ReadAt(buf, off)
		if i := bytes.Index(buf[:n], []byte("GNU C Library (")); i >= 0 {
			if m := glibcBanner.FindSubmatch(buf[i:n]); m != nil {
				id.Major, _ = strconv.Atoi(string(m[2]))
				id.Minor, _ = strconv.Atoi(string(m[3]))
				id.Version = string(m[2]) + "." + string(m[3])
				if w := strings.Fields(string(m[1])); len(w) > 0 {
					id.Package = w[len(w)-1]
				}
				return id
			}
		}
		if err != nil {
			break
		}
	}
	return id
}
