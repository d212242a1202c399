package serverconf

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

var uwsgiShort = map[string]string{"w": "module", "p": "processes", "M": "master", "s": "socket", "H": "home", "T": "enable-threads", "y": "yaml", "d": "daemonize", "x": "xml", "j": "json"}

// uwsgiFlags are options without a value: of the others a command line may say
// "--http :80".
var uwsgiFlags = map[string]bool{"master": true, "enable-threads": true, "lazy": true, "lazy-apps": true, "single-interpreter": true, "need-app": true, "vacuum": true,
	"die-on-term": true, "thunder-lock": true, "py-call-uwsgi-fork-hooks": true, "py-call-osafterfork": true, "strict": true, "memory-report": true, "disable-logging": true,
	"manage-script-name": true, "http-keepalive": true, "auto-procname": true, "no-orphans": true, "protocol": false}

func uwsgiCommand(words []string, env map[string]Setting, at Place) *Server {
	s := &Server{Kind: "uwsgi", Place: at}
	for name, v := range env {
		if o, ok := strings.CutPrefix(name, "UWSGI_"); ok {
			s.uwsgi(strings.ReplaceAll(strings.ToLower(o), "_", "-"), v.Value, v.Place)
		}
	}
	options(words, uwsgiShort, uwsgiFlags, func(name, value string) {
		switch {
		case name == "ini" || name == "yaml" || name == "yml":
			s.Config = value
		case name == "" && (strings.HasSuffix(value, ".ini") || strings.HasSuffix(value, ".yaml") || strings.HasSuffix(value, ".yml")):
			s.Config = value
		case name != "":
			s.uwsgi(name, value, at)
		}
	})
	s.finish()
	return s
}

// uwsgi takes one option of uWSGI, by whichever of its names.
func (s *Server) uwsgi(name, value string, at Place) {
	name = strings.ReplaceAll(name, "_", "-")
	switch name {
	case "module", "wsgi":
		// module = pkg.mod:app; a callable may follow by itself.
		s.App = value
		if m, c, ok := strings.Cut(value, "("); ok && !strings.Contains(m, ":") && strings.TrimSuffix(c, ")") != "" {
			s.App = m
		}
	case "wsgi-file", "file":
		s.App = value
	case "callable":
		defer func() {
			if s.App != "" && !strings.Contains(s.App, ":") {
				s.App += ":" + value
			}
		}()
	case "mount":
		if _, app, ok := strings.Cut(value, "="); ok && s.App == "" {
			s.App = app
		}
	case "chdir", "chdir2":
		s.Dir = value
	case "pythonpath", "python-path", "pp":
		s.Paths = append(s.Paths, value)
	case "env":
		if k, v, ok := strings.Cut(value, "="); ok {
			s.setenv(strings.TrimSpace(k), strings.TrimSpace(v))
		}
	case "lazy":
		name = "lazy-apps"
	case "workers":
		name = "processes"
	}
	s.set(name, value, at)
}

// finish says what the options mean together.
func (s *Server) finish() {
	s.Preload, s.PreloadAt = Yes, s.Place
	if v, ok := s.Settings["lazy-apps"]; ok {
		s.Preload, s.PreloadAt = No, v.Place
		if truth(v.Value) == No {
			s.Preload = Yes
		}
	}
	_, processes := s.Settings["processes"]
	_, cheaper := s.Settings["cheaper"]
	s.Forks = processes || cheaper || s.Has("master")
	if c, ok := s.Settings["callable"]; ok && s.App != "" && !strings.Contains(s.App, ":") {
		s.App += ":" + c.Value
	}
	threads := s.Settings["enable-threads"]
	if _, ok := s.Settings["threads"]; ok && threads.Line == 0 {
		threads = s.Settings["threads"]
	}
	if threads.Line > 0 && s.Forks && s.Preload != No && !s.Has("py-call-uwsgi-fork-hooks") {
		s.Hazards = append(s.Hazards, Hazard{Place: threads.Place, Fact: "uwsgi-no-fork-hooks", Grave: true, WithThreads: true,
			Title:  "uWSGI forks without Python's at-fork hooks while a thread of the application runs",
			Why:    "The interpreter's own lock may be copied as that thread holds it, and logging, threading and random are not repaired in the worker.",
			Do:     []string{"Set py-call-uwsgi-fork-hooks = true (2.0.21 and later), or lazy-apps = true."},
			Source: "https://github.com/unbit/uwsgi/issues/1149"})
	}
}

// UWSGI reads a uwsgi.ini, or a YAML file if yaml is set. ok is false where the
// file has no section for uWSGI.
func UWSGI(src, file string) (s *Server, ok bool) {
	s = &Server{Kind: "uwsgi", Place: Place{file, 1}}
	section := ""
	vars := make(map[string]string)
	n := 0
	for line := range strings.Lines(src) {
		n++
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == ';' || line[0] == '#':
			continue
		case line[0] == '[':
			section = strings.Trim(line, "[]")
			if section == "uwsgi" && !ok {
				ok = true
				s.Line = n
			}
			continue
		case section != "uwsgi":
			continue
		}
		name, value, _ := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		for k, v := range vars {
			if len(value) > 1<<16 {
				break // placeholders that double from line to line
			}
			value = strings.ReplaceAll(value, "%("+k+")", v)
		}
		vars[name] = value
		s.uwsgi(name, value, Place{file, n})
	}
	s.finish()
	return s, ok
}

// UWSGIYAML reads a configuration of uWSGI as YAML: a mapping "uwsgi" of options,
// where a list repeats an option.
func UWSGIYAML(src, file string) (s *Server, ok bool) {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(src), &doc) != nil || len(doc.Content) == 0 {
		return nil, false
	}
	v := child(doc.Content[0], "uwsgi")
	if v == nil || v.Kind != yaml.MappingNode {
		return nil, false
	}
	s = &Server{Kind: "uwsgi", Place: Place{file, v.Line}}
	for i := 0; i+1 < len(v.Content); i += 2 {
		k, v := v.Content[i], v.Content[i+1]
		if v.Kind == yaml.SequenceNode {
			for _, e := range v.Content {
				s.uwsgi(k.Value, e.Value, Place{file, e.Line})
			}
			continue
		}
		s.uwsgi(k.Value, v.Value, Place{file, k.Line})
	}
	s.finish()
	return s, true
}

// child is the value of a key of a mapping, nil where it has none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			v := n.Content[i+1]
			if v.Kind == yaml.AliasNode {
				v = v.Alias
			}
			return v
		}
	}
	return nil
}
