package forklog

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"forkproof/internal/proc"
	"forkproof/internal/target"
)

var fs = proc.New("/proc")

// shell starts a shell that becomes cat when its input ends its wait.
func shell(t *testing.T) (id target.ID, exec_ func()) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read line; exec cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	await(t, cmd.Process.Pid, "sh")
	if id, err = fs.Identity(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return id, func() {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatal(err)
		}
		await(t, id.PID, "cat")
	}
}

func await(t *testing.T, pid int, name string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		// The name is there before the rest of the program is.
		if st, err := fs.Stat(pid); err == nil && st.Comm == name {
			if _, err := image(fs, pid); err == nil {
				return
			}
		}
	}
	t.Fatalf("process %d has not become %s", pid, name)
}

func TestLog(t *testing.T) {
	l := At(filepath.Join(t.TempDir(), "a", "b"))
	id, becomeCat := shell(t)
	if _, err := l.Read(fs, id); !errors.Is(err, ErrNone) {
		t.Errorf("before: %v", err)
	}
	want := Record{Time: time.Now().UTC(), Parent: 7, Locks: []Lock{{Addr: 1<<63 + 5, Where: "a lock", Own: true, TID: 9, Name: "x", Doing: "this"}}}
	if err := l.Write(fs, id, want); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(l.Path(id)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v: %v", st.Mode(), err)
	}
	got, err := l.Read(fs, id)
	if err != nil || len(got.Locks) != 1 || got.Locks[0] != want.Locks[0] || got.Parent != 7 || !got.Time.Equal(want.Time) {
		t.Errorf("read %+v: %v", got, err)
	}
	// Another process, by the same number, or by another.
	for _, other := range []target.ID{{PID: id.PID, Start: id.Start + 1}, {PID: os.Getpid(), Start: id.Start}} {
		b, err := os.ReadFile(l.Path(id))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.Path(other), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Read(fs, other); !errors.Is(err, ErrNone) {
			t.Errorf("a record of %v was read for %v: %v", id, other, err)
		}
	}
	// Another run of the machine.
	r := got
	r.Boot = "another"
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Path(id), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(fs, id); !errors.Is(err, ErrNone) {
		t.Errorf("a record of another boot: %v", err)
	}
	// What others could have written.
	if err := l.Write(fs, id, want); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.Path(id), 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(fs, id); !errors.Is(err, ErrNone) {
		t.Errorf("a file that others may write: %v", err)
	}
	// Another program in the same process.
	if err := l.Write(fs, id, want); err != nil {
		t.Fatal(err)
	}
	becomeCat()
	if _, err := l.Read(fs, id); !errors.Is(err, ErrNone) {
		t.Errorf("after an exec: %v", err)
	}
	// What is of processes that are gone is removed by the next.
	dead := l.Path(target.ID{PID: 1 << 22, Start: 1})
	if err := os.WriteFile(dead, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(fs, id, want); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record of a process that is gone is there: %v", err)
	}
	l.Remove(id)
	if _, err := l.Read(fs, id); !errors.Is(err, ErrNone) {
		t.Errorf("after Remove: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"boot":"b","pid":3,"start":4,"image":"i","locks":[{"addr":"18446744073709551615","where":"w","own":true}]}`))
	f.Add([]byte(`{"boot":"b","pid":-3,"image":"i"}`))
	f.Add([]byte(`{"locks":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err == nil && (r.PID <= 0 || r.Boot == "") {
			t.Errorf("%q names no process", b)
		}
	})
}
