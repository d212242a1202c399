package lint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/pylint"
)

// write makes files in a new folder and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// told is what a run finds, as "file:line:column rule".
func told(t testing.TB, req Request, dir string) (*finding.Document, string) {
	t.Helper()
	doc, err := Run(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range doc.Findings {
		rel, err := filepath.Rel(dir, f.Place.File)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s:%d:%d %s", rel, f.Place.Line, f.Place.Column, f.Rule))
	}
	return doc, strings.Join(out, "|")
}

const starts = "import threading\nthreading.Thread(target=print).start()\n"

// TestBadInput has what no project should have: it is told with its place, or
// stepped over, and nothing hangs.
func TestBadInput(t *testing.T) {
	dir := write(t, map[string]string{
		"Procfile":      "web: gunicorn --preload app:app\n",
		"app.py":        "import cyclic, deep, recursion, latin, nothing, pipe, huge, strange\nimport threading\nétat = 'é'; threading.Thread(target=print).start()\n",
		"cyclic.py":     "import cyclic2\nfrom cyclic2 import *\nx = cyclic2.y\n",
		"cyclic2.py":    "import cyclic\nfrom cyclic import *\ny = cyclic.x\n",
		"recursion.py":  "def f(n):\n    return g(n)\ndef g(n):\n    return f(n)\nf(1)\nclass A: pass\nclass A(A): pass\nclass B(A, B): pass\nB().x.y.z()\nl = []\nl.append(l)\nd = {'d': l}\nd['e'] = d\nfor i in l: f(d)\nh = lambda: h()\nh()\n@f\ndef k(): yield k\nlist(k())\nwhile True: f(2)\n",
		"deep.py":       "x = " + strings.Repeat("(", 199) + strings.Repeat(")", 199) + "\ny = " + strings.Repeat("[", 5000) + "\nz = a" + strings.Repeat(".b()", 2500) + "\n",
		"latin.py":      "x = '\xe9'\n",
		"strange.py":    "match x:\n    case {'a': [*_, y]} if y: pass\n    case _: del x, y\ntype Z[T] = T\nasync def a():\n    async with b as c: await c\n    return [d async for d in c]\nglobal q\nq: int\nq += (yield)\n(r := 1)\nassert r, f'{r!r:>{r}}'\nx[1:2, ...] = *a, *b = 1j\ntry: raise\nexcept* E as e: pass\nprint(*a, **b)\n",
		"huge.py":       strings.Repeat("x = f(1, 2)\n", 100_000),
		"pkg/a.py":      "x = 1\n",
		"uwsgi.ini":     "[uwsgi]\nmodule = %(module)%(module)\n",
		"broken.yaml":   "a: [1\ncommand: gunicorn\n",
		"Dockerfile":    "CMD [\"gunicorn\", \n",
		"empty.py":      "",
		"null.py":       "x = 1\x00\n",
		"gunicorn.conf": "",
	})
	for link, to := range map[string]string{"pkg/loop": "..", "pkg/self": "self", "nowhere.py": "missing.py", "again": "pkg"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.py"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.py"), 0o700); err != nil {
		t.Fatal(err)
	}
	doc, got := told(t, Request{Paths: []string{dir}}, dir)
	want := "app.py:3:13 thread-before-fork|deep.py:2:205 unreadable-source|deep.py:3:6008 unreadable-source|latin.py:1:6 unreadable-source|null.py:1:6 unreadable-source"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if notes := strings.Join(doc.Notes, "\n"); !strings.Contains(notes, "pipe.py: it is no regular file") {
		t.Errorf("the pipe is not told: %s", notes)
	}
}

