package factsheet

import (
	"io"
	"strings"
	"testing"

	"forkproof/internal/crosscheck"
	"forkproof/internal/probe"
)

// TestMeasured renders a table with a cell of each kind.
func TestMeasured(t *testing.T) {
	table := crosscheck.Table{
		Builds: []probe.Libc{{Family: "glibc", Version: "2.36", Package: "2.36-9+deb12u14"}, {Family: "musl", Version: "1.2.5"}},
		Rows: []crosscheck.Row{
			{Probe: "popen", Title: "popen in the child, while another thread is in it", Facts: []string{"glibc-popen-list"}, Cells: []crosscheck.Cell{
				{Documented: crosscheck.Has, Measured: probe.Hangs, Forks: 3, Proven: true, Agreement: crosscheck.Agrees, Lock: "glibc's list of popen", Facts: []string{"glibc-popen-list"}},
				{Documented: crosscheck.Silent, Measured: probe.Works, Forks: 100, Agreement: crosscheck.Open},
			}},
			{Probe: "system", Title: "system | in the child", Facts: []string{"glibc-system-lock"}, Cells: []crosscheck.Cell{
				{Documented: crosscheck.Has, Measured: probe.Works, Forks: 124, Agreement: crosscheck.NotSeen, Facts: []string{"glibc-system-lock"}},
				{Documented: crosscheck.Silent, Measured: probe.Hangs, Forks: 7, Agreement: crosscheck.News},
			}},
			{Probe: "malloc", Title: "malloc in the child", Facts: []string{"glibc-malloc"}, Cells: []crosscheck.Cell{
				{Documented: crosscheck.Sound, Measured: probe.Crashes, Forks: 9, Agreement: crosscheck.Contradicts, Facts: []string{"glibc-malloc"}},
				{Documented: crosscheck.Silent, Agreement: crosscheck.Open},
			}},
		},
	}
	for _, format := range MatrixFormats {
		out := golden(t, "measured."+format, func(w io.Writer) error { return Measured(w, format, "test", table) })
		for _, want := range []string{"system", "glibc", "2.36-9", "crashes"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not say %s", format, want)
			}
		}
		if format == "text" {
			for line := range strings.Lines(out) {
				if len([]rune(line)) > width+1 {
					t.Errorf("too long: %q", line)
				}
			}
		}
	}
}
