package probe

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// server is the program of the probes, running on one libc. Its header
// (src/server.c) says what the two say to each other.
type server struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	events chan event
	stderr bytes.Buffer
	// gone is why it can no longer be talked to.
	gone error
}

// event is one line that the server wrote.
type event struct {
	// kind is begin, still, moving or end.
	kind, name string
	// pid is the subject of begin, who stands still of still, who was not
	// collected of end.
	pid                    int
	forks, reached, signal int
	result, text           string
}

// startLimit is how long the program may take to start: it only loads libc.
const startLimit = 20 * time.Second

// start runs the program on a place.
func start(ctx context.Context, p place, preload, self []string) (*server, error) {
	b, err := embedded(p.family, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	s := &server{events: make(chan event, 16)}
	cmd, done, err := command(p, "forkproof-probe", b, []string{"serve"}, preload, self)
	if err != nil {
		return nil, err
	}
	defer done()
	s.cmd = cmd
	s.cmd.Stderr = &s.stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the probes on %s: %w", p, err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for r := bufio.NewScanner(out); r.Scan(); {
			lines <- r.Text()
		}
	}()
	select {
	case l, ok := <-lines:
		if ok && l == "ready" {
			go s.read(lines)
			return s, nil
		}
		// What is left is read, so that the reader ends.
		go func() {
			for range lines {
			}
		}()
		s.in.Close()
		err := s.cmd.Wait()
		return nil, fmt.Errorf("the probes did not start on %s: %s", p, s.complaint(err))
	case <-time.After(startLimit):
		err = fmt.Errorf("the probes did not start on %s within %s", p, startLimit)
	case <-ctx.Done():
		err = ctx.Err()
	}
	go func() {
		for range lines {
		}
	}()
	s.in.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	return nil, err
}

func (p place) String() string {
	switch {
	case p.loader != "" && p.root != "" && p.chroot:
		return filepath.Join(p.root, p.loader)
	case p.loader != "":
		return p.loader
	case p.root != "":
		return p.root
	}
	return "this machine"
}

// complaint is what the program said before it ended, which it must have.
func (s *server) complaint(err error) string {
	if line, _, _ := strings.Cut(strings.TrimSpace(s.stderr.String()), "\n"); line != "" {
		return line
	}
	if err != nil {
		return err.Error()
	}
	return "it ended without a word"
}

// read turns the program's lines into events, until it ends.
func (s *server) read(lines <-chan string) {
	defer close(s.events)
	for l := range lines {
		if e, err := parse(l); err == nil {
			s.events <- e
		} else {
			s.gone = err
		}
	}
}

// parse reads one line of the program.
func parse(line string) (event, error) {
	w := strings.SplitN(line, " ", 8)
	bad := fmt.Errorf("the probes wrote a line that makes no sense: %q", line)
	number := func(i int) (int, bool) {
		if i >= len(w) {
			return 0, false
		}
		n, err := strconv.Atoi(w[i])
		return n, err == nil
	}
	e := event{kind: w[0]}
	var ok [4]bool
	switch e.kind {
	case "begin":
		if e.pid, ok[0] = number(2); !ok[0] {
			return e, bad
		}
		e.name = w[1]
	case "still":
		e.pid, ok[0] = number(1)
		if e.forks, ok[1] = number(2); !ok[0] || !ok[1] {
			return e, bad
		}
	case "moving":
	case "end":
		e.forks, ok[0] = number(3)
		e.reached, ok[1] = number(4)
		e.signal, ok[2] = number(5)
		e.pid, ok[3] = number(6)
		if ok != [4]bool{true, true, true, true} {
			return e, bad
		}
		e.name, e.result = w[1], w[2]
		if len(w) > 7 {
			e.text = w[7]
		}
	default:
		return e, bad
	}
	return e, nil
}

// say writes one line to the program.
func (s *server) say(format string, args ...any) error {
	if _, err := fmt.Fprintf(s.in, format+"\n", args...); err != nil {
		return s.ended()
	}
	return nil
}

// ended is the error of a program that is there no more.
func (s *server) ended() error {
	if s.gone != nil {
		return s.gone
	}
	return fmt.Errorf("the program that runs the probes has ended before its time")
}

// close ends the program with all its processes and waits for it. Once more does
// no harm.
func (s *server) close() {
	s.in.Close()
	for range s.events {
	}
	_ = s.cmd.Wait()
}

// identify reads which libc the program has mapped. It also looks for the libraries
// to preload, since a loader that does not find one goes on without.
func (s *server) identify(p place, preload []string) (Libc, error) {
	l, maps, err := identify(s.cmd.Process.Pid, p.family)
	if err != nil {
		return l, err
	}
	for _, lib := range preload {
		base, found := filepath.Base(lib), false
		for _, m := range maps {
			found = found || strings.HasPrefix(filepath.Base(m.Path), strings.SplitN(base, ".so", 2)[0]+".so")
		}
		if !found {
			s.close() // it has said why, and all of that is read when it has ended
			return l, fmt.Errorf("--preload %s: not loaded: %s", lib, s.complaint(nil))
		}
	}
	return l, nil
}
