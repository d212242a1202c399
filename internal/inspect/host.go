package inspect

import (
	"os"
	"runtime"

	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/libc"
	"forkproof/internal/osdb"
	"forkproof/internal/proc"
)

// Host describes the machine that forkproof runs on: its kernel, its own C library
// and what that implies for a server that would be started here. A server in a
// container may use another one.
func Host() finding.Host {
	h := localHost()
	build, found := hostBuild()
	if found == nil {
		return h
	}
	h.Libc = found
	if b, err := facts.Load(); err == nil {
		h.LibcMeans = b.Libc(build).Means()
	}
	return h
}

// localHost is the part of Host that takes no time: what a C library implies is
// asked only where no server is there to be looked at.
func localHost() finding.Host {
	h := finding.Host{Arch: runtime.GOARCH}
	h.Name, h.Kernel = proc.Machine()
	return h
}

// hostBuild finds the machine's own C library, as facts and as reports name it;
// nil where there is none in the usual places.
func hostBuild() (facts.Build, *finding.Libc) {
	for _, dir := range []string{"/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib/aarch64-linux-gnu", "/usr/lib", "/lib"} {
		for _, name := range []string{"libc.so.6", "ld-musl-x86_64.so.1", "ld-musl-aarch64.so.1"} {
			f, err := os.Open(dir + "/" + name)
			if err != nil {
				continue
			}
			id := libc.Read(libc.Named(name), dir+"/"+name, f)
			f.Close()
			b := facts.Build{Family: id.Family, Version: id.Version}
			if id.Package != "" {
				// The banner of Debian's and Ubuntu's builds holds the version of
				// their package; others tell none.
				b.Package = facts.Package{Ecosystem: facts.Deb, Name: "libc6", Version: id.Package}
			}
			// Without it the release is not known, and the version decides.
			if r, err := osdb.ReadRelease(os.DirFS("/")); err == nil {
				b.Package.Distribution, b.Package.Release = r.ID, r.Version
			}
			return b, describe(id, "")
		}
	}
	return facts.Build{}, nil
}
