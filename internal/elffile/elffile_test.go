package elffile

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// realFiles are ELF files of this machine, of very different makers and sizes.
// The C library must be there; of the others those that are installed count.
func realFiles(t testing.TB) []string {
	t.Helper()
	patterns := []string{
		"/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6",
		"/lib64/ld-linux-x86-64.so.2", "/usr/bin/python3.11", "/usr/bin/gdb",
		"/usr/lib/*-linux-gnu/libstdc++.so.6", "/usr/lib/jvm/*/lib/server/libjvm.so", "/usr/local/go/bin/go",
	}
	var found []string
	libc := false
	for _, p := range patterns {
		got, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		libc = libc || strings.Contains(p, "libc.so") && len(got) > 0
		found = append(found, got...)
	}
	if !libc {
		t.Fatal("no libc.so.6 in any of the places where distributions keep it")
	}
	return found
}

func open(t testing.TB, path string) *File {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	f, err := Open(r)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

// TestAgainstStandardLibrary reads real files with this reader and with
// debug/elf, and compares everything both know.
func TestAgainstStandardLibrary(t *testing.T) {
	for _, path := range append(realFiles(t), compileAll(t)...) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			f := open(t, path)
			want, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = want.Close() }()
			compareHeaders(t, f, want)
			compareSections(t, f, want)
			compareSymbols(t, f, want)
			compareDynamic(t, f, want)
		})
	}
}

func compareHeaders(t *testing.T, f *File, want *elf.File) {
	t.Helper()
	if f.Machine() != want.Machine || f.Type() != want.Type || f.Entry() != want.Entry {
		t.Errorf("header is %v %v %#x, want %v %v %#x", f.Machine(), f.Type(), f.Entry(), want.Machine, want.Type, want.Entry)
	}
	if len(f.Segments) != len(want.Progs) {
		t.Fatalf("%d segments, want %d", len(f.Segments), len(want.Progs))
	}
	for i, s := range f.Segments {
		w := want.Progs[i]
		if s != (Segment{w.Type, w.Flags, w.Off, w.Vaddr, w.Filesz, w.Memsz, w.Align}) {
			t.Errorf("segment %d is %+v, want %+v", i, s, w.ProgHeader)
		}
	}
	if got, wantID := f.BuildID(), buildID(t, want); got != wantID {
		t.Errorf("build-id %q, want %q", got, wantID)
	}
}

// buildID takes the build-id from its section, another way than the reader's.
func buildID(t *testing.T, f *elf.File) string {
	t.Helper()
	s := f.Section(".note.gnu.build-id")
	if s == nil {
		return ""
	}
	raw, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(raw[16:])
}

func compareSections(t *testing.T, f *File, want *elf.File) {
	t.Helper()
	got, err := f.Sections()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want.Sections) {
		t.Fatalf("%d sections, want %d", len(got), len(want.Sections))
	}
	for i, s := range got {
		w := want.Sections[i]
		if s.Name != w.Name || s.Type != w.Type || s.VAddr != w.Addr || s.Off != w.Offset || s.Size != w.FileSize || s.Flags != w.Flags {
			t.Errorf("section %d is %+v, want %+v", i, s, w.SectionHeader)
		}
	}
}

