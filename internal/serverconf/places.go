package serverconf

import (
	"encoding/json"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Kind says what a file is by its name; empty where it is none of those that
// Commands and the other functions read.
func Kind(name string) string {
	base := path.Base(name)
	lower := strings.ToLower(base)
	ext := path.Ext(lower)
	switch {
	case lower == "procfile" || strings.HasPrefix(lower, "procfile."):
		return "procfile"
	case lower == "dockerfile" || strings.HasPrefix(lower, "dockerfile.") || ext == ".dockerfile" || lower == "containerfile":
		return "dockerfile"
	case ext == ".service":
		return "systemd"
	case ext == ".ini" && strings.Contains(lower, "php"), lower == "php-fpm.conf", lower == "www.conf", ext == ".conf" && strings.Contains(name, "php-fpm"):
		return "php-fpm"
	case ext == ".ini":
		return "ini" // uWSGI's, or supervisor's
	case ext == ".conf" && strings.Contains(lower, "supervisor"):
		return "ini"
	case ext == ".yml" || ext == ".yaml":
		return "yaml"
	case lower == "puma.rb" || ext == ".rb" && strings.Contains(name, "config/puma/"):
		return "puma"
	case ext == ".sh" || lower == "entrypoint" || lower == "docker-entrypoint":
		return "shell"
	case ext == ".py":
		return "python"
	}
	return ""
}

// IsGunicorn reports whether a Python file is a configuration of gunicorn by its
// name.
func IsGunicorn(name string) bool {
	switch base := strings.ToLower(path.Base(name)); base {
	case "gunicorn.py", "gunicorn_config.py", "gunicorn_conf.py", "gunicorn.conf.py", "gunicorn.config.py", "gunicornconf.py", "gconf.py", "gunicorn_cfg.py", "gunicorn_settings.py":
		return true
	default:
		return strings.HasPrefix(base, "gunicorn") && (strings.Contains(base, "conf") || strings.Contains(base, "cfg"))
	}
}

// Commands finds the servers that a file starts or describes. kind is what Kind
// says of the file.
func Commands(kind, src, file string) []*Server {
	r := &reader{file: file}
	switch kind {
	case "procfile":
		r.lines(src, func(line string, n int) {
			if _, c, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
				r.shell(c, nil, n)
			}
		})
	case "shell":
		env := make(map[string]Setting)
		r.lines(src, func(line string, n int) {
			for _, words := range Words(line) {
				if words[0] == "export" {
					words = words[1:]
				}
				for len(words) > 0 && strings.IndexByte(words[0], '=') > 0 && len(words) == 1 {
					k, v, _ := strings.Cut(words[0], "=")
					env[k] = Setting{Place{file, n}, v}
					words = words[1:]
				}
				r.command(words, env, n)
			}
		})
	case "dockerfile":
		r.dockerfile(src)
	case "systemd":
		r.systemd(src)
	case "ini":
		if s, ok := UWSGI(src, file); ok {
			return []*Server{s}
		}
		r.lines(src, func(line string, n int) {
			if k, v, ok := strings.Cut(line, "="); ok && strings.TrimSpace(k) == "command" {
				r.shell(v, nil, n)
			}
		})
	case "yaml":
		if s, ok := UWSGIYAML(src, file); ok {
			return []*Server{s}
		}
		r.yaml(src)
	case "puma":
		s, _ := Puma(src, file)
		return []*Server{s}
	case "php-fpm":
		if s, ok := PHPFPM(src, file); ok {
			return []*Server{s}
		}
	}
	return r.servers
}

type reader struct {
	file    string
	servers []*Server
}

// lines calls f for each line, with those that end in a backslash joined.
func (r *reader) lines(src string, f func(line string, n int)) {
	n, from := 0, 0
	var b strings.Builder
	for line := range strings.Lines(src) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if from == 0 {
			from = n
		}
		if s, ok := strings.CutSuffix(line, "\\"); ok {
			b.WriteString(s + " ")
			continue
		}
		b.WriteString(line)
		f(strings.TrimSpace(b.String()), from)
		b.Reset()
		from = 0
	}
	if b.Len() > 0 {
		f(strings.TrimSpace(b.String()), from)
	}
}

func (r *reader) shell(line string, env map[string]Setting, n int) {
	dir := ""
	for _, words := range Words(line) {
		if len(words) == 2 && words[0] == "cd" {
			dir = path.Join(dir, words[1])
			continue
		}
		if s := r.command(words, env, n); s != nil && dir != "" {
			s.Dir = path.Join(dir, s.Dir)
		}
	}
}

func (r *reader) command(words []string, env map[string]Setting, n int) *Server {
	s, ok := Command(words, env, Place{r.file, n})
	if !ok {
		return nil
	}
	r.servers = append(r.servers, s)
	return s
}

