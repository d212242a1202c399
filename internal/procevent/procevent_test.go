package procevent

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Every fork of a storm is told, with its parent, before the child's end, and
// with the child's status.
func TestListen(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatalf("root on the machine itself may listen: %v", err)
	}
	defer l.Close()
	// A shell that forks for each of its subshells.
	const forks = 500
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 500 ]; do (exit 7) & wait $!; i=$((i+1)); done; exec true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shell := cmd.Process.Pid
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	time.AfterFunc(time.Minute, func() { _ = l.Close() })
	alive := map[int]bool{}
	var born, ended, execs int
	var last time.Duration
	for {
		e, err := l.Next()
		if err != nil {
			t.Fatalf("after %d forks and %d ends: %v", born, ended, err)
		}
		switch {
		case e.Kind == Fork && e.Parent == shell:
			born++
			alive[e.PID] = true
			if e.At < last {
				t.Errorf("fork %d is told out of its order", born)
			}
			last = e.At
		case e.Kind == Exec && e.PID == shell:
			execs++
		case e.Kind == Exit && alive[e.PID]:
			ended++
			delete(alive, e.PID)
			if !e.Status.Exited() || e.Status.ExitStatus() != 7 {
				t.Errorf("process %d: status %#x", e.PID, e.Status)
			}
		}
		if e.Kind == Exit && e.PID == shell {
			break
		}
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	// The first execve is that of the shell itself, by the child of this test.
	if born != forks || ended != forks || execs != 2 {
		t.Errorf("%d forks, %d ends, %d calls of execve; want %d, %d, 2", born, ended, execs, forks, forks)
	}
}

func TestClose(t *testing.T) {
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, func() { _ = l.Close() })
	for {
		if _, err := l.Next(); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
			return
		}
	}
}

// Where the kernel does not serve us there is a reason, and no waiting for ever.
func TestRefused(t *testing.T) {
	if os.Getenv("PROCEVENT_REFUSED") != "" {
		l, err := Listen()
		if err == nil {
			_ = l.Close()
			t.Fatal("events are told in a PID namespace")
		}
		t.Log("refused:", err)
		return
	}
	cmd := exec.Command("unshare", "--pid", "--net", "--fork", os.Args[0], "-test.run", "^TestRefused$", "-test.v")
	cmd.Env = append(os.Environ(), "PROCEVENT_REFUSED=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refused:") {
		t.Errorf("%v: %s", err, out)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(request())
	f.Add([]byte{})
	b := request()
	b = append(b[:headers], make([]byte, 40)...)
	b[0], b[32], b[headers] = byte(len(b)), 40, 1
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range parse(b) {
			if e.Kind != Fork && e.Kind != Exec && e.Kind != Exit {
				t.Errorf("an event of kind %#x", e.Kind)
			}
		}
		answer(b)
	})
}
