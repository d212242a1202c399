package inspect

import (
	"fmt"
	"path/filepath"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/symbol"
)

// longFork is from when on a wait inside fork() is worth a word. Handlers wait
// for locks in passing as all code does, for milliseconds.
const longFork = time.Second

// insideFork says where in fork a thread sleeps, empty where it does not: in a
// handler, whose name is that of the first function outside of the C library.
func (p *process) insideFork(tid int) string {
	handler := ""
	for _, f := range p.stack(tid) {
		if f.Module == nil {
			continue
		}
		s, _ := f.Module.Symbol(f.Addr())
		object := filepath.Base(f.Module.Name)
		if libc.Named(object) == "" && !libc.Loader(object) {
			handler = "a fork handler of " + object
			if s.Name != "" {
				handler += " (" + symbol.Demangle(s.Name) + ")"
			}
			// CPython calls the handlers of os.register_at_fork(before=...) here,
			// before it calls fork (Modules/posixmodule.c).
			if s.Name == "PyOS_BeforeFork" {
				handler = "a handler of os.register_at_fork()"
				if py, ok := p.pyThread(tid); ok {
					handler += ", " + at(py)
				}
				return " inside os.fork(), in " + handler
			}
			continue
		}
		switch s.Name {
		case "fork", "__fork", "__libc_fork", "_Fork":
			if handler == "" {
				return " inside fork()"
			}
			return " inside fork(), in " + handler
		}
	}
	return ""
}

// stuckInFork finds threads that sleep inside fork() and of which nothing can be
// proven, since others go on that may wake them: until then the process makes no
// child.
func (p *process) stuckInFork(o observation) []finding.Finding {
	var out []finding.Finding
	for _, tid := range p.tids {
		w, ok := o.waits[tid]
		if !ok {
			continue
		}
		place := p.insideFork(tid)
		ago, ok := p.j.fs.LastRan(p.pid, tid)
		if place == "" || !ok || ago < longFork {
			continue
		}
		f := finding.Finding{
			Rule: finding.StuckInFork, Severity: finding.Warning, Confidence: finding.Observed, PID: p.pid, TID: tid,
			Lock: &finding.Lock{Kind: w.Kind, Address: finding.Addr(w.Addr), Where: p.where(tid, w), State: w.State, OwnerTID: w.OwnerTID, Owner: p.holder(w)},
			Why:  "Until its wait ends the process makes no child, and whoever called fork does nothing else. Other threads of it may still end the wait, so this is not called proven.",
			Evidence: []string{
				fmt.Sprintf("thread %d (%s) sleeps%s, and has not run for %s", tid, p.name(tid), place, ago.Round(100*time.Millisecond)),
			},
			Remedy: []string{"look at what the owner of the lock does: a fork handler must not wait for a thread that may itself wait for long"},
		}
		f.Title = fmt.Sprintf("%s hangs%s: it waits for %s", who(p), place, f.Lock.Where)
		if h := f.Lock.Owner; h != nil && w.Kind != "thread-join" {
			f.Title += fmt.Sprintf(", which its own thread %s (%d) holds", h.Name, h.TID)
		}
		out = append(out, f)
	}
	return out
}
