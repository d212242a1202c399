package inspect

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/proc"
)

// deadline bounds every wait for a condition; it is never waited for in full
// unless something is wrong.
const deadline = 60 * time.Second

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("waited %s in vain for %s", deadline, what)
}

// asleep reports whether no thread of pid ran between two looks.
func asleep(pid int) bool {
	fs := proc.New("/proc")
	sum := func() (n uint64, ok bool) {
		tids, err := fs.Threads(pid)
		if err != nil {
			return 0, false
		}
		for _, tid := range tids {
			st, err := fs.TaskStatus(pid, tid)
			if err != nil || st.State != 'S' {
				return 0, false
			}
			n += st.Switches
		}
		return n, true
	}
	a, ok := sum()
	time.Sleep(50 * time.Millisecond)
	b, ok2 := sum()
	return ok && ok2 && a == b
}

// start runs a command in a process group of its own, which ends with the test.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

func victim(t *testing.T, bin, state string) int {
	t.Helper()
	cmd := exec.Command(bin, state)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", state, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func inspectPID(t *testing.T, pid int) *finding.Document {
	t.Helper()
	doc, err := Run(context.Background(), Request{PIDs: []int{pid}})
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func proofs(doc *finding.Document) []finding.Finding {
	var out []finding.Finding
	for _, f := range doc.Findings {
		if f.Confidence == finding.Proven {
			out = append(out, f)
		}
	}
	return out
}

func TestBadTargets(t *testing.T) {
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = zombie.Wait() })
	await(t, "a zombie", func() bool {
		st, err := proc.New("/proc").Stat(zombie.Process.Pid)
		return err == nil && st.State == 'Z'
	})
	for name, tc := range map[string]struct {
		pid  int
		want string
	}{
		"no such process": {1 << 30, "no process"},
		"kernel thread":   {2, "thread of the kernel"},
		"zombie":          {zombie.Process.Pid, "zombie"},
	} {
		if name == "kernel thread" {
			if st, err := proc.New("/proc").Stat(2); err != nil || !st.Kthread() {
				continue // a container does not show the kernel's threads
			}
		}
		_, err := Run(context.Background(), Request{PIDs: []int{tc.pid}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// roots are the places where a real gunicorn runs: this machine, and each
// release's root folder, entered with a PID and mount namespace of its own.
func roots(t *testing.T) []string {
	t.Helper()
	out := []string{"/"}
	dir := os.Getenv("FORKPROOF_TEST_ROOTS")
	if dir == "" {
		t.Log("FORKPROOF_TEST_ROOTS is not set: only this machine's own gunicorn is tested")
		return out
	}
	for _, r := range []string{"bullseye", "bookworm", "trixie", "forky"} {
		p := filepath.Join(dir, r)
		if _, err := os.Stat(filepath.Join(p, "usr/bin/gunicorn")); err != nil {
			t.Fatalf("the root folder of %s is not complete; make it with scripts/roots.sh: %v", r, err)
		}
		out = append(out, p)
	}
	return out
}

func gunicorn(t *testing.T, root, app, config string, workers int) forkserver.Server {
	t.Helper()
	dir := t.TempDir()
	if root != "/" {
		var err error
		if dir, err = os.MkdirTemp(filepath.Join(root, "srv"), "victim"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	if out, err := exec.Command("cp", "testdata/gunicorn/lock_app.py", "testdata/gunicorn/healthy_app.py", "testdata/gunicorn/boot.py", "testdata/gunicorn/idle.py", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	inside := "/" + strings.TrimPrefix(strings.TrimPrefix(dir, root), "/")
	args := []string{"/usr/bin/python3", "/usr/bin/gunicorn", "--preload", "--no-sendfile", "-w", strconv.Itoa(workers), "--timeout", "0", "-c", config, "-b", freePort(t), "--chdir", inside, app + ":app"}
	var cmd *exec.Cmd
	if root == "/" {
		cmd = exec.Command(args[0], args[1:]...)
	} else {
		sh := "mount -t proc proc " + root + "/proc && exec chroot " + root + ` sh -c 'cd "$0" && exec "$@"' "$@"`
		cmd = exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-c", sh, "sh", inside}, args...)...)
	}
	cmd.Dir = dir
	if root != "/" {
		cmd.Dir = "/"
	}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	start(t, cmd)
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("gunicorn said:\n%s", b)
		}
	})
	var server forkserver.Server
	await(t, "gunicorn's workers", func() bool {
		fs := proc.New("/proc")
		all, err := forkserver.Snapshot(fs)
		if err != nil {
			return false
		}
		for _, s := range forkserver.Find(fs, all) {
			if s.Kind == "gunicorn" && len(s.Workers) == workers && strings.Contains(s.Master.Command(), inside) {
				for _, w := range s.Workers {
					if !asleep(w.ID.PID) {
						// A healthy worker wakes once a second; it need only sleep in select.
						if config == "boot.py" && app == "lock_app" {
							return false
						}
					}
				}
				server = s
				return true
			}
		}
		return false
	})
	return server
}

func TestGunicornLock(t *testing.T) {
	for _, root := range roots(t) {
		t.Run(filepath.Base(root), func(t *testing.T) {
			s := gunicorn(t, root, "lock_app", "boot.py", 2)
			doc := inspectPID(t, s.Master.ID.PID)
			got := proofs(doc)
			if len(got) != 2 {
				t.Fatalf("%d proofs for 2 hung workers: %+v", len(got), doc.Findings)
			}
			for _, f := range got {
				if f.Rule != finding.DeadlockNobodyLeft || f.Lock.Kind != "python-lock" {
					t.Errorf("got %s on %s", f.Rule, f.Lock.Kind)
				}
				o := f.Lock.Owner
				if f.Lock.Where != "lock_app.refresh_lock" || o == nil || o.Name != "refresher" || o.Basis != finding.HoldsNow || o.PID != s.Master.ID.PID || !o.Alive {
					t.Errorf("%s left locked by %+v, want lock_app.refresh_lock by the refresher", f.Lock.Where, o)
				} else if len(o.Python) == 0 || o.Python[0].Function != "refresher" || o.Python[0].Line != 13 || len(o.Native) == 0 {
					t.Errorf("the owner is at %+v, want refresher at lock_app.py:13", o.Python)
				}
			}
			for _, target := range doc.Targets {
				if target.Role != "worker" {
					continue
				}
				py := target.Threads[0].Python
				if len(py) == 0 || py[0].Function != "touch" || !strings.HasSuffix(py[0].File, "lock_app.py") || py[0].Line != 21 {
					t.Errorf("worker %d is at %+v, want touch at lock_app.py:21", target.PID, py)
				}
			}
		})
	}
}

// The same server before anybody wants the lock.
func TestGunicornArmed(t *testing.T) {
	for _, root := range roots(t) {
		t.Run(filepath.Base(root), func(t *testing.T) {
			s := gunicorn(t, root, "lock_app", "idle.py", 2)
			doc := inspectPID(t, s.Master.ID.PID)
			armed := 0
			for _, f := range doc.Findings {
				if f.Confidence == finding.Proven {
					t.Errorf("a false proof: %+v", f)
				}
				if f.Rule != finding.OrphanedLock {
					continue
				}
				armed++
				if o := f.Lock.Owner; f.Lock.Where != "lock_app.refresh_lock" || o == nil || o.Name != "refresher" {
					t.Errorf("%s left locked by %+v", f.Lock.Where, o)
				}
			}
			if armed != 2 {
				t.Errorf("%d armed locks in 2 workers: %+v", armed, doc.Findings)
			}
		})
	}
}

func TestGunicornHealthy(t *testing.T) {
	for _, root := range roots(t) {
		t.Run(filepath.Base(root), func(t *testing.T) {
			s := gunicorn(t, root, "healthy_app", "boot.py", 2)
			for range 5 {
				for _, f := range inspectPID(t, s.Master.ID.PID).Findings {
					if f.Severity > finding.Info {
						t.Fatalf("a false finding: %+v", f)
					}
				}
			}
		})
	}
}
