package inspect

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/proc"
	"forkproof/internal/testbed"
)

// zooLock is what must be said of one kind of lock of the victim lockzoo.
type zooLock struct {
	// kind is lockzoo's, lock finding's.
	kind, lock string
	// where is the lock's name, a pattern that must match all of it.
	where string
	// owner: the lock records it, so that the proof needs no other thread, and
	// it is found before anybody waits.
	owner bool
	// bare: the child came of a raw clone, which hides who its first thread was,
	// so that nothing follows from the owner.
	bare bool
	// stream: it is a stream's.
	stream bool
}

const gLock = "lockzoo`g_lock"

// The same on all releases, but for what zooOf changes.
var zooGlibc = []zooLock{
	{"normal", "pthread_mutex", gLock, true, false, false},
	{"recursive", "pthread_mutex", gLock, true, false, false},
	{"errorcheck", "pthread_mutex", gLock, true, false, false},
	{"adaptive", "pthread_mutex", gLock, true, false, false},
	{"robust", "pthread_mutex", gLock, true, false, false},
	{"pi", "pthread_mutex", gLock, true, false, false},
	{"rwlock-writer", "pthread_rwlock", gLock, true, false, false},
	{"rwlock-writers", "pthread_rwlock", gLock, true, false, false},
	{"rwlock-readers", "pthread_rwlock", gLock, false, false, false},
	{"sem", "semaphore", gLock, false, false, false},
	{"cond", "condition-variable", gLock + `\+40`, false, false, false}, // behind its mutex
	{"barrier", "barrier", gLock, false, false, false},
	{"join", "", "", false, false, false},
	{"stdio", "stdio", `the lock of the stream \[heap\]\+0x[0-9a-f]+(, from fwrite)?`, true, false, true},
	{"stderr", "stdio", `the lock of stderr(, from fwrite)?`, true, false, false},
	{"tz", "libc-internal", `glibc's time zone lock \(tzset_lock\), from localtime_r`, false, false, false},
}

// On musl no normal mutex and no read-write lock names its owner, and whoever
// waits for a condition variable does so on the own stack.
var zooMusl = []zooLock{
	{"normal", "pthread_mutex", gLock, false, false, false},
	{"recursive", "pthread_mutex", gLock, true, false, false},
	{"errorcheck", "pthread_mutex", gLock, true, false, false},
	{"robust", "pthread_mutex", gLock, true, false, false},
	{"pi", "pthread_mutex", gLock, true, false, false},
	{"rwlock-writer", "pthread_rwlock", gLock, false, false, false},
	{"rwlock-writers", "pthread_rwlock", gLock, false, false, false},
	{"rwlock-readers", "pthread_rwlock", gLock, false, false, false},
	{"sem", "semaphore", gLock, false, false, false},
	{"cond", "condition-variable", `a condition variable, from pthread_cond_wait`, false, false, false},
	{"barrier", "barrier", `a barrier, from pthread_barrier_wait`, false, false, false},
	{"join", "thread-join", `the end of a thread(, from pthread_join)?`, true, false, false},
	{"stdio", "stdio", `the lock of the stream .*, from fwrite`, true, false, true},
	{"stderr", "stdio", `the lock of stderr(, from f.*)?`, true, false, false},
}

// zooChild is a child of lockzoo as both namespaces know it.
type zooChild struct {
	kind, mode  string
	pid, parent int
	holder      int // in the child's own namespace
}

