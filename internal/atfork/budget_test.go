package atfork

import (
	"os"
	"strings"
	"testing"

	"forkproof/internal/elffile"
	"forkproof/internal/testbed"
)

// TestBudget sees that a file whose functions overlap, or whose code takes too
// long to follow, is left before it takes for ever, and that it is said.
func TestBudget(t *testing.T) {
	path := testbed.Build(t, "libhandlers.c")
	load := func() *image {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		e, err := elffile.Open(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := open(path, e, false)
		if err == nil {
			err = b.link()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := load()
	s, ok := b.syms.ByName("plain_child")
	if !ok {
		t.Fatal("no plain_child")
	}
	whole := b.function(s.Value)
	if whole.problem != "" || len(whole.sites) != 2 || b.left == 0 || b.steps == maxSteps {
		t.Fatalf("plain_child: %+v, %d bytes and %d steps left", whole, b.left, b.steps)
	}
	b = load()
	b.left = 3
	if f := b.function(s.Value); !strings.Contains(f.problem, "overlap") || len(f.sites) > 0 {
		t.Errorf("without code left to read: %+v", f)
	}
	b = load()
	b.steps = 0
	if f := b.function(s.Value); f.problem != "" || len(f.sites) != 2 {
		t.Errorf("without steps left calls are still found: %+v", f)
	}
}