func compareSymbols(t *testing.T, f *File, want *elf.File) {
	t.Helper()
	for _, c := range []struct {
		what string
		got  func() (*Symbols, error)
		want func() ([]elf.Symbol, error)
	}{{"static", f.StaticSymbols, want.Symbols}, {"dynamic", f.DynamicSymbols, want.DynamicSymbols}} {
		wants, err := c.want()
		syms, gotErr := c.got()
		if errors.Is(err, elf.ErrNoSymbols) {
			// A static program may have a dynamic section with an empty table.
			if gotErr == nil {
				if n, err := syms.Count(); err == nil && n > 1 {
					t.Errorf("%s symbols: %d, want none", c.what, n)
				}
			}
			continue
		}
		if err != nil || gotErr != nil {
			t.Fatalf("%s symbols: %v, want %v", c.what, gotErr, err)
		}
		n, err := syms.Count()
		if err != nil || n != len(wants)+1 {
			t.Fatalf("%s symbols: %d with %v, want %d", c.what, n, err, len(wants)+1)
		}
		for i, w := range wants {
			s, err := syms.At(i + 1)
			if err != nil {
				t.Fatal(err)
			}
			name, err := syms.Name(s.Name)
			if err != nil || name != w.Name || s.Value != w.Value || s.Size != w.Size || s.Info != w.Info || s.Section != w.Section {
				t.Fatalf("%s symbol %d is %q %+v (%v), want %+v", c.what, i+1, name, s, err, w)
			}
		}
		if c.what == "dynamic" {
			compareFind(t, syms, wants)
		}
	}
}

// compareFind looks every exported name up through the hash table.
func compareFind(t *testing.T, syms *Symbols, wants []elf.Symbol) {
	t.Helper()
	byName := map[string][]elf.Symbol{}
	for _, w := range wants {
		if w.Section != elf.SHN_UNDEF {
			byName[w.Name] = append(byName[w.Name], w)
		}
	}
	for name, all := range byName {
		_, got, ok, err := syms.Find(name)
		if err != nil {
			t.Fatalf("find %s: %v", name, err)
		}
		if !ok {
			// A symbol of local binding in .dynsym (version names of old
			// linkers, section symbols) is in no hash table.
			if elf.ST_BIND(all[0].Info) != elf.STB_LOCAL {
				t.Errorf("%s was not found", name)
			}
			continue
		}
		match := false
		for _, w := range all {
			match = match || got.Value == w.Value && (len(all) == 1 || !w.VersionIndex.IsHidden() || allHidden(all))
		}
		if !match {
			t.Errorf("%s found at %#x, want one of %+v", name, got.Value, all)
		}
	}
	for _, name := range []string{"", "no_such_name_anywhere", strings.Repeat("x", 5000)} {
		if _, s, ok, err := syms.Find(name); ok || err != nil {
			t.Errorf("find %.20q: %+v %v %v, want nothing", name, s, ok, err)
		}
	}
}

func allHidden(all []elf.Symbol) bool {
	for _, s := range all {
		if !s.VersionIndex.IsHidden() {
			return false
		}
	}
	return true
}

func compareDynamic(t *testing.T, f *File, want *elf.File) {
	t.Helper()
	libs, err := want.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Needed()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(libs) {
		t.Errorf("needed %v (%v), want %v", got, err, libs)
	}
	sonames, err := want.DynString(elf.DT_SONAME)
	if err != nil {
		t.Fatal(err)
	}
	soname, err := f.Soname()
	if len(sonames) == 0 {
		if !errors.Is(err, ErrAbsent) {
			t.Errorf("soname %q (%v), want ErrAbsent", soname, err)
		}
	} else if soname != sonames[0] {
		t.Errorf("soname %q (%v), want %q", soname, err, sonames[0])
	}
}

func TestEHFrameAgainstSections(t *testing.T) {
	for _, path := range append(realFiles(t), compileAll(t)...) {
		want, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		frame, hdr := want.Section(".eh_frame"), want.Section(".eh_frame_hdr")
		f := open(t, path)
		got, err := f.EHFrame()
		switch {
		case frame == nil:
			if !errors.Is(err, ErrAbsent) {
				t.Errorf("%s: %v, want ErrAbsent", path, err)
			}
		case err != nil:
			t.Errorf("%s: %v", path, err)
		case got.Frame.VAddr != frame.Addr || got.Frame.Size < frame.Size:
			t.Errorf("%s: .eh_frame at %#x of %d bytes, want %#x of at least %d", path, got.Frame.VAddr, got.Frame.Size, frame.Addr, frame.Size)
		default:
			a, err := got.Frame.Slice(0, frame.Size)
			b, err2 := frame.Data()
			if err != nil || err2 != nil || !bytes.Equal(a, b) {
				t.Errorf("%s: .eh_frame differs (%v, %v)", path, err, err2)
			}
		}
		if addr, size, ok := f.EHFrameHdr(); ok != (hdr != nil) || ok && (addr != hdr.Addr || size != hdr.Size) {
			t.Errorf("%s: .eh_frame_hdr %#x %d %v, section says %+v", path, addr, size, ok, hdr)
		}
		_ = want.Close()
	}
}

