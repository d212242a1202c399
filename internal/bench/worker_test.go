package bench

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"forkproof/internal/testbed"
)

// peers are the costs of asking forkproof and gdb the same, in turns.
type peers struct{ ours, theirs []cost }

// hungWorker starts a gunicorn of bookworm whose workers hang and returns one.
func hungWorker(tb testing.TB) int {
	tb.Helper()
	server := testbed.Gunicorn(tb, testbed.Open(tb, "bookworm"), testbed.Site{App: "lock_module", Workers: 2, Hooks: "touch"})
	return server.AwaitHung(tb, 2)[0]
}

// askBoth asks both about one worker, once each.
func (p *peers) askBoth(tb testing.TB, forkproof, gdb string, pid int) {
	tb.Helper()
	ours := run(tb, forkproof, "inspect", strconv.Itoa(pid))
	if !strings.Contains(ours.out, "deadlock-nobody-left") || !strings.Contains(ours.out, "proven") {
		tb.Fatalf("forkproof did not prove that the worker hangs:\n%s", ours.out)
	}
	theirs := run(tb, gdb, "-p", strconv.Itoa(pid), "-batch", "-ex", "thread apply all bt")
	if !strings.Contains(theirs.out, "Thread 1 ") || !strings.Contains(theirs.out, "#5 ") {
		tb.Fatalf("gdb showed no stack:\n%s", theirs.out)
	}
	p.ours, p.theirs = append(p.ours, ours), append(p.theirs, theirs)
}

func walls(all []cost) (out []time.Duration) {
	for _, c := range all {
		out = append(out, c.wall)
	}
	return out
}

func cpus(all []cost) (out []time.Duration) {
	for _, c := range all {
		out = append(out, c.cpu)
	}
	return out
}

func peaks(all []cost) (out []int64) {
	for _, c := range all {
		out = append(out, c.peak)
	}
	return out
}

func gdb(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("gdb")
	if err != nil {
		tb.Fatalf("%v: run make setup", err)
	}
	return path
}

// BenchmarkInspectWorker inspects one hung worker, the whole program from start
// to end, and has gdb show the stacks of the same process.
func BenchmarkInspectWorker(b *testing.B) {
	forkproof, gdb, pid := built(b), gdb(b), hungWorker(b)
	const pairs = 15
	var p peers
	p.askBoth(b, forkproof, gdb, pid) // the first one reads files from the disk
	p = peers{}
	for b.Loop() {
		for range pairs {
			p.askBoth(b, forkproof, gdb, pid)
		}
	}
	ours, theirs := median(walls(p.ours)), median(walls(p.theirs))
	b.ReportMetric(milliseconds(ours), "ms/inspect")
	b.ReportMetric(milliseconds(theirs), "ms/gdb")
	b.ReportMetric(float64(theirs)/float64(ours), "x-gdb")
	b.ReportMetric(float64(median(cpus(p.theirs)))/float64(median(cpus(p.ours))), "x-gdb-cpu")
	b.ReportMetric(milliseconds(median(cpus(p.ours))), "cpu-ms/inspect")
	b.ReportMetric(mib(median(peaks(p.ours))), "MiB-own")
	b.ReportMetric(0, "ns/op")
}
