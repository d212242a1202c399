package check

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"forkproof/internal/elffile"
	"forkproof/internal/facts"
	"forkproof/internal/libc"
)

// program is an executable of a root, with the libraries that the loader would
// load before it starts.
type program struct {
	path string
	// script is the path that was asked for where that is a script of path.
	script  string
	static  bool
	goes    bool // built by Go's compiler
	machine string
	libc    *build
	// files are the libraries, as paths without a leading slash.
	files []string
	// missing are needed libraries that were not found.
	missing []string
}

// maxClosure bounds the libraries of one program.
const maxClosure = 2000

// program reads an executable and follows what it needs.
func (s *system) program(name string, libs *libraries) (*program, error) {
	p := &program{path: "/" + strings.TrimPrefix(path.Clean(name), "/")}
	head := make([]byte, 256)
	f, err := s.Open(strings.TrimPrefix(p.path, "/"))
	if err != nil {
		return nil, fmt.Errorf("look at program %s: %w", p.path, err)
	}
	r, _, err := readerAt(f)
	if err == nil {
		var n int
		if n, err = r.ReadAt(head, 0); errors.Is(err, io.EOF) {
			head, err = head[:n], nil
		}
	}
	_ = f.Close() // only read
	if err != nil {
		return nil, fmt.Errorf("look at program %s: %w", p.path, err)
	}
	if bytes.HasPrefix(head, []byte("#!")) {
		line, _, _ := bytes.Cut(head[2:], []byte("\n"))
		interp := s.interpreter(strings.Fields(string(line)))
		if interp == "" {
			return nil, fmt.Errorf("program %s is a script of %q, which is not in this root", p.path, strings.TrimSpace(string(line)))
		}
		p.script, p.path = p.path, interp
	}
	queue := []string{strings.TrimPrefix(p.path, "/")}
	seen := map[string]bool{}
	var search []string
	for first := true; len(queue) > 0 && len(seen) < maxClosure; first = false {
		name := queue[0]
		queue = queue[1:]
		real, err := s.Resolve(name)
		if err != nil || seen[real] {
			continue
		}
		seen[real] = true
		needed, err := s.object(name, first, p, libs, &search)
		if err != nil {
			if first {
				return nil, fmt.Errorf("look at program %s: %w", p.path, err)
			}
			p.missing = append(p.missing, path.Base(name)+" ("+err.Error()+")")
			continue
		}
		if !first {
			p.files = append(p.files, name)
		}
		for _, n := range needed {
			if at, ok := s.find(n, search); ok {
				queue = append(queue, at)
			} else {
				p.missing = append(p.missing, n)
			}
		}
	}
	return p, nil
}

// interpreter finds the program of a script's first line; env looks it up.
func (s *system) interpreter(words []string) string {
	if len(words) == 0 {
		return ""
	}
	name := words[0]
	if path.Base(name) == "env" {
		name = ""
		for _, w := range words[1:] {
			if !strings.HasPrefix(w, "-") && !strings.Contains(w, "=") {
				name = w
				break
			}
		}
	}
	return s.which(name, "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin")
}

// which finds a program as a shell does: by its path, or in the folders of PATH.
func (s *system) which(name, list string) string {
	if name == "" {
		return ""
	}
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for dir := range strings.SplitSeq(list, ":") {
			candidates = append(candidates, path.Join(dir, name))
		}
	}
	for _, c := range candidates {
		if st, err := s.Stat(strings.TrimPrefix(path.Clean(c), "/")); err == nil && !st.IsDir() {
			return "/" + strings.TrimPrefix(path.Clean(c), "/")
		}
	}
	return ""
}

// object reads one ELF file of a closure and returns what it needs.
func (s *system) object(name string, first bool, p *program, libs *libraries, search *[]string) ([]string, error) {
	f, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	r, size, err := readerAt(f)
	if err != nil {
		return nil, err
	}
	e, err := elffile.OpenSize(r, size)
	if err != nil {
		return nil, err
	}
	if family := libc.Named(path.Base(name)); family != "" && p.libc == nil {
		if b, err := s.libcAt(family, name); err == nil {
			p.libc = &b
		}
	}
	if first {
		p.machine = e.Machine().String()
		if p.static = e.IsStatic(); p.static {
			p.libc, p.goes = staticLibc(e, r, p.path)
		}
		libs.linked(e, name, true, library{own: true})
	}
	if d, err := e.Dynamic(); err == nil {
		for _, entry := range d.Entries {
			// DT_RPATH and DT_RUNPATH.
			if entry.Tag == 15 || entry.Tag == 29 {
				list, err := d.String(entry.Value)
				if err != nil {
					continue
				}
				for dir := range strings.SplitSeq(list, ":") {
					dir = strings.NewReplacer("${ORIGIN}", "/"+path.Dir(name), "$ORIGIN", "/"+path.Dir(name)).Replace(dir)
					*search = append(*search, strings.TrimPrefix(path.Clean("/"+dir), "/"))
				}
			}
		}
	}
	needed, err := e.Needed()
	if err != nil {
		return nil, err
	}
	if interp, err := e.Interp(); first && err == nil && strings.Contains(path.Base(interp), "musl") {
		// musl's loader is the C library itself.
		needed = append(needed, path.Base(interp))
	}
	return needed, nil
}