// zooStart runs lockzoo for all kinds and modes in one root folder, under one
// shell, and waits until each child is where its mode has it.
func zooStart(t *testing.T, root *testbed.Root, program string, kinds, modes []string) []zooChild {
	t.Helper()
	script := `for k in $1; do for m in $2; do "$0" $k $m & done; done; wait`
	p := root.Start(t, testbed.Cmd{Args: []string{"sh", "-c", script, program, strings.Join(kinds, " "), strings.Join(modes, " ")}})
	ready := regexp.MustCompile(`(?m)^ready kind=(\S+) mode=(\S+) parent=(\d+) child=(\d+) holder=(\d+) .*\n`)
	var lines [][]string
	testbed.Await(t, "all victims to be ready", func() bool {
		lines = ready.FindAllStringSubmatch(p.Output(), -1)
		return len(lines) == len(kinds)*len(modes)
	})
	fs := proc.New("/proc")
	outer := make(map[int]int)
	for _, pid := range testbed.Descendants(p.PID) {
		if st, err := fs.TaskStatus(pid, pid); err == nil {
			outer[st.InnerPID()] = pid
		}
	}
	var out []zooChild
	for _, l := range lines {
		n := func(i int) int { v, _ := strconv.Atoi(l[i]); return v }
		out = append(out, zooChild{kind: l[1], mode: l[2], parent: outer[n(3)], pid: outer[n(4)], holder: n(5)})
	}
	var last map[int]uint64
	same := 0
	testbed.Await(t, "all victims to sleep", func() bool {
		now := make(map[int]uint64)
		for _, c := range out {
			if !c.there(fs, now) {
				last = nil
				return false
			}
		}
		if last == nil || fmt.Sprint(now) != fmt.Sprint(last) {
			same = 0
		}
		last, same = now, same+1
		return same == 3
	})
	slices.SortFunc(out, func(a, b zooChild) int { return strings.Compare(a.kind+a.mode, b.kind+b.mode) })
	return out
}

// there reports whether a child's threads are all where they are to stay; how
// often they have slept goes to switches.
func (c zooChild) there(fs proc.FS, switches map[int]uint64) bool {
	tids := testbed.Threads(c.pid)
	if len(tids) != max(1, map[string]int{"crowd": 4, "beside": 2}[c.mode]) {
		return false
	}
	for _, tid := range tids {
		st, err := fs.TaskStatus(c.pid, tid)
		if err != nil || c.kind != "spin" && st.State != 'S' {
			return false
		}
		if c.kind == "spin" {
			continue
		}
		switches[tid] = st.Switches
	}
	return true
}

// TestZoo inspects every kind of lock in every mode on four releases, with glibc
// and with musl.
func TestZoo(t *testing.T) {
	modes := []string{"stuck", "crowd", "beside", "armed", "free"}
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for _, family := range []string{"glibc", "musl"} {
			t.Run(family, func(t *testing.T) {
				program, locks := testbed.Build(t, "lockzoo.c"), zooOf(root.Name)
				if family == "musl" {
					program, locks = testbed.BuildMusl(t, "lockzoo.c"), zooMusl
				}
				var kinds []string
				for _, l := range locks {
					if l.kind != "pi" {
						kinds = append(kinds, l.kind)
					}
				}
				children := zooStart(t, root, program, kinds, modes)
				// The kernel lets nobody wait for a priority-inheriting mutex of a
				// thread of another process (EPERM), which glibc takes for fatal.
				children = append(children, zooStart(t, root, program, []string{"pi"}, []string{"armed", "free"})...)
				// Armed locks are not looked for in a crowd of healthy processes.
				var stuck, calm []int
				for _, c := range children {
					if c.mode == "armed" || c.mode == "free" {
						calm = append(calm, c.pid)
					} else {
						stuck = append(stuck, c.pid)
					}
				}
				var found []finding.Finding
				for _, pids := range append(slices.Collect(slices.Chunk(calm, manyTargets-1)), stuck) {
					doc, err := Run(context.Background(), Request{PIDs: pids})
					if err != nil {
						t.Fatal(err)
					}
					found = append(found, doc.Findings...)
				}
				for _, c := range children {
					i := slices.IndexFunc(locks, func(l zooLock) bool { return l.kind == c.kind })
					t.Run(c.kind+"/"+c.mode, func(t *testing.T) { c.check(t, found, locks[i]) })
				}
			})
		}
	})
}

