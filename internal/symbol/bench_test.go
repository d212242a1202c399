package symbol

import (
	"os"
	"testing"

	"forkproof/internal/elffile"
)

// benchOpen opens the file anew each time, as an inspection does.
func benchOpen(b *testing.B, path string, use func(*Table)) {
	b.Helper()
	if _, err := os.Stat(path); err != nil {
		b.Skip(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		f, err := elffile.Open(r)
		if err != nil {
			b.Fatal(err)
		}
		t := New(f, Options{Path: path})
		use(t)
		_ = t.Close()
		_ = r.Close()
	}
}

func BenchmarkOpenAndByName(b *testing.B) {
	benchOpen(b, libcPath(b), func(t *Table) {
		if _, ok := t.ByName("pthread_mutex_lock"); !ok {
			b.Fatal("not found")
		}
	})
}

func BenchmarkOpenAndFirstLookup(b *testing.B) {
	t := table(b, libcPath(b), Options{})
	s, _ := t.ByName("pthread_mutex_lock")
	benchOpen(b, libcPath(b), func(t *Table) {
		if _, ok := t.Lookup(s.Value + 3); !ok {
			b.Fatal("not found")
		}
	})
}

func BenchmarkPythonTwentyAddresses(b *testing.B) {
	const path = "/usr/bin/python3.11"
	if _, err := os.Stat(path); err != nil {
		b.Skip(err)
	}
	var addrs []uint64
	t := table(b, path, Options{})
	for _, s := range oracle(b, path) {
		if s.Size > 16 && len(addrs) < 20 {
			if got, ok := t.Lookup(s.Value + 8); ok && !got.NoSize {
				addrs = append(addrs, s.Value+8)
			}
		}
	}
	benchOpen(b, path, func(t *Table) {
		for _, a := range addrs {
			if _, ok := t.Lookup(a); !ok {
				b.Fatal("not found")
			}
		}
	})
}

// BenchmarkIndex is the index alone, of the largest .symtab that every machine
// that builds this has: the go tool's.
func BenchmarkIndex(b *testing.B) {
	for _, path := range []string{"/usr/local/go/bin/go", libcPath(b)} {
		b.Run(path, func(b *testing.B) {
			if _, err := os.Stat(path); err != nil {
				b.Skip(err)
			}
			t := table(b, path, Options{NoDebugFiles: true})
			l := t.layers()[0]
			for b.Loop() {
				l.readIndex()
			}
			b.ReportMetric(float64(len(l.load().index)), "symbols")
		})
	}
}
