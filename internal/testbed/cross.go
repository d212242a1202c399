package testbed

import (
	"os"
	"path/filepath"
	"testing"
)

// Cross is the root folder with compilers for AArch64, which scripts/roots.sh
// makes beside those of the releases. Nothing of it is run but the compilers.
func Cross(t testing.TB) *Root { t.Helper(); return extra(t, "cross") }

// Libraries is a root folder of bookworm with libraries that are known for what
// they do at fork.
func Libraries(t testing.TB) *Root { t.Helper(); return extra(t, "libraries") }

func extra(t testing.TB, name string) *Root {
	t.Helper()
	dir := filepath.Join(folders(t), name)
	if _, err := os.Stat(filepath.Join(dir, ".forkproof-root")); err != nil {
		t.Fatalf("testbed: no root folder %s: run make setup", dir)
	}
	return &Root{Name: name, Dir: dir}
}