func TestMissing(t *testing.T) {
	if _, err := Run(context.Background(), Request{Paths: []string{"/no/such"}}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such") {
		t.Error(err)
	}
	for _, req := range []Request{{Server: "apache", Apps: []string{"a"}}, {Server: "gunicorn"}, {Preload: "perhaps"}, {WriteBaseline: true}} {
		if _, err := Run(context.Background(), req); !errors.Is(err, ErrUsage) {
			t.Errorf("%+v: %v", req, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, Request{Paths: []string{write(t, map[string]string{"a.py": starts})}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSuppressions(t *testing.T) {
	dir := write(t, map[string]string{
		"Procfile": "web: gunicorn --preload app:app\n",
		"app.py": `import threading
threading.Thread(target=print).start()  # forkproof: ignore[thread-before-fork] it ends at once
# forkproof: ignore[thread-before-fork]
threading.Thread(target=print).start()
threading.Thread(target=print).start()  # forkproof: ignore
threading.Thread(target=print).start()  # forkproof: ignore[client-before-fork] another rule
threading.Thread(target=print).start()  # forkproof: ignore[threads] no rule
# forkproof: ignore[thread-before-fork, client-before-fork] both, over
# a comment of two lines
threading.Thread(
    target=print,
).start()
text = "# forkproof: ignore[thread-before-fork] within a text"
`,
	})
	_, got := told(t, Request{Paths: []string{dir}}, dir)
	want := "app.py:3:1 suppression|app.py:5:1 thread-before-fork|app.py:5:41 suppression|app.py:6:1 thread-before-fork|app.py:6:41 suppression|app.py:7:1 thread-before-fork|app.py:7:41 suppression|app.py:7:41 suppression"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestSuppressionOfConfigurations(t *testing.T) {
	dir := write(t, map[string]string{
		"uwsgi.ini": "[uwsgi]\nmodule = app:app\nprocesses = 2\n; forkproof: ignore[config-hazard] the thread ends before the fork\nenable-threads = true\n",
		"app.py":    starts,
	})
	if _, got := told(t, Request{Paths: []string{dir}}, dir); got != "app.py:2:1 thread-before-fork" {
		t.Error(got)
	}
}

// TestSuppressionElsewhere names the configuration alone: comments count in what it
// leads to.
func TestSuppressionElsewhere(t *testing.T) {
	dir := write(t, map[string]string{
		"Procfile": "web: gunicorn --preload app:app\n",
		"app.py":   "import threading\nthreading.Thread(target=print).start()  # forkproof: ignore[thread-before-fork] short\nthreading.Thread(target=id).start()\n",
	})
	if _, got := told(t, Request{Paths: []string{filepath.Join(dir, "Procfile")}}, dir); got != "app.py:3:1 thread-before-fork" {
		t.Error(got)
	}
}

func TestBaseline(t *testing.T) {
	dir := write(t, map[string]string{"Procfile": "web: gunicorn --preload app:app\n", "app.py": starts})
	base := filepath.Join(dir, "baseline.json")
	if _, err := Run(context.Background(), Request{Paths: []string{dir}, Baseline: base}); err == nil || !strings.Contains(err.Error(), "--write-baseline") {
		t.Errorf("without a file: %v", err)
	}
	if _, got := told(t, Request{Paths: []string{dir}, Baseline: base, WriteBaseline: true}, dir); got != "" {
		t.Errorf("while it is written: %s", got)
	}
	if _, got := told(t, Request{Paths: []string{dir}, Baseline: base}, dir); got != "" {
		t.Errorf("with it: %s", got)
	}
	// Lines that move change nothing; one more of the same is new.
	text := "# moved\n" + starts + "threading.Thread(target=id).start()\n"
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, got := told(t, Request{Paths: []string{dir}, Baseline: base}, dir); got != "app.py:4:1 thread-before-fork" {
		t.Errorf("with one more: %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte("x = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	doc, _ := told(t, Request{Paths: []string{dir}, Baseline: base}, dir)
	if notes := strings.Join(doc.Notes, "\n"); !strings.Contains(notes, "found no more: 1 entry") {
		t.Errorf("what is stale is not told: %s", notes)
	}
	if err := os.WriteFile(base, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), Request{Paths: []string{dir}, Baseline: base}); err == nil {
		t.Error("a file that is no baseline is taken for one")
	}
}

// TestPreload sees which state of preloading follows from which settings.
func TestPreload(t *testing.T) {
	for _, tt := range []struct {
		name     string
		files    map[string]string
		req      Request
		short    string
		severity string
	}{
		{"nothing says", map[string]string{"app.py": "from flask import Flask\napp = Flask('x')\n" + starts}, Request{}, "not known", "info"},
		{"the command", map[string]string{"Procfile": "web: gunicorn --preload app:app", "app.py": starts}, Request{}, "yes", "warning"},
		{"the command says nothing", map[string]string{"Procfile": "web: gunicorn app:app", "app.py": starts}, Request{}, "no", ""},
		{"the command outweighs the file", map[string]string{"Procfile": "web: gunicorn --preload -c c/gunicorn.py app:app", "c/gunicorn.py": "preload_app = False\n", "app.py": starts}, Request{}, "yes", "warning"},
		{"the file", map[string]string{"Procfile": "web: gunicorn app:app", "gunicorn.conf.py": "preload_app = True\n", "app.py": starts}, Request{}, "yes", "warning"},
		{"computed", map[string]string{"Procfile": "web: gunicorn app:app", "gunicorn.conf.py": "import os\npreload_app = bool(os.environ.get('P'))\n", "app.py": starts}, Request{}, "not known", "info"},
		{"a file that is not there", map[string]string{"Procfile": "web: gunicorn -c /etc/g.py app:app", "app.py": starts}, Request{}, "not known", "info"},
		{"a configuration alone", map[string]string{"gunicorn.conf.py": "preload_app = True\n", "wsgi.py": "from flask import Flask\napplication = Flask('x')\n" + starts}, Request{}, "yes", "warning"},
		{"asked for", map[string]string{"Procfile": "web: gunicorn app:app", "app.py": starts}, Request{Preload: "yes"}, "yes", "warning"},
		{"asked against", map[string]string{"Procfile": "web: gunicorn --preload app:app", "app.py": starts}, Request{Preload: "no"}, "no", ""},
		{"named", map[string]string{"pkg/mod.py": "def make(n, k=1):\n    if n == 'x':\n        import start\n", "start.py": starts}, Request{Server: "gunicorn", Apps: []string{"pkg.mod:make('x', k=2)"}}, "yes", "warning"},
		{"named with another argument", map[string]string{"pkg/mod.py": "def make(n):\n    if n == 'x':\n        import start\n", "start.py": starts}, Request{Server: "gunicorn", Apps: []string{"pkg.mod:make('y')"}}, "yes", ""},
		{"uWSGI", map[string]string{"uwsgi.ini": "[uwsgi]\nwsgi-file = app.py\nworkers = 2\n", "app.py": starts}, Request{}, "yes", "warning"},
		{"uWSGI, lazy", map[string]string{"uwsgi.ini": "[uwsgi]\nwsgi-file = app.py\nworkers = 2\nlazy-apps = 1\n", "app.py": starts}, Request{}, "no", ""},
		{"uWSGI of one process", map[string]string{"uwsgi.ini": "[uwsgi]\nwsgi-file = app.py\n", "app.py": starts}, Request{}, "nothing is forked", ""},
		{"Puma", map[string]string{"config/puma.rb": "workers 2\npreload_app!\nbefore_fork { x }\n"}, Request{}, "yes", ""},
		{"php-fpm", map[string]string{"php-fpm.conf": "[www]\npm = static\n"}, Request{}, "no", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, tt.files)
			tt.req.Paths = []string{dir}
			doc, err := Run(context.Background(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			if len(doc.Targets) != 1 || doc.Targets[0].Answers[0].Short != tt.short {
				t.Errorf("targets %+v, want one with %q", doc.Targets, tt.short)
			}
			got := ""
			for _, f := range doc.Findings {
				if f.Rule == finding.ThreadBeforeFork {
					got = f.Severity.String()
				}
			}
			if got != tt.severity {
				t.Errorf("the thread is %q, want %q; %v", got, tt.severity, doc.Notes)
			}
		})
	}
}

// TestNothingSays has code of which nothing says how it is served.
func TestNothingSays(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		paths []string
		want  string
	}{
		{"a file that was named", map[string]string{"jobs.py": starts}, []string{"jobs.py"}, "jobs.py:2:1 thread-before-fork info"},
		{"a file that was found", map[string]string{"jobs.py": starts}, []string{"."}, ""},
		{"a plain WSGI application", map[string]string{"web.py": starts + "def application(environ, start_response): return []\n"}, []string{"."}, "web.py:2:1 thread-before-fork info"},
		{"an object with the name of one", map[string]string{"web.py": starts + "app = build()\n"}, []string{"."}, "web.py:2:1 thread-before-fork info"},
		{"a hook without an application", map[string]string{"gunicorn.conf.py": "import os\npreload_app = True\ndef post_fork(server, worker):\n    os.environ['OMP_NUM_THREADS'] = '1'\n"}, []string{"."}, "gunicorn.conf.py:4:5 late-environment info"},
		{"the same without preloading", map[string]string{"gunicorn.conf.py": "import os\ndef post_fork(server, worker):\n    os.environ['OMP_NUM_THREADS'] = '1'\n"}, []string{"."}, ""},
		{"two configurations and one application", map[string]string{"gunicorn_a.py": "bind = ':1'\npreload_app = True\n", "gunicorn_b.py": "bind = ':2'\nworkers = 3\n", "app.py": "from flask import Flask\napp = Flask('x')\n" + starts}, []string{"."}, "app.py:4:1 thread-before-fork warning"},
		{"a module with the name gunicorn", map[string]string{"gunicorn_client.py": starts + "app = Flask('x')\n"}, []string{"."}, "gunicorn_client.py:2:1 thread-before-fork info"},
		{"an application of another folder", map[string]string{"deploy/Procfile": "web: gunicorn --preload web:app\n", "backend/web.py": starts}, []string{"."}, "backend/web.py:2:1 thread-before-fork warning"},
		{"a folder that only the image has", map[string]string{"Dockerfile": "WORKDIR /srv\nCMD [\"gunicorn\", \"--chdir\", \"/srv/backend\", \"--preload\", \"web:app\"]\n", "backend/web.py": starts}, []string{"."}, "backend/web.py:2:1 thread-before-fork warning"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, tt.files)
			var req Request
			for _, p := range tt.paths {
				req.Paths = append(req.Paths, filepath.Join(dir, p))
			}
			doc, err := Run(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range doc.Findings {
				got = append(got, fmt.Sprintf("%s:%d:%d %s %s", strings.TrimPrefix(f.Place.File, dir+"/"), f.Place.Line, f.Place.Column, f.Rule, f.Severity))
			}
			if strings.Join(got, "|") != tt.want {
				t.Errorf("got %q, want %q; %v", got, tt.want, doc.Notes)
			}
		})
	}
}

// TestKnowledge sees that what is known of libraries agrees with the facts.
func TestKnowledge(t *testing.T) {
	base, err := facts.Load()
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, l := range base.Libraries() {
		ids[l.ID] = true
	}
	for _, a := range pylint.APIs() {
		if a.Fact != "" && !ids[a.Fact] {
			t.Errorf("%s: there is no fact %q", a.Name[0], a.Fact)
		}
		if a.Source == "" || a.Noun == "" || a.Severity != "" && (a.Why == "" || len(a.Remedy) == 0) {
			t.Errorf("%s: it has no source, noun, reason or remedy", a.Name[0])
		}
	}
}

// FuzzRun lints any text as the application of a server.
func FuzzRun(f *testing.F) {
	for _, s := range []string{starts, "import app\nfrom . import *\nclass A(A):\n x = A()\n", "from celery import Celery\na = Celery(include=['app'])\na.autodiscover_tasks()\n",
		"import os, redis\nos.register_at_fork(before=lambda: os.fork())\nos.fork()\n", "def f(*a, **k):\n  with f(*a, **k) as (x, *y): yield x\nnext(f(f))\n"} {
		f.Add(s)
	}
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "gunicorn.conf.py"), []byte("from app import *\nwsgi_app = 'app:app()'\npreload_app = True\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		doc, err := Run(context.Background(), Request{Paths: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range doc.Findings {
			if x.Place == nil || x.Place.Line < 1 {
				t.Errorf("%s has no place", x.Rule)
			}
		}
		if _, err := json.Marshal(doc); err != nil {
			t.Error(err)
		}
	})
}
