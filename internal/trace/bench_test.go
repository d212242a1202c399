package trace

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"forkproof/internal/testbed"
)

// load asks a server for its page over several connections at once, for so long,
// and returns how many answers there were in a second.
func load(b *testing.B, addr string, during time.Duration) float64 {
	b.Helper()
	var answers atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(during)
	for range 4 {
		wg.Go(func() {
			for time.Now().Before(end) {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
				if err == nil {
					var line string
					line, err = bufio.NewReader(c).ReadString('\n')
					if err == nil && strings.Contains(line, " 200 ") {
						answers.Add(1)
					}
				}
				_ = c.Close()
			}
		})
	}
	began := time.Now()
	wg.Wait()
	return float64(answers.Load()) / time.Since(began).Seconds()
}

// BenchmarkLoad reports what it costs a gunicorn under load to be traced, master
// and workers, while nothing forks: requests per second with a trace for each
// without, in turns.
func BenchmarkLoad(b *testing.B) {
	b.Setenv("XDG_STATE_HOME", b.TempDir())
	s := testbed.Gunicorn(b, testbed.Open(b, "bookworm"), testbed.Site{App: "lock_module", Workers: 2})
	pids := append([]int{s.Master()}, s.AwaitServing(b, "/")...)
	const slice = 400 * time.Millisecond
	load(b, s.Addr, slice)
	var ratios, plain, traced []float64
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		ready, done := make(chan struct{}), make(chan error)
		off := load(b, s.Addr, slice)
		go func() {
			_, err := Run(ctx, Request{PIDs: pids, Ready: func() { close(ready) }})
			done <- err
		}()
		<-ready
		on := load(b, s.Addr, slice)
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		// The one without comes before and after, so that a machine that slows
		// down or speeds up does not count.
		off = (off + load(b, s.Addr, slice)) / 2
		ratios, plain, traced = append(ratios, on/off), append(plain, off), append(traced, on)
	}
	b.ReportMetric(middle(plain), "requests/s")
	b.ReportMetric(middle(traced), "traced-requests/s")
	b.ReportMetric(middle(ratios), "ratio")
}

func middle(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkFork reports how long a fork of a Python program with 100 MiB of
// objects and three threads takes, in milliseconds, in turns with and without a
// trace: until fork has returned in the parent, and until the child runs.
func BenchmarkFork(b *testing.B) {
	b.Setenv("XDG_STATE_HOME", b.TempDir())
	python, err := exec.LookPath("python3")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	script := filepath.Join(dir, "forks.py")
	if err := os.WriteFile(script, []byte(`
import os, sys, threading, time
data = [str(i) * 3 for i in range(1_400_000)]
lock = threading.Lock()
def hold():
    with lock:
        threading.Event().wait()
for _ in range(3):
    threading.Thread(target=hold, daemon=True).start()
print("ready", os.getpid(), flush=True)
for line in sys.stdin:
    r, w = os.pipe()
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.write(w, str(time.perf_counter()).encode())
        os._exit(0)
    parent = time.perf_counter()
    child = float(os.read(r, 100))
    os.waitpid(pid, 0)
    os.close(r); os.close(w)
    print((parent - began) * 1000, (child - began) * 1000, flush=True)
`), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(python, script)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	resident := 0
	for l := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(l, "VmRSS: %d", &resident)
	}
	forks := func() (parent, child float64) {
		var p, c []float64
		for range 5 {
			if _, err := fmt.Fprintln(in, "fork"); err != nil {
				b.Fatal(err)
			}
			var x, y float64
			line, err := lines.ReadString('\n')
			if err == nil {
				_, err = fmt.Sscan(line, &x, &y)
			}
			if err != nil {
				b.Fatal(err)
			}
			p, c = append(p, x), append(c, y)
		}
		return middle(p), middle(c)
	}
	var plainP, plainC, tracedP, tracedC []float64
	left := 0
	for b.Loop() {
		p, c := forks()
		plainP, plainC = append(plainP, p), append(plainC, c)
		ctx, cancel := context.WithCancel(b.Context())
		ready, done := make(chan struct{}), make(chan error)
		go func() {
			doc, err := Run(ctx, Request{PIDs: []int{cmd.Process.Pid}, Ready: func() { close(ready) }})
			if err == nil {
				for _, f := range doc.Forks {
					left += len(f.LeftOut)
				}
			}
			done <- err
		}()
		<-ready
		p, c = forks()
		tracedP, tracedC = append(tracedP, p), append(tracedC, c)
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(resident)/1024, "MiB")
	b.ReportMetric(middle(plainP), "ms/fork")
	b.ReportMetric(middle(tracedP), "traced-ms/fork")
	b.ReportMetric(middle(plainC), "ms/child")
	b.ReportMetric(middle(tracedC), "traced-ms/child")
	b.ReportMetric(float64(left), "left-out")
}
