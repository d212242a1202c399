package replay

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forkproof/internal/model/scenario"
	"forkproof/internal/testbed"
)

// real is a libc of a root folder, and the name that the model has for it.
type real struct {
	release, family, model string
}

func (r real) String() string { return r.model }

// reals are the libcs that scenarios are run on.
var reals = []real{
	{"bullseye", "glibc", "glibc-2.31"},
	{"bookworm", "glibc", "glibc-2.36"},
	{"trixie", "glibc", "glibc-2.41"},
	{"forky", "glibc", "glibc-2.43"},
	{"trixie", "musl", "musl-1.2.5"},
}

// batch is how many runs one process makes: few enough for testbed's patience.
const batch = 200

// play makes runs on a libc and returns their results in the same order.
func (r real) play(t testing.TB, runs []Run) []*Result {
	t.Helper()
	root := testbed.Open(t, r.release)
	binary, err := Binary(r.family)
	if err != nil {
		t.Fatal(err)
	}
	var results []*Result
	for len(runs) > 0 {
		some := runs[:min(batch, len(runs))]
		runs = runs[len(some):]
		work := t.TempDir()
		program := filepath.Join(work, "replay")
		if err := os.WriteFile(program, binary, 0o755); err != nil {
			t.Fatal(err)
		}
		var lines strings.Builder
		var places [][][]scenario.Pos
		for _, run := range some {
			line, at, err := encode(run)
			if err != nil {
				t.Fatalf("%s: %v", run.Name, err)
			}
			lines.WriteString(line + "\n")
			places = append(places, at)
		}
		list := filepath.Join(work, "runs")
		if err := os.WriteFile(list, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		p := root.Start(t, testbed.Cmd{Args: []string{program, list}, Work: work})
		if err := p.Wait(t); err != nil {
			t.Fatalf("%s: %v\n%s", r, err, p.Output())
		}
		answers := bufio.NewScanner(strings.NewReader(p.Output()))
		answers.Buffer(nil, 1<<20)
		if !answers.Scan() || answers.Text() != "ready" {
			t.Fatalf("%s: it wrote\n%s", r, p.Output())
		}
		for i := range some {
			if !answers.Scan() {
				t.Fatalf("%s: %d answers to %d runs\n%s", r, i, len(some), p.Output())
			}
			result, err := decode(answers.Text(), places[i])
			if err != nil {
				t.Fatalf("%s: %v\n%s", r, err, lines.String())
			}
			results = append(results, result)
		}
	}
	return results
}
