package testbed

import (
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"forkproof/internal/elffile"
	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
)

// ForkHandlers reads the fork handlers that a process has registered with glibc,
// in their order, out of its memory.
func ForkHandlers(t testing.TB, pid int) []libc.Handler {
	t.Helper()
	fs := proc.New("/proc")
	maps, err := fs.Maps(pid)
	if err != nil {
		t.Fatal(err)
	}
	var all []elffile.Mapping
	var e *elffile.File
	for _, m := range maps {
		if libc.Named(filepath.Base(m.Path)) != "glibc" || filepath.Base(m.Path) == "libpthread.so.0" {
			continue
		}
		all = append(all, elffile.Mapping{Start: m.Start, End: m.End, Offset: m.Offset, Exec: m.Exec})
		if e != nil {
			continue
		}
		f, err := fs.OpenMapped(pid, m)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if e, err = elffile.Open(f); err != nil {
			t.Fatal(err)
		}
	}
	if e == nil {
		t.Fatalf("process %d has no glibc", pid)
	}
	bias, err := e.BiasOf(all)
	if err != nil {
		t.Fatal(err)
	}
	syms, err := e.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	_, s, ok, err := syms.Find(libc.Registrar("glibc"))
	if err != nil || !ok {
		t.Fatalf("glibc of process %d has no %s: %v", pid, libc.Registrar("glibc"), err)
	}
	code, err := e.BytesAt(s.Value, s.Size)
	if err != nil {
		t.Fatal(err)
	}
	mem := procmem.Open(pid)
	isCode := func(a uint64) bool { m, ok := proc.Find(maps, a); return ok && m.Exec }
	lists := libc.HandlerLists(runtime.GOARCH, code, s.Value+bias)
	for _, at := range lists {
		if m, ok := proc.Find(maps, at); !ok || !m.Write {
			continue
		}
		if list, ok := libc.ForkHandlers("glibc", mem, at, isCode); ok {
			return list
		}
	}
	// One that nobody has added to is all zero. It is known by what else the code
	// names: the pointer to the array, and the room for the first handlers.
	for _, at := range lists {
		var head [24]byte
		if _, err := mem.ReadAt(head[:], at); err == nil && head == [24]byte{} && slices.Contains(lists, at+16) && slices.Contains(lists, at+24) {
			return nil
		}
	}
	t.Fatalf("the fork handlers of process %d were not found", pid)
	return nil
}
