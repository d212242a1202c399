package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"forkproof/internal/probe"
	"forkproof/internal/testbed"
)

// TestMain lets this program be what forkproof is: it calls itself to enter a
// root folder.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "probe" && os.Args[2] == "--enter" {
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// measured runs forkproof probe and returns what it reports.
func measured(t *testing.T, args ...string) *probe.Report {
	t.Helper()
	var out, errs bytes.Buffer
	if code := Run(t.Context(), append([]string{"probe", "--format", "json"}, args...), &out, &errs); code != exitOK {
		t.Fatalf("forkproof probe %q: status %d\n%s", args, code, errs.String())
	}
	var r probe.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// claims are what is known of some probes on the glibc of each release.
var claims = map[string]map[string][]string{
	"bullseye": {
		"hangs": {
			"bz-24595-prepare", "bz-24595-parent", "bz-24595-child", "bz-27054-prepare", "bz-27054-parent", "bz-27054-child",
			"nested-fork-prepare", "nested-fork-parent", "nested-fork-child", "popen", "flockfile", "cond-destroy",
		},
		"crashes": {"dlclose-own-child", "dlclose-own-parent"},
		"works":   {"exit-exit", "join-vanished", "bz-24161"},
	},
	"bookworm": {
		"hangs": {"popen", "flockfile", "cond-destroy", "cond-signal"},
		"works": {"exit-exit", "join-vanished"},
	},
	"trixie": {
		"hangs": {"exit-exit", "cond-destroy"},
		"works": {"popen", "flockfile", "join-vanished"},
	},
	"forky": {
		"hangs": {"exit-exit", "join-vanished", "cond-destroy"},
		"works": {"popen", "flockfile"},
	},
	"every release": {
		"hangs":   {"setenv", "localtime", "atexit", "dl_iterate_phdr-callback", "mutex-other", "barrier-vanished", "semaphore-other", "rwlock-reader-vanished", "mutex-recursive-lock"},
		"works":   {"malloc", "stream-other", "mutex-normal", "order", "vfork-handlers", "posix_spawn-handlers", "clone-handlers", "bz-19703", "realloc-handler"},
		"differs": {"rwlock-prepare", "mutex-recursive"},
	},
	"from bookworm": {
		"works": {
			"bz-24595-prepare", "bz-24595-parent", "bz-24595-child", "bz-27054-prepare", "bz-27054-parent", "bz-27054-child",
			"nested-fork-prepare", "nested-fork-parent", "nested-fork-child", "dlclose-own-child", "dlclose-own-parent", "registered-in-prepare", "removed-in-prepare",
		},
	},
}

// The seed of the project is a table of what hangs on which glibc: here it is
// measured, and every hang is proven.
func TestProbeReleases(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		of := []string{root.Name, "every release"}
		if root.Name != "bullseye" {
			of = append(of, "from bookworm")
		}
		want := make(map[string]string)
		args := []string{"--root", root.Dir, "--time", "1s"}
		for _, release := range of {
			for outcome, names := range claims[release] {
				for _, name := range names {
					want[name] = outcome
					args = append(args, "--only", name)
				}
			}
		}
		r := measured(t, args...)
		glibc := map[string]string{"bullseye": "2.31", "bookworm": "2.36", "trixie": "2.41", "forky": "2.43"}[root.Name]
		if r.Libc.Family != "glibc" || r.Libc.Version != glibc || !strings.HasPrefix(r.Libc.Package, glibc+"-") || r.Libc.BuildID == "" || strings.HasPrefix(r.Libc.Path, root.Dir) {
			t.Errorf("measured %+v", r.Libc)
		}
		if len(r.Results) != len(want) {
			t.Errorf("%d results of %d probes", len(r.Results), len(want))
		}
		for _, res := range r.Results {
			if string(res.Outcome) != want[res.Probe] {
				t.Errorf("%s %s in fork %d (%s), want that it %s", res.Probe, res.Outcome, res.Forks, res.Text, want[res.Probe])
			}
			if res.Outcome == probe.Hangs && !res.Proven {
				t.Errorf("%s hangs, and nothing proves it: %s", res.Probe, res.Text)
			}
			if res.Outcome == probe.Works && res.Reached == 0 {
				t.Errorf("%s works in %d forks that met no thread", res.Probe, res.Forks)
			}
		}
		if m := r.Result("mutex-other"); m.Proof == nil || !strings.HasSuffix(m.Proof.Lock, "`held") {
			t.Errorf("the mutex is not named: %+v", m.Proof)
		}
		if m := r.Result("bz-24595-prepare"); m != nil && root.Name == "bullseye" && !m.Parent {
			t.Error("it is the parent that hangs in a prepare handler")
		}
	})
}

// Each release has a musl of its own.
func TestProbeMusl(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		want := map[string]probe.Outcome{
			"malloc": probe.Works, "atexit": probe.Works, "order": probe.Works, "popen": probe.Works, "bz-24595-child": probe.Works,
			"stream-other": probe.Hangs, "mutex-other": probe.Hangs, "once-vanished": probe.Hangs, "nested-fork-prepare": probe.Hangs,
		}
		args := []string{"--root", root.Dir, "--libc", "/lib/ld-musl-x86_64.so.1"}
		for name := range want {
			args = append(args, "--only", name)
		}
		r := measured(t, args...)
		if r.Libc.Family != "musl" || !strings.HasPrefix(r.Libc.Version, "1.2.") {
			t.Errorf("measured %+v", r.Libc)
		}
		for name, outcome := range want {
			if res := r.Result(name); res == nil || res.Outcome != outcome {
				t.Errorf("%s: %+v, want that it %s", name, res, outcome)
			} else if outcome == probe.Hangs && !res.Proven {
				t.Errorf("%s hangs, and nothing proves it: %s", name, res.Text)
			}
		}
	})
}

// By its own loader, without another root folder, a libc is measured as well.
func TestProbeByLoader(t *testing.T) {
	root := testbed.Open(t, "bullseye").Dir
	for _, libc := range []string{"lib/x86_64-linux-gnu/libc.so.6", "lib/ld-musl-x86_64.so.1"} {
		r := measured(t, "--libc", filepath.Join(root, libc), "--only", "order", "--only", "mutex-other", "--only", "nested-fork-child")
		if r.Libc.Path == "" || !strings.HasPrefix(r.Libc.Path, root) {
			t.Errorf("%s: measured %+v", libc, r.Libc)
		}
		if r.Result("order").Outcome != probe.Works || !r.Result("mutex-other").Proven || r.Result("nested-fork-child").Outcome != probe.Hangs {
			t.Errorf("%s: %+v", libc, r.Results)
		}
	}
}

// Allocators that stand in for malloc hold their locks over fork.
func TestProbeAllocators(t *testing.T) {
	for _, lib := range []string{"libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"} {
		t.Run(lib, func(t *testing.T) {
			t.Parallel()
			r := measured(t, "--preload", "/usr/lib/x86_64-linux-gnu/"+lib, "--forks", "50", "--time", "5s")
			if len(r.Results) < 8 {
				t.Errorf("%d results", len(r.Results))
			}
			for _, res := range r.Results {
				if res.Group != probe.Allocator || res.Outcome != probe.Works || res.Reached <= 0 {
					t.Errorf("%+v", res)
				}
			}
		})
	}
}
