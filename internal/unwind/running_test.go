package unwind_test

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"bufio"

	"forkproof/internal/procmem"
	"forkproof/internal/ptrace"
	"forkproof/internal/unwind"
)

// TestRunningThreads samples threads that know their own calls, at whatever
// instruction they are.
func TestRunningThreads(t *testing.T) {
	for _, flags := range []string{"-O2 -fomit-frame-pointer", "-O2 -fno-omit-frame-pointer", "-O0", "-O2 -static", "-O1 -Wl,-z,lazy -fcf-protection=full"} {
		victim := compile(t, "gcc", append(strings.Fields(flags), "-fno-builtin", "running.c")...)
		for how, inner := range map[string][]string{
			"loop":     {"leaf"},
			"calls":    {"tiny", "small"},
			"plt":      {"abs", "strlen", ""},
			"vdso":     {"clock_gettime", "vdso", "vvar", ""},
			"handler":  {"leaf", "handler", "restore_rt", "raise", "kill", ""},
			"altstack": {"leaf", "handler", "restore_rt", "raise", "kill", ""},
			"large":    {"leaf", "large"},
		} {
			t.Run(flags+" "+how, func(t *testing.T) {
				chains := sampleAll(t, victim, how, inner[0], 100)
				for _, c := range chains {
					// The stubs of a static program have no unwind tables.
					checkChain(t, c, inner, strings.Contains(flags, "-static") && how == "plt")
				}
			})
		}
	}
}

// checkChain wants main, outer and middle, and below them the names of inner only.
func checkChain(t *testing.T, c chain, inner []string, mayGuess bool) {
	t.Helper()
	at := slices.Index(c.names, "middle")
	switch {
	case c.err != nil:
		t.Fatalf("%v: %v", c.names, c.err)
	case at < 0 || len(c.names) < at+3 || c.names[at+1] != "outer" || c.names[at+2] != "main":
		t.Fatalf("%v, want ... middle outer main ...", c.names)
	}
	if slices.Contains(inner, "leaf") && at > 0 && !slices.Contains(c.names, "leaf") && !slices.Contains(inner, "") {
		t.Errorf("%v: no leaf", c.names)
	}
	for _, name := range c.names[:at] {
		if !slices.ContainsFunc(inner, func(want string) bool { return want != "" && strings.Contains(name, want) || name == want }) {
			t.Errorf("%v: %q is none of %q", c.names, name, inner)
		}
	}
	if c.guessed && !mayGuess {
		t.Errorf("%v: a frame is guessed though all registers are known", c.names)
	}
}

type chain struct {
	names   []string
	guessed bool
	err     error
}

// sampleAll starts a victim and takes n samples of it, the first one in the
// function first.
func sampleAll(t *testing.T, victim, how, first string, n int) []chain {
	t.Helper()
	cmd := exec.Command(victim, how)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the victim wrote %q: %v", line, err)
	}
	pid := cmd.Process.Pid
	files := unwind.NewFiles()
	t.Cleanup(func() { _ = files.Close() })
	sp := space(t, pid, files)
	s := unwind.NewSampler()
	t.Cleanup(s.Close)
	var chains []chain
	for end := time.Now().Add(time.Minute); len(chains) < n; {
		if time.Now().After(end) {
			t.Fatal("the victim was not seen where it should be")
		}
		sample, err := s.Take(pid, pid)
		switch {
		case errors.Is(err, ptrace.ErrBusy), errors.Is(err, ptrace.ErrAsleep):
			continue
		case err != nil:
			t.Fatal(err)
		}
		frames, err := sample.Stack(procmem.Open(pid), sp, 0)
		c := chain{err: err}
		for _, f := range frames {
			name := ""
			if sym, ok := f.Module.Symbol(f.Addr()); ok {
				name = sym.Name
			}
			c.names = append(c.names, name)
			c.guessed = c.guessed || f.Guessed
		}
		if len(chains) > 0 || slices.Contains(c.names, first) {
			chains = append(chains, c)
		}
	}
	return chains
}
