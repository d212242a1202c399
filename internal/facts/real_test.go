package facts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forkproof/internal/libc"
	"forkproof/internal/testbed"
)

// TestVerdictsHoldOnRealLibraries does on four releases of Debian what each
// defect needs, and compares what happens with the verdict.
func TestVerdictsHoldOnRealLibraries(t *testing.T) {
	b := base(t)
	program := testbed.Build(t, "fork_defects.c")
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		found, err := filepath.Glob(filepath.Join(root.Dir, "lib", "*-linux-gnu", "libc.so.6"))
		if err != nil || len(found) != 1 {
			t.Fatalf("the C library of %s: %v, %v", root, found, err)
		}
		f, err := os.Open(found[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		libc := libc.Read("glibc", found[0], f)
		for name, id := range map[string]string{
			"atfork": "BZ-24595", "dlclose": "BZ-24595", "join": "glibc-joinstate", "destroy": "glibc-cond-destroy",
			"exit": "glibc-exit-lock", "rwlock": "glibc-rwlock-atfork", "mutex": "glibc-mutex-owner",
		} {
			p := root.Start(t, testbed.Cmd{Args: []string{program, name}})
			if err := p.Wait(t); err != nil {
				t.Errorf("%s: %v\n%s", name, err, p.Output())
				continue
			}
			judged := 0
			for _, j := range b.Libc(Build{Family: libc.Family, Version: libc.Version}).Defects {
				if j.ID != id {
					continue
				}
				judged++
				want := fmt.Sprintf("%s %s", name, map[bool]string{true: "hangs", false: "fine"}[j.Open()])
				if got := strings.TrimSpace(p.Output()); got != want {
					t.Errorf("glibc %s, %s: the data say %s (%s), the library: %q", libc.Version, id, j.State, j.Why, got)
				}
			}
			if judged != 1 {
				t.Errorf("glibc %s: %d verdicts on %s", libc.Version, judged, id)
			}
		}
	})
}
