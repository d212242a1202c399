package testbed

import (
	"slices"
	"strings"
	"testing"
)

// Every rare application serves under gunicorn as its healthy twin, and its
// program of some forks ends by itself.
func TestRareTwins(t *testing.T) {
	root := Open(t, "bookworm")
	for _, rare := range RareSites(t, root) {
		t.Run(rare.Name, func(t *testing.T) {
			twin := rare.Healthy()
			server := Gunicorn(t, root, twin.Site())
			server.AwaitServing(t, "/touch")
			server.Kill()
			p := root.Start(t, twin.Forks(t, 20))
			if err := p.Wait(t); err != nil || !strings.Contains(p.Output(), "done forks=20 failed=0") {
				t.Errorf("%v: %s", err, p.Output())
			}
		})
	}
}

// The flavour of OpenBLAS is the one that a rare application asks for.
func TestRareFlavours(t *testing.T) {
	root := Open(t, "bookworm")
	for _, rare := range RareAlone(t) {
		flavour, is := strings.CutPrefix(rare.Name, "openblas_")
		if !is {
			continue
		}
		other := map[string]string{"pthread": "openblas-openmp", "openmp": "openblas-pthread"}[flavour]
		p := root.Start(t, Cmd{Args: []string{"/usr/bin/python3", "-c", "import numpy; print(open('/proc/self/maps').read())"}, Env: rare.Env})
		if err := p.Wait(t); err != nil || !strings.Contains(p.Output(), "/openblas-"+flavour+"/") || strings.Contains(p.Output(), other) {
			t.Errorf("%s: %v: the libraries are\n%s", rare.Name, err, strings.Join(slices.Compact(openblas(p.Output())), "\n"))
		}
	}
}

func openblas(maps string) (lines []string) {
	for line := range strings.Lines(maps) {
		if strings.Contains(line, "blas") {
			lines = append(lines, line[strings.Index(line, "/"):])
		}
	}
	return lines
}

func TestRareCelery(t *testing.T) {
	root := Open(t, "bookworm")
	site := RareCelery(Redis(t, root))
	site.Env = append(site.Env, "VICTIM=handlers")
	server := Celery(t, root, site)
	before := server.AwaitWorkers(t)
	// Two tasks: two new children, each of which took the lock.
	server.Exec(t, "env", "PYTHONPATH="+Victim(t, "python"), "VICTIM=post_fork", site.Env[0], "python3", "-c",
		"import rare_celery\nfor _ in range(4): rare_celery.nothing.delay()")
	server.await(t, "children that took the place of others", func() bool {
		now := server.Workers()
		return len(now) == len(before) && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(before, pid) })
	})
}

// Each lock is used by the thread and by the children, with glibc and musl.
func TestRareLocks(t *testing.T) {
	glibc, musl := Build(t, "rarelocks.c"), BuildMusl(t, "rarelocks.c")
	root := Open(t, "bookworm")
	for _, lock := range RareLocks() {
		for _, program := range []string{glibc, musl} {
			p := root.Start(t, Cmd{Args: []string{program, lock, "forks=50", "twin"}})
			if err := p.Wait(t); err != nil || !strings.Contains(p.Output(), "done forks=50 failed=0") {
				t.Errorf("%s: %v: %s", lock, err, p.Output())
			}
		}
	}
}
