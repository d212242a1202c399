package testbed

import (
	"slices"
	"strings"
	"testing"
)

// TestServers starts each server, waits until it serves, and sees that nothing
// of it is left at the end.
func TestServers(t *testing.T) {
	tests := []struct {
		name  string
		start func(testing.TB, *Root, Site) *Server
		site  Site
		http  bool
	}{
		{"gunicorn sync", Gunicorn, Site{}, true},
		{"gunicorn lazy", Gunicorn, Site{NoPreload: true}, true},
		{"gunicorn gthread", Gunicorn, Site{Flags: []string{"--threads", "4"}}, true},
		{"gunicorn gevent", Gunicorn, Site{Flags: []string{"--worker-class", "gevent"}}, true},
		{"gunicorn uvicorn", Gunicorn, Site{App: "asgi", Flags: []string{"--worker-class", "uvicorn.workers.UvicornWorker"}}, true},
		{"uwsgi", UWSGI, Site{}, true},
		{"uwsgi threads", UWSGI, Site{Flags: []string{"--enable-threads"}}, true},
		{"celery", Celery, Site{}, false},
		{"php-fpm", PHPFPM, Site{}, false},
		{"puma", Puma, Site{}, true},
		{"puma mutex", Puma, Site{App: "mutex"}, true},
		{"unicorn", Unicorn, Site{}, true},
		{"unicorn mutex", Unicorn, Site{App: "mutex"}, true},
		{"postgresql", PostgreSQL, Site{}, false},
		{"apache", Apache, Site{}, true},
		{"nginx", Nginx, Site{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := tt.start(t, Open(t, "bookworm"), tt.site)
			if tt.http {
				server.AwaitServing(t, "/")
			} else if server.Addr != "" {
				server.AwaitAccept(t)
			}
			if tt.name == "celery" {
				server.AwaitLine(t, ".*ready.*")
			}
			everything := append(Descendants(server.Master()), server.Master())
			workers := server.Workers()
			if len(workers) < 2 || slices.Contains(workers, server.Master()) {
				t.Errorf("workers %v of master %d", workers, server.Master())
			}
			if hung := server.Hung(); len(hung) > 0 && tt.name != "celery" {
				t.Errorf("healthy workers %v look hung:\n%s", hung, describe(hung[0]))
			}
			server.Kill()
			for _, pid := range everything {
				AwaitGone(t, pid)
			}
		})
	}
}

// TestGunicornEverywhere starts gunicorn in each release.
func TestGunicornEverywhere(t *testing.T) {
	Each(t, func(t *testing.T, root *Root) {
		server := Gunicorn(t, root, Site{Workers: 3})
		if workers := server.AwaitServing(t, "/"); len(workers) != 3 {
			t.Errorf("workers %v, want 3", workers)
		}
	})
}

// TestRelease sees that each root is the release that it says it is.
func TestRelease(t *testing.T) {
	want := map[string]struct{ glibc, python string }{
		"bullseye": {"2.31", "3.9"},
		"bookworm": {"2.36", "3.11"},
		"trixie":   {"2.41", "3.13"},
		"forky":    {"2.43", "3.14"},
	}
	Each(t, func(t *testing.T, root *Root) {
		p := root.Start(t, Cmd{Args: []string{"sh", "-c", "getconf GNU_LIBC_VERSION; python3 --version; hostname; echo $$; cat /proc/1/comm; touch /etc/written"}})
		if err := p.Wait(t); err != nil {
			t.Fatalf("%v\n%s", err, p.Output())
		}
		lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
		if len(lines) != 5 {
			t.Fatalf("output %q", lines)
		}
		if lines[0] != "glibc "+want[root.Name].glibc {
			t.Errorf("%s, want %s", lines[0], want[root.Name].glibc)
		}
		if !strings.HasPrefix(lines[1], "Python "+want[root.Name].python+".") {
			t.Errorf("%s, want %s", lines[1], want[root.Name].python)
		}
		if lines[2] != root.Name || lines[3] != "1" || lines[4] != "sh" {
			t.Errorf("host name, PID and process 1 are %q", lines[2:])
		}
		again := root.Start(t, Cmd{Args: []string{"cat", "/etc/written"}})
		if again.Wait(t) == nil {
			t.Error("what one process wrote is still there for the next")
		}
	})
}
