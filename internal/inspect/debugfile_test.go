package inspect

import (
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

// TestSeparateDebugFile names a lock and a function that a stripped program has
// only in the debug file which it points to.
func TestSeparateDebugFile(t *testing.T) {
	dir := t.TempDir()
	full, program := testbed.Build(t, "lockzoo.c"), filepath.Join(dir, "lockzoo")
	for _, args := range [][]string{
		{"mkdir", filepath.Join(dir, ".debug")},
		{"objcopy", "--only-keep-debug", full, filepath.Join(dir, ".debug", "lockzoo.debug")},
		{"objcopy", "--strip-all", "--add-gnu-debuglink=" + filepath.Join(dir, ".debug", "lockzoo.debug"), full, program},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{program, "normal", "stuck"}})
	child := p.AwaitPID(t, "ready", "child")
	testbed.AwaitFutex(t, child)
	doc := inspectPID(t, child)
	got := proofs(doc)
	if len(got) != 1 || got[0].Lock.Where != "lockzoo`g_lock" {
		t.Fatalf("findings %+v, want one about lockzoo`g_lock", doc.Findings)
	}
	native := doc.Targets[0].Threads[0].Native
	if !slices.ContainsFunc(native, func(f finding.NativeFrame) bool { return f.Function == "main" && f.Object == "lockzoo" }) {
		t.Errorf("no frame of main: %+v", native)
	}
}
