package bench

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// built returns the program as make build makes it.
func built(tb testing.TB) string {
	tb.Helper()
	path, err := filepath.Abs("../../bin/forkproof")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%v: run make build", err)
	}
	return path
}

// cost is what one run of a program took.
type cost struct {
	wall time.Duration
	// cpu is the processor time of the program and of all it started.
	cpu time.Duration
	// peak is the most memory that it had, in bytes.
	peak int64
	out  string
}

// run runs a program to its end. Status 1 is that of an inspection that found
// something.
func run(tb testing.TB, args ...string) cost {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), args[0], args[1:]...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	begin := time.Now()
	err := cmd.Run()
	wall := time.Since(begin)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		tb.Fatalf("%v: %v\n%s", args, err, problems.String())
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		tb.Fatal("the kernel did not say what the program used")
	}
	return cost{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak: usage.Maxrss << 10, out: out.String()}
}

// median is the middle one: what else runs on the machine hardly moves it.
func median[T int64 | time.Duration](all []T) T {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mib(n int64) float64 { return float64(n) / (1 << 20) }
