package check

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/testbed"
)

func run(t testing.TB, req Request) *finding.Document {
	t.Helper()
	doc, err := Run(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range doc.Findings {
		if f.Confidence == finding.Proven {
			t.Errorf("a fact is called proven: %s", f.Title)
		}
		if len(f.Sources) == 0 && f.Rule != finding.ForkWithThreads {
			t.Errorf("no source: %s", f.Title)
		}
	}
	for _, target := range doc.Targets {
		if len(target.Answers) != 4 {
			t.Errorf("%s: %d answers", target.Name, len(target.Answers))
		}
	}
	return doc
}

// fact finds a finding by the id of its fact.
func fact(doc *finding.Document, id string) *finding.Finding {
	i := slices.IndexFunc(doc.Findings, func(f finding.Finding) bool { return f.Fact == id })
	if i < 0 {
		return nil
	}
	return &doc.Findings[i]
}

func installedPackage(t *testing.T, root *testbed.Root, name string) string {
	t.Helper()
	out, err := exec.Command("dpkg-query", "--admindir="+root.Dir+"/var/lib/dpkg", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestServers checks real servers in the root folders: the C library and its
// package are the container's and not the machine's.
func TestServers(t *testing.T) {
	testbed.Each(t, func(t *testing.T, root *testbed.Root) {
		s := testbed.Gunicorn(t, root, testbed.Site{App: "lock_module", Workers: 1, Env: []string{"VICTIM=free"}})
		worker := s.Workers()[0]
		doc := run(t, Request{PIDs: []int{worker}})
		if len(doc.Targets) != 1 || doc.Targets[0].PID != s.Master() || doc.Targets[0].Role != "master" {
			t.Fatalf("targets of worker %d: %+v", worker, doc.Targets)
		}
		target := &doc.Targets[0]
		want := installedPackage(t, root, "libc6")
		if target.Libc == nil || target.Libc.Package != want || !strings.HasPrefix(want, target.Libc.Version) || target.Libc.BuildID == "" {
			t.Errorf("the C library is %+v, its package %s", target.Libc, want)
		}
		// It is the root's own database that tells, and not only what the library
		// calls itself: what is mapped has another path outside of the root.
		if f := fact(doc, "glibc-mutex-owner"); f == nil || !strings.Contains(f.Evidence[0], ", package libc6 "+want) || strings.Contains(f.Evidence[0], root.Dir) {
			t.Errorf("which package the C library is of: %+v", f)
		}
		for _, f := range doc.Findings {
			if f.Rule == finding.LibraryHazard && f.Severity > finding.Info && strings.Contains(strings.Join(f.Evidence, "\n"), "the worst is assumed") {
				t.Errorf("a library of a package has no version: %+v", f)
			}
			// Neither threads nor an upgrade bring it about or mend it.
			if f.Fact == "glibc-rwlock-atfork" && f.Severity != finding.Info {
				t.Errorf("%s: %s", f.Severity, f.Title)
			}
		}
		if f := fact(doc, "cpython"); f == nil || !strings.HasPrefix(f.Title, "CPython 3.") {
			t.Errorf("the version of Python is in its name: %+v", f)
		}
		// The victim's thread was there at the fork.
		threads := slices.IndexFunc(doc.Findings, func(f finding.Finding) bool { return f.Rule == finding.ForkWithThreads })
		if threads < 0 || doc.Findings[threads].Confidence != finding.Observed || doc.Findings[threads].Severity != finding.Warning {
			t.Errorf("no word of the thread: %+v", doc.Findings)
		}
		// Python has OpenSSL loaded or not; a defect of single-threaded use only
		// is none here, and pthread_join is one of 2.43 alone.
		if f := fact(doc, "glibc-joinstate"); (f != nil) != (root.Name == "forky") || f != nil && f.Severity != finding.Critical {
			t.Errorf("pthread_join: %+v", f)
		}
		if f := fact(doc, "BZ-24595"); (f != nil) != (root.Name == "bullseye") {
			t.Errorf("BZ-24595: %+v", f)
		}
		if a := target.Answers[0]; a.Short != "yes" {
			t.Errorf("malloc: %+v", a)
		}
		if a := target.Answers[1]; a.Short != "no" || !strings.Contains(a.Says[0], "missing in its worker") || !slices.Contains(a.Says, "it is loaded before the fork here") && root.Name != "forky" {
			t.Errorf("preload: %+v", a)
		}
		if a := target.Answers[3]; !strings.Contains(a.Code, "preload_app = False") {
			t.Errorf("post_fork: %+v", a)
		}
	})
}

// TestHealthyServer: a server whose master has one thread has nothing at or above
// a warning but what its C library is upgraded for.
func TestHealthyServer(t *testing.T) {
	s := testbed.Gunicorn(t, testbed.Open(t, "trixie"), testbed.Site{Workers: 1})
	doc := run(t, Request{PIDs: []int{s.Master()}})
	for _, f := range doc.Findings {
		if f.Severity > finding.Info && f.Rule != finding.LibcDefect {
			t.Errorf("%s %s: %s", f.Severity, f.Rule, f.Title)
		}
	}
	if a := doc.Targets[0].Answers[1]; a.Short != "so far" && a.Short != "with care" {
		t.Errorf("preload: %+v", a)
	}
}

// TestLibrariesOfServer: the same library is a hazard where the master has it and
// a thread, and none where each worker loads it after the fork.
func TestLibrariesOfServer(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	for _, tt := range []struct {
		name string
		site testbed.Site
		want finding.Severity
		says string
	}{
		{"pool in the master", testbed.Site{App: "openblas", Env: []string{"OMP_NUM_THREADS=2"}}, finding.Critical, "is loaded in the process that forks"},
		{"loaded in workers", testbed.Site{App: "openblas", Env: []string{"OMP_NUM_THREADS=2", "VICTIM=free"}, NoPreload: true}, finding.Info, "is loaded in workers, after the fork"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.site.Workers = 1
			s := testbed.Gunicorn(t, root, tt.site)
			if tt.site.NoPreload {
				s.AwaitServing(t, "/ok")
			}
			doc := run(t, Request{PIDs: []int{s.Master()}})
			for _, id := range []string{"libgomp", "openblas-openmp"} {
				f := fact(doc, id)
				if f == nil || f.Severity != tt.want || !strings.Contains(f.Title, tt.says) {
					t.Errorf("%s: %+v", id, f)
				}
			}
			if f := fact(doc, "openblas"); f != nil {
				t.Errorf("OpenBLAS for OpenMP is taken for the build with threads: %+v", f)
			}
		})
	}
}

// TestStaticPrograms: the C library inside of a program, running or not.
func TestStaticPrograms(t *testing.T) {
	for _, tt := range []struct{ name, exe, family string }{
		{"glibc", testbed.BuildHost(t, "healthy.c", "-static"), "glibc"},
		{"musl", testbed.BuildMusl(t, "healthy.c", "-static", "-pthread"), "musl"},
		{"musl, dynamic", testbed.BuildMusl(t, "healthy.c", "-pthread"), "musl"},
		{"Go", testbed.BuildGo(t, "victims/go/waiter"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := run(t, Request{Exe: tt.exe})
			l := doc.Targets[0].Libc
			if tt.family == "" {
				if l != nil || doc.Targets[0].Verdict != "clear" || doc.Targets[0].Answers[0].Short != "does not arise" {
					t.Errorf("%+v, %+v", l, doc.Targets[0])
				}
				return
			}
			if l == nil || l.Family != tt.family {
				t.Fatalf("the C library is %+v", l)
			}
			t.Logf("%+v: %s", *l, doc.Targets[0].Answers[0].Short)
			if strings.Contains(tt.name, "dynamic") && l.Version == "" {
				t.Errorf("no version: %+v", l)
			}
		})
	}
}

// TestHere finds the machine's own C library with its package.
func TestHere(t *testing.T) {
	b, done := Here()
	defer done()
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "libc6").Output()
	if err != nil {
		t.Fatal(err)
	}
	if b.Family != "glibc" || b.Package.Version != string(out) || b.Package.Distribution == "" || !b.Contains("GNU C Library") || b.Contains("no library has this in it") {
		t.Errorf("%+v, dpkg says %s", b, out)
	}
}

// TestNobody: what cannot be looked at is said.
func TestNobody(t *testing.T) {
	for pid, says := range map[int]string{1 << 22: "no process 4194304", 2: "thread of the kernel"} {
		if pid == 2 {
			if b, err := os.ReadFile("/proc/2/comm"); err != nil || string(b) != "kthreadd\n" {
				continue // in a container it is something else
			}
		}
		if _, err := Run(context.Background(), Request{PIDs: []int{pid}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("process %d: %v", pid, err)
		}
	}
}

// TestUWSGI: with threads and without the option uWSGI tells Python of no fork.
func TestUWSGI(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	for flag, want := range map[string]bool{"--enable-threads": true, "--py-call-uwsgi-fork-hooks": false, "--lazy-apps": false} {
		s := testbed.UWSGI(t, root, testbed.Site{Workers: 1, Flags: []string{"--enable-threads", flag}})
		doc := run(t, Request{PIDs: []int{s.Master()}})
		f := fact(doc, "uwsgi-no-fork-hooks")
		if (f != nil) != want || f != nil && (f.Severity != finding.Critical || f.Confidence != finding.Known) {
			t.Errorf("%s: %+v", flag, f)
		}
		if a := doc.Targets[0].Answers[3]; want != strings.Contains(a.Code, "py-call-uwsgi-fork-hooks") {
			t.Errorf("%s: %+v", flag, a)
		}
	}
}
