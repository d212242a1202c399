package pylint

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/finding"
	"forkproof/internal/serverconf"
)

// TestFollows has one way of Python each to make a thread, connection or lock, or
// to end it. want are the lines with a warning or worse.
func TestFollows(t *testing.T) {
	const thread = "import threading\n"
	for _, tt := range []struct {
		name, src string
		want      []int
	}{
		{"chained", thread + "threading.Thread(target=f).start()\n", []int{2}},
		{"aliases", "import threading as t\nfrom threading import Thread as T\nT().start()\nt.Thread().start()\n", []int{3, 4}},
		{"a name for the class", thread + "T = threading.Thread\nT().start()\n", []int{3}},
		{"not started", thread + "x = threading.Thread()\n", nil},
		{"joined", thread + "x = threading.Thread()\nx.start()\nx.join()\n", nil},
		{"cancelled", thread + "x = threading.Timer(1, f)\nx.start()\nx.cancel()\n", nil},
		{"a function", thread + "def f():\n  threading.Thread().start()\nf()\n", []int{3}},
		{"a function nobody calls", thread + "def f():\n  threading.Thread().start()\n", nil},
		{"a function by another", thread + "def f(g): g()\ndef h(): threading.Thread().start()\nf(h)\n", []int{3}},
		{"an argument by name", thread + "def f(*, go=None): go()\nf(go=threading.Thread().start)\n", []int{2}},
		{"a default argument", thread + "def f(t=threading.Thread()): t.start()\nf()\n", []int{2}},
		{"*args and **kwargs", thread + "def f(*a, **k): a[0](k['t'])\ndef g(t): t.start()\nf(g, t=threading.Thread())\n", []int{3}},
		{"a returned value", thread + "def f(): return threading.Thread()\nf().start()\n", []int{3}},
		{"a tuple", thread + "a, b = threading.Thread(), 1\na.start()\n", []int{3}},
		{"a dictionary", thread + "d = {'t': threading.Thread()}\nd['t'].start()\nfor k, v in d.items(): v.start()\n", []int{3}},
		{"a list that grows", thread + "l = []\nfor i in range(3):\n  l.append(threading.Thread())\n[t.start() for t in l]\n", []int{5}},
		{"a class", thread + "class A:\n  def __init__(self): self.t = threading.Thread()\n  def go(self): self.t.start()\nA().go()\n", []int{4}},
		{"inheritance and super", thread + "class A(threading.Thread):\n  def start(self): super().start()\nclass B(A): pass\nB().start()\n", []int{3}},
		{"a class method", thread + "class A:\n  @classmethod\n  def make(cls): return cls()\n  def go(self): threading.Thread().start()\nA.make().go()\n", []int{5}},
		{"a static method", thread + "class A:\n  @staticmethod\n  def go(): threading.Thread().start()\nA.go()\n", []int{4}},
		{"a property", thread + "class A:\n  @property\n  def t(self): return threading.Thread()\nA().t.start()\n", []int{5}},
		{"__call__", thread + "class A:\n  def __call__(self): threading.Thread().start()\nA()()\n", []int{3}},
		{"a lambda", thread + "f = lambda: threading.Thread()\nf().start()\n", []int{3}},
		{"partial", thread + "from functools import partial\npartial(threading.Thread, daemon=True)().start()\n", []int{3}},
		{"a closure", thread + "def f():\n  t = threading.Thread()\n  def g(): t.start()\n  return g\nf()()\n", []int{4}},
		{"a decorator with arguments", thread + "def d(n):\n  def e(f):\n    threading.Thread().start()\n    return f\n  return e\n@d(1)\ndef g(): pass\n", []int{4}},
		{"a context manager", thread + "from contextlib import contextmanager\n@contextmanager\ndef c():\n  threading.Thread().start()\n  yield\nwith c(): pass\n", []int{5}},
		{"a context manager nobody enters", thread + "from contextlib import contextmanager\n@contextmanager\ndef c():\n  threading.Thread().start()\n  yield\nx = c\n", nil},
		{"a generator", thread + "def g():\n  threading.Thread().start()\n  yield 1\nx = g()\nfor y in x: pass\n", []int{3}},
		{"a generator nobody runs", thread + "def g():\n  threading.Thread().start()\n  yield 1\nx = g()\n", nil},
		{"a coroutine", thread + "import asyncio\nasync def g():\n  await h()\nasync def h(): threading.Thread().start()\nasyncio.run(g())\n", []int{5}},
		{"a coroutine nobody runs", thread + "async def g(): threading.Thread().start()\nx = g\n", nil},
		{"a global", thread + "t = None\ndef f():\n  global t\n  t = threading.Thread()\nf()\nt.start()\n", []int{7}},
		{"getattr", thread + "t = getattr(threading, 'Thread')()\ngetattr(t, 'start')()\n", []int{3}},
		{"a walrus", thread + "if (t := threading.Thread()): t.start()\n", []int{2}},
		{"try", thread + "try:\n  threading.Thread().start()\nexcept Exception: pass\n", []int{3}},
		{"an else that is not taken", thread + "if True: pass\nelse: threading.Thread().start()\n", nil},
		{"a constant condition", thread + "ON = False\nif ON: threading.Thread().start()\nif not ON: pass\n", nil},
		{"an unknown condition", thread + "if f(): threading.Thread().start()\n", []int{2}},
		{"after return", thread + "def f():\n  return\n  threading.Thread().start()\nf()\n", nil},
		{"after a return that may be", thread + "def f():\n  if g(): return\n  threading.Thread().start()\nf()\n", []int{4}},
		{"an early return", thread + "def f(on=False):\n  if not on: return\n  threading.Thread().start()\nf()\n", nil},
		{"del", "import psycopg2\nc = psycopg2.connect()\ndel c\n", nil},
		{"local to a function", "import psycopg2\ndef f():\n  c = psycopg2.connect()\n  return c.server_version\nf()\n", nil},
		{"returned from a function", "import psycopg2\ndef f():\n  c = psycopg2.connect()\n  return c\nx = f()\n", []int{3}},
		{"kept by an attribute", "import psycopg2\nclass A: pass\ndef f(a):\n  a.c = psycopg2.connect()\nf(A())\n", []int{4}},
		{"kept by another object", "import psycopg2\nfrom repo import Repo\ndef f():\n  return Repo(psycopg2.connect())\nr = f()\n", []int{4}},
		{"kept by a closure", "import psycopg2\ndef f():\n  c = psycopg2.connect()\n  def g(): return c\n  return g\ng = f()\n", []int{3}},
		{"closed in finally", "import psycopg2\nc = psycopg2.connect()\ntry: pass\nfinally: c.close()\n", nil},
		{"shutdown without waiting", "from concurrent.futures import ThreadPoolExecutor\np = ThreadPoolExecutor()\np.submit(f)\np.shutdown(wait=False)\n", []int{3}},
		{"an engine through its session", "from sqlalchemy import create_engine\nfrom sqlalchemy.orm import sessionmaker, scoped_session\ne = create_engine('x')\nS = scoped_session(sessionmaker(bind=e))\nS.execute('select 1')\n", []int{5}},
		{"a session that is not used", "from sqlalchemy import create_engine\nfrom sqlalchemy.orm import Session\ne = create_engine('x')\ns = Session(e)\n", nil},
		{"a lock that is given back", "import threading\nl = threading.Lock()\nl.acquire()\nl.release()\n", nil},
		{"a lock on one path", "import threading\nl = threading.Lock()\ndef f():\n  l.acquire()\nf()\n", []int{4}},
		{"recursion", thread + "def f(n):\n  if n: f(n - 1)\n  threading.Thread().start()\nf(3)\n", []int{4}},
		{"a comprehension over a function", thread + "def f(n):\n  t = threading.Thread()\n  t.start()\n  return t\nts = [f(n) for n in range(2)]\nfor t in ts: t.join()\n", nil},
		{"a name that is reused", thread + "class Thread:\n  def start(self): pass\nThread().start()\n", nil},
		{"a variable set late", "import os, numpy\nos.environ['OMP_NUM_THREADS'] = '1'\n", []int{2}},
		{"a variable set early", "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport numpy\nos.environ['OMP_NUM_THREADS'] = '2'\n", nil},
		{"of another library", "import os, requests\nos.environ['OMP_NUM_THREADS'] = '1'\n", nil},
		{"processes after threads", thread + "from multiprocessing import Process\nthreading.Thread().start()\nProcess(target=f).start()\n", []int{3, 4}},
		{"spawned processes", thread + "import multiprocessing as m\nm.set_start_method('spawn')\nthreading.Thread().start()\nm.Process(target=f).start()\n", []int{4}},
		{"fork and exec", thread + "import os\nthreading.Thread().start()\nif os.fork() == 0:\n  os.execv('/bin/true', [])\n", []int{3}},
		{"a match", thread + "match f():\n  case {'a': [t, *_]}: threading.Thread().start()\n", []int{3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "m.py"), []byte(tt.src), 0o600); err != nil {
				t.Fatal(err)
			}
			found, notes := New().Server(context.Background(), Spec{Kind: "gunicorn", App: "m:app", Paths: []string{dir}, Preload: serverconf.Yes})
			var got []int
			for _, f := range found {
				if f.Severity > finding.Info {
					got = append(got, f.Place.Line)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s\nlines %v, want %v; %v", tt.src, got, tt.want, notes)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"sklearn.*", "sklearn.svm.SVC", true},
		{"sklearn.*", "sklearn.svm.SVC().fit", false},
		{"transformers.*.from_pretrained", "transformers.AutoModel.from_pretrained", true},
		{"transformers.*.from_pretrained", "transformers.pipeline", false},
		{"a.b", "a.b", true},
		{"a.b", "a.bc", false},
	} {
		if got := match(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%s, %s: %v", tt.pattern, tt.name, got)
		}
	}
	for _, bad := range []string{"x = 1", "[[api]]\nname = ['a']\nwhat = 'car'\n", "[[api]]\nname = ['a', 'a']\nwhat = 'lock'\n", "[[api]]\nname = ['a']\nwhat = 'lock'\nidle = 'bad'\n"} {
		if _, err := readKnowledge([]byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "apis.toml: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestBounds has programs that would not end: following them does.
func TestBounds(t *testing.T) {
	var chain strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&chain, "def f%d(x): return f%d(f%d(x))\n", i, i+1, i+1)
	}
	for name, src := range map[string]string{
		"calls that double":       chain.String() + "f0(1)\n",
		"loops in loops":          strings.Repeat("l = [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]\n", 1) + "x = [" + strings.Repeat("[", 6) + "1" + strings.Repeat(" for i in l]", 6) + "]\n" + "y = [1" + strings.Repeat(" for i in l", 9) + "]\n",
		"lists that double":       "l = [1, 2]\n" + strings.Repeat("l += l\n", 60),
		"texts that double":       "s = 'ab'\n" + strings.Repeat("s = s + s\n", 60),
		"tables of tables":        "a = [" + strings.Repeat("1, ", 600) + "]\nb = [" + strings.Repeat("a, ", 600) + "]\nc = [" + strings.Repeat("b, ", 600) + "]\n" + strings.Repeat("f(c)\n", 300),
		"calls of long functions": "def f(n):\n  f(n); f(n); f(n)\n" + strings.Repeat("  x = 1 + 2\n", 20_000) + "f(1)\n",
		"objects within objects":  "class A:\n  pass\na = A()\n" + strings.Repeat("b = A(); b.x = a; b.y = a; a.p = b; a = b\n", 300) + "f(a)\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "m.py"), []byte(src), 0o600); err != nil {
				t.Fatal(err)
			}
			New().Server(context.Background(), Spec{Kind: "gunicorn", App: "m", Paths: []string{dir}, Preload: serverconf.Yes})
		})
	}
}
