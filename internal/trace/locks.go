package trace

import (
	"fmt"
	"path/filepath"
	"strings"

	"forkproof/internal/cpython"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/procmem"
	"forkproof/internal/pylock"
)

// words4 reads the C library's own locks that are one word and record nobody:
// by the table of builds.
func (l *look) words4() {
	for _, mod := range l.v.libcs {
		for _, k := range libc.Locks(mod.File.BuildID()) {
			if k.Size != 4 || strings.Contains(k.Symbol, "once") {
				continue
			}
			at := k.Addr + mod.Bias
			word, err := procmem.Uint32(l.mem, at)
			// A lock word of glibc's own is 0, 1 (held) or 2 (held, with waiters): lowlevellock.h.
			if err != nil || word != 1 && word != 2 {
				continue
			}
			does := l.v.libc.Forked(k.Known)
			if does == libc.Taken {
				continue
			}
			h := held{bare: true, known: k.Known, main: libc.Named(filepath.Base(mod.Name)) != ""}
			h.Lock = finding.Lock{Kind: "libc-internal", Address: finding.Addr(at), Where: fmt.Sprintf("%s's %s", l.v.libc.Family, k.Known), State: "held"}
			if word == 2 {
				h.State = "held, with waiters"
			}
			h.Reset = does == libc.MadeAnew
			l.held = append(l.held, h)
		}
	}
}

// lockPlace names a lock by what it is in the C library, else by its place.
func (v *view) lockPlace(addr, stream uint64) string {
	if stream != 0 {
		return "the lock of the stream " + v.place(stream)
	}
	if file, _, ok := v.around(addr); ok && file.File() {
		if mod, ok := v.module(file.Start); ok {
			if k, ok := libc.KnownLock(mod.File.BuildID(), addr-mod.Bias); ok {
				return fmt.Sprintf("%s's %s", v.libc.Family, k)
			}
			if s, ok := mod.Table.Lookup(addr - mod.Bias); ok && !s.NoSize && libcPart(filepath.Base(mod.Name)) {
				return fmt.Sprintf("%s's %s", v.libc.Family, libc.LockNamed(s.Name, s.File))
			}
		}
	}
	return v.place(addr)
}

// pythonReset reports whether Python makes a lock anew in each child: that of
// logging and its handlers since 3.9 (logging/__init__.py,
// _after_at_fork_child_reinit_locks; bpo-40089), the import lock, and those of
// threading.
func pythonReset(v cpython.Version, where string, kind pylock.Kind) bool {
	switch {
	case strings.HasPrefix(where, "logging."):
		return (strings.HasSuffix(where, ".lock") || strings.HasSuffix(where, "_lock")) && !strings.Contains(where, ".stream")
	case strings.HasPrefix(where, "threading._active_limbo_lock"):
		return true
	}
	return false
}
