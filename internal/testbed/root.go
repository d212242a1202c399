package testbed

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Releases are the Debian releases there is a root folder of, oldest first,
// with glibc 2.31, 2.36, 2.41 and 2.43 and Python 3.9, 3.11, 3.13 and 3.14.
func Releases() []string { return []string{"bullseye", "bookworm", "trixie", "forky"} }

// Root is a place where programs can be started: a root folder, or the machine.
type Root struct {
	// Name is a Debian release, or "host".
	Name string
	// Dir is the root folder as the machine sees it; empty for the machine itself.
	Dir string
}

// IsHost reports whether r is the machine itself and no root folder.
func (r *Root) IsHost() bool { return r.Dir == "" }

func (r *Root) String() string { return r.Name }

// Host is the machine itself: what is started there has no namespaces of its own.
func Host(testing.TB) *Root { return &Root{Name: "host"} }

// Open returns the root folder of a release. The test fails if it is not there
// or cannot be entered; it is never skipped, or a machine without the folders
// would call everything well.
func Open(t testing.TB, release string) *Root {
	t.Helper()
	if !slices.Contains(Releases(), release) {
		t.Fatalf("testbed: %q is none of the releases %s", release, strings.Join(Releases(), ", "))
	}
	dir := filepath.Join(folders(t), release)
	if _, err := os.Stat(filepath.Join(dir, ".forkproof-root")); err != nil {
		t.Fatalf("testbed: no root folder of %s in %s: run make setup", release, filepath.Dir(dir))
	}
	if os.Geteuid() != 0 {
		t.Fatal("testbed: entering a root folder needs root: run make test, which asks for it")
	}
	return &Root{Name: release, Dir: dir}
}

// Each runs fn as one subtest per release, on its root folder.
func Each(t *testing.T, fn func(t *testing.T, root *Root)) {
	t.Helper()
	for _, release := range Releases() {
		t.Run(release, func(t *testing.T) { fn(t, Open(t, release)) })
	}
}

// folders returns where the root folders are: scripts/roots.sh has the same rule.
func folders(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("FORKPROOF_TEST_ROOTS"); dir != "" {
		return dir
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatalf("testbed: no folder for root folders: %v (set FORKPROOF_TEST_ROOTS)", err)
	}
	return filepath.Join(base, "forkproof", "roots")
}