// zooOf is what is expected of a release's glibc.
func zooOf(release string) []zooLock {
	locks := slices.Clone(zooGlibc)
	for i := range locks {
		switch {
		case locks[i].kind == "join" && release == "forky":
			// glibc 2.43 makes a thread that vanished look as if it ran.
			locks[i] = zooLock{"join", "thread-join", `the end of a thread(, from pthread_join)?`, true, false, false}
		case locks[i].lock == "stdio" && release == "bullseye":
			locks[i].bare = true // glibc 2.31 has no _Fork
		}
	}
	return locks
}

// check compares the findings about a child with what is expected of it.
func (c zooChild) check(t *testing.T, found []finding.Finding, want zooLock) {
	t.Helper()
	rule, confidence, count := finding.DeadlockNobodyLeft, finding.Proven, 1
	if want.owner {
		rule = finding.DeadlockOwnerGone
	}
	switch {
	case want.lock == "" || c.mode == "free":
		count = 0
	case c.mode == "armed":
		rule, confidence = finding.OrphanedLock, finding.Observed
		if !want.owner || want.lock == "thread-join" {
			count = 0 // nothing tells that it is held
		}
	case c.mode == "beside" && !want.owner:
		count = 0 // the thread beside could be who releases it
	case c.mode == "crowd":
		count = 4
	}
	if want.bare && c.mode != "armed" {
		rule = finding.DeadlockNobodyLeft
		if c.mode == "beside" {
			count = 0
		}
	}
	where := regexp.MustCompile("^(?:" + want.where + ")$")
	if want.stream && c.mode == "armed" {
		where = regexp.MustCompile("^the lock of the stream ")
	}
	n := 0
	for _, f := range found {
		if f.PID != c.pid || f.Severity == finding.Info {
			continue
		}
		n++
		if f.Rule != rule || f.Confidence != confidence || f.Lock.Kind != want.lock || !where.MatchString(f.Lock.Where) {
			t.Errorf("%s %s, lock %s %q; want %s %s, %s %q", f.Confidence, f.Rule, f.Lock.Kind, f.Lock.Where, confidence, rule, want.lock, where)
		}
		o := f.Lock.Owner
		switch {
		case !want.owner && (o != nil || f.Lock.OwnerTID != 0):
			t.Errorf("owner %d, %+v of a lock that records none", f.Lock.OwnerTID, o)
		case want.owner && (o == nil || f.Lock.OwnerTID != c.holder || o.PID != c.parent || o.Name != "holder" || !o.Alive || o.Basis != finding.Recorded || len(o.Native) == 0):
			t.Errorf("owner %d, %+v; want thread holder, %d, of process %d, alive, with its stack", f.Lock.OwnerTID, o, c.holder, c.parent)
		}
	}
	if n != count {
		t.Errorf("%d findings, want %d of %s", n, count, rule)
	}
}

// TestZooSpin: nothing is proven of threads that burn their processor.
func TestZooSpin(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		for family, program := range map[string]string{"glibc": testbed.Build(t, "lockzoo.c"), "musl": testbed.BuildMusl(t, "lockzoo.c")} {
			for _, mode := range []string{"stuck", "crowd", "beside", "armed", "free"} {
				t.Run(family+"/"+mode, func(t *testing.T) {
					c := zooStart(t, root, program, []string{"spin"}, []string{mode})[0]
					for _, f := range inspectPID(t, c.pid).Findings {
						if f.PID == c.pid && f.Confidence == finding.Proven {
							t.Errorf("a false proof: %s: %s", f.Rule, f.Title)
						}
					}
				})
			}
		}
	})
}

