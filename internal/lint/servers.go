package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"forkproof/internal/pylint"
	"forkproof/internal/serverconf"
)

// server is one to judge, with how it is known.
type server struct {
	pylint.Spec
	forks bool
	// why says what the state of preloading follows from, where no line does.
	why string
	// stated is the line that starts or describes it.
	stated serverconf.Place
}

func (s *server) name() string {
	if s.stated.File == "" {
		return s.Kind
	}
	return fmt.Sprintf("%s (%s:%d)", s.Kind, filepath.Base(s.stated.File), s.stated.Line)
}

// servers are those that were named, else those that configurations and command
// lines describe, else those that the code looks made for.
func (j *job) servers() []server {
	if j.req.Server != "" {
		return j.named()
	}
	var out []server
	used := make(map[string]bool) // configurations that a command names
	withApp := false
	var alone []*serverconf.Server
	for _, f := range j.files {
		if f.kind == "python" {
			continue
		}
		src, ok := j.text(f.path)
		if !ok {
			continue
		}
		for _, c := range serverconf.Commands(f.kind, src, f.path) {
			switch {
			case c.Kind == "uwsgi" && c.App == "" && c.Config != "":
				continue // the file that it names is there by itself
			case c.Kind == "uwsgi" && c.App == "" && f.kind == "ini":
				alone = append(alone, c)
				continue
			}
			s := j.server(c, used)
			withApp = withApp || s.App != ""
			out = append(out, s)
		}
	}
	// Configurations that no command names: their application may say so itself,
	// or is guessed.
	guessed := j.guess()
	told := withApp
	for _, f := range j.files {
		if !f.config || used[f.path] {
			continue
		}
		c := &serverconf.Server{Kind: "gunicorn", Place: serverconf.Place{File: f.path, Line: 1}, Forks: true, Config: f.path}
		s := j.server(c, used)
		if s.App != "" {
			withApp = true
			out = append(out, s)
			continue
		}
		apps := slices.DeleteFunc(slices.Clone(guessed), func(g server) bool { return g.Kind != "gunicorn" })
		if told || len(apps) == 0 || len(out) > maxGuessed*2 {
			j.note(fmt.Sprintf("%s does not say which application it is for: name it, --server gunicorn 'module:app'", j.short(f.path)))
			out = append(out, s)
			continue
		}
		for _, g := range apps {
			t := s
			t.App, t.Paths = g.App, g.Paths
			out = append(out, t)
		}
		withApp = true
	}
	for _, c := range alone {
		for _, g := range guessed {
			if g.Kind == "gunicorn" {
				s := j.server(c, used)
				s.App, s.Paths = g.App, g.Paths
				out = append(out, s)
				withApp = true
			}
		}
	}
	for _, g := range guessed {
		// An application of Celery is served by Celery, whoever serves the web.
		if g.Kind == "celery" && !slices.ContainsFunc(out, func(s server) bool { return s.Kind == "celery" }) || g.Kind != "celery" && !withApp {
			out = append(out, g)
		}
	}
	return out
}

// server makes a server of what a command line or configuration says.
func (j *job) server(c *serverconf.Server, used map[string]bool) server {
	base := filepath.Dir(c.File)
	s := server{forks: c.Forks, stated: c.Place}
	s.Kind, s.App, s.Preload, s.At, s.Hazards = c.Kind, c.App, c.Preload, c.PreloadAt, c.Hazards
	s.Env = c.Env
	if strings.HasPrefix(s.App, "$") {
		s.App = "" // a variable of the shell that starts it
	}
	dirs := j.dirs(base, c.Dir)
	if c.Kind == "gunicorn" {
		j.gunicorn(&s, c, dirs, used)
	}
	if j.req.Preload == "yes" || j.req.Preload == "no" {
		s.Preload = map[string]serverconf.Tri{"yes": serverconf.Yes, "no": serverconf.No}[j.req.Preload]
		s.why = "as --preload says"
	}
	var paths []string
	for _, p := range c.Paths {
		for _, d := range dirs {
			paths = append(paths, filepath.Join(d, p))
		}
	}
	s.Paths = j.paths(filepath.Join(base, "x"), append(paths, dirs...))
	s.Paths = j.located(s.App, s.Paths)
	return s
}

