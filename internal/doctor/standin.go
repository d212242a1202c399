package doctor

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// standIn is a process of our own user that is no descendant of ours: Yama lets
// anybody look at his own descendants, so that a plain child would prove nothing
// about servers.
type standIn struct {
	pid   int
	alive io.Closer
}

// Stages of a stand-in's life.
const (
	stageStart = "start"
	stageWait  = "wait"
)

// start runs the stand-in. It lives as long as its standard input is open, so
// that it ends with us, however we end.
func start(ctx context.Context, self []string) (*standIn, error) {
	if len(self) == 0 {
		return nil, fmt.Errorf("start a process to try things on: its command line is not known")
	}
	cmd := exec.CommandContext(ctx, self[0], append(self[1:len(self):len(self)], stageStart)...)
	out, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a process to try things on: %w", err)
	}
	defer out.Close()
	cmd.Stdout = w
	read, keep, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a process to try things on: %w", err)
	}
	cmd.Stdin = read
	err = cmd.Start()
	_ = w.Close()
	_ = read.Close()
	if err != nil {
		_ = keep.Close()
		return nil, fmt.Errorf("start a process to try things on (%s): %w", self[0], err)
	}
	line, readErr := bufio.NewReader(io.LimitReader(out, 64)).ReadString('\n')
	waitErr := cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 0 {
		_ = keep.Close()
		return nil, fmt.Errorf("start a process to try things on: it said %q (%w, %w)", line, readErr, waitErr)
	}
	return &standIn{pid: pid, alive: keep}, nil
}

func (s *standIn) end() { _ = s.alive.Close() }

// StandIn is what the process that things are tried on does. The first stage
// starts the second and ends, so that the second loses its parent; the second
// says its PID and waits until its standard input is closed.
func StandIn(stage string, self []string) error {
	switch stage {
	case stageStart:
		cmd := exec.Command(self[0], append(self[1:len(self):len(self)], stageWait)...)
		cmd.Stdin, cmd.Stdout = os.Stdin, os.Stdout
		return cmd.Start()
	case stageWait:
		fmt.Println(os.Getpid())
		_ = os.Stdout.Close()
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	return fmt.Errorf("%q is no stage of a stand-in", stage)
}