// TestCycle proves rings of threads, with and without a thread that is none of
// them.
func TestCycle(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		program := testbed.Build(t, "cycle.c")
		for _, args := range [][]string{{"2"}, {"2", "beside"}, {"16"}} {
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				p := root.Start(t, testbed.Cmd{Args: append([]string{program}, args...)})
				pid := p.AwaitPID(t, "ready", "pid")
				testbed.AwaitBlocked(t, pid)
				got := proofs(inspectPID(t, pid))
				if len(got) != 1 || got[0].Rule != finding.DeadlockCycle || got[0].Lock.Kind != "pthread_mutex" || !strings.HasPrefix(got[0].Lock.Where, "cycle`g_ring") {
					t.Fatalf("%d proofs: %+v; want one ring", len(got), got)
				}
				if o := got[0].Lock.Owner; o == nil || o.PID != pid || !o.Alive || len(o.Native) == 0 {
					t.Errorf("the ring's first lock is held by %+v, want a thread of the process", o)
				}
			})
		}
	})
}

// TestNotStuck: none of these is a deadlock, though they sleep, and a false proof
// is the worst mistake there is.
func TestNotStuck(t *testing.T) {
	kinds := []string{
		"accept", "poll", "poll-timeout", "select", "epoll", "pause", "sigwait", "read", "busy", "waitpid", "futex-timeout", "sem-signal", "clone-vm",
		"shared-futex", "shared-private-op", "shared-mutex", "vfork", "mixed", "sleeper", "timed-loop", "cycle-timed", "survivor",
	}
	check := func(t *testing.T, root *testbed.Root, program string) {
		p := root.Start(t, testbed.Cmd{Args: []string{"sh", "-c", `for k in $1; do "$0" $k & done; wait`, program, strings.Join(kinds, " ")}})
		ready := regexp.MustCompile(`(?m)^ready kind=(\S+) pid=(\d+) .*\n`)
		var lines [][]string
		testbed.Await(t, "all victims to be ready", func() bool {
			lines = ready.FindAllStringSubmatch(p.Output(), -1)
			return len(lines) == len(kinds)
		})
		fs := proc.New("/proc")
		name := make(map[int]string)
		var pids []int
		for _, l := range lines {
			inner, _ := strconv.Atoi(l[2])
			pid := p.Outer(t, inner)
			pids, name[pid] = append(pids, pid), l[1]
		}
		testbed.Await(t, "all victims to sleep", func() bool {
			for _, pid := range pids {
				for _, tid := range testbed.Threads(pid) {
					if st, err := fs.TaskStatus(pid, tid); err != nil || st.State == 'R' && name[pid] != "busy" {
						return false
					}
				}
			}
			return true
		})
		for range 2 {
			doc, err := Run(context.Background(), Request{PIDs: pids})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range doc.Findings {
				// A semaphore that a signal handler may post cannot be told from one
				// that nobody will; it is not called proven.
				if f.Confidence == finding.Proven || f.Severity == finding.Critical && name[f.PID] != "sem-signal" {
					t.Errorf("%s: a false finding: %s %s: %s", name[f.PID], f.Confidence, f.Rule, f.Title)
				}
			}
		}
	}
	for _, root := range append([]string{""}, testbed.Releases()...) {
		t.Run(cmp.Or(root, "host"), func(t *testing.T) {
			at := testbed.Host(t)
			if root != "" {
				at = testbed.Open(t, root)
			}
			check(t, at, testbed.Build(t, "healthy.c"))
		})
		if root == "bullseye" || root == "forky" { // the oldest musl and the newest
			t.Run(root+" musl", func(t *testing.T) { check(t, testbed.Open(t, root), testbed.BuildMusl(t, "healthy.c")) })
		}
	}
}

// TestStopped: a deadlocked process that somebody stopped, or traces, does not
// show what it waits for.
func TestStopped(t *testing.T) {
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{testbed.Build(t, "lockzoo.c"), "normal", "stuck"}})
	child := p.AwaitPID(t, "ready", "child")
	testbed.AwaitFutex(t, child)
	if err := syscall.Kill(child, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"T", "t"} {
		if how == "t" {
			testbed.Traced(t, child)
		}
		testbed.AwaitState(t, child, how)
		if got := proofs(inspectPID(t, child)); len(got) != 0 {
			t.Errorf("state %s: a proof of a process that is stopped: %+v", how, got)
		}
	}
}
