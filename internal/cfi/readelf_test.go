package cfi_test

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"forkproof/internal/cfi"
)

// load opens the tables of an ELF file lazily, as the unwinder does. With
// noHdr the search table is left out.
func load(t testing.TB, path string, noHdr bool) *cfi.Frames {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	src := cfi.Source{Arch: cfi.AMD64}
	if f.Machine == elf.EM_AARCH64 {
		src.Arch = cfi.ARM64
	}
	section := func(name string) cfi.Section {
		s := f.Section(name)
		if s == nil {
			return cfi.Section{}
		}
		return cfi.Section{R: s.ReaderAt, Addr: s.Addr, Size: s.FileSize}
	}
	src.EHFrame = section(".eh_frame")
	if !noHdr {
		src.EHFrameHdr = section(".eh_frame_hdr")
	}
	if s := f.Section(".debug_frame"); s != nil {
		data, err := s.Data() // decompresses
		if err != nil {
			t.Fatal(err)
		}
		src.DebugFrame = cfi.Section{Data: data}
	}
	frames, err := cfi.New(src)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// oracleRow is one line that readelf prints of a function.
type oracleRow struct {
	loc  uint64
	text string // the columns that are compared, "CFA=rsp+8 rbx=c-16 ra=c-8"
}

type oracleFDE struct {
	start, end uint64
	rows       []oracleRow
}

// columns are the registers that are compared, by the name that readelf has.
// ra and the number are those of the return address column.
func columns(arch cfi.Arch) map[string]int {
	m := map[string]int{}
	if arch == cfi.ARM64 {
		for i := range 31 {
			m[fmt.Sprintf("x%d", i)] = i
		}
		m["sp"] = 31
		m["ra"] = 30
		return m
	}
	for i, n := range []string{"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp"} {
		m[n] = i
	}
	for i := 8; i < 16; i++ {
		m[fmt.Sprintf("r%d", i)] = i
	}
	m["rip"], m["ra"] = 16, 16
	return m
}

// readelf runs binutils' reader over a file.
func readelf(t testing.TB, path string, arch cfi.Arch) []oracleFDE {
	t.Helper()
	out, err := exec.Command("readelf", "--debug-dump=frames-interp", "--debug-dump=no-follow-links", "-W", path).Output()
	if err != nil {
		t.Fatalf("readelf (of binutils) is needed to compare with: %v", err)
	}
	cols := columns(arch)
	var all []oracleFDE
	var head []string
	inFDE := false
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		line := sc.Text()
		w := strings.Fields(line)
		switch {
		case len(w) == 0:
		case len(w) > 3 && w[3] == "CIE":
			inFDE = false
		case len(w) > 3 && w[3] == "FDE":
			_, pcs, ok := strings.Cut(line, "pc=")
			lo, hi, ok2 := strings.Cut(pcs, "..")
			if !ok || !ok2 {
				t.Fatalf("readelf wrote %q", line)
			}
			var d oracleFDE
			d.start, d.end = hex(t, lo), hex(t, strings.Fields(hi)[0])
			all = append(all, d)
			inFDE, head = true, nil
		case w[0] == "LOC":
			head = w[1:]
		case inFDE && head != nil && len(w) == len(head)+1:
			var b strings.Builder
			for i, v := range w[1:] {
				name := head[i]
				if name == "CFA" {
					fmt.Fprintf(&b, "CFA=%s ", v)
				} else if n, ok := cols[name]; ok {
					fmt.Fprintf(&b, "%d=%s ", n, v)
				}
			}
			d := &all[len(all)-1]
			d.rows = append(d.rows, oracleRow{hex(t, w[0]), b.String()})
		}
	}
	return all
}

