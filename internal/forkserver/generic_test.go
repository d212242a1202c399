package forkserver_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"forkproof/internal/forkserver"
	"forkproof/internal/testbed"
)

// said returns the PIDs that a script wrote under a name.
func said(t testing.TB, p *testbed.Proc, name string) []int {
	t.Helper()
	p.AwaitLine(t, `ready \d+`)
	var pids []int
	for _, m := range regexp.MustCompile(`(?m)^`+name+` (\d+)$`).FindAllStringSubmatch(p.Output(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	if len(pids) == 0 {
		t.Fatalf("the script wrote no %s:\n%s", name, p.Output())
	}
	return pids
}

func process(t testing.TB, processes []forkserver.Process, pid int) forkserver.Process {
	t.Helper()
	i := slices.IndexFunc(processes, func(p forkserver.Process) bool { return p.ID.PID == pid })
	if i < 0 {
		t.Fatalf("process %d is not in the snapshot", pid)
	}
	return processes[i]
}

// TestGeneric sees that a server which nobody knows is found by its children
// that are copies, and that those which called execve are none of its workers.
func TestGeneric(t *testing.T) {
	for _, what := range []string{"copies", "threads"} {
		t.Run(what, func(t *testing.T) {
			p := script(t, testbed.Host(t), "forks.py", what)
			copies := said(t, p, "copy")
			s := awaitKind(t, p.PID, forkserver.Generic, len(copies))
			if got := workers(s); !slices.Equal(got, copies) {
				t.Errorf("workers %v, want %v", got, copies)
			}
			if s.Name != "pre-fork server (forks.py)" {
				t.Errorf("name %q", s.Name)
			}
			processes := snapshot(t)
			for _, pid := range copies {
				if got, role, ok := forkserver.Of(system, processes, pid); !ok || role != forkserver.Worker || got.Master.ID.PID != p.PID {
					t.Errorf("worker %d: %v of %v, %v", pid, role, got.Master.ID, ok)
				}
				if is, err := forkserver.ForkedWithoutExec(system, process(t, processes, p.PID), process(t, processes, pid)); err != nil || !is {
					t.Errorf("worker %d: forked without exec: %v, %v", pid, is, err)
				}
			}
			if what != "copies" {
				return
			}
			for _, pid := range said(t, p, "exec") {
				if is, err := forkserver.ForkedWithoutExec(system, process(t, processes, p.PID), process(t, processes, pid)); err != nil || is {
					t.Errorf("process %d called execve; forked without exec: %v, %v", pid, is, err)
				}
				if s, role, ok := forkserver.Of(system, processes, pid); ok {
					t.Errorf("process %d is no worker, but %v of %s", pid, role, s.Name)
				}
			}
		})
	}
}

// TestChain sees that a worker which forks is the master of what it forked.
func TestChain(t *testing.T) {
	p := script(t, testbed.Host(t), "forks.py", "chain")
	middle, leaf := said(t, p, "middle")[0], said(t, p, "leaf")[0]
	processes := snapshot(t)
	for _, tt := range []struct {
		pid, master int
		role        forkserver.Role
	}{{p.PID, p.PID, forkserver.Master}, {middle, p.PID, forkserver.Worker}, {leaf, middle, forkserver.Worker}} {
		s, role, ok := forkserver.Of(system, processes, tt.pid)
		if !ok || role != tt.role || s.Master.ID.PID != tt.master {
			t.Errorf("process %d: %v of %d, %v; want %v of %d", tt.pid, role, s.Master.ID.PID, ok, tt.role, tt.master)
		}
	}
}

// TestStranger sees that equal addresses alone make no copy: without address
// space randomisation another run of the same program has them too.
func TestStranger(t *testing.T) {
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{"setarch", "-R", "/usr/bin/python3", scriptPath(t, "forks.py"), "stranger"}})
	copied, stranger := said(t, p, "copy")[0], said(t, p, "stranger")[0]
	processes := snapshot(t)
	master := process(t, processes, p.PID)
	if got := process(t, processes, stranger).PPID; got != p.PID {
		t.Fatalf("the stranger's parent is %d, not %d: the test proves nothing", got, p.PID)
	}
	if !forkserver.SameLayout(master, process(t, processes, stranger)) {
		t.Fatal("the stranger lies elsewhere in memory: the test proves nothing")
	}
	if is, err := forkserver.ForkedWithoutExec(system, master, process(t, processes, stranger)); err != nil || is {
		t.Errorf("stranger: forked without exec: %v, %v", is, err)
	}
	if is, err := forkserver.ForkedWithoutExec(system, master, process(t, processes, copied)); err != nil || !is {
		t.Errorf("copy: forked without exec: %v, %v", is, err)
	}
}

