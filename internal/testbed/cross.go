package testbed

import (
	"os"
	"path/filepath"
	"testing"
)

// Cross is the root folder with compilers for AArch64, which scripts/roots.sh
// makes beside those of the releases. Nothing of it is run but the compilers.
func Cross(t testing.TB) *Root {
	t.Helper()
	dir := filepath.Join(folders(t), "cross")
	if _, err := os.Stat(filepath.Join(dir, ".forkproof-root")); err != nil {
		t.Fatalf("testbed: no root folder %s with compilers for AArch64: run make setup", dir)
	}
	return &Root{Name: "cross", Dir: dir}
}