// dirs are the folders in which a command may be meant to run: an absolute one is
// that of a machine or image, of which the last part may be ours.
func (j *job) dirs(base, dir string) []string {
	switch {
	case dir == "":
		return []string{base}
	case !filepath.IsAbs(dir):
		return []string{filepath.Join(base, dir), base}
	}
	out := []string{base}
	parts := strings.Split(strings.Trim(filepath.Clean(dir), "/"), "/")
	for i := range parts {
		if d := filepath.Join(append([]string{base}, parts[i:]...)...); isDir(d) {
			out = append([]string{d}, out...)
			break
		}
	}
	if isDir(dir) && slices.Contains(j.roots, dir) {
		out = append([]string{dir}, out...)
	}
	return out
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// gunicorn adds what the configuration file of a gunicorn says.
func (j *job) gunicorn(s *server, c *serverconf.Server, dirs []string, used map[string]bool) {
	var candidates []string
	if c.Config != "" {
		if filepath.IsAbs(c.Config) {
			candidates = append(candidates, c.Config)
		}
		for _, d := range dirs {
			candidates = append(candidates, filepath.Join(d, c.Config), filepath.Join(d, filepath.Base(c.Config)))
		}
		for _, f := range j.files {
			if f.kind == "python" && filepath.Base(f.path) == filepath.Base(c.Config) {
				candidates = append(candidates, f.path)
			}
		}
	} else {
		for _, d := range dirs {
			candidates = append(candidates, filepath.Join(d, "gunicorn.conf.py"))
		}
	}
	var conf *serverconf.Python
	for _, p := range candidates {
		if got, err := j.py.Config(p); err == nil {
			conf, s.Config = got, p
			used[p] = true
			break
		}
	}
	if conf == nil {
		if s.Preload == serverconf.Unknown {
			s.Preload, s.At = serverconf.No, c.Place
			s.why = "neither its command line nor a configuration asks for it"
			if c.Config != "" {
				s.Preload = serverconf.Unknown
				j.note(fmt.Sprintf("%s:%d names the configuration %s, which was not found", j.short(c.File), c.Line, c.Config))
			}
		}
		return
	}
	if s.App == "" {
		s.App = conf.Values["wsgi_app"]
	}
	if s.Preload == serverconf.Unknown {
		s.Preload = conf.Is("preload_app")
		s.At = serverconf.Place{File: s.Config, Line: max(1, conf.Lines["preload_app"])}
		if conf.Lines["preload_app"] == 0 {
			s.why = "the configuration does not ask for it"
		} else if s.Preload == serverconf.Unknown {
			s.why = "it is computed"
		}
	}
	if v := conf.Values["pythonpath"]; v != "" {
		c.Paths = append(c.Paths, strings.Split(v, ",")...)
	}
	if v := conf.Values["chdir"]; v != "" && c.Dir == "" {
		c.Paths = append(c.Paths, v)
	}
}

// paths are the folders in which Python would look for the modules of a file's
// project: given ones, then the project's own, and its src.
func (j *job) paths(file string, first []string) []string {
	var out []string
	add := func(d string) {
		if !slices.Contains(out, d) && isDir(d) {
			out = append(out, d)
		}
	}
	for _, d := range first {
		add(d)
		add(filepath.Join(d, "src"))
	}
	for _, r := range j.roots {
		if strings.HasPrefix(file, r+string(filepath.Separator)) {
			add(r)
			add(filepath.Join(r, "src"))
			// A package that was named itself is imported by its name.
			for top := r; hasInit(top) && filepath.Dir(top) != top; top = filepath.Dir(top) {
				add(filepath.Dir(top))
			}
		}
	}
	return out
}

func hasInit(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "__init__.py"))
	return err == nil
}

