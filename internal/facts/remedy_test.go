package facts

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/testbed"
)

var update = flag.Bool("update", false, "write the golden files anew")

// asText joins the files of a recipe.
func asText(r Recipe) string {
	var b strings.Builder
	for _, f := range r.Files {
		b.WriteString("==== " + f.Name + "\n" + f.Text)
	}
	return b.String()
}

func recipe(t testing.TB, server, version string, ids ...string) Recipe {
	t.Helper()
	r, err := base(t).Remedy(server, version, ids)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRemedyGolden(t *testing.T) {
	for name, r := range map[string]Recipe{
		"gunicorn":            recipe(t, "gunicorn", "", "libpq", "mysqlclient", "libgomp", "numpy-random", "glib"),
		"gunicorn-no-preload": recipe(t, "gunicorn", "25.1.0", "openssl", "libpq", "libgomp", "gunicorn-control-thread", "glibc-tzset-lock"),
		"gunicorn-nothing":    recipe(t, "gunicorn", "26.1.0", "openblas", "gunicorn-control-thread"),
		"uwsgi":               recipe(t, "uwsgi", "", "uwsgi-1149", "sc", "libgomp"),
		"uwsgi-lazy":          recipe(t, "uwsgi", "", "librdkafka", "sc"),
		"celery":              recipe(t, "celery", "", "librdkafka", "libpq", "libgomp"),
		"puma":                recipe(t, "puma", "", "shared-connection", "rng"),
		"puma-6":              recipe(t, "puma", "6.4", "sc"),
		"puma-no-preload":     recipe(t, "puma", "7.0", "grpc"),
		"unicorn":             recipe(t, "unicorn", "", "sc"),
		"pitchfork":           recipe(t, "pitchfork", "", "grpc", "sc"),
	} {
		path := filepath.Join("testdata", "remedy", name+".golden")
		got := asText(r)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v; go test -update writes it", err)
		}
		if got != string(want) {
			t.Errorf("%s differs from %s; if it is meant, go test -update writes it anew. Got:\n%s", name, path, got)
		}
	}
}

// TestRemedyHasNothingThatNobodyAskedFor: a recipe for one thing names no other.
func TestRemedyHasNothingThatNobodyAskedFor(t *testing.T) {
	for _, c := range []struct {
		server string
		ids    []string
		has    []string
		not    []string
	}{
		{"gunicorn", []string{"libpq"}, []string{"def post_fork", "DisconnectionError"}, []string{"pre_fork", "preload_app", "os.environ", "numpy", "control_socket"}},
		{"gunicorn", []string{"libgomp"}, []string{`os.environ["OMP_NUM_THREADS"] = "1"`}, []string{"def ", "preload_app", "gc"}},
		{"gunicorn", []string{"cuda", "libpq", "libgomp"}, []string{"preload_app = False"}, []string{"def ", "os.environ", "sqlalchemy"}},
		{"gunicorn", []string{"BZ-24595"}, []string{"Not a matter of configuration", "2.36 or later"}, []string{"def ", "preload_app", "import"}},
		{"gunicorn", nil, []string{"nothing was named"}, []string{"def ", "preload_app", "import"}},
		{"uwsgi", []string{"libgomp"}, []string{"env = OMP_NUM_THREADS=1"}, []string{"lazy-apps", "uwsgi_fork", "py-call"}},
		{"uwsgi", []string{"gunicorn-control-thread"}, nil, []string{"control_socket_disable"}},
		{"celery", []string{"libpq"}, []string{"worker_process_init"}, []string{"os.environ", "register_at_fork"}},
		{"puma", []string{"libpq"}, []string{"before_worker_boot do", "establish_connection"}, []string{"preload_app!", "ENV["}},
	} {
		text := asText(recipe(t, c.server, "", c.ids...))
		for _, s := range c.has {
			if !strings.Contains(text, s) {
				t.Errorf("%s %v lacks %q:\n%s", c.server, c.ids, s, text)
			}
		}
		for _, s := range c.not {
			if strings.Contains(text, s) {
				t.Errorf("%s %v has %q, which nothing calls for:\n%s", c.server, c.ids, s, text)
			}
		}
	}
}

