// Package facts holds what is known of C libraries, other libraries and servers
// with regard to fork, as data with sources: the TOML files in data, one for each
// libc family and one each for libraries, servers and distributions. The code
// here decodes them and answers questions; it looks at no machine.
//
// A fact is at most `known`: it says that a published defect or hazard matches a
// version, never that a process is deadlocked.
package facts

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

//go:embed data/*.toml
var embedded embed.FS

// Base is all that is known. It is read only once loaded, and safe for use by
// several goroutines.
type Base struct {
	families      []Family
	defects       []*Defect
	locks         []*Lock
	repairs       []*Repair
	libraries     []*Library
	servers       []*Server
	distributions []*Distribution
	hazards       []*Hazard
	posix         POSIX
	calls         []*Call

	// byName finds what Explain explains by its lower-case id or alias.
	byName map[string]any
	// patterns are compiled when first asked for: most commands match no library.
	patterns func() []pattern
}

// load decodes the embedded data once per process.
var load = sync.OnceValues(func() (*Base, error) {
	data, err := fs.Sub(embedded, "data")
	if err != nil {
		return nil, fmt.Errorf("open the facts inside the program: %w", err)
	}
	return read(data)
})

// Load returns the facts that are embedded in the program. It decodes them at
// the first call alone; a key that no type has is an error.
func Load() (*Base, error) { return load() }

// Families returns the C libraries that are known, in the order of the matrix.
func (b *Base) Families() []Family { return b.families }

// Defects returns the defects of C libraries and servers, sorted by subject and id.
func (b *Base) Defects() []*Defect { return b.defects }

// Locks returns the locks of C libraries that stay locked in a worker.
func (b *Base) Locks() []*Lock { return b.locks }

// Repairs returns what fork itself makes usable again in the child.
func (b *Base) Repairs() []*Repair { return b.repairs }

// Libraries returns the libraries that are known, sorted by id.
func (b *Base) Libraries() []*Library { return b.libraries }

// Servers returns the servers that are known, sorted by id.
func (b *Base) Servers() []*Server { return b.servers }

// Hazards returns the classes of what goes wrong with a library over fork.
func (b *Base) Hazards() []*Hazard { return b.hazards }

// Distributions returns the releases of distributions, in the order of the data.
func (b *Base) Distributions() []*Distribution { return b.distributions }

// POSIX returns the list of async-signal-safe functions.
func (b *Base) POSIX() POSIX { return b.posix }

// Family returns what is known of one C library: glibc, musl, bionic, freebsd,
// netbsd, openbsd, macos, uclibc-ng.
func (b *Base) Family(id string) (Family, bool) {
	i := slices.IndexFunc(b.families, func(f Family) bool { return f.ID == strings.ToLower(id) })
	if i < 0 {
		return Family{}, false
	}
	return b.families[i], true
}

// Defect returns a defect by its id or alias, in any case of letters.
func (b *Base) Defect(id string) (*Defect, bool) {
	d, ok := b.byName[strings.ToLower(id)].(*Defect)
	return d, ok
}

// Server returns a server by its id or alias, in any case of letters.
func (b *Base) Server(id string) (*Server, bool) {
	s, ok := b.byName[strings.ToLower(id)].(*Server)
	return s, ok
}
