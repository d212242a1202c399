package testbed

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Site says what a server serves. Each server takes what it has a use for.
type Site struct {
	// App names the application: for servers of Python a module of
	// victims/python without its ending, whose callable is "app"; empty means
	// the server's healthy default.
	App string
	// Workers is how many worker processes to ask for; 0 means 2.
	Workers int
	// Flags come after the server's usual ones.
	Flags []string
	// Env is added to the environment, as KEY=VALUE.
	Env []string
	// Hooks names a gunicorn configuration of victims/python/hooks without its
	// ending: "touch" lets each worker take the application's lock at boot.
	Hooks string
	// NoPreload lets each worker load the application itself: the healthy twin
	// of everything that goes wrong in a preloaded one.
	NoPreload bool
	// Work is the server's writable folder, for a test that puts something
	// there before the start, such as a FIFO; empty means a new one.
	Work string
	// Port is where PostgreSQL listens; 0 means any that is free.
	Port int
}

func (s Site) workers() int {
	if s.Workers == 0 {
		return 2
	}
	return s.Workers
}

// Server is a running pre-fork server.
type Server struct {
	*Proc
	// Addr is where it listens: "127.1.2.3:4567". Empty if it listens nowhere.
	Addr string

	worker func(pid int) bool // tells workers from other children; nil: all are
	want   int
}

// Master is the process that the workers are forked from, as the machine sees it.
func (s *Server) Master() int { return s.PID }

// Workers are the worker processes there are now, in rising order of PID as
// the machine sees it.
func (s *Server) Workers() []int {
	children := Children(s.Master())
	if s.worker == nil {
		return children
	}
	return slices.DeleteFunc(children, func(pid int) bool { return !s.worker(pid) })
}

// AwaitWorkers waits until the server has all the workers it was asked for,
// whatever state they are in.
func (s *Server) AwaitWorkers(t testing.TB) []int {
	t.Helper()
	var pids []int
	s.await(t, fmt.Sprintf("%d workers", s.want), func() bool {
		pids = s.Workers()
		return len(pids) >= s.want
	})
	return pids
}

// AwaitAccept waits until the server's address takes connections.
func (s *Server) AwaitAccept(t testing.TB) {
	t.Helper()
	s.await(t, "an open door at "+s.Addr, func() bool {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err != nil {
			return false
		}
		_ = conn.Close() // only whether it opened matters
		return true
	})
}

// AwaitServing waits until there are all workers and a request for path is
// answered with status 200, and returns the workers.
func (s *Server) AwaitServing(t testing.TB, path string) []int {
	t.Helper()
	pids := s.AwaitWorkers(t)
	s.await(t, "an answer", func() bool {
		body, err := s.Get(t, path, time.Second)
		return err == nil && body != ""
	})
	return pids
}

// Get asks the server for a path over HTTP, on a connection of its own, and
// returns the body of an answer with status 200.
func (s *Server) Get(t testing.TB, path string, patience time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+path, nil)
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	request.Close = true
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", answer.Status)
	}
	return string(body), err
}

// Ask sends a request for path and does not wait for the answer: for an
// application that hangs on it. The connection ends with the test.
func (s *Server) Ask(t testing.TB, path string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.Addr, Patience)
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, s.Addr); err != nil {
		t.Fatalf("testbed: %v", err)
	}
}

// AwaitHung waits until at least n workers stand still with every thread in a
// futex, and returns them.
func (s *Server) AwaitHung(t testing.TB, n int) []int {
	t.Helper()
	s.AwaitWorkers(t)
	var hung []int
	s.await(t, fmt.Sprintf("%d workers in a futex", n), func() bool {
		hung = s.Hung()
		return len(hung) >= n
	})
	return hung
}

// Hung returns the workers that stand still with every thread in a futex. It
// looks several times, a fraction of a second in all.
func (s *Server) Hung() []int {
	var hung []int
	last := map[int]string{}
	for look := range looks + 1 {
		now := map[int]string{}
		for _, pid := range s.Workers() {
			if marks, err := still(pid, func(call string) bool { return call == sysFutex }); err == nil {
				now[pid] = fmt.Sprint(marks)
			}
		}
		hung = hung[:0]
		for pid, mark := range now {
			if look == 0 || last[pid] == mark {
				hung = append(hung, pid)
			} else {
				now[pid] = "moved"
			}
		}
		last = now
		if look < looks {
			time.Sleep(apart)
		}
	}
	slices.Sort(hung)
	return hung
}

// AwaitTimedFutex waits until at least n workers were found in a futex with a
// time limit at each of many looks, and never at anything else: how a wait for
// CPython's interpreter lock looks. It returns them.
func (s *Server) AwaitTimedFutex(t testing.TB, n int) []int {
	t.Helper()
	const looks = 40
	seen := map[int]int{}
	s.await(t, fmt.Sprintf("%d workers in a loop of timed futexes", n), func() bool {
		for _, pid := range s.Workers() {
			data, err := os.ReadFile(procPath(pid, "syscall"))
			field := strings.Fields(string(data))
			switch {
			case err != nil || len(field) == 0:
				delete(seen, pid)
			case field[0] == "running": // on its way from one wait to the next, or not
			case field[0] == sysFutex && len(Threads(pid)) == 1 && field[4] != "0x0":
				seen[pid]++
			default:
				delete(seen, pid)
			}
		}
		found := 0
		for _, count := range seen {
			if count >= looks {
				found++
			}
		}
		return found >= n
	})
	maps.DeleteFunc(seen, func(_, count int) bool { return count < looks/2 })
	return slices.Sorted(maps.Keys(seen))
}

// ports counts the addresses given out by this process.
var ports atomic.Uint32

// Address returns an address of the loopback network that is free: the network
// is the machine's, in roots too. Every test process has a loopback address of
// its own, made of its PID, so that two never want the same port.
func Address(t testing.TB) string {
	t.Helper()
	pid := os.Getpid()
	ip := fmt.Sprintf("127.%d.%d.%d", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff)
	for range 1000 {
		addr := fmt.Sprintf("%s:%d", ip, 10000+ports.Add(1)%20000)
		if probe, err := net.Listen("tcp", addr); err == nil {
			_ = probe.Close() // it was only to see whether the port is free
			return addr
		}
	}
	t.Fatalf("testbed: no free port at %s", ip)
	return ""
}

// serve starts a server and waits for its workers.
func serve(t testing.TB, root *Root, s *Server, c Cmd) *Server {
	t.Helper()
	s.Proc = root.Start(t, c)
	s.AwaitWorkers(t)
	return s
}

// named returns a test for processes whose command line has a word in it.
func named(word string) func(pid int) bool {
	return func(pid int) bool {
		data, err := os.ReadFile(procPath(pid, "cmdline"))
		return err == nil && strings.Contains(strings.ReplaceAll(string(data), "\x00", " "), word)
	}
}
