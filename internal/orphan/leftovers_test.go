package orphan_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"forkproof/internal/libc"
	"forkproof/internal/orphan"
	"forkproof/internal/testbed"
)

// TestLeftovers searches a process that inherited locks of every kind in every
// kind of place.
func TestLeftovers(t *testing.T) {
	program := filepath.Join(t.TempDir(), "leftovers")
	if out, err := exec.CommandContext(t.Context(), "gcc", "-O1", "-pthread", "-Wall", "-o", program, "testdata/leftovers.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := testbed.Host(t).Start(t, testbed.Cmd{Args: []string{program}})
	var parent, child, stays, left int
	if _, err := fmt.Sscanf(p.AwaitLine(t, "parent=.*")[0], "parent=%d child=%d stays=%d left=%d", &parent, &child, &stays, &left); err != nil {
		t.Fatal(err)
	}
	p.AwaitLine(t, "end")
	testbed.AwaitBlocked(t, child)
	name := make(map[uint64]string)
	for _, m := range regexp.MustCompile(`(?m)^(\w+) 0x([0-9a-f]+)$`).FindAllStringSubmatch(p.Output(), -1) {
		addr, _ := strconv.ParseUint(m[2], 16, 64)
		name[addr] = m[1]
	}
	want := map[string]struct {
		kind, state string
		owner       int
		static      bool
		parent      orphan.ParentState
	}{
		"data":     {"pthread_mutex", "recursive mutex, held", stays, true, orphan.ParentSame},
		"bss":      {"pthread_mutex", "normal mutex, held", stays, true, orphan.ParentSame},
		"released": {"pthread_mutex", "normal mutex, held", stays, true, orphan.ParentFree},
		"writing":  {"pthread_rwlock", "held for writing", stays, true, orphan.ParentSame},
		"heap":     {"pthread_mutex", "normal mutex, held", stays, false, orphan.ParentSame},
		"robust":   {"pthread_mutex", "robust normal mutex, held", stays, false, orphan.ParentSame},
		"border":   {"pthread_mutex", "normal mutex, held", stays, false, orphan.ParentSame},
		"ended":    {"pthread_mutex", "normal mutex, held", left, true, orphan.ParentSame},
	}
	res := search(t, child, []int{parent}, "glibc")
	for _, l := range res.Locks {
		n := name[l.Addr]
		w, ok := want[n]
		if !ok {
			t.Errorf("found %q: %+v", n, l)
			continue
		}
		delete(want, n)
		if l.Kind != w.kind || l.State != w.state || l.OwnerTID != w.owner || l.Static != w.static || l.Parent != w.parent || l.Shared {
			t.Errorf("%s: found %+v, want %+v", n, l, w)
		}
		if alive := w.owner == stays; l.OwnerAlive != alive || alive && (l.Owner.TID != stays || l.Owner.PID != parent) {
			t.Errorf("%s: owner %+v, alive %v", n, l.Owner, l.OwnerAlive)
		}
	}
	for n := range want {
		t.Errorf("%s was not found; dropped %v", n, res.Dropped)
	}
	// Without the parent nothing is known of the owners.
	if res := search(t, child, nil, "glibc"); len(res.Locks) != 0 {
		t.Errorf("without a parent: found %+v", res.Locks)
	}
	// What the program's file itself says is no lock, whoever had the number.
	target, err := orphan.Gather(system, child, nil, libc.Identity{Family: "glibc"})
	if err != nil {
		t.Fatal(err)
	}
	target.Vanished = []orphan.Thread{{Inner: 70000}}
	res, err = orphan.Scan(context.Background(), target)
	if err != nil || len(res.Locks) != 0 || res.Dropped["as in the file"] != 1 {
		t.Errorf("found %+v, dropped %v, %v; want the constant to be ruled out", res.Locks, res.Dropped, err)
	}
}