// find looks a library up where the loader would.
func (s *system) find(name string, search []string) (string, bool) {
	if strings.Contains(name, "/") {
		return strings.TrimPrefix(path.Clean("/"+name), "/"), true
	}
	// An object for musl names its C library as Alpine's build does.
	names := []string{name}
	if strings.HasPrefix(name, "libc.musl-") {
		names = append(names, "ld-musl-"+strings.TrimPrefix(name, "libc.musl-"))
	}
	for _, dirs := range [][]string{search, loaderDirs, s.configured()} {
		for _, dir := range dirs {
			for _, n := range names {
				at := path.Join(dir, n)
				if st, err := s.Stat(at); err == nil && !st.IsDir() {
					return at, true
				}
			}
		}
	}
	return "", false
}

// configured are the folders of ld.so.conf.
func (s *system) configured() []string {
	var out []string
	files := []string{"etc/ld.so.conf"}
	if entries, err := s.ReadDir("etc/ld.so.conf.d"); err == nil {
		for _, e := range entries {
			files = append(files, path.Join("etc/ld.so.conf.d", e.Name()))
		}
	}
	for _, name := range files {
		f, err := s.Open(name)
		if err != nil {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(f, 1<<20))
		_ = f.Close() // only read
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "/") {
				out = append(out, strings.TrimPrefix(path.Clean(line), "/"))
			}
		}
	}
	return out
}

// staticLibc tells the C library inside of a static program by its own texts: of
// glibc the line that its file prints, or the names of its tunables; of musl the
// version that it knows itself by.
func staticLibc(e *elffile.File, r io.ReaderAt, name string) (b *build, goes bool) {
	b = &build{static: true, machine: e.Machine().String(), buildID: e.BuildID(), Identity: libc.Identity{Family: "none", Path: name}}
	b.contains = func(text string) bool { return contains(r, text) }
	if id := libc.Read("glibc", name, r); id.Version != "" {
		b.Identity = id
		return b, false
	}
	if _, _, ok := e.Section(".go.buildinfo"); ok {
		return b, true
	}
	switch {
	case contains(r, "glibc.malloc.") || contains(r, "GLIBC_TUNABLES"):
		b.Identity = libc.Identity{Family: "glibc", Path: name}
	case contains(r, "musl libc") || hasSymbol(e, "__libc_start_init", "__init_tls", "__stdio_exit_needed"):
		b.Identity = libc.Read("musl", name, r)
	}
	return b, false
}

// hasSymbol reports whether a program's own table has all of the names.
func hasSymbol(e *elffile.File, names ...string) bool {
	found := defined(e, true)
	for _, n := range names {
		if !found(n) {
			return false
		}
	}
	return true
}

// defined returns a function that tells whether a file defines a symbol: by the
// hash table of what it exports, and with all set by the table of all its symbols
// where it was not stripped.
func defined(e *elffile.File, all bool) func(string) bool {
	var static map[string]bool
	dynamic, errD := e.DynamicSymbols()
	return func(name string) bool {
		if errD == nil {
			if _, _, ok, err := dynamic.Find(name); err == nil && ok {
				return true
			}
		}
		if static == nil && all {
			static = staticNames(e)
		}
		return static[name]
	}
}

// maxStatic bounds the symbols that are read of one file.
const maxStatic = 2_000_000

func staticNames(e *elffile.File) map[string]bool {
	out := make(map[string]bool)
	t, err := e.StaticSymbols()
	if err != nil {
		return out
	}
	n, err := t.Count()
	if err != nil || n > maxStatic {
		return out
	}
	table, err := t.Bytes()
	if err != nil {
		return out
	}
	strs, err := t.Strings.Bytes()
	if err != nil {
		return out
	}
	for ; len(table) >= elffile.SymSize; table = table[elffile.SymSize:] {
		sym := elffile.ParseSym(table)
		if sym.Section == 0 || int(sym.Name) >= len(strs) {
			continue
		}
		rest := strs[sym.Name:]
		if i := bytes.IndexByte(rest, 0); i > 0 && i < 128 {
			out[string(rest[:i])] = true
		}
	}
	return out
}

// linked matches what is linked into a program or library by its symbols.
func (l *libraries) linked(e *elffile.File, name string, all bool, x library) {
	for _, m := range l.base.Library(facts.Evidence{HasSymbol: defined(e, all)}) {
		x.Match, x.where = m, "linked into /"+strings.TrimPrefix(name, "/")
		l.add(x)
	}
}

// record reports whether a distribution's list of files (RECORD) names a file.
func (s *system) record(d dist, file string) bool {
	f, err := s.Open(path.Join(d.meta, "RECORD"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	rel := strings.TrimPrefix(strings.TrimPrefix(file, "/"), d.dir+"/")
	lines := bufio.NewScanner(io.LimitReader(f, 16<<20))
	for lines.Scan() {
		if n, _, _ := strings.Cut(lines.Text(), ","); n == rel {
			return true
		}
	}
	return false
}