func tool(t testing.TB, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is needed to make the files this test reads: install gcc, binutils and xz-utils (%v)", name, err)
	}
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

const program = `
#include <stdio.h>
static int counter;
__attribute__((noinline)) static int step(int n) { return counter += n; }
int main(int argc, char **argv) { printf("%d\n", step(argc)); return 0; }
`

// variants of one program, by how the compiler was called.
var variants = []struct {
	name        string
	flags       []string
	static, pie bool
}{
	{"dynamic-pie", []string{"-pie", "-fPIE"}, false, true},
	{"no-pie", []string{"-no-pie", "-fno-pie"}, false, false},
	{"static", []string{"-static", "-no-pie"}, true, false},
	{"static-pie", []string{"-static-pie", "-fPIE"}, true, true},
	{"stripped", []string{"-s"}, false, true},
	{"sysv-hash", []string{"-pie", "-fPIE", "-rdynamic", "-Wl,--hash-style=sysv"}, false, true},
	{"gnu-hash", []string{"-pie", "-fPIE", "-rdynamic", "-Wl,--hash-style=gnu"}, false, true},
	{"no-separate-code", []string{"-pie", "-fPIE", "-Wl,-z,noseparate-code"}, false, true},
	{"no-build-id", []string{"-pie", "-fPIE", "-Wl,--build-id=none"}, false, true},
}

// TestMain makes the folder of the compiled programs, and removes it.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if workDir, err = os.MkdirTemp("", "elffile"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(workDir) }()
		return m.Run()
	}())
}

var workDir string