// TestNotServers sees that a shell with a subshell is left out of the list, and
// still told about when asked for.
func TestNotServers(t *testing.T) {
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{"sh", "-c", `(sleep 1000; :) & echo ready 1; wait`}})
	p.AwaitLine(t, `ready 1`)
	var subshell int
	testbed.Await(t, "a subshell that is old enough", func() bool {
		processes := snapshot(t)
		if s, ok := find(processes, p.PID); ok {
			t.Fatalf("a shell is listed as %s", s.Name)
		}
		s, _, ok := forkserver.Of(system, processes, p.PID)
		if ok && len(s.Workers) == 1 {
			subshell = s.Workers[0].ID.PID
		}
		return ok && len(testbed.Children(subshell)) == 1
	})
	if _, role, ok := forkserver.Of(system, snapshot(t), subshell); !ok || role != forkserver.Worker {
		t.Errorf("subshell %d: %v, %v", subshell, role, ok)
	}
}

// TestNoise runs programs of usual machines that fork copies of themselves, and
// sees that none is listed. Real programs do so for moments only, or with a
// terminal: an interpreter by their names does it for as long as we look.
func TestNoise(t *testing.T) {
	python, err := filepath.EvalSymlinks("/usr/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(python)
	if err != nil {
		t.Fatal(err)
	}
	forks := scriptPath(t, "forks.py")
	dir := t.TempDir()
	pids := make(map[int]string)
	// The last one is no noise: it shows that the others would be listed.
	const server = "some-server"
	for _, name := range []string{"tmux", "sshd-session", "dpkg-deb", "containerd-shim-runc-v2", "crond", server} {
		exe := filepath.Join(dir, name)
		if err := os.WriteFile(exe, code, 0o755); err != nil {
			t.Fatal(err)
		}
		p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{exe, forks, "copies"}, Env: []string{"PYTHONHOME=/usr"}})
		said(t, p, "copy")
		pids[p.PID] = name
	}
	// A script by its own name, whose program is a shell.
	path := filepath.Join(dir, "serve")
	if err := os.WriteFile(path, []byte("#!/bin/bash\n(sleep 1000; :) &\n(sleep 1000; :) &\necho ready\nwait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{path}})
	p.AwaitLine(t, "ready")
	pids[p.PID] = "serve"

	testbed.Await(t, "the server that is none of them", func() bool {
		seen := false
		for _, s := range forkserver.Find(system, snapshot(t)) {
			switch name := pids[s.Master.ID.PID]; name {
			case "":
			case server:
				seen = true
			default:
				t.Fatalf("%s is listed as %s", name, s.Name)
			}
		}
		return seen
	})
	processes := snapshot(t)
	for pid, name := range pids {
		if s, role, ok := forkserver.Of(system, processes, pid); !ok || role != forkserver.Master || len(s.Workers) != 2 {
			t.Errorf("%s, asked for by number: %v, %v, %d workers", name, role, ok, len(s.Workers))
		}
	}
}

// TestOfNothing sees that a process which forked nothing belongs to no server.
func TestOfNothing(t *testing.T) {
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{"sleep", "1000"}})
	if s, role, ok := forkserver.Of(system, snapshot(t), p.PID); ok {
		t.Errorf("sleep is a %v of %s", role, s.Name)
	}
	if _, _, ok := forkserver.Of(system, snapshot(t), 1<<30); ok {
		t.Error("a process that does not exist belongs to a server")
	}
}

// BenchmarkFind looks at 500 more processes than the machine has anyway.
func BenchmarkFind(b *testing.B) {
	const n = 500
	p := testbed.Host(b).Start(b, testbed.Cmd{Args: []string{"sh", "-c", `for i in $(seq ` + strconv.Itoa(n) + `); do sleep 10000 & done; echo ready; wait`}})
	p.AwaitLine(b, "ready")
	testbed.Await(b, "all to run", func() bool { return len(testbed.Children(p.PID)) == n })
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			if len(snapshot(b)) < n {
				b.Fatal("processes are missing")
			}
		}
	})
	processes := snapshot(b)
	b.Run("find", func(b *testing.B) {
		for b.Loop() {
			forkserver.Find(system, processes)
		}
	})
	b.Run("of", func(b *testing.B) {
		for b.Loop() {
			forkserver.Of(system, processes, p.PID)
		}
	})
}
