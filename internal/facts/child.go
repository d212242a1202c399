package facts

import (
	"slices"
	"strings"
)

// Call is a group of functions of which something is known for the child of a
// process with threads.
type Call struct {
	ID        string   `toml:"id" json:"id"`
	Kind      CallKind `toml:"kind" json:"kind"`
	Title     string   `toml:"title" json:"title"`
	Functions []string `toml:"functions" json:"functions"`
	Basis     Basis    `toml:"basis" json:"basis"`
	Sources   []Source `toml:"source" json:"sources"`
}

// CallKind says what calling a function in such a child means.
type CallKind string

// The kinds, from harmless to harmful.
const (
	// Listed: POSIX allows it.
	Listed CallKind = "listed"
	// Plain: POSIX does not list it, and it has nothing that a fork could break.
	Plain CallKind = "harmless"
	// Ends: it ends the process.
	Ends CallKind = "ends"
	// Idiom: it gives back what the prepare handler took.
	Idiom CallKind = "idiom"
	// Repaired: the C library makes it usable again in the child.
	Repaired CallKind = "repaired"
	// Unlisted: nothing is known but that POSIX does not list it.
	Unlisted CallKind = "unlisted"
	// Allocates: it calls malloc, of which this C library's version makes no
	// promise, or it is not known.
	Allocates CallKind = "allocates"
	// Locked: a lock of the C library may be left locked, on which it then hangs.
	Locked CallKind = "locked"
	// Waits: it waits for another thread.
	Waits CallKind = "waits"
	// Reenters: it comes back to the list of fork handlers.
	Reenters CallKind = "reenters"
)

// ChildCall is what is known of one function in the child.
type ChildCall struct {
	Kind CallKind
	// Says is a clause that gives the reason, empty for Unlisted.
	Says string
	// Fact is the id of the entry behind it, empty for Listed and Unlisted.
	Fact    string
	Sources []Source
}

// Excused reports whether POSIX forbids the call but it works.
func (c ChildCall) Excused() bool {
	return c.Kind == Plain || c.Kind == Ends || c.Kind == Idiom || c.Kind == Repaired
}

// InChild says what calling a function means in the child of a process with
// threads, with a C library of a family and upstream version; an empty version
// is one that is not known. Names are those of the symbol table.
func (b *Base) InChild(function, family, version string) ChildCall {
	name := plainName(function)
	if b.listed(name) {
		return ChildCall{Kind: Listed, Says: "POSIX lists it"}
	}
	c, known := b.call(function)
	if known && c.Kind == Reenters {
		return ChildCall{c.Kind, c.Title, c.ID, c.Sources}
	}
	for _, l := range b.locks {
		if l.Family == family && slices.Contains(l.Functions, name) && heldIn(l.Ranges, version) {
			return ChildCall{Locked, l.Title, l.ID, l.Sources}
		}
	}
	if known && c.Kind != Allocates {
		return ChildCall{c.Kind, c.Title, c.ID, c.Sources}
	}
	if known {
		name = "malloc"
	}
	for _, r := range b.repairs {
		if r.Family == family && slices.Contains(r.Functions, name) && version != "" && heldIn(r.Ranges, version) {
			return ChildCall{Repaired, r.Title, r.ID, r.Sources}
		}
	}
	if known {
		return ChildCall{c.Kind, c.Title, c.ID, c.Sources}
	}
	if slices.ContainsFunc(b.repairs, func(r *Repair) bool { return r.ID == family+"-malloc" && slices.Contains(r.Functions, name) }) {
		return ChildCall{Kind: Allocates, Says: "allocates or frees memory", Fact: family + "-malloc"}
	}
	return ChildCall{Kind: Unlisted}
}

func (b *Base) listed(name string) bool {
	for _, i := range b.posix.Issues {
		if slices.Contains(i.Functions, name) {
			for _, j := range b.posix.Issues {
				if slices.ContainsFunc(j.Removed, func(r Removal) bool { return r.Function == name }) {
					return false
				}
			}
			return true
		}
	}
	return false
}

func (b *Base) call(function string) (*Call, bool) {
	for _, c := range b.calls {
		if slices.Contains(c.Functions, function) {
			return c, true
		}
	}
	if plain := plainName(function); plain != function {
		return b.call(plain)
	}
	return nil, false
}

// heldIn reports whether one of ranges has a version; of one that is not known
// it is assumed.
func heldIn(ranges []Range, version string) bool {
	return version == "" || slices.ContainsFunc(ranges, func(r Range) bool { return r.Holds(version) })
}

// plainName is the function that a name of the symbol table stands for: glibc's
// checked variants (__memcpy_chk), C99 ones (__isoc99_sscanf), private aliases.
func plainName(name string) string {
	out := name
	if s, ok := strings.CutSuffix(out, "_chk"); ok && strings.HasPrefix(s, "__") {
		out = s[2:]
	}
	for _, prefix := range []string{"__isoc99_", "__isoc23_", "__libc_", "__GI_"} {
		out = strings.TrimPrefix(out, prefix)
	}
	return out
}