func (r *reader) dockerfile(src string) {
	env := make(map[string]Setting)
	var entry []string
	entryLine := 0
	exec := func(arg string) (words []string, isExec bool) {
		return words, strings.HasPrefix(arg, "[") && json.Unmarshal([]byte(arg), &words) == nil
	}
	r.lines(src, func(line string, n int) {
		word, arg, _ := strings.Cut(line, " ")
		arg = strings.TrimSpace(arg)
		switch strings.ToUpper(word) {
		case "FROM":
			env = make(map[string]Setting)
			entry, entryLine = nil, 0
		case "ENV":
			for _, words := range Words(arg) {
				if len(words) > 1 && !strings.Contains(words[0], "=") {
					env[words[0]] = Setting{Place{r.file, n}, strings.Join(words[1:], " ")}
					continue
				}
				for _, w := range words {
					if k, v, ok := strings.Cut(w, "="); ok {
						env[k] = Setting{Place{r.file, n}, v}
					}
				}
			}
		case "ENTRYPOINT":
			if words, ok := exec(arg); ok {
				entry, entryLine = words, n
			} else {
				r.shell(arg, env, n)
			}
		case "CMD":
			words, ok := exec(arg)
			if !ok {
				r.shell(arg, env, n)
				return
			}
			if entry != nil {
				// The entry point's own words come first; alone it may be a script.
				if r.command(append(append([]string{}, entry...), words...), env, n) == nil {
					r.command(words, env, n)
				}
				entry = nil
				return
			}
			r.command(words, env, n)
		}
	})
	if entry != nil {
		r.command(entry, env, entryLine)
	}
}

func (r *reader) systemd(src string) {
	env := make(map[string]Setting)
	dir := ""
	first := len(r.servers)
	type start struct {
		words []string
		n     int
	}
	var starts []start
	r.lines(src, func(line string, n int) {
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			return
		}
		switch strings.TrimSpace(k) {
		case "Environment":
			for _, words := range Words(v) {
				for _, w := range words {
					if k, v, ok := strings.Cut(w, "="); ok {
						env[k] = Setting{Place{r.file, n}, v}
					}
				}
			}
		case "WorkingDirectory":
			dir = strings.TrimSpace(v)
		case "ExecStart":
			for _, words := range Words(v) {
				starts = append(starts, start{words, n})
				break // no shell: what follows are arguments too
			}
		}
	})
	for _, s := range starts {
		r.command(s.words, env, s.n)
	}
	for _, s := range r.servers[first:] {
		if dir != "" && !path.IsAbs(s.Dir) {
			s.Dir = path.Join(dir, s.Dir)
		}
	}
}

// yaml finds the commands of compose files and Kubernetes manifests, which may be
// several documents.
func (r *reader) yaml(src string) {
	d := yaml.NewDecoder(strings.NewReader(src))
	for range 1000 {
		var doc yaml.Node
		if d.Decode(&doc) != nil {
			return
		}
		r.node(&doc, 0)
	}
}

func (r *reader) node(n *yaml.Node, depth int) {
	if depth > 60 {
		return
	}
	if n.Kind == yaml.MappingNode {
		command, args, entry := child(n, "command"), child(n, "args"), child(n, "entrypoint")
		if command != nil || args != nil || entry != nil {
			env := environment(child(n, "environment"), r.file)
			for k, v := range environment(child(n, "env"), r.file) {
				env[k] = v
			}
			var words []string
			line := 0
			for _, part := range []*yaml.Node{entry, command, args} {
				w, l := argument(part)
				if len(w) > 0 && line == 0 {
					line = l
				}
				words = append(words, w...)
			}
			before := len(r.servers)
			if s := r.command(words, env, line); s == nil && entry != nil {
				w, l := argument(command)
				r.command(w, env, l)
			}
			for _, s := range r.servers[before:] {
				for _, k := range []string{"working_dir", "workingDir"} {
					if dir := child(n, k); dir != nil && s.Dir == "" {
						s.Dir = dir.Value
					}
				}
			}
		}
	}
	for _, c := range n.Content {
		r.node(c, depth+1)
	}
}

// argument reads a command that is a list, or a line of a shell.
func argument(n *yaml.Node) (words []string, line int) {
	switch {
	case n == nil:
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			if c.Kind == yaml.ScalarNode {
				words = append(words, c.Value)
			}
		}
		return words, n.Line
	case n.Kind == yaml.ScalarNode:
		all := Words(n.Value)
		for _, w := range all {
			if _, ok := Command(w, nil, Place{}); ok {
				return w, n.Line
			}
		}
		if len(all) > 0 {
			return all[len(all)-1], n.Line
		}
	}
	return nil, 0
}

func environment(n *yaml.Node, file string) map[string]Setting {
	out := make(map[string]Setting)
	switch {
	case n == nil:
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			out[n.Content[i].Value] = Setting{Place{file, n.Content[i].Line}, n.Content[i+1].Value}
		}
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			if k, v, ok := strings.Cut(c.Value, "="); ok && c.Kind == yaml.ScalarNode {
				out[k] = Setting{Place{file, c.Line}, v}
			} else if name, value := child(c, "name"), child(c, "value"); name != nil && value != nil {
				out[name.Value] = Setting{Place{file, name.Line}, value.Value}
			}
		}
	}
	return out
}