func hex(t testing.TB, s string) uint64 {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// render writes the columns of like, which readelf wrote, as our row has them.
func render(row *cfi.Row, like string, arch cfi.Arch) string {
	names := map[int]string{}
	for n, i := range columns(arch) {
		if n != "ra" {
			names[i] = n
		}
	}
	var b strings.Builder
	for _, col := range strings.Fields(like) {
		name, _, _ := strings.Cut(col, "=")
		if name == "CFA" {
			if row.CFA.Kind == cfi.ValExpression {
				b.WriteString("CFA=exp ")
			} else {
				fmt.Fprintf(&b, "CFA=%s%+d ", names[int(row.CFA.Reg)], row.CFA.Off)
			}
			continue
		}
		n, _ := strconv.Atoi(name)
		r := row.Regs[n]
		var v string
		switch r.Kind {
		case cfi.Unspecified, cfi.Undefined:
			v = "u" // readelf does not tell them apart
		case cfi.SameValue:
			v = "s"
		case cfi.Offset:
			v = fmt.Sprintf("c%+d", r.Off)
		case cfi.ValOffset:
			v = fmt.Sprintf("v%+d", r.Off)
		case cfi.Register:
			v = names[int(r.Reg)]
		case cfi.Expression:
			v = "exp"
		case cfi.ValExpression:
			v = "vexp"
		}
		fmt.Fprintf(&b, "%d=%s ", n, v)
	}
	return b.String()
}

// compare checks every row of every function that readelf found against ours,
// with keep choosing functions.
func compare(t *testing.T, path string, noHdr bool, keep func(i int) bool) {
	frames := load(t, path, noHdr)
	oracle := readelf(t, path, frames.Arch())
	if len(oracle) == 0 {
		t.Fatalf("readelf found no functions in %s", path)
	}
	fdes, rows, bad := 0, 0, 0
	for i, want := range oracle {
		if want.start >= want.end || !keep(i) {
			continue
		}
		got, err := frames.FDEFor(want.end - 1)
		if err != nil || got.Start != want.start || got.End != want.end {
			t.Fatalf("%#x to %#x: got %+v, %v", want.start, want.end, got, err)
		}
		fdes++
		for j, r := range want.rows {
			if r.loc >= want.end || j+1 < len(want.rows) && want.rows[j+1].loc == r.loc {
				continue // readelf prints a row also where the location stays
			}
			row, err := got.RowAt(r.loc)
			if err != nil {
				t.Fatalf("row at %#x: %v", r.loc, err)
			}
			rows++
			if s := render(row, r.text, frames.Arch()); s != r.text {
				if bad++; bad < 10 {
					t.Errorf("row at %#x:\n got %s\nwant %s", r.loc, s, r.text)
				}
			}
			if row.Start != r.loc {
				t.Errorf("row at %#x starts at %#x", r.loc, row.Start)
			}
			// The last place of a row has the same rules.
			last, err := got.RowAt(row.End - 1)
			if err != nil || last.Start != row.Start || last.End != row.End {
				t.Errorf("rows at %#x and %#x differ: %v", row.Start, row.End-1, err)
			}
		}
	}
	t.Logf("%s: %d functions, %d rows, %d differ", path, fdes, rows, bad)
	if rows == 0 {
		t.Error("nothing was compared")
	}
}

func all(int) bool { return true }

func sample(every int) func(int) bool {
	r := rand.New(rand.NewPCG(1, 2))
	return func(int) bool { return r.IntN(every) == 0 }
}

func TestRowsEqualReadelf(t *testing.T) {
	type one struct {
		path  string
		noHdr bool
		keep  func(int) bool
	}
	cases := []one{
		{"/lib/x86_64-linux-gnu/libc.so.6", false, all},
		{"/lib/x86_64-linux-gnu/libc.so.6", true, all},
		{"/lib64/ld-linux-x86-64.so.2", false, all},
		{"/usr/bin/python3.11", false, sample(4)},
		// Debian's libc6-arm64-cross puts an AArch64 libc there.
		{"/usr/aarch64-linux-gnu/lib/libc.so.6", false, all},
	}
	// Any other file can be compared, too: FORKPROOF_TEST_ELF=a.so:b.so go test
	for _, path := range filepath.SplitList(os.Getenv("FORKPROOF_TEST_ELF")) {
		cases = append(cases, one{path, false, all})
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s hdr=%v", filepath.Base(c.path), !c.noHdr), func(t *testing.T) {
			if _, err := os.Stat(c.path); errors.Is(err, os.ErrNotExist) {
				t.Skipf("%s is not installed here", c.path)
			}
			compare(t, c.path, c.noHdr, c.keep)
		})
	}
}

