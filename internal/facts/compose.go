package facts

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// lazy are the servers that can load the application after the fork.
var lazy = map[string]bool{"gunicorn": true, "uwsgi": true, "puma": true, "unicorn": true}

// writers write the configuration of each server that Remedy knows.
var writers = map[string]func(s *Server, p *plan, version string, head []string) []File{
	"gunicorn":  writeGunicorn,
	"uwsgi":     writeUWSGI,
	"celery":    writeCelery,
	"puma":      writePuma,
	"unicorn":   writeUnicorn,
	"pitchfork": writePitchfork,
}

// page is a configuration file that grows paragraph by paragraph.
type page struct {
	strings.Builder
	mark string // what begins a comment
}

func (w *page) comment(lines ...string) { w.remark("", w.mark, lines...) }

// widest is the longest line of a comment, in columns: what Python's usual
// formatters leave alone.
const widest = 88

// remark writes comments, broken into lines that fit.
func (w *page) remark(indent, mark string, lines ...string) {
	for _, l := range lines {
		line := indent + mark
		for _, word := range strings.Fields(l) {
			if len(line)+1+len(word) > widest && line != indent+mark {
				w.WriteString(line + "\n")
				line = indent + mark + "  "
			}
			line += " " + word
		}
		w.WriteString(line + "\n")
	}
}

// gap begins a new paragraph.
func (w *page) gap() {
	if w.Len() > 0 {
		w.WriteString("\n")
	}
}

// begin writes the head and what is left to people.
func begin(mark string, head, notes []string) *page {
	w := &page{mark: mark}
	w.comment(head...)
	if len(notes) > 0 {
		w.comment("")
		w.comment("Not a matter of configuration:")
		w.comment(notes...)
	}
	return w
}

// statements writes pieces that stand alone, such as settings.
func (w *page) statements(pieces []piece, line func(piece) []string) {
	for _, p := range pieces {
		w.gap()
		w.comment(p.comment())
		for _, l := range line(p) {
			w.WriteString(l + "\n")
		}
	}
}

func code(p piece) []string { return []string{p.Code} }

// assign makes lines of an environment piece.
func assign(format string) func(piece) []string {
	return func(p piece) []string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(p.Env)) {
			out = append(out, fmt.Sprintf(format, k, p.Env[k]))
		}
		return out
	}
}

// body writes pieces as the indented body of a function; empty is what a
// language wants where there are comments alone.
func (w *page) body(pieces []piece, indent, empty string) {
	real := false
	for i, p := range pieces {
		if i > 0 {
			w.WriteString("\n")
		}
		w.remark(indent, "#", p.comment())
		for line := range strings.Lines(strings.Trim(p.Code, "\n") + "\n") {
			if line = strings.TrimRight(line, "\n"); line != "" {
				real = real || !strings.HasPrefix(strings.TrimSpace(line), "#")
				line = indent + line
			}
			w.WriteString(line + "\n")
		}
	}
	if !real && empty != "" {
		w.WriteString(indent + empty + "\n")
	}
}

// def writes a Python function.
func (w *page) def(above []string, signature string, pieces []piece) {
	w.WriteString("\n\n")
	for _, l := range above {
		w.WriteString(l + "\n")
	}
	w.WriteString("def " + signature + ":\n")
	w.body(pieces, "    ", "pass")
}

// block writes a Ruby block.
func (w *page) block(opening string, pieces []piece) {
	w.gap()
	w.WriteString(opening + "\n")
	w.body(pieces, "  ", "")
	w.WriteString("end\n")
}

// pythonEnv sets variables where a Python file is read, before any thread.
func (w *page) pythonEnv(p *plan) {
	if len(p.env) == 0 {
		return
	}
	w.WriteString("\nimport os\n")
	w.statements(p.env, assign("os.environ[%q] = %q"))
}

func writeGunicorn(s *Server, p *plan, version string, head []string) []File {
	w := begin("#", head, p.notes)
	w.pythonEnv(p)
	w.statements(p.settings, code)
	w.lazily(p, "preload_app = False", "and leave --preload out of the command line, which is stronger than this file")
	if len(p.before) > 0 {
		w.def(nil, s.hook(version, "pre_fork")+"(server, worker)", p.before)
	}
	if len(p.after) > 0 {
		w.def(nil, s.hook(version, "post_fork")+"(server, worker)", p.after)
	}
	return []File{{s.File, w.String()}}
}

