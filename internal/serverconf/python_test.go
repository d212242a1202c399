package serverconf

import (
	"fmt"
	"testing"

	"forkproof/internal/pysrc"
)

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		text    string
		preload Tri
		timeout string
		hooks   string
		threads string
	}{
		{"", No, "", "[]", "[]"},
		{"preload_app = True\ntimeout = 30  # seconds\n", Yes, "30", "[]", "[]"},
		{"preload_app: bool = True", Yes, "", "[]", "[]"},
		{"preload_app = False\npreload_app = True\n", Yes, "", "[]", "[]"},
		{"# preload_app = True\n", No, "", "[]", "[]"},
		{"'''\npreload_app = True\n'''\ntimeout = 1_0\n", No, "10", "[]", "[]"},
		{"x = \"\"\"text # not a comment\npreload_app = True\n\"\"\"\n", No, "", "[]", "[]"},
		{"import os\npreload_app = os.environ.get('P') == '1'\n", Unknown, "", "[]", "[]"},
		{"if True:\n    preload_app = True\n", Unknown, "", "[]", "[]"},
		{"preload_app == True\n", No, "", "[]", "[]"},
		{"def post_fork(server, worker):\n    preload_app = True\n", No, "", "[post_fork]", "[]"},
		{"post_worker_init = lambda worker: None\nasync def post_fork(s, w):\n  pass\n", No, "", "[post_fork post_worker_init]", "[]"},
		{"def post_fork(s, w):\n    Thread(target=f).start()\n", No, "", "[post_fork]", "[]"},
		{"def when_ready(s):\n    Thread(target=f).start()\nThreadPoolExecutor(4)\n", No, "", "[]", "[2 3]"},
		{"s = 'Thread('\nbind = '#x'\n", No, "", "[]", "[]"},
	} {
		c := NewPython(pysrc.Parse(tt.text), "gunicorn.conf.py")
		timeout := ""
		if n, ok := c.Number("timeout"); ok {
			timeout = fmt.Sprint(n)
		}
		if c.Is("preload_app") != tt.preload || timeout != tt.timeout || fmt.Sprint(c.WorkerHooks()) != tt.hooks || fmt.Sprint(c.Threads) != tt.threads {
			t.Errorf("%q: preload %v, timeout %q, hooks %v, threads %v", tt.text, c.Is("preload_app"), timeout, c.WorkerHooks(), c.Threads)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("preload_app = True\n'''\n")
	f.Add("x = \"\\\"\"\ndef post_fork(a):\n")
	f.Fuzz(func(t *testing.T, s string) {
		c := NewPython(pysrc.Parse(s), "x")
		for k := range c.Values {
			if c.Dynamic[k] {
				t.Errorf("%s is both known and not", k)
			}
		}
	})
}
