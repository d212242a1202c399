package osdb

import (
	"io/fs"
	"strings"
)

// Release is the os-release file of a root (os-release(5)).
type Release struct {
	// ID is the distribution in lower case, for example debian, rhel, alpine.
	ID string
	// Like are the distributions that it says it is like, nearest first.
	Like []string
	// Version is VERSION_ID, for example 12, 9.4, 3.20.3; empty for a rolling one.
	Version  string
	Codename string
	// Pretty is the name for people.
	Pretty string
}

// Name is the version, or the code name of a release that has no number yet, such
// as Debian's testing.
func (r Release) Name() string {
	if r.Version == "" {
		return r.Codename
	}
	return r.Version
}

// ReadRelease reads the os-release file of a root; a root without one gives an
// empty Release, which is no error.
func ReadRelease(fsys fs.FS) (Release, error) {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		s, ok, err := text(fsys, name)
		if err != nil {
			return Release{}, err
		}
		if ok {
			return parseRelease(s), nil
		}
	}
	return Release{}, nil
}

func parseRelease(s string) Release {
	var r Release
	for line := range strings.Lines(s) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		value = unquote(value)
		switch key {
		case "ID":
			r.ID = strings.ToLower(value)
		case "ID_LIKE":
			r.Like = strings.Fields(strings.ToLower(value))
		case "VERSION_ID":
			r.Version = value
		case "VERSION_CODENAME":
			r.Codename = value
		case "PRETTY_NAME":
			r.Pretty = value
		}
	}
	return r
}

// unquote undoes the shell's quotes as far as os-release(5) allows them.
func unquote(s string) string {
	if len(s) < 2 || s[0] != s[len(s)-1] || s[0] != '"' && s[0] != '\'' {
		return s
	}
	if s[0] == '\'' {
		return s[1 : len(s)-1]
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