// compileAll gives the paths of all variants, compiled by the first call.
func compileAll(t testing.TB) []string {
	t.Helper()
	src := filepath.Join(workDir, "a.c")
	if err := os.WriteFile(src, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range variants {
		path := filepath.Join(workDir, v.name)
		if _, err := os.Stat(path); err != nil {
			tool(t, "gcc", append([]string{"-O1", "-o", path, src}, v.flags...)...)
		}
		out = append(out, path)
	}
	return out
}

func TestKindOfProgram(t *testing.T) {
	for i, path := range compileAll(t) {
		v := variants[i]
		f := open(t, path)
		if f.IsStatic() != v.static || f.IsPIE() != v.pie {
			t.Errorf("%s: static %v, pie %v; want %v, %v", v.name, f.IsStatic(), f.IsPIE(), v.static, v.pie)
		}
		interp, err := f.Interp()
		if v.static != errors.Is(err, ErrAbsent) || v.static != (interp == "") {
			t.Errorf("%s: interpreter %q, %v", v.name, interp, err)
		}
		if v.name == "no-build-id" {
			if id, err := f.ReadBuildID(); id != "" || !errors.Is(err, ErrAbsent) {
				t.Errorf("build-id %q, %v of a file without one", id, err)
			}
		}
	}
	libc := open(t, realFiles(t)[0])
	if libc.IsStatic() || libc.IsPIE() {
		t.Errorf("libc.so.6, which has an interpreter and can be run, passes for a program: static %v, pie %v", libc.IsStatic(), libc.IsPIE())
	}
}

func TestRefusals(t *testing.T) {
	good, err := os.ReadFile(realFiles(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	edit := func(at int, b ...byte) []byte {
		c := bytes.Clone(good[:8192])
		copy(c[at:], b)
		return c
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, ErrNotELF},
		{"script", []byte("#!/bin/sh\nexit 0\n"), ErrNotELF},
		{"only the magic", []byte("\x7fELF"), ErrDamaged},
		{"ends in the header", good[:40], ErrDamaged},
		{"32 bits", edit(elf.EI_CLASS, byte(elf.ELFCLASS32)), ErrNot64},
		{"no class", edit(elf.EI_CLASS, 9), ErrDamaged},
		{"big endian", edit(elf.EI_DATA, byte(elf.ELFDATA2MSB)), ErrMachine},
		{"RISC-V", edit(18, byte(elf.EM_RISCV), 0), ErrMachine},
		{"program headers beyond the end", edit(32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), ErrDamaged},
		{"60000 program headers", edit(56, 0x60, 0xea), ErrDamaged},
		{"program headers of the wrong size", edit(54, 32, 0), ErrDamaged},
	} {
		if _, err := Open(bytes.NewReader(c.data)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestVirtualAddresses(t *testing.T) {
	f := open(t, realFiles(t)[0])
	for _, s := range f.Segments {
		if s.Type != elf.PT_LOAD || s.FileSize < 64 {
			continue
		}
		a, err := f.BytesAt(s.VAddr+8, 32)
		b, err2 := f.Bytes(s.Off+8, 32)
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("segment at %#x: %v %v", s.VAddr, err, err2)
		}
		if off, ok := f.Offset(s.VAddr + 8); !ok || off != s.Off+8 {
			t.Errorf("offset of %#x is %#x %v", s.VAddr+8, off, ok)
		}
		buf := make([]byte, 16)
		if n, err := f.ReadVAddr(buf, s.VAddr+s.FileSize-8); n != 8 || err != io.ErrUnexpectedEOF {
			t.Errorf("reading across the end of a segment: %d, %v", n, err)
		}
		if s.MemSize > s.FileSize {
			if _, err := f.BytesAt(s.VAddr+s.FileSize, 1); !errors.Is(err, ErrAbsent) {
				t.Errorf("bytes of zeroed memory: %v, want ErrAbsent", err)
			}
		}
	}
	if _, err := f.BytesAt(1<<60, 8); !errors.Is(err, ErrAbsent) {
		t.Errorf("an address that is nowhere: %v, want ErrAbsent", err)
	}
}

// TestCompressedSection reads .debug_frame of a program whose debug sections
// are compressed with zlib.
func TestCompressedSection(t *testing.T) {
	dir := t.TempDir()
	src, path := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	// Enough functions that the linker finds it worth compressing.
	var text strings.Builder
	text.WriteString("int main(void) { return 0; }\n")
	for i := range 200 {
		fmt.Fprintf(&text, "int f%d(int n) { volatile int a[%d]; a[0] = n; return a[0]; }\n", i, i+1)
	}
	if err := os.WriteFile(src, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "gcc", "-g", "-gz=zlib", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-o", path, src)
	want, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = want.Close() }()
	sec := want.Section(".debug_frame")
	if sec == nil || sec.Flags&elf.SHF_COMPRESSED == 0 {
		t.Fatal("the compiler did not make a compressed .debug_frame")
	}
	plain, err := sec.Data()
	if err != nil {
		t.Fatal(err)
	}
	data, err := open(t, path).DebugFrame()
	if err != nil {
		t.Fatal(err)
	}
	got, err := data.Bytes()
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v; want the %d that debug/elf has", len(got), err, len(plain))
	}
	part := make([]byte, 16)
	if n, err := data.ReadAt(part, 8); n != 16 || err != nil || !bytes.Equal(part, plain[8:24]) {
		t.Errorf("a part of it: %d, %v", n, err)
	}
	if _, err := open(t, realFiles(t)[0]).DebugFrame(); !errors.Is(err, ErrAbsent) {
		t.Errorf(".debug_frame of a C library: %v, want ErrAbsent", err)
	}
}
