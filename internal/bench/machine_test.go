package bench

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

// machine is a machine with four servers and many other processes.
type machine struct {
	hung, armed, healthy []int
}

// populate starts four servers of so many workers each (one with all workers
// hung, one with all armed, two healthy) and other processes until there are
// so many of all sorts.
func populate(tb testing.TB, workers, processes int) machine {
	tb.Helper()
	root := testbed.Open(tb, "bookworm")
	var m machine
	hung := testbed.Gunicorn(tb, root, testbed.Site{App: "lock_module", Workers: workers, Hooks: "touch"})
	armed := testbed.Gunicorn(tb, root, testbed.Site{App: "native_mutex", Workers: workers, Env: []string{"VICTIM_LIB=" + testbed.Build(tb, "libforkvictim.c")}})
	first := testbed.Gunicorn(tb, root, testbed.Site{Workers: workers})
	second := testbed.Gunicorn(tb, root, testbed.Site{Workers: workers})
	m.hung = hung.AwaitHung(tb, workers)
	m.armed = armed.AwaitWorkers(tb)
	m.healthy = slices.Concat(first.AwaitServing(tb, "/"), second.AwaitServing(tb, "/"))
	for n := count(tb); n < processes; n++ {
		cmd := exec.Command("sleep", "infinity")
		if err := cmd.Start(); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	return m
}

// count is how many processes there are.
func count(tb testing.TB) (n int) {
	tb.Helper()
	names, err := os.ReadDir("/proc")
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range names {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			n++
		}
	}
	return n
}

// ask inspects the whole machine and looks whether the answer is right.
func (m machine) ask(tb testing.TB, forkproof string) cost {
	tb.Helper()
	c := run(tb, forkproof, "inspect", "--all", "--format", "json")
	var doc finding.Document
	if err := json.Unmarshal([]byte(c.out), &doc); err != nil {
		tb.Fatal(err)
	}
	proven, left := make(map[int]bool), make(map[int]bool)
	for _, f := range doc.Findings {
		switch {
		case f.Confidence == finding.Proven:
			proven[f.PID] = true
		case f.Rule == finding.OrphanedLock:
			left[f.PID] = true
		}
	}
	for _, pid := range m.hung {
		if !proven[pid] {
			tb.Fatalf("worker %d hangs, and nothing was proven", pid)
		}
	}
	for _, pid := range m.armed {
		if !left[pid] || proven[pid] {
			tb.Fatalf("worker %d is armed: found %v, proven %v", pid, left[pid], proven[pid])
		}
	}
	for _, pid := range m.healthy {
		if left[pid] || proven[pid] {
			tb.Fatalf("worker %d is healthy: orphaned lock %v, proven %v", pid, left[pid], proven[pid])
		}
	}
	return c
}

// BenchmarkInspectAll inspects a machine of 500 processes with 4 servers of 32
// workers, and then one hung worker of that machine.
func BenchmarkInspectAll(b *testing.B) {
	forkproof := built(b)
	m := populate(b, 32, 500)
	m.ask(b, forkproof) // the first one reads files from the disk
	var all, one []cost
	for b.Loop() {
		for range 7 {
			all = append(all, m.ask(b, forkproof))
			one = append(one, run(b, forkproof, "inspect", strconv.Itoa(m.hung[0])))
		}
	}
	b.ReportMetric(milliseconds(median(walls(one))), "ms/inspect-one")
	b.ReportMetric(float64(median(walls(all)))/float64(time.Second), "s/machine")
	b.ReportMetric(float64(median(cpus(all)))/float64(time.Second), "cpu-s/machine")
	b.ReportMetric(mib(median(peaks(all))), "MiB-own")
	b.ReportMetric(0, "ns/op")
}

// TestBenchmarks lets each benchmark do once, with little, what it measures. The
// machine has as many targets as are shared out to the processors.
func TestBenchmarks(t *testing.T) {
	forkproof := built(t)
	t.Run("worker", func(t *testing.T) {
		var p peers
		p.askBoth(t, forkproof, gdb(t), hungWorker(t))
	})
	t.Run("machine", func(t *testing.T) {
		populate(t, 4, 0).ask(t, forkproof)
	})
}
