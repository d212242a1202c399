package replay

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"forkproof/internal/probe"
)

// Place says on which libc runs are made: see probe.Command.
type Place struct {
	Root, Libc string
	Self       []string
}

// Player makes runs on one libc.
type Player struct {
	// Libc is what they run on, as it is mapped.
	Libc probe.Libc

	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *bufio.Reader
	errors   bytes.Buffer
	complete bool
}

// Open starts the program on a libc. It runs until Close, or until ctx ends: a run
// takes milliseconds.
func Open(ctx context.Context, at Place) (*Player, error) {
	cmd, family, done, err := probe.Command(at.Root, at.Libc, at.Self, "forkproof-replay", Binary)
	if err != nil {
		return nil, err
	}
	defer done()
	p := &Player{cmd: cmd}
	cmd.Stderr = &p.errors
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the program that runs scenarios: %w", err)
	}
	context.AfterFunc(ctx, func() { p.in.Close() }) // then it ends after the run that it is in
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		return nil, p.ended(ctx)
	}
	if p.Libc, err = probe.Identify(cmd.Process.Pid, family); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Play makes one run.
func (p *Player) Play(ctx context.Context, r Run) (*Result, error) {
	line, places, err := encode(r)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return nil, p.ended(ctx)
	}
	answer, err := p.out.ReadString('\n')
	if err != nil {
		return nil, p.ended(ctx)
	}
	return decode(strings.TrimSuffix(answer, "\n"), places)
}

// ended is the error of a program that is there no more.
func (p *Player) ended(ctx context.Context) error {
	p.Close()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	why, _, _ := strings.Cut(strings.TrimSpace(p.errors.String()), "\n")
	if why == "" {
		why = p.cmd.ProcessState.String()
	}
	return fmt.Errorf("the program that runs scenarios ended before its time: %s", why)
}

// Close ends the program. Once more does no harm.
func (p *Player) Close() {
	if p.complete {
		return
	}
	p.complete = true
	p.in.Close()
	_ = p.cmd.Wait()
}
