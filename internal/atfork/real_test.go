package atfork_test

import (
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"forkproof/internal/atfork"
	"forkproof/internal/elffile"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
)

// at is a function by its file, as the root folder names it, and address.
type at struct {
	file string
	addr uint64
}

// notLoaded are libraries that end or change the process that loads them: the
// sanitizers' runtimes, which must come first, and malloc for debugging.
var notLoaded = regexp.MustCompile(`lib(asan|tsan|lsan|hwasan|ubsan|heaptrack|tcmalloc.*debug|SegFault|memusage|pcprofile|c_malloc_debug|jemalloc|mimalloc|tcmalloc|cuda|thread_db)`)

// missed has libraries whose handlers are known not to be found, with the reason.
var missed = map[string]string{
	"libpthread-2.31.so": "glibc's own: it hands __reclaim_stacks to a function of libc.so.6, which registers it",
}

// TestRealLibraries compares what is found in the libraries of five root folders
// with what glibc's list of handlers has when they are loaded, and for the
// libraries that wait until they are used, used.
func TestRealLibraries(t *testing.T) {
	type score struct{ run, both, static int }
	var total score
	roots := []*testbed.Root{testbed.Libraries(t)}
	for _, r := range testbed.Releases() {
		roots = append(roots, testbed.Open(t, r))
	}
	for _, root := range roots {
		t.Run(root.Name, func(t *testing.T) {
			static, groups := findStatic(t, root)
			run, died := findRunning(t, root, groups)
			if len(died) > 0 {
				// One library's end took the others of its group along.
				more, alone := findRunning(t, root, slices.Collect(slices.Chunk(died, 1)))
				maps.Copy(run, more)
				t.Logf("%d libraries end the process that loads them: %v", len(alone), alone)
				if len(alone) > 15 {
					t.Error("too many to say anything of the rest")
				}
			}
			for _, pid := range use(t, root) {
				for _, h := range handlersOf(t, pid) {
					run[h] = true
				}
			}
			s := score{run: len(run), static: len(static)}
			for h := range run {
				switch {
				case static[h] != "":
					s.both++
				case missed[filepath.Base(h.file)] != "":
					t.Logf("missed: %s %#x: %s", h.file, h.addr, missed[filepath.Base(h.file)])
				default:
					t.Errorf("missed: %s %#x", h.file, h.addr)
				}
			}
			for h, what := range static {
				if !run[h] {
					t.Logf("not seen at run time: %s %s", h.file, what)
				}
			}
			files := make(map[string]bool)
			for h := range static {
				files[h.file] = true
			}
			libraries := 0
			for _, g := range groups {
				libraries += len(g)
			}
			t.Logf("%d libraries; %d handlers at run time, %d of them found; %d found in all, in %d files", libraries, s.run, s.both, s.static, len(files))
			total.run, total.both, total.static = total.run+s.run, total.both+s.both, total.static+s.static
		})
	}
	t.Logf("recall %d of %d, precision %d of %d", total.both, total.run, total.both, total.static)
	if total.run < 40 {
		t.Errorf("only %d handlers were seen at run time", total.run)
	}
	if total.both*100 < total.run*95 {
		t.Errorf("recall is below 0.95")
	}
	// What was found and not seen is in code that nothing above runs. Were it more
	// than before, much of it would be wrong.
	if total.both*100 < total.static*80 {
		t.Errorf("less than 0.8 of what was found was seen")
	}
}

// findStatic analyses the libraries of a root. Those with registrations, and
// those of which the list must know nothing in groups, are to be loaded.
func findStatic(t *testing.T, root *testbed.Root) (found map[at]string, groups [][]string) {
	found = make(map[at]string)
	var quiet []string
	look := func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.Contains(d.Name(), ".so") {
			return err
		}
		name := strings.TrimPrefix(path, root.Dir)
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		e, err := elf.NewFile(f)
		if err != nil || e.Machine != elf.EM_X86_64 {
			return nil // linker scripts, other machines
		}
		// Only what imports one of these can register anything; to look for the
		// threads and locks of all others takes a minute.
		symbols, _ := e.DynamicSymbols()
		r := new(atfork.Report)
		if slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return strings.Contains(s.Name, "atfork") }) {
			if r, err = atfork.Analyse(f, atfork.Options{Path: path}); err != nil {
				t.Errorf("%s: %v", name, err)
				return nil
			}
		}
		for i := range r.Registrations {
			for _, h := range r.Registrations[i].Handlers() {
				for _, fn := range h.Funcs {
					if fn.Addr != 0 {
						found[at{name, fn.Addr}] = fmt.Sprintf("%s %s, registered at %#x in %s", h.Role, fn.Name, r.Registrations[i].Addr, r.Registrations[i].In)
					}
				}
			}
		}
		switch {
		case r.Registers():
			groups = append(groups, []string{name})
		case !notLoaded.MatchString(name):
			quiet = append(quiet, name)
		}
		return nil
	}
	dirs := []string{"usr/lib"}
	if d, err := os.Lstat(filepath.Join(root.Dir, "lib")); err == nil && d.IsDir() {
		dirs = append(dirs, "lib") // bullseye's are apart
	}
	for _, d := range dirs {
		if err := filepath.WalkDir(filepath.Join(root.Dir, d), look); err != nil {
			t.Fatal(err)
		}
	}
	return found, slices.AppendSeq(groups, slices.Chunk(quiet, 30))
}

