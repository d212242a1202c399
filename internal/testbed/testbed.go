// Package testbed runs real programs for the tests of this project: servers and
// small victims, on this machine or inside the root folder of a Debian release,
// entered as a container would be, with its own mount, PID, IPC and host name
// namespaces. It is linked into test binaries only.
//
// A test opens a root and starts something in it:
//
//	root := testbed.Open(t, "bookworm")
//	server := testbed.Gunicorn(t, root, testbed.Site{App: "lock_module", Workers: 2, Hooks: "touch"})
//	server.AwaitHung(t, 2)
//
// Whatever was started is killed at the end of the test, with everything that
// it started itself, and its output is printed if the test failed. No function
// sleeps for a fixed time: each waits for a condition, and fails the test with
// what it saw when the condition has not come within [Patience].
//
// Every victim lies in victims/ with a comment at its top on what it shows.
// The root folders are made by scripts/roots.sh; entering them needs root.
package testbed

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Patience is how long a condition is awaited before the test fails. It is
// generous because tests share few processors with each other; it is never
// waited out where all is well.
const Patience = 90 * time.Second

// sources returns the folder of this package's sources, where the victims are.
func sources(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		t.Fatal("testbed: the test binary does not know where its sources are: build it without -trimpath")
	}
	return filepath.Dir(file)
}

// Victim returns the path of a file or folder under victims/. It is the same
// on the machine and inside every root.
func Victim(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(sources(t), "victims", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("testbed: no such victim: %v", err)
	}
	return path
}

// cache returns the folder for compiled victims, shared by all test binaries.
func cache(t testing.TB) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("testbed: no folder for compiled victims: %v (set HOME or XDG_CACHE_HOME)", err)
	}
	dir := filepath.Join(base, "forkproof", "victims")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatalf("testbed: %v", err)
	}
	return dir
}
