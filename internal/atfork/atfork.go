// Package atfork finds, in the machine code of programs and libraries, what
// they have fork do: the handlers that they register with pthread_atfork, and
// what these reach. It reads files alone, stripped ones too, and runs nothing.
//
// A registration is found by its call, wherever it comes from: to libc itself, to
// the stub that glibc links into each library statically, or to a function of
// the library that passes handlers on. Arguments are followed as constants
// through registers, stack, branches, and tables that the loader fills. What is
// found is inferred: code that is never run is reported too, and a call through a
// pointer that is set at run time leads nowhere. The Report says so where it
// happened.
package atfork

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"

	"forkproof/internal/elffile"
	"forkproof/internal/libc"
)

// Options say what to look for.
type Options struct {
	// Path names the file in reports, and leads to its debug file.
	Path string
	// DebugFiles: names may come from separate debug files, which cost reading.
	DebugFiles bool
	// Needed finds another library: by the name in DT_NEEDED, for the file that
	// needs it. With it, calls into other libraries are followed there, but for
	// those into a C library, which are the leaves. nil: names of other libraries
	// are the leaves.
	Needed func(name string) (Library, error)
}

// Library is a file that stays open as long as the analysis takes.
type Library struct {
	Path string
	io.ReaderAt
}

// Report is what was found in one file.
type Report struct {
	Path string
	// Soname is the name that a library gives itself, empty for most programs.
	Soname  string
	Machine elf.Machine
	// Program: the file is to be executed, and no library.
	Program bool
	// Libc is the family of the C library that it needs, as package libc calls it:
	// glibc or musl; empty where it needs none by name.
	Libc          string
	Registrations []Registration
	// Threads are the calls that start threads.
	Threads []Call
	// Locks are static locks that the file takes, the first few; LocksMore says
	// that there may be more.
	Locks     []Lock
	LocksMore bool
	// Forks are, in a file that starts threads, the calls of fork after which
	// nothing is seen that leads to exec.
	Forks []Call
	// Notes say what could not be followed as a whole.
	Notes []string
}

// Registers reports whether the file registers handlers of its own.
func (r *Report) Registers() bool { return len(r.Registrations) > 0 }

// Call is a place in the code that calls a function.
type Call struct {
	// Name is the imported function.
	Name string
	// Addr is the address of the call, In the function that it stands in.
	Addr uint64
	In   string
}

// Lock is a lock in static memory.
type Lock struct {
	Addr uint64
	// Name is the variable, or its address.
	Name string
	// Taken is a call that takes it.
	Taken Call
}

// Registration is one call that registers handlers.
type Registration struct {
	// Addr is the address of the call, In the function that it stands in, and Via
	// what it goes through, if it is not libc directly.
	Addr uint64
	In   string
	Via  []string
	// The handlers, in the order of pthread_atfork's arguments.
	Prepare, Parent, Child Handler
}

// Handlers are the three, by name.
func (r *Registration) Handlers() []*Handler { return []*Handler{&r.Prepare, &r.Parent, &r.Child} }

// Handler is one argument of a registration.
type Handler struct {
	// Role is prepare, parent or child.
	Role string
	// None: it is a null pointer.
	None bool
	// Funcs are the functions that it may be: one as a rule, several where the
	// code chooses.
	Funcs []Func
	// Unknown says why the handler is not known, empty where it is.
	Unknown string
	Reach   Reach
}

// Func is a function of the file, or one that it imports.
type Func struct {
	// Addr is 0 for an imported one.
	Addr uint64
	Name string
}

// Reach is what a handler can come to.
type Reach struct {
	// Leaves are the functions of other libraries, each with the shortest way
	// there, in the order of their names.
	Leaves []Leaf
	// Unresolved are calls through pointers that lead nowhere known.
	Unresolved []Unresolved
	// Functions is how many functions of the file were walked.
	Functions int
	// Cut says why not all was walked, empty where it was.
	Cut string
}