// findRunning loads the groups, each in a process of its own, and reads what
// libc's list has.
func findRunning(t *testing.T, root *testbed.Root, groups [][]string) (run map[at]bool, died []string) {
	victim := testbed.Build(t, "loader.c")
	var list strings.Builder
	for _, g := range groups {
		list.WriteString(strings.Join(g, "\n") + "\n\n")
	}
	work := t.TempDir()
	file := filepath.Join(work, "list")
	if err := os.WriteFile(file, []byte(list.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	run = make(map[at]bool)
	p := root.Start(t, testbed.Cmd{Args: []string{victim, file}, Work: work})
	for i, g := range groups {
		line := p.AwaitLine(t, fmt.Sprintf(`(loaded|died) group=%d(?: pid=(\d+) .*)?`, i))
		if line[1] == "died" {
			died = append(died, g...)
			continue
		}
		inner, err := strconv.Atoi(line[2])
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range handlersOf(t, p.Outer(t, inner)) {
			run[h] = true
		}
		p.Signal(t, syscall.SIGUSR1)
	}
	p.Kill()
	return run, died
}

// use starts programs that use libraries which register handlers late, and
// returns their processes.
func use(t *testing.T, root *testbed.Root) []int {
	t.Helper()
	var pids []int
	ready := func(c testbed.Cmd) {
		p := root.Start(t, c)
		p.AwaitLine(t, "ready")
		pids = append(pids, p.PID)
	}
	if root.Name == "libraries" || root.Name == "bookworm" {
		const script = `import numpy, psycopg2, grpc, signal
channel = grpc.insecure_channel("127.0.0.1:1")
print("ready", flush=True)
signal.pause()`
		ready(testbed.Cmd{Args: []string{"python3", "-c", script}, Env: []string{"GRPC_ENABLE_FORK_SUPPORT=1"}})
		const alone = `import signal
print("ready", flush=True)
signal.pause()`
		ready(testbed.Cmd{Args: []string{"python3", "-c", alone}, Env: []string{"LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"}})
	}
	if root.Name == "bookworm" {
		s := testbed.UWSGI(t, root, testbed.Site{Flags: []string{"--threads", "2"}})
		s.AwaitWorkers(t)
		pids = append(pids, s.Master())
	}
	return pids
}

// handlersOf reads glibc's list in a process.
func handlersOf(t *testing.T, pid int) []at {
	t.Helper()
	fs := proc.New("/proc")
	mapped, err := fs.Maps(pid)
	if err != nil {
		t.Fatal(err)
	}
	// opened is the file of a mapping, and where it is loaded.
	opened := func(m proc.Mapping) (*elffile.File, uint64) {
		f, err := fs.OpenMapped(pid, m)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		e, err := elffile.Open(f)
		if err != nil {
			t.Fatalf("%s: %v", m.Path, err)
		}
		var all []elffile.Mapping
		for _, o := range mapped {
			if o.Path == m.Path {
				all = append(all, elffile.Mapping{Start: o.Start, End: o.End, Offset: o.Offset, Exec: o.Exec})
			}
		}
		bias, err := e.BiasOf(all)
		if err != nil {
			t.Fatalf("%s: %v", m.Path, err)
		}
		return e, bias
	}
	handlers := testbed.ForkHandlers(t, pid)
	var out []at
	for _, h := range handlers {
		for _, a := range []uint64{h.Prepare, h.Parent, h.Child} {
			if a == 0 {
				continue
			}
			m, ok := proc.Find(mapped, a)
			if !ok || !m.Exec || !m.File() {
				t.Fatalf("process %d: handler %#x is in no file: %+v", pid, a, handlers)
			}
			_, bias := opened(m)
			out = append(out, at{m.Path, a - bias})
		}
	}
	return out
}