// located adds the folder that has an application's module, where none of the
// usual ones has it: the shallowest.
func (j *job) located(app string, paths []string) []string {
	name, _, _ := strings.Cut(app, ":")
	first := strings.TrimSuffix(name, ".py")
	if !strings.HasSuffix(name, ".py") {
		first, _, _ = strings.Cut(name, ".")
	}
	first = filepath.Base(first)
	if first == "" || first == "." {
		return paths
	}
	there := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, first+".py"))
		return err == nil || isDir(filepath.Join(dir, first))
	}
	if slices.ContainsFunc(paths, there) {
		return paths
	}
	best := ""
	for _, f := range j.files {
		d := filepath.Dir(f.path)
		for range 3 {
			if f.kind == "python" && there(d) && (best == "" || len(d) < len(best)) {
				best = d
			}
			d = filepath.Dir(d)
		}
	}
	if best != "" && slices.ContainsFunc(j.roots, func(r string) bool { return best == r || strings.HasPrefix(best, r+string(filepath.Separator)) }) {
		return append([]string{best}, paths...)
	}
	return paths
}

// maxGuessed bounds the applications that are guessed.
const maxGuessed = 12

// given reports whether a file was named itself, and not found in a folder.
func (j *job) given(path string) bool {
	return slices.ContainsFunc(j.req.Paths, func(p string) bool {
		abs, err := filepath.Abs(p)
		return err == nil && abs == path
	})
}

// guess finds the applications that the code looks made for, where nothing says
// how they are served.
func (j *job) guess() []server {
	var out, weak []server
	for _, f := range j.files {
		if f.kind != "python" || f.config {
			continue
		}
		entries := j.py.Entries(f.path)
		if len(entries) == 0 && j.given(f.path) {
			// Whoever names a module wants to know what it does when it is loaded.
			entries = []pylint.Entry{{Kind: "gunicorn", Line: 1}}
		}
		for _, e := range entries {
			module, root := moduleName(f.path)
			s := server{forks: true, why: "nothing says how it is served", stated: serverconf.Place{File: f.path, Line: e.Line}}
			s.Kind, s.App, s.Paths = e.Kind, module, j.paths(f.path, []string{root})
			if e.Name != "" {
				s.App += ":" + e.Name
			}
			if s.Kind == "celery" {
				s.Preload, s.why = serverconf.Yes, "Celery always loads it before the fork"
			}
			switch j.req.Preload {
			case "yes":
				s.Preload, s.why = serverconf.Yes, "as --preload says"
			case "no":
				s.Preload, s.why = serverconf.No, "as --preload says"
			}
			if e.Weak {
				weak = append(weak, s)
			} else if len(out) < maxGuessed {
				out = append(out, s)
			}
		}
	}
	if !slices.ContainsFunc(out, func(s server) bool { return s.Kind == "gunicorn" }) {
		out = append(out, weak[:min(len(weak), maxGuessed)]...)
	}
	return out
}

// moduleName is the name under which a file is imported, and the folder that must
// be on Python's path for that.
func moduleName(path string) (name, root string) {
	dir := filepath.Dir(path)
	name = strings.TrimSuffix(filepath.Base(path), ".py")
	if name == "__init__" {
		name, dir = filepath.Base(dir), filepath.Dir(dir)
	}
	for hasInit(dir) && filepath.Dir(dir) != dir {
		name = filepath.Base(dir) + "." + name
		dir = filepath.Dir(dir)
	}
	return name, dir
}

// named are the applications that were named together with their server.
func (j *job) named() []server {
	var out []server
	root := j.roots[len(j.roots)-1]
	for _, app := range j.req.Apps {
		c := &serverconf.Server{Kind: j.req.Server, App: app, Forks: true, Place: serverconf.Place{File: filepath.Join(root, "x"), Line: 1}}
		if j.req.Server != "gunicorn" {
			c.Preload = serverconf.Yes
		}
		s := j.server(c, make(map[string]bool))
		s.stated = serverconf.Place{}
		if s.Config == "" {
			s.At = serverconf.Place{}
			if j.req.Preload == "" || j.req.Preload == "auto" {
				s.Preload, s.why = serverconf.Yes, "taken to be so, as no configuration was found; --preload no says otherwise"
			}
		}
		out = append(out, s)
	}
	return out
}
