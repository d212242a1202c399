package testbed

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Gunicorn starts gunicorn with a preloaded application and waits until its
// workers are forked. It never kills a worker that hangs: --timeout is an hour.
// What the master logs is in Output.
func Gunicorn(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr := Address(t)
	args := []string{"gunicorn", "--bind", addr, "--workers", strconv.Itoa(site.workers()), "--timeout", "3600", "--graceful-timeout", "1"}
	if !site.NoPreload {
		args = append(args, "--preload")
	}
	if site.Hooks != "" {
		args = append(args, "--config", Victim(t, "python/hooks/"+site.Hooks+".py"))
	}
	args = append(append(args, site.Flags...), app(site, "healthy")+":app")
	// Not by --pythonpath, which gunicorn sees only after it has read the hooks.
	env := append([]string{"PYTHONPATH=" + Victim(t, "python")}, site.Env...)
	return serve(t, root, &Server{Addr: addr, want: site.workers()}, Cmd{Args: args, Env: env, Work: site.Work})
}

// GunicornLogging starts gunicorn with its error log in a FIFO that nobody
// reads and that a thread of the master is writing to at each fork: every
// worker hangs at its first line of log, whatever the machine's speed.
func GunicornLogging(t testing.TB, root *Root, workers int) *Server {
	t.Helper()
	work := t.TempDir()
	fifo := filepath.Join(work, "error.fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatalf("testbed: %v", err)
	}
	// Open at both ends from the start, or the master's own opening would wait.
	keep, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("testbed: %v", err)
	}
	t.Cleanup(func() { _ = keep.Close() })
	return Gunicorn(t, root, Site{App: "errorlog", Workers: workers, Hooks: "writing", Work: work,
		Env: []string{"VICTIM_LOG=fifo"}, Flags: []string{"--error-logfile", fifo}})
}

// UWSGI starts uWSGI with an HTTP socket; of the roots, bookworm has it
// (2.0.21). Threads are off by default in it: "--enable-threads" is a flag.
func UWSGI(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	addr := Address(t)
	args := []string{"uwsgi", "--plugin", "python3", "--http-socket", addr, "--master", "--need-app", "--processes", strconv.Itoa(site.workers()),
		"--pythonpath", Victim(t, "python"), "--module", app(site, "healthy") + ":app"}
	if site.NoPreload {
		args = append(args, "--lazy-apps")
	}
	return serve(t, root, &Server{Addr: addr, want: site.workers()}, Cmd{Args: append(args, site.Flags...), Env: site.Env, Work: site.Work})
}

// Celery starts a Celery worker with its prefork pool and a broker in plain
// files, unless the site names another as VICTIM_BROKER; of the roots, bookworm
// has it. App is a module with a Celery "app"; the default is "celery_healthy".
func Celery(t testing.TB, root *Root, site Site) *Server {
	t.Helper()
	work := site.Work
	if work == "" {
		work = t.TempDir()
	}
	args := []string{"celery", "--app", app(site, "celery_healthy"), "--workdir", Victim(t, "python"), "worker", "--pool", "prefork",
		"--concurrency", strconv.Itoa(site.workers()), "--loglevel", "INFO", "--without-gossip", "--without-mingle"}
	env := site.Env
	if !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "VICTIM_BROKER=") }) {
		env = append([]string{"VICTIM_BROKER=" + work}, env...)
	}
	return serve(t, root, &Server{want: site.workers()}, Cmd{Args: append(args, site.Flags...), Env: env, Work: work})
}

// Python starts a script of victims/python with the root's python3; on the
// host this is Debian's own.
func Python(t testing.TB, root *Root, script string, args ...string) *Proc {
	t.Helper()
	path := Victim(t, filepath.Join("python", script))
	return root.Start(t, Cmd{Args: append([]string{"/usr/bin/python3", path}, args...)})
}

func app(site Site, standard string) string {
	if site.App == "" {
		return standard
	}
	return strings.TrimSuffix(site.App, ".py")
}
