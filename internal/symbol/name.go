package symbol

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// betterThan orders several names of one place, so that the same one is chosen
// always, and it is the one that people know: functions and objects before
// labels, names that others can use before private ones, few leading
// underscores, short, and in the end the alphabet.
func (s Sym) betterThan(o Sym) bool {
	if a, b := s.Kind != Label, o.Kind != Label; a != b {
		return a
	}
	if s.Local != o.Local {
		return o.Local
	}
	if a, b := underscores(s.Name), underscores(o.Name); a != b {
		return a < b
	}
	if len(s.Name) != len(o.Name) {
		return len(s.Name) < len(o.Name)
	}
	return s.Name < o.Name
}

// underscores counts the leading ones, but for those of mangled names.
func underscores(name string) int {
	if mangled(name) {
		return 0
	}
	return len(name) - len(strings.TrimLeft(name, "_"))
}

// withoutVersion cuts the symbol version off a name: GNU ld since 2.35 writes
// names like memcpy@@GLIBC_2.14 into .symtab.
func withoutVersion(name string) string {
	if i := strings.IndexByte(name, '@'); i > 0 {
		return name[:i]
	}
	return name
}

// maxMangled is the longest name that is demangled, in bytes. Longer ones exist
// in template-heavy C++, and nobody reads them.
const maxMangled = 8 << 10

// maxDemangled is the power of two that bounds the result: a mangled name can
// refer back to its own parts and so grow without end.
const maxDemangled = 13

// mangled says whether name may be that of a C++ or Rust function, so that C
// names, the larger part by far, cost nothing.
func mangled(name string) bool {
	return strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "__Z") || strings.HasPrefix(name, "___Z") ||
		strings.HasPrefix(name, "_R") || strings.HasPrefix(name, "_GLOBAL__")
}

// Demangle turns the mangled name of a C++ or Rust function (both of Rust's
// schemes) into what its author wrote, with parameters. Any other name is
// returned as it is.
func Demangle(name string) string { return filter(name) }

// Short is Demangle without parameter lists and template arguments, which can
// fill a screen and seldom tell more than the name.
func Short(name string) string {
	return filter(name, demangle.NoParams, demangle.NoTemplateParams, demangle.NoEnclosingParams)
}

func filter(name string, options ...demangle.Option) string {
	if !mangled(name) || len(name) > maxMangled {
		return name
	}
	return demangle.Filter(name, append(options, demangle.MaxLength(maxDemangled))...)
}
