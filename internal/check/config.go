package check

import (
	"io/fs"
	"strings"

	"forkproof/internal/serverconf"
)

// openConfig reads a gunicorn.conf.py of a root.
func openConfig(t tree, name string) (*serverconf.Python, error) {
	f, err := t.Open(strings.TrimPrefix(name, "/"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	return serverconf.ReadPython(f, name)
}
