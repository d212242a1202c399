package trace

import (
	"path/filepath"
	"strings"

	"forkproof/internal/finding"
	"forkproof/internal/forklog"
	"forkproof/internal/libc"
	"forkproof/internal/unwind"
)

// judgeBare says of the C library's locks that record nobody whether the thread
// that forked may hold them: then it releases them in the child. It cannot where
// it called fork from outside of the library and no signal interrupted that.
func (l *look) judgeBare(self []unwind.Frame) {
	clean := l.c.self.whole && outside(self)
	for i := range l.held {
		h := &l.held[i]
		if h.bare && !clean {
			h.Survivor = true
		}
		if h.bare && clean {
			h.by = l.inside()
			h.basis = finding.HeldThen
		}
	}
}

// outside reports whether a stack, which must be whole, leads from fork straight
// out of the C library, and on to the start of the thread without a signal.
func outside(stack []unwind.Frame) bool {
	left := false
	for i, f := range stack {
		if f.Module == nil || f.Signal || f.Searched && f.Guessed {
			return false
		}
		own := libcPart(filepath.Base(f.Module.Name))
		switch {
		case !own:
			left = true
		case left:
			// The functions that call main and those of threads.
			s, _ := f.Module.Symbol(f.Addr())
			if i < len(stack)-3 && s.Name != "" && !strings.Contains(s.Name, "start") && !strings.Contains(s.Name, "clone") {
				return false
			}
			if i < len(stack)-3 && s.Name == "" {
				return false
			}
		}
	}
	return left
}

// inside returns the one thread that was inside of the C library and did not
// sleep for somebody else there, nil where there is not just one.
func (l *look) inside() *seen {
	var found *seen
	for i := range l.c.threads {
		t := &l.c.threads[i]
		if t.moved || stateName(t) == "futex-wait" {
			continue
		}
		frames := l.unwind(t)
		if len(frames) < 2 || frames[0].Module == nil || frames[1].Module == nil {
			continue
		}
		// A system call's own wrapper takes no lock: there must be two frames.
		if !libcPart(filepath.Base(frames[0].Module.Name)) || !libcPart(filepath.Base(frames[1].Module.Name)) {
			continue
		}
		if found != nil {
			return nil
		}
		found = t
	}
	return found
}

// keep notes what a thread that vanished held, for whoever looks at the child later.
func (l *look) keep() {
	r := forklog.Record{Time: l.c.began, Parent: l.e.PID}
	for i := range l.held {
		h := &l.held[i]
		if h.Survivor || h.Reset {
			continue
		}
		k := forklog.Lock{Addr: uint64(h.Address), Where: h.Where}
		switch {
		case h.bare:
			// Only of the library itself, which is never unloaded.
			k.Own = l.v.libc.Forked(h.known) == libc.LeftAlone && h.main
			if !k.Own {
				continue
			}
		case h.basis != finding.HeldThen || h.by == nil:
			continue // one that records its owner tells that itself
		}
		if h.by != nil {
			k.TID, k.Name = h.by.tid, l.name(h.by)
			for _, t := range l.f.Threads {
				if t.TID == k.TID {
					k.Doing = Doing(t)
				}
			}
		}
		r.Locks = append(r.Locks, k)
	}
	if len(r.Locks) == 0 {
		return
	}
	if err := l.j.log.Write(l.j.fs, l.id, r); err != nil && len(l.j.notes) < 8 {
		l.j.notes = append(l.j.notes, err.Error())
	}
}
