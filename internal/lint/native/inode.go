package native

import (
	"io/fs"
	"syscall"
)

// inode tells a file from others that have its name, and finds it again under
// another.
func inode(st fs.FileInfo) (dev, ino uint64, ok bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return s.Dev, s.Ino, true
}
