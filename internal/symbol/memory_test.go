package symbol

import (
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"forkproof/internal/elffile"
	"forkproof/internal/procmem"
)

// TestImageInMemory names addresses of the vdso of this very process, which has
// no file.
func TestImageInMemory(t *testing.T) {
	raw, err := os.ReadFile("/proc/self/auxv")
	if err != nil {
		t.Fatal(err)
	}
	var base uint64
	for ; len(raw) >= 16; raw = raw[16:] {
		if binary.LittleEndian.Uint64(raw) == 33 { // AT_SYSINFO_EHDR
			base = binary.LittleEndian.Uint64(raw[8:])
		}
	}
	if base == 0 {
		t.Fatal("the kernel gave this process no vdso")
	}
	f, err := elffile.FromMemory(procmem.Open(os.Getpid()), base)
	if err != nil {
		t.Fatal(err)
	}
	tab := New(f, Options{Root: t.TempDir()})
	var s Sym
	found := false
	for _, name := range []string{"__vdso_clock_gettime", "__kernel_clock_gettime"} {
		if got, ok := tab.ByName(name); ok {
			s, found = got, true
		}
	}
	if !found {
		t.Fatalf("the vdso's clock_gettime was not found (%v)", tab.Err())
	}
	got, ok := tab.Lookup(s.Value + s.Size/2)
	if !ok || got.Value != s.Value || !strings.HasSuffix(got.Name, "clock_gettime") {
		t.Errorf("within %+v there is %+v %v", s, got, ok)
	}
	if err := tab.Err(); err != nil {
		t.Error(err)
	}
}