func TestRemedyOfWhatIsNotKnown(t *testing.T) {
	b := base(t)
	for _, c := range []struct{ server, id, want string }{
		{"gunicron", "libpq", `no server "gunicron" is known; did you mean gunicorn?`},
		{"gunicorn", "libpg", "did you mean libpq"},
		{"gunicorn", "zzzzzzzz", `"zzzzzzzz" is known`},
		{"", "libpq", `no server ""`},
	} {
		_, err := b.Remedy(c.server, "", []string{c.id})
		var name *NameError
		if !errors.As(err, &name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v, want %q", c.server, c.id, err, c.want)
		}
	}
	if r := recipe(t, "php-fpm", "", "grpc"); len(r.Files) != 0 || len(r.Notes) == 0 {
		t.Errorf("php-fpm: %+v", r)
	}
}

// everything is a recipe for each id by itself, and for all together.
func everything(t *testing.T, server string) []Recipe {
	t.Helper()
	var all []string
	for _, topic := range base(t).Topics() {
		if topic.Kind == "library" || topic.Kind == "defect" || topic.Kind == "hazard" || topic.Kind == "lock" {
			all = append(all, topic.ID)
		}
	}
	var out []Recipe
	var kept []string
	for _, id := range all {
		r := recipe(t, server, "", id)
		out = append(out, r)
		if !strings.Contains(asText(r), "preload_app") && !strings.Contains(asText(r), "lazy-apps") {
			kept = append(kept, id)
		}
	}
	return append(out, recipe(t, server, "", all...), recipe(t, server, "", kept...))
}

