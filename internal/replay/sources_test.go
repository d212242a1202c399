package replay

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What is embedded is what the sources give.
func TestProgramsAreCurrent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("building in a root folder needs root")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "bash", "scripts/probes.sh", "replay", dir)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	for _, kind := range []string{"glibc-amd64", "glibc-arm64", "musl-amd64", "musl-arm64"} {
		name := "replay-" + kind
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := binaries.ReadFile("bin/" + name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("bin/%s is not what the sources give (%v): run make probes", name, err)
		}
	}
}
