package model

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/scenario"
)

// pan is SPIN's explorer of one program in Promela, compiled.
type pan struct{ dir string }

// spin makes the explorer of testdata/NAME.pml. With full it takes every interleaving.
func spin(t testing.TB, name string, full bool) pan {
	t.Helper()
	source, err := filepath.Abs("testdata/" + name + ".pml")
	if err != nil {
		t.Fatal(err)
	}
	p := pan{t.TempDir()}
	p.run(t, "spin", "-a", source)
	flags := []string{"gcc", "-O2", "-DSAFETY", "-o", "pan", "pan.c"}
	if full {
		flags = append(flags, "-DNOREDUCE")
	}
	p.run(t, flags...)
	return p
}

func (p pan) run(t testing.TB, args ...string) (string, time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s\nmake setup installs spin and gcc", cmd, err, out)
	}
	return string(out), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

var stored = regexp.MustCompile(`(?m)^ *([0-9]+) states, stored`)

// explore returns how many states there are, and the processor time that it took. A
// process that waits for ever is no error to it: all of them are wanted.
func (p pan) explore(t testing.TB) (int, time.Duration) {
	t.Helper()
	out, took := p.run(t, "./pan", "-m100000", "-E", "-w24")
	m := stored.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("pan did not say how many states it stored:\n%s", out)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n, took
}

// beside reads testdata/NAME.yaml.
func beside(t testing.TB, name string) (*scenario.Scenario, *libc.Libc) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Read(name, text)
	if err != nil {
		t.Fatal(err)
	}
	l, err := libc.Find("glibc-2.24")
	if err != nil {
		t.Fatal(err)
	}
	return s, &l
}

// With every interleaving the explorer meets as many states as SPIN does.
func TestSpin(t *testing.T) {
	s, l := beside(t, "pools")
	want, _ := spin(t, "pools", true).explore(t)
	r, err := Run(t.Context(), s, l, Options{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.States != want {
		t.Errorf("%d states; SPIN has %d", r.States, want)
	}
}

// BenchmarkSpin explores the same programs with the explorer and with SPIN's, in
// turns, each on one processor: states in a second of processor time, and how many
// times those of SPIN ours are.
func BenchmarkSpin(b *testing.B) {
	for _, name := range []string{"forks", "pools"} {
		for _, full := range []bool{true, false} {
			kind := name + "-reduced"
			if full {
				kind = name + "-full"
			}
			b.Run(kind, func(b *testing.B) { besideSpin(b, name, full) })
		}
	}
}

func besideSpin(b *testing.B, name string, full bool) {
	p := spin(b, name, full)
	s, l := beside(b, name)
	var ours, theirs time.Duration
	var states, theirStates int
	for b.Loop() {
		n, took := p.explore(b)
		theirs += took
		theirStates += n
		before := processor(b)
		r, err := Run(context.Background(), s, l, Options{Full: full, Memory: 4 << 30})
		ours += processor(b) - before
		if err != nil {
			b.Fatal(err)
		}
		states += r.States
	}
	rate, theirRate := float64(states)/ours.Seconds(), float64(theirStates)/theirs.Seconds()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate/1e6, "Mstates/s")
	b.ReportMetric(theirRate/1e6, "Mstates/s-spin")
	b.ReportMetric(rate/theirRate, "x-spin")
	b.ReportMetric(float64(states)/float64(b.N)/1e6, "Mstates")
	b.ReportMetric(float64(theirStates)/float64(b.N)/1e6, "Mstates-spin")
}