// build compiles C and returns the path of what came out.
func build(t testing.TB, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a.so")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("gcc", append([]string{"-o", out, in}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc is needed to make the files that are read: %v\n%s", err, b)
	}
	return out
}

const someFunctions = `
#include <alloca.h>
#include <string.h>
int sink(void *);
int plain(int a) { char b[300]; memset(b, a, sizeof b); return sink(b); }
int with_alloca(int a) { char *b = alloca(a); memset(b, a, a); return sink(b) + sink(b + 1); }
int aligned(int a) { char b[64] __attribute__((aligned(64))); memset(b, a, sizeof b); char *c = alloca(a); return sink(b) + sink(c); }
int many(int a, int b, int c, int d, int e, int f, int g, int h) {
	return sink(&a) * sink(&b) + sink(&c) * sink(&d) + sink(&e) * sink(&f) + sink(&g) * h; }
`

func TestDebugFrameEqualsReadelf(t *testing.T) {
	for _, flags := range [][]string{
		{"-shared", "-fPIC", "-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"},
		{"-shared", "-fPIC", "-O2", "-g", "-fno-asynchronous-unwind-tables", "-gz=zlib", "-gdwarf-4"},
	} {
		path := build(t, someFunctions, flags...)
		frames := load(t, path, false)
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		syms, err := f.Symbols()
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, s := range syms {
			if s.Name == "plain" || s.Name == "with_alloca" || s.Name == "aligned" || s.Name == "many" {
				if d, err := frames.FDEFor(s.Value + s.Size/2); err != nil || d.Start != s.Value {
					t.Errorf("%s: %+v, %v", s.Name, d, err)
				}
				found++
			}
		}
		if found != 4 {
			t.Errorf("%d of 4 functions are in the symbol table", found)
		}
		compare(t, path, false, all)
	}
}

// TestLazy proves that a lookup does not read the whole table.
func TestLazy(t *testing.T) {
	const path = "/usr/bin/python3.11"
	f, err := elf.Open(path)
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = f.Close() }()
	count := &counting{r: f.Section(".eh_frame").ReaderAt}
	hdr, eh := f.Section(".eh_frame_hdr"), f.Section(".eh_frame")
	frames, err := cfi.New(cfi.Source{
		Arch:       cfi.AMD64,
		EHFrameHdr: cfi.Section{R: hdr.ReaderAt, Addr: hdr.Addr, Size: hdr.Size},
		EHFrame:    cfi.Section{R: count, Addr: eh.Addr, Size: eh.Size},
	})
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	if _, err := frames.FDEFor(text.Addr + text.Size/2); err != nil {
		t.Fatal(err)
	}
	if count.bytes > 64<<10 || count.bytes == 0 {
		t.Errorf("a lookup read %d of %d bytes", count.bytes, eh.Size)
	}
}

type counting struct {
	r interface {
		ReadAt([]byte, int64) (int, error)
	}
	bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.bytes += n
	return n, err
}

func BenchmarkLookup(b *testing.B) {
	frames := load(b, "/lib/x86_64-linux-gnu/libc.so.6", false)
	var pcs []uint64
	for d, err := range frames.All() {
		if err != nil {
			b.Fatal(err)
		}
		pcs = append(pcs, (d.Start+d.End)/2)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		d, err := frames.FDEFor(pcs[i%len(pcs)])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.RowAt(pcs[i%len(pcs)]); err != nil {
			b.Fatal(err)
		}
		i += 7
	}
}
