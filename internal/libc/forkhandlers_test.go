package libc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"forkproof/internal/elffile"
	"forkproof/internal/proc"
	"forkproof/internal/symbol"
	"forkproof/internal/testbed"
)

// TestForkHandlers reads the list of a process that registered handlers in a
// known order, on glibc before 2.36, whose entries are smaller, and after.
func TestForkHandlers(t *testing.T) {
	lib, victim := testbed.Build(t, "libhandlers.c"), testbed.Build(t, "loader.c")
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		work := t.TempDir()
		here := filepath.Join(work, "libhandlers.so")
		data, err := os.ReadFile(lib)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(here, data, 0o755); err != nil {
			t.Fatal(err)
		}
		list := filepath.Join(work, "list")
		if err := os.WriteFile(list, []byte(here+"\n\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		p := root.Start(t, testbed.Cmd{Args: []string{victim, list}, Work: work})
		inner, err := strconv.Atoi(p.AwaitFields(t, "loaded")["pid"])
		if err != nil {
			t.Fatal(err)
		}
		pid := p.Outer(t, inner)
		fs := proc.New("/proc")
		mapped, err := fs.Maps(pid)
		if err != nil {
			t.Fatal(err)
		}
		// open is a mapped file and where it is loaded.
		open := func(is func(base string) bool) (*elffile.File, uint64) {
			var all []elffile.Mapping
			var e *elffile.File
			for _, m := range mapped {
				if !is(filepath.Base(m.Path)) {
					continue
				}
				all = append(all, elffile.Mapping{Start: m.Start, End: m.End, Offset: m.Offset, Exec: m.Exec})
				if e == nil {
					f, err := fs.OpenMapped(pid, m)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = f.Close() })
					if e, err = elffile.Open(f); err != nil {
						t.Fatal(err)
					}
				}
			}
			bias, err := e.BiasOf(all)
			if err != nil {
				t.Fatal(err)
			}
			return e, bias
		}
		got := testbed.ForkHandlers(t, pid)
		e, bias := open(func(base string) bool { return base == "libhandlers.so" })
		syms := symbol.New(e, symbol.Options{NoDebugFiles: true})
		name := func(addr uint64) string {
			s, _ := syms.Lookup(addr - bias)
			return s.Name
		}
		var seen []string
		for _, h := range got {
			if c := name(h.Child); c != "" || name(h.Prepare) != "" {
				seen = append(seen, fmt.Sprintf("%s %s %s", name(h.Prepare), name(h.Parent), c))
			}
		}
		if len(seen) < 14 || seen[0] != "plain_prepare plain_parent plain_child" || seen[1] != "  tail_child" || seen[2] != "passed_prepare passed_parent passed_child" ||
			seen[len(seen)-1] != "left_prepare left_parent " {
			t.Errorf("the list has %q", seen)
		}
	})
}