// written writes all files of a kind that recipes hold, and returns their paths.
func written(t *testing.T, recipes []Recipe, ending string) []string {
	t.Helper()
	var paths []string
	seen := make(map[string]bool)
	dir := t.TempDir()
	for _, r := range recipes {
		for _, f := range r.Files {
			if !strings.HasSuffix(f.Name, ending) || seen[f.Text] {
				continue
			}
			seen[f.Text] = true
			path := filepath.Join(dir, string(rune('a'+len(paths)/26%26))+string(rune('a'+len(paths)%26))+strings.ReplaceAll(f.Name, "/", "_"))
			if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		t.Fatalf("no recipe has a %s", ending)
	}
	return paths
}

func TestPythonOfRemediesCompiles(t *testing.T) {
	for _, server := range []string{"gunicorn", "uwsgi", "celery"} {
		paths := written(t, everything(t, server), ".py")
		out, err := exec.Command("python3", append([]string{"-m", "py_compile"}, paths...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: python3 -m py_compile: %v\n%s", server, err, out)
		}
	}
}

func TestRubyOfRemediesCompiles(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	for _, server := range []string{"puma", "unicorn", "pitchfork"} {
		paths := written(t, everything(t, server), ".rb")
		p := root.Start(t, testbed.Cmd{Args: append([]string{"ruby", "-e", "ARGV.each { |f| RubyVM::InstructionSequence.compile_file(f) }"}, paths...), Work: filepath.Dir(paths[0])})
		if err := p.Wait(t); err != nil {
			t.Errorf("%s: ruby: %v\n%s", server, err, p.Output())
		}
	}
}

// conf writes a recipe's main file into a new folder, after what the server
// has already, and returns the folder and the path.
func conf(t *testing.T, has string, r Recipe) (work, path string) {
	t.Helper()
	work = t.TempDir()
	for _, f := range slices.Backward(r.Files) {
		path = filepath.Join(work, filepath.Base(f.Name))
		if err := os.WriteFile(path, []byte(has+f.Text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return work, path
}

// TestRemedyCures: numpy with the OpenMP flavour of OpenBLAS, used in the master,
// hangs every worker. With either recipe the workers compute.
func TestRemedyCures(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	const has = "preload_app = True\n\n\ndef post_worker_init(worker):\n    worker.wsgi.touch()\n\n\n"
	start := func(t *testing.T, r Recipe) *testbed.Server {
		work, path := conf(t, has, r)
		return testbed.Gunicorn(t, root, testbed.Site{App: "openblas", Workers: 1, NoPreload: true, Work: work, Env: []string{"OMP_NUM_THREADS=2"}, Flags: []string{"--config", path}})
	}
	t.Run("without", func(t *testing.T) {
		start(t, Recipe{Files: []File{{Name: "gunicorn.conf.py"}}}).AwaitHung(t, 1)
	})
	t.Run("one thread in the master", func(t *testing.T) {
		start(t, recipe(t, "gunicorn", "20.1", "openblas-openmp")).AwaitServing(t, "/")
	})
	t.Run("loaded after the fork", func(t *testing.T) {
		start(t, recipe(t, "gunicorn", "20.1", "deadlock-nobody-left")).AwaitServing(t, "/")
	})
}

// TestRemedyDropsInheritedConnections: a pool of SQLAlchemy that was used before
// the fork hands out the master's connection in a worker; after the hook of the
// recipe it opens one of its own, and does not close the master's.
func TestRemedyDropsInheritedConnections(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "conf.py"), []byte(recipe(t, "gunicorn", "", "libpq").Files[0].Text), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = `
import os, sqlite3, sys
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool
sys.path.insert(0, sys.argv[1])

made, closed = [], []
class Connection(sqlite3.Connection):
    def close(self):
        closed.append(self)
        super().close()

def connect():
    made.append(sqlite3.connect(sys.argv[1] + "/db", factory=Connection, check_same_thread=False))
    return made[-1]

engine = create_engine("sqlite://", poolclass=QueuePool, creator=connect)
engine.connect().close()
assert len(made) == 1
if os.fork() == 0:
    if sys.argv[2] == "hook":
        import conf
        conf.post_fork(None, None)
    for _ in range(3):
        engine.connect().close()
    print("worker opened", len(made) - 1, "closed", len(closed), flush=True)
    os._exit(0)
assert os.wait()[1] == 0
`
	for with, want := range map[string]string{"nothing": "worker opened 0 closed 0\n", "hook": "worker opened 1 closed 0\n"} {
		out, err := exec.Command("/usr/bin/python3", "-c", script, dir, with).CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("with %s: %q, %v; want %q (make setup installs python3-sqlalchemy)", with, out, err, want)
		}
	}
}

// TestRemedyRunsInRealServers: the servers take what was written for them.
func TestRemedyRunsInRealServers(t *testing.T) {
	root := testbed.Open(t, "bookworm")
	t.Run("gunicorn", func(t *testing.T) {
		work, path := conf(t, "", recipe(t, "gunicorn", "20.1", "sc", "rng", "libgomp"))
		testbed.Gunicorn(t, root, testbed.Site{Workers: 1, Work: work, Flags: []string{"--config", path}}).AwaitServing(t, "/")
	})
	t.Run("uwsgi", func(t *testing.T) {
		work, path := conf(t, "", recipe(t, "uwsgi", "2.0.21", "uwsgi-no-fork-hooks", "sc", "rng", "libgomp"))
		s := testbed.UWSGI(t, root, testbed.Site{Workers: 1, Work: work, Flags: []string{"--ini", path, "--pythonpath", work}})
		s.AwaitServing(t, "/")
		if out := s.Output(); strings.Contains(out, "Traceback") || strings.Contains(out, "Error") {
			t.Errorf("uWSGI said:\n%s", out)
		}
	})
	t.Run("puma", func(t *testing.T) {
		work, path := conf(t, "", recipe(t, "puma", "5.6", "sc", "rng", "libgomp"))
		testbed.Puma(t, root, testbed.Site{Workers: 1, Work: work, Flags: []string{"--config", path}}).AwaitServing(t, "/")
	})
	t.Run("celery", func(t *testing.T) {
		work, _ := conf(t, "", recipe(t, "celery", "", "sc", "rng", "libgomp"))
		p := root.Start(t, testbed.Cmd{Work: work, Args: []string{"python3", "-c", "import celery_fork; from celery.signals import worker_process_init as s; assert s.receivers; [r for r in s.send(None)]; print('ran')"}, Env: []string{"PYTHONPATH=" + work}})
		if err := p.Wait(t); err != nil || !strings.Contains(p.Output(), "ran") {
			t.Errorf("%v\n%s", err, p.Output())
		}
	})
}
