package native

import (
	"context"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"forkproof/internal/disasm"
	"forkproof/internal/testbed"
)

// machineLibraries are the shared libraries of a folder, and their bytes.
func machineLibraries(tb testing.TB, folder string) (paths []string, size int64) {
	tb.Helper()
	all, _, err := Find(context.Background(), folder)
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range all {
		if st, err := os.Stat(p); err == nil && strings.Contains(filepath.Base(p), ".so") {
			paths, size = append(paths, p), size+st.Size()
		}
	}
	return paths, size
}

// BenchmarkLibraries looks at all shared libraries of the machine, on all
// processors.
func BenchmarkLibraries(b *testing.B) {
	paths, size := machineLibraries(b, "/usr/lib")
	l, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	var peak uint64
	for b.Loop() {
		if _, err := l.Run(context.Background(), paths); err != nil {
			b.Fatal(err)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.Sys)
	}
	b.ReportMetric(float64(len(paths)), "files")
	b.ReportMetric(float64(size)/1e6, "MB")
	b.ReportMetric(float64(size)/1e6*float64(b.N)/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(float64(peak)/(1<<20), "MiB-own")
}

// BenchmarkObjdump compares, on libraries that are walked and not only looked
// at, the time of lint with that of objdump -d, one after the other, each on one
// processor; and that of decoding every instruction.
func BenchmarkObjdump(b *testing.B) {
	paths, _ := machineLibraries(b, "/usr/lib/x86_64-linux-gnu")
	paths = walked(paths, 96<<20)
	var sum peers
	for b.Loop() {
		sum.ask(b, paths)
	}
	sum.report(b)
}

// walked are the first libraries that import what is searched for, of bytes in
// all at least, if there are so many.
func walked(paths []string, bytes int64) []string {
	var out []string
	for _, p := range paths {
		f, err := elf.Open(p)
		if err != nil {
			continue
		}
		symbols, _ := f.ImportedSymbols()
		_ = f.Close()
		for _, s := range symbols {
			if s.Name == "pthread_create" || s.Name == "__register_atfork" || s.Name == "pthread_mutex_lock" {
				st, err := os.Stat(p)
				if err == nil && bytes > 0 {
					out, bytes = append(out, p), bytes-st.Size()
				}
				break
			}
		}
	}
	return out
}

type peers struct {
	lint, decode, objdump time.Duration
	size                  int64
}

func (p *peers) ask(tb testing.TB, paths []string) {
	tb.Helper()
	l, err := New(Options{})
	if err != nil {
		tb.Fatal(err)
	}
	for _, path := range paths {
		st, err := os.Stat(path)
		if err != nil {
			tb.Fatal(err)
		}
		p.size += st.Size()
		begin := time.Now()
		cmd := exec.Command("objdump", "-d", path)
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Run(); err != nil {
			tb.Fatalf("objdump -d %s: %v", path, err)
		}
		p.objdump += time.Since(begin)
		begin = time.Now()
		if r := l.File(path); r.Err != nil {
			tb.Fatal(r.Err)
		}
		p.lint += time.Since(begin)
		begin = time.Now()
		decodeAll(tb, path)
		p.decode += time.Since(begin)
	}
}

// decodeAll decodes every instruction of a library.
func decodeAll(tb testing.TB, path string) {
	tb.Helper()
	f, err := elf.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR == 0 || s.Type == elf.SHT_NOBITS {
			continue
		}
		code, err := s.Data()
		if err != nil {
			tb.Fatal(err)
		}
		for at := 0; at < len(code); {
			in := disasm.Decode(disasm.AMD64, code[at:], s.Addr+uint64(at))
			at += in.Len
		}
	}
}

func (p *peers) report(b *testing.B) {
	mb := float64(p.size) / 1e6
	b.ReportMetric(p.objdump.Seconds()/p.lint.Seconds(), "x-objdump")
	b.ReportMetric(p.objdump.Seconds()/p.decode.Seconds(), "x-objdump-decode-all")
	b.ReportMetric(mb/p.lint.Seconds(), "MB/s")
	b.ReportMetric(mb/p.decode.Seconds(), "MB/s-decode-all")
	b.ReportMetric(mb/p.objdump.Seconds(), "MB/s-objdump")
	b.ReportMetric(mb/float64(b.N), "MB")
	b.ReportMetric(0, "ns/op")
}

// TestBenchmarks lets the benchmark do once, with one library, what it measures.
func TestBenchmarks(t *testing.T) {
	var p peers
	p.ask(t, []string{filepath.Join(testbed.Libraries(t).Dir, "usr/lib/x86_64-linux-gnu/libp11-kit.so.0.3.0")})
	if p.size == 0 {
		t.Error("nothing was measured")
	}
}
