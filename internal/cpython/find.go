package cpython

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"forkproof/internal/procmem"
)

// Image is the file of a mapped object, as far as Find needs it. Addresses are
// the file's own (not yet moved by where it is mapped).
type Image interface {
	// Symbol finds a symbol that the file itself defines by its exact name.
	// .dynsym is enough; an undefined symbol must not be returned.
	Symbol(name string) (addr, size uint64, ok bool)
	// Section finds an allocated section by its name.
	Section(name string) (addr, size uint64, ok bool)
}

// Object is a mapped ELF file of the process: its executable or a library.
type Object struct {
	Path  string // as the mappings name it
	Bias  uint64 // run-time address less the file's own address
	Image Image
}

// Find looks for a CPython runtime among the objects of a process, which the
// caller may have narrowed to the executable and to libraries named
// libpython*. mem should not be a cache: Runtime makes its own for each look.
//
// It returns ErrNoPython where there is none, ErrNotRunning where it is loaded
// but not started, an *UnsupportedError (ErrUnsupported) for a release or build
// that is not known, and ErrImplausible where the memory does not look like
// the release found.
func Find(mem procmem.Reader, objects []Object) (*Runtime, error) {
	var first error
	for _, o := range objects {
		if o.Image == nil {
			continue
		}
		addr, ok := runtimeAddr(o)
		if !ok {
			continue
		}
		r, err := open(mem, o, addr)
		if err == nil {
			return r, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = ErrNoPython
	}
	return nil, first
}

// runtimeAddr returns the run-time address of _PyRuntime. It is exported by
// all releases; a build with hidden symbols still has the section, from 3.10.
func runtimeAddr(o Object) (uint64, bool) {
	if a, _, ok := o.Image.Symbol("_PyRuntime"); ok {
		return o.Bias + a, true
	}
	a, _, ok := o.Image.Section(".PyRuntime")
	return o.Bias + a, ok
}

func open(mem procmem.Reader, o Object, addr uint64) (*Runtime, error) {
	r := &Runtime{Path: o.Path, Addr: addr, mem: mem}
	v, err := r.findVersion(o)
	if err != nil {
		return nil, err
	}
	r.Version = v
	if v.FreeThreaded {
		return nil, &UnsupportedError{Version: v, Path: o.Path, Reason: "it is a build without GIL, whose objects and frames are laid out differently"}
	}
	lay, ok := layoutFor(v.Minor)
	if v.Major != 3 || !ok {
		return nil, &UnsupportedError{Version: v, Path: o.Path, Reason: "only 3.8 to 3.14 are known"}
	}
	r.lay = lay
	if index, ok := debugIndexFor(v.Minor); ok {
		b, err := procmem.Bytes(mem, addr, index.size, index.size)
		if err != nil {
			return nil, fmt.Errorf("read _Py_DebugOffsets of %s: %w", o.Path, err)
		}
		if err := r.lay.applyDebugOffsets(b, index); err != nil {
			return nil, fmt.Errorf("CPython %s in %s: %w", v, o.Path, err)
		}
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("CPython %s in %s: %w", v, o.Path, err)
	}
	return r, nil
}

// findVersion takes the surest source that there is: _Py_DebugOffsets (3.13
// and later), Py_Version (exported from 3.11), the text that Py_GetVersion made
// in .bss, and at last the name of the file.
func (r *Runtime) findVersion(o Object) (Version, error) {
	head, err := procmem.Bytes(r.mem, r.Addr, debugHead, debugHead)
	if err != nil {
		return Version{}, fmt.Errorf("read _PyRuntime of %s: %w", o.Path, err)
	}
	if v, ok := parseDebugHead(head); ok {
		return v, nil
	}
	if a, _, ok := o.Image.Symbol("Py_Version"); ok {
		hex, err := procmem.Uint32(r.mem, o.Bias+a)
		if err != nil {
			return Version{}, fmt.Errorf("read Py_Version of %s: %w", o.Path, err)
		}
		if v, ok := versionFromHex(uint64(hex)); ok {
			return v, nil
		}
	}
	if v, ok := r.versionFromBSS(o); ok {
		return v, nil
	}
	if v, ok := versionFromPath(o.Path); ok {
		return v, nil
	}
	return Version{}, &UnsupportedError{Version: Version{Major: 3, Minor: 0, Micro: -1}, Path: o.Path, Reason: "its release cannot be told"}
}

// maxBSS bounds what is searched for the version: that of a CPython of its own
// is some 300 KiB, of a program that embeds one it may be anything.
const maxBSS = 4 << 20

// versionText matches what Py_GetVersion writes, "%.80s (%.80s) %.80s"
// (Python/getversion.c): release, build, compiler.
var versionText = pattern(`\x00(3)\.([0-9]{1,2})\.([0-9]{1,2})[a-z0-9+]* \([^\x00]{3,80}\) ?\n?\[`)

func (r *Runtime) versionFromBSS(o Object) (Version, bool) {
	a, size, ok := o.Image.Section(".bss")
	if !ok {
		return Version{}, false
	}
	const step, overlap = 64 << 10, 256
	buf := make([]byte, 1+step+overlap)
	for off := uint64(0); off < min(size, maxBSS); off += step {
		n := min(step+overlap, size-off)
		// The text may begin the section: the byte before it counts as zero.
		b := buf[:1+n]
		b[0] = 0
		if _, err := r.mem.ReadAt(b[1:], o.Bias+a+off); err != nil {
			return Version{}, false
		}
		if m := versionText().FindSubmatch(b); m != nil {
			return numbers(m[1:]), true
		}
	}
	return Version{}, false
}

var versionName = pattern(`^(?:lib)?python(3)\.([0-9]{1,2})(?:d?\.so.*|d)?$`)

func versionFromPath(p string) (Version, bool) {
	m := versionName().FindSubmatch([]byte(strings.TrimSuffix(path.Base(p), " (deleted)")))
	if m == nil {
		return Version{}, false
	}
	return numbers(m[1:]), true
}

// numbers makes a Version of two or three decimal numbers.
func numbers(m [][]byte) Version {
	v := Version{Micro: -1}
	for i, to := range []*int{&v.Major, &v.Minor, &v.Micro} {
		if i < len(m) && len(bytes.TrimSpace(m[i])) > 0 {
			if n, err := strconv.Atoi(string(m[i])); err == nil {
				*to = n
			}
		}
	}
	return v
}

// check walks from the runtime to interpreters, threads and frames and back,
// and refuses when something is not what the release must have there.
func (r *Runtime) check() error {
	all, err := r.Interpreters()
	if err != nil {
		return err
	}
	v := r.newView()
	alive := false
	for _, in := range all {
		if in.Modules != 0 {
			name, err := v.typeOf(in.Modules)
			if err != nil || name != "dict" {
				return fmt.Errorf("sys.modules at 0x%x is a %q: %w", in.Modules, name, ErrImplausible)
			}
			alive = true
		}
		if in.threads == 0 {
			continue
		}
		alive = true
	}
	if !alive {
		return ErrNotRunning
	}
	threads, err := r.threadStates(all)
	if err != nil {
		return err
	}
	// One thread that can be read shows that the offsets are right; others may
	// be on the move.
	var bad error
	left := maxAllFrames
	for range 3 {
		for i := range threads {
			t := &threads[i]
			chain := v.stack(t)
			if t.Err == nil && len(t.Frames) > 0 {
				return nil
			}
			if left -= 1 + len(chain); left <= 0 {
				return errMany
			}
			if bad == nil {
				bad = t.Err
			}
		}
		if bad == nil {
			return nil // no thread runs Python code now
		}
		v = r.newView()
	}
	return fmt.Errorf("%w: %w", ErrImplausible, bad)
}

// pattern compiles a regular expression when it is first asked for: most runs
// never ask, and the larger ones take as long as reading a hundred processes.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}
