package facts

import (
	"io/fs"
	"testing"
)

// base loads the embedded facts.
func base(t testing.TB) *Base {
	t.Helper()
	b, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func BenchmarkLoad(b *testing.B) {
	data, err := fs.Sub(embedded, "data")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := read(data); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLoad(t *testing.T) {
	b := base(t)
	t.Log(len(b.defects), len(b.locks), len(b.libraries), len(b.servers), len(b.distributions))
}
