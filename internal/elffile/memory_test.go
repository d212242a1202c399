package elffile

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// procMem reads a process through /proc/PID/mem, so that the test does not
// depend on another package.
type procMem struct{ f *os.File }

func (m procMem) ReadAt(p []byte, addr uint64) (int, error) { return m.f.ReadAt(p, int64(addr)) }

func openMem(t *testing.T, pid int) procMem {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return procMem{f}
}

type mapped struct {
	Mapping
	path string
}

func mappings(t *testing.T, pid int) []mapped {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []mapped
	for line := range strings.Lines(string(raw)) {
		var m mapped
		var perm, dev string
		var inode uint64
		if _, err := fmt.Sscanf(line, "%x-%x %s %x %s %d", &m.Start, &m.End, &perm, &m.Offset, &dev, &inode); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		m.Exec = strings.Contains(perm, "x")
		if fields := strings.Fields(line); len(fields) > 5 {
			m.path = fields[5]
		}
		all = append(all, m)
	}
	return all
}

// TestVDSO reads the vdso of this very process, an image that has no file.
func TestVDSO(t *testing.T) {
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
	f, err := FromMemory(openMem(t, os.Getpid()), base)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := f.Soname(); err != nil || !strings.HasPrefix(name, "linux-vdso") {
		t.Errorf("soname %q, %v", name, err)
	}
	if id, err := f.ReadBuildID(); err != nil || len(id) < 16 {
		t.Errorf("build-id %q, %v", id, err)
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, name := range []string{"__vdso_clock_gettime", "__kernel_clock_gettime"} {
		_, s, ok, err := syms.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		found = found || ok && s.Size > 0
	}
	if !found {
		t.Error("the vdso's clock_gettime was not found")
	}
	if n, err := syms.Count(); err != nil || n < 3 {
		t.Errorf("%d symbols, %v", n, err)
	}
	if e, err := f.EHFrame(); err != nil || e.Hdr.Size == 0 {
		t.Errorf("unwind tables: %+v, %v", e, err)
	}
	if _, err := f.Sections(); !errors.Is(err, ErrAbsent) {
		t.Errorf("sections of an image in memory: %v, want ErrAbsent", err)
	}
}

// waiting says "ready" and waits until its input is closed. Its second exported
// function and the library below it make for a symbol table worth reading.
const waiting = `
#include <stdio.h>
int exported_one(int n) { return n + 1; }
int exported_two(int n) { return n + 2; }
int main(void) { puts("ready"); fflush(stdout); return getchar() == EOF ? 0 : 1; }
`

func start(t *testing.T, path string) int {
	t.Helper()
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the program said %q, %v", line, err)
	}
	return cmd.Process.Pid
}

// TestLoadedImages compares what is read of running programs from memory with
// what is read from their files, and finds the load bias of each.
func TestLoadedImages(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "w.c")
	if err := os.WriteFile(src, []byte(waiting), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			path := filepath.Join(dir, v.name)
			tool(t, "gcc", append([]string{"-O1", "-o", path, src}, v.flags...)...)
			pid := start(t, path)
			// Remove the file: what memory holds must not depend on it.
			kept := open(t, path)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			mem := openMem(t, pid)
			byPath := map[string][]Mapping{}
			for _, m := range mappings(t, pid) {
				if strings.HasPrefix(m.path, "/") {
					byPath[m.path] = append(byPath[m.path], m.Mapping)
				}
			}
			if len(byPath[path]) == 0 {
				t.Fatalf("%s is not among the mappings", path)
			}
			for p, maps := range byPath {
				f := kept
				if p != path {
					f = open(t, p)
				}
				compareLoaded(t, p, f, mem, maps)
			}
		})
	}
}

func compareLoaded(t *testing.T, path string, f *File, mem procMem, maps []Mapping) {
	t.Helper()
	bias, err := f.BiasOf(maps)
	if errors.Is(err, ErrNotLoaded) {
		return // locale data and the like never get here: they are no ELF files
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	img, err := FromMemory(mem, maps[0].Start)
	if err != nil {
		t.Fatalf("%s in memory: %v", path, err)
	}
	// The oracle of the bias: the bytes of the code are the same there.
	if got, _ := img.MemoryBias(); got != bias {
		t.Errorf("%s: bias %#x from the mappings, %#x from memory", path, bias, got)
	}
	code := make([]byte, 64)
	if _, err := mem.ReadAt(code, bias+f.Entry()); f.Entry() != 0 && err != nil {
		t.Errorf("%s: entry %#x at bias %#x: %v", path, f.Entry(), bias, err)
	} else if want, err := f.BytesAt(f.Entry(), 64); err == nil && !bytes.Equal(code, want) {
		t.Errorf("%s: other bytes at the entry point: bias %#x is wrong", path, bias)
	}
	for _, m := range maps {
		if b, ok := f.Bias(m.Start, m.Offset); m.Exec && (!ok || b != bias) {
			t.Errorf("%s: bias %#x %v from the executable mapping alone, want %#x", path, b, ok, bias)
		}
	}
	if a, b := img.BuildID(), f.BuildID(); a != b {
		t.Errorf("%s: build-id %q in memory, %q in the file", path, a, b)
	}
	a, errA := img.Needed()
	b, errB := f.Needed()
	if errA != nil || errB != nil || fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("%s: needed %v (%v) in memory, %v (%v) in the file", path, a, errA, b, errB)
	}
	if img.IsPIE() != f.IsPIE() || img.IsStatic() != f.IsStatic() {
		t.Errorf("%s: another kind of program in memory", path)
	}
	ea, errA := img.EHFrame()
	eb, errB := f.EHFrame()
	if _, hdr := f.Segment(elf.PT_GNU_EH_FRAME); !hdr {
		// Without the header (gcc -static leaves it out) only a section says
		// where the tables are, and memory has no sections.
		if !errors.Is(errA, ErrAbsent) {
			t.Errorf("%s: unwind tables in memory: %v, want ErrAbsent", path, errA)
		}
	} else if errA != nil || errB != nil || ea.Hdr.VAddr != eb.Hdr.VAddr || ea.Frame.VAddr != eb.Frame.VAddr {
		t.Errorf("%s: unwind tables %#x (%v) in memory, %#x (%v) in the file", path, ea.Frame.VAddr, errA, eb.Frame.VAddr, errB)
	}
	compareLoadedSymbols(t, path, img, f)
}

