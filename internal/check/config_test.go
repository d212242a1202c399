package check

import (
	"fmt"
	"testing"
)

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		text    string
		preload tri
		timeout string
		hooks   string
		threads string
	}{
		{"", no, "", "[]", "[]"},
		{"preload_app = True\ntimeout = 30  # seconds\n", yes, "30", "[]", "[]"},
		{"preload_app: bool = True", yes, "", "[]", "[]"},
		{"preload_app = False\npreload_app = True\n", yes, "", "[]", "[]"},
		{"# preload_app = True\n", no, "", "[]", "[]"},
		{"'''\npreload_app = True\n'''\ntimeout = 1_0\n", no, "10", "[]", "[]"},
		{"x = \"\"\"text # not a comment\npreload_app = True\n\"\"\"\n", no, "", "[]", "[]"},
		{"import os\npreload_app = os.environ.get('P') == '1'\n", unknown, "", "[]", "[]"},
		{"if True:\n    preload_app = True\n", unknown, "", "[]", "[]"},
		{"preload_app == True\n", no, "", "[]", "[]"},
		{"def post_fork(server, worker):\n    preload_app = True\n", no, "", "[post_fork]", "[]"},
		{"post_worker_init = lambda worker: None\nasync def post_fork(s, w):\n  pass\n", no, "", "[post_fork post_worker_init]", "[]"},
		{"def post_fork(s, w):\n    Thread(target=f).start()\n", no, "", "[post_fork]", "[]"},
		{"def when_ready(s):\n    Thread(target=f).start()\nThreadPoolExecutor(4)\n", no, "", "[]", "[2 3]"},
		{"s = 'Thread('\nbind = '#x'\n", no, "", "[]", "[]"},
	} {
		c := parseConfig(tt.text, "gunicorn.conf.py")
		timeout := ""
		if n, ok := c.number("timeout"); ok {
			timeout = fmt.Sprint(n)
		}
		if c.is("preload_app") != tt.preload || timeout != tt.timeout || fmt.Sprint(c.workerHooks()) != tt.hooks || fmt.Sprint(c.threads) != tt.threads {
			t.Errorf("%q: preload %v, timeout %q, hooks %v, threads %v", tt.text, c.is("preload_app"), timeout, c.workerHooks(), c.threads)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("preload_app = True\n'''\n")
	f.Add("x = \"\\\"\"\ndef post_fork(a):\n")
	f.Fuzz(func(t *testing.T, s string) {
		c := parseConfig(s, "x")
		for k := range c.values {
			if c.dynamic[k] {
				t.Errorf("%s is both known and not", k)
			}
		}
	})
}