// Leaf is a function of another library that is called.
type Leaf struct {
	Name string
	// Path is how it is reached: the handler first, the caller last.
	Path []Step
	// Soft: a pointer on the way was taken for what it is when the program
	// starts; it may have been changed.
	Soft bool
	// Lock is the static lock that the call is about, which tells apart several
	// leaves of one name; empty where it is not known, or the function has none.
	Lock string
}

// Step is one function on the way, with the address of the call in it.
type Step struct {
	Func string
	Addr uint64
	// File is the base name of the library, empty for the file itself.
	File string
}

// Unresolved is a call through a pointer.
type Unresolved struct {
	// What is known of the pointer.
	What string
	Path []Step
}

// Names of the functions that register handlers: that of POSIX, glibc's behind
// its stub, and the older names of both.
var registrars = []string{"pthread_atfork", "__register_atfork", "__pthread_atfork"}

// Names of functions that start threads: POSIX, C11, libstdc++, libc++.
var starters = []string{
	"pthread_create", "thrd_create",
	"_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE",
	"_ZNSt6thread15_M_start_threadESt10shared_ptrINS_10_Impl_baseEEPFvvE",
	"_ZNSt6thread15_M_start_threadESt10shared_ptrINS_10_Impl_baseEE",
}

var forks = []string{"fork", "__fork", "_Fork"}

// ErrUnlike wraps the reason why a file is none that this package reads.
var ErrUnlike = errors.New("not a program or library that can be looked at")

// Analyse reads one ELF file. A file that is no ELF file, of another processor,
// or damaged gives an error of package elffile. What is only in part damaged
// gives a Report with Notes.
func Analyse(r io.ReaderAt, opts Options) (*Report, error) {
	file, err := elffile.Open(r)
	if err != nil {
		return nil, err
	}
	if t := file.Type(); t != elf.ET_DYN && t != elf.ET_EXEC {
		return nil, fmt.Errorf("ELF file of type %v: %w", t, ErrUnlike)
	}
	out := &Report{Path: opts.Path, Machine: file.Machine()}
	out.Soname, _ = file.Soname()
	_, interp := file.Segment(elf.PT_INTERP)
	out.Program = file.Type() == elf.ET_EXEC || file.IsPIE() || interp && out.Soname == ""
	needed, err := file.Needed()
	if err != nil {
		out.Notes = append(out.Notes, err.Error())
	}
	for _, n := range needed {
		if f := libc.Named(n); f != "" {
			out.Libc = f
		}
	}
	b, err := open(opts.Path, file, opts.DebugFiles)
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.syms.Close() }()
	own := b.ownRegistrars()
	registers := len(own) > 0 || b.imports(registrars...)
	threads := b.imports(starters...)
	locks := b.imports(lockers...)
	if !registers && !threads && !locks {
		return out, nil
	}
	if err := b.link(); err != nil {
		return nil, err
	}
	a := &analysis{image: b, opts: opts, report: out, libraries: make(map[string]*image)}
	defer a.close()
	if registers {
		if err := a.register(own); err != nil {
			return nil, err
		}
	}
	if threads || locks {
		if err := a.threads(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// analysis is the work on one file.
type analysis struct {
	*image
	opts   Options
	report *Report
	// libraries are those of Options.Needed, nil where one cannot be read.
	libraries map[string]*image
	// named are the functions that name an imported function, by its name.
	named map[string][]uint64
}

func (a *analysis) close() {
	for _, l := range a.libraries {
		if l != nil {
			_ = l.syms.Close()
		}
	}
}

func (a *analysis) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); len(a.report.Notes) < 20 && !slices.Contains(a.report.Notes, n) {
		a.report.Notes = append(a.report.Notes, n)
	}
}

// ownRegistrars are the functions of this file that are called like libc's: a
// program that is linked statically, or the C library itself.
func (b *image) ownRegistrars() []uint64 {
	var out []uint64
	for _, d := range b.dyn {
		if d.value != 0 && d.kind == elf.STT_FUNC && slices.Contains(registrars, d.name) {
			out = append(out, d.value)
		}
	}
	if len(b.dyn) == 0 || b.file.IsStatic() {
		for _, n := range registrars {
			for _, s := range b.syms.AllByName(n) {
				out = append(out, s.Value)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
