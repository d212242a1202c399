package serverconf

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"forkproof/internal/pysrc"
)

// Python is what a gunicorn.conf.py tells. The file is a program, which is never
// run here: what it computes is not known.
type Python struct {
	Path string
	// Values are settings with a plain value, as text: "True", "30", "gthread".
	Values map[string]string
	// Lines are the lines that set them.
	Lines map[string]int
	// Dynamic are settings whose value is computed, or set under a condition.
	Dynamic map[string]bool
	// Hooks are the functions that it defines or imports under a hook's name or
	// any other, with the line of each.
	Hooks map[string]int
	// Threads are the lines that seem to start a thread in the master.
	Threads []int
}

// MaxSize bounds a configuration file, in bytes.
const MaxSize = 4 << 20

// masterHooks are the hooks of gunicorn that run in the master (gunicorn/config.py).
var masterHooks = map[string]bool{"on_starting": true, "on_reload": true, "when_ready": true, "pre_fork": true, "child_exit": true, "nworkers_changed": true, "on_exit": true, "pre_exec": true}

// MasterHook reports whether gunicorn runs a hook of this name in the master,
// before a fork.
func MasterHook(name string) bool { return masterHooks[name] }

// starters are the usual ways to start a thread.
var starters = map[string]bool{"threading.Thread": true, "Thread": true, "threading.Timer": true, "Timer": true, "ThreadPoolExecutor": true, "futures.ThreadPoolExecutor": true,
	"concurrent.futures.ThreadPoolExecutor": true, "BackgroundScheduler": true}

// ReadPython reads a gunicorn.conf.py.
func ReadPython(r io.Reader, path string) (*Python, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > MaxSize || strings.IndexByte(string(b), 0) >= 0 {
		return nil, fmt.Errorf("read %s: it is no configuration of gunicorn: larger than %d bytes, or not text", path, MaxSize)
	}
	f, _ := pysrc.Read(b)
	return NewPython(f, path), nil
}

// NewPython tells what a parsed gunicorn.conf.py says.
func NewPython(f *pysrc.File, path string) *Python {
	c := &Python{Path: path, Values: make(map[string]string), Lines: make(map[string]int), Dynamic: make(map[string]bool), Hooks: make(map[string]int)}
	c.body(f.Body, false)
	return c
}

// body reads the statements of the module; under a condition nothing is known
// for sure.
func (c *Python) body(all []pysrc.Stmt, conditional bool) {
	for _, s := range all {
		switch s := s.(type) {
		case *pysrc.FunctionDef:
			c.Hooks[s.Name] = int(s.Start.Line)
			if masterHooks[s.Name] {
				c.starts(s)
			}
			continue
		case *pysrc.ClassDef:
			continue
		case *pysrc.ImportFrom:
			for _, a := range s.Names {
				c.Hooks[cmp.Or(a.As, a.Name)] = int(s.Start.Line)
			}
		case *pysrc.Assign:
			for _, t := range s.Targets {
				c.assign(t, s.Value, conditional)
			}
		case *pysrc.AnnAssign:
			if s.Value != nil {
				c.assign(s.Target, s.Value, conditional)
			}
		case *pysrc.AugAssign:
			c.assign(s.Target, nil, true)
		case *pysrc.If:
			for _, b := range s.Branches {
				c.body(b.Body, true)
			}
			c.body(s.Else, true)
			continue
		case *pysrc.For:
			c.body(s.Body, true)
			continue
		case *pysrc.While:
			c.body(s.Body, true)
			continue
		case *pysrc.With:
			c.body(s.Body, true)
			continue
		case *pysrc.Try:
			c.body(s.Body, true)
			for _, h := range s.Handlers {
				c.body(h.Body, true)
			}
			c.body(s.Else, true)
			c.body(s.Finally, true)
			continue
		case *pysrc.Match, *pysrc.Bad:
			continue
		}
		c.starts(s)
	}
}

// starts notes the calls that start threads.
func (c *Python) starts(n pysrc.Node) {
	pysrc.Walk(n, func(n pysrc.Node) bool {
		switch n := n.(type) {
		case *pysrc.Lambda:
			return false
		case *pysrc.Call:
			if starters[Dotted(n.Func)] {
				c.Threads = append(c.Threads, int(n.Start.Line))
			}
		}
		return true
	})
}

// Dotted is a name with its attributes as text, empty for any other expression.
func Dotted(e pysrc.Expr) string {
	switch e := e.(type) {
	case *pysrc.Name:
		return e.ID
	case *pysrc.Attribute:
		if x := Dotted(e.X); x != "" {
			return x + "." + e.Attr
		}
	}
	return ""
}

func (c *Python) assign(target, value pysrc.Expr, conditional bool) {
	n, ok := target.(*pysrc.Name)
	if !ok {
		return
	}
	line := int(n.Start.Line)
	text, plain := "", false
	switch v := value.(type) {
	case *pysrc.Constant:
		text, plain = v.Value(), v.Kind != pysrc.Bytes && v.Kind != pysrc.Ellipsis
	case *pysrc.UnaryOp:
		if k, ok := v.X.(*pysrc.Constant); ok && v.Op == "-" {
			text, plain = "-"+k.Value(), true
		}
	case *pysrc.Lambda:
		c.Hooks[n.ID] = line
		return
	case *pysrc.Name:
		if c.Hooks[v.ID] > 0 {
			c.Hooks[n.ID] = line
			return
		}
	}
	if conditional || !plain {
		c.Dynamic[n.ID] = true
		c.Lines[n.ID] = line
		delete(c.Values, n.ID)
		return
	}
	delete(c.Dynamic, n.ID)
	c.Values[n.ID], c.Lines[n.ID] = text, line
}

// usual are settings of which a configuration of gunicorn has some.
var usual = []string{"bind", "workers", "worker_class", "preload_app", "wsgi_app", "timeout", "worker_connections", "accesslog", "errorlog", "loglevel"}

// IsGunicorn reports whether a file is a configuration of gunicorn by what it
// sets: at least two of the usual settings and hooks.
func (c *Python) IsGunicorn() bool {
	n := len(c.WorkerHooks())
	for _, s := range usual {
		if c.Lines[s] > 0 {
			n++
		}
	}
	return n >= 2
}

// Is says whether a setting is true.
func (c *Python) Is(name string) Tri {
	switch v, ok := c.Values[name]; {
	case c.Dynamic[name]:
		return Unknown
	case !ok, v == "False", v == "0", v == "None", v == "":
		return No
	}
	return Yes
}

// Number is a setting's value; ok is false where it is not set or computed.
func (c *Python) Number(name string) (int, bool) {
	v, err := strconv.Atoi(c.Values[name])
	return v, err == nil
}

// WorkerHooks are those of its hooks that run in a worker after the fork.
func (c *Python) WorkerHooks() []string {
	var out []string
	for _, h := range []string{"post_fork", "post_worker_init"} {
		if c.Hooks[h] > 0 {
			out = append(out, h)
		}
	}
	return out
}