func compareLoadedSymbols(t *testing.T, path string, img, f *File) {
	t.Helper()
	sf, err := f.DynamicSymbols()
	if errors.Is(err, ErrAbsent) {
		return
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	si, err := img.DynamicSymbols()
	if err != nil {
		t.Fatalf("%s in memory: %v", path, err)
	}
	n, err := sf.Count()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	m, err := si.Count()
	if err != nil || m > n {
		t.Fatalf("%s: %d symbols in memory (%v), %d in the file", path, m, err, n)
	}
	for i := 1; i < n; i++ {
		want, err := sf.At(i)
		if err != nil {
			t.Fatal(err)
		}
		if i >= m {
			// An image without exports does not say how many imports it has.
			if want.Section != 0 {
				t.Errorf("%s: defined symbol %d is missing in memory", path, i)
			}
			continue
		}
		got, err := si.At(i)
		if err != nil || got != want {
			t.Fatalf("%s: symbol %d is %+v (%v) in memory, %+v in the file", path, i, got, err, want)
		}
	}
}

func TestFromMemoryRefuses(t *testing.T) {
	mem := openMem(t, os.Getpid())
	if _, err := FromMemory(mem, 0); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("address 0: %v", err)
	}
	for _, m := range mappings(t, os.Getpid()) {
		if m.path == "[stack]" {
			if _, err := FromMemory(mem, m.Start); !errors.Is(err, ErrNotELF) {
				t.Errorf("a stack: %v, want ErrNotELF", err)
			}
		}
	}
}

func TestBiasTable(t *testing.T) {
	// A library whose text ends and whose data begins in the same page of the
	// file: offset 0x2000 is mapped twice.
	f := &File{typ: 3, Segments: []Segment{
		{Type: 1, Flags: 5, Off: 0, VAddr: 0, FileSize: 0x2800, MemSize: 0x2800, Align: 0x1000},
		{Type: 1, Flags: 6, Off: 0x2800, VAddr: 0x3800, FileSize: 0x900, MemSize: 0x2000, Align: 0x1000},
	}}
	const at = 0x7f0000000000
	text := Mapping{Start: at, End: at + 0x3000, Offset: 0, Exec: true}
	data := Mapping{Start: at + 0x3000, End: at + 0x5000, Offset: 0x2000}
	for _, c := range []struct {
		name string
		maps []Mapping
		want uint64
		err  error
	}{
		{"text", []Mapping{text}, at, nil},
		{"both", []Mapping{text, data}, at, nil},
		{"the other way round", []Mapping{data, text}, at, nil},
		{"data alone, which fits both", []Mapping{data}, at, nil},
		{"data split by mprotect", []Mapping{{at + 0x3000, at + 0x4000, 0x2000, false}, {at + 0x4000, at + 0x5000, 0x3000, false}}, at, nil},
		{"none", nil, 0, ErrNotLoaded},
		{"beyond the file", []Mapping{{at, at + 0x1000, 0x9000, false}}, 0, ErrNotLoaded},
		{"empty", []Mapping{{at, at, 0, false}}, 0, ErrNotLoaded},
	} {
		if got, err := f.BiasOf(c.maps); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %#x, %v; want %#x, %v", c.name, got, err, c.want, c.err)
		}
	}
	fixed := &File{typ: 2, Segments: []Segment{{Type: 1, Flags: 5, Off: 0, VAddr: 0x400000, FileSize: 0x2800, MemSize: 0x2800}}}
	if b, err := fixed.BiasOf([]Mapping{{0x400000, 0x403000, 0, true}}); b != 0 || err != nil {
		t.Errorf("fixed addresses: %#x, %v", b, err)
	}
	if b, err := fixed.BiasOf([]Mapping{{0x7f0000, 0x7f3000, 0, true}}); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("a fixed program mapped elsewhere: %#x, %v", b, err)
	}
}