// lazily writes the setting that loads the application after the fork.
func (w *page) lazily(p *plan, setting string, more ...string) {
	if len(p.noPreload) == 0 {
		return
	}
	w.gap()
	for _, x := range p.noPreload {
		w.comment(x.comment())
	}
	w.comment(more...)
	w.WriteString(setting + "\n")
}

// postfork is uWSGI's decorator, or the hook behind it: distributions ship the
// decorators in a package of their own (Debian: python3-uwsgidecorators).
const postfork = `
try:
    from uwsgidecorators import postfork
except ImportError:
    import uwsgi

    def postfork(function):
        uwsgi.post_fork_hook = function
        return function
`

func writeUWSGI(s *Server, p *plan, _ string, head []string) []File {
	const module = "uwsgi_fork"
	w := begin(";", head, p.notes)
	w.WriteString("\n[uwsgi]\n")
	w.statements(p.env, assign("env = %s=%s"))
	w.statements(p.settings, code)
	w.lazily(p, "lazy-apps = true")
	if len(p.before)+len(p.after) == 0 {
		return []File{{s.File, w.String()}}
	}
	w.gap()
	w.comment("the hooks stand in " + module + ".py, which must be on the Python path")
	w.WriteString("import = " + module + "\n")

	h := begin("#", head[:1], nil)
	h.comment("uWSGI imports it in the master, before the application.")
	if len(p.before) > 0 {
		h.WriteString("\nimport os\n")
	}
	if len(p.after) > 0 {
		h.WriteString(postfork)
	}
	if len(p.before) > 0 {
		h.def(nil, "before_fork()", p.before)
		h.WriteString("\n\n# runs only with py-call-uwsgi-fork-hooks = true\nos.register_at_fork(before=before_fork)\n")
	}
	if len(p.after) > 0 {
		h.def([]string{"@postfork"}, "after_fork()", p.after)
	}
	return []File{{s.File, w.String()}, {module + ".py", h.String()}}
}

func writeCelery(s *Server, p *plan, _ string, head []string) []File {
	w := begin("#", head, p.notes)
	w.comment("", "Import this module first in the module of the Celery application.")
	w.pythonEnv(p)
	if len(p.before) > 0 && len(p.env) == 0 {
		w.WriteString("\nimport os\n")
	}
	if len(p.after) > 0 {
		w.WriteString("\nfrom celery.signals import worker_process_init\n")
	}
	w.statements(p.settings, code)
	if len(p.before) > 0 {
		w.def(nil, "before_fork()", p.before)
		w.WriteString("\n\nos.register_at_fork(before=before_fork)\n")
	}
	if len(p.after) > 0 {
		w.def([]string{"@worker_process_init.connect(weak=False)"}, "after_fork(**_)", p.after)
	}
	return []File{{s.File, w.String()}}
}

// ruby writes a configuration in Ruby, with the openings of its two hooks.
func ruby(s *Server, p *plan, head []string, preload, before, after string) []File {
	w := begin("#", head, p.notes)
	w.statements(p.env, assign("ENV[%q] = %q"))
	w.statements(p.settings, code)
	w.lazily(p, preload)
	if len(p.before) > 0 {
		w.block(before, p.before)
	}
	if len(p.after) > 0 {
		w.block(after, p.after)
	}
	return []File{{s.File, w.String()}}
}

func writePuma(s *Server, p *plan, version string, head []string) []File {
	boot := s.hook(version, "before_worker_boot", "on_worker_boot")
	if version == "" && len(p.after) > 0 {
		head = append(head, "Before Puma 7.0 "+strconv.Quote(boot)+" is called on_worker_boot.")
	}
	return ruby(s, p, head, "preload_app! false", s.hook(version, "before_fork")+" do", boot+" do")
}

func writeUnicorn(s *Server, p *plan, version string, head []string) []File {
	return ruby(s, p, head, "preload_app false", s.hook(version, "before_fork")+" do |server, worker|", s.hook(version, "after_fork")+" do |server, worker|")
}

func writePitchfork(s *Server, p *plan, version string, head []string) []File {
	return ruby(s, p, head, "", s.hook(version, "before_fork")+" do |server|", s.hook(version, "after_worker_fork")+" do |server, worker|")
}
