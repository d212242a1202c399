package serverconf

import (
	"path"
	"strings"
)

// Words splits a line of a shell into its simple commands, each a list of words
// without quotes. Variables stay as they are: their values are not known, except
// for a default, ${NAME:-default}.
func Words(line string) [][]string {
	var out [][]string
	var words []string
	var word strings.Builder
	has := false
	flush := func() {
		if has {
			words = append(words, word.String())
		}
		word.Reset()
		has = false
	}
	end := func() {
		flush()
		if len(words) > 0 {
			out = append(out, words)
		}
		words = nil
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			flush()
		case '\n', ';', '&', '|', '(', ')':
			// create_app() of a command is written in quotes, or as it is in a
			// unit, where a parenthesis ends nothing.
			if c == '(' && has || c == ')' && has && strings.Contains(word.String(), "(") {
				word.WriteByte(c)
				continue
			}
			end()
		case '#':
			if !has {
				end()
				if j := strings.IndexByte(line[i:], '\n'); j >= 0 {
					i += j
				} else {
					i = len(line)
				}
				continue
			}
			word.WriteByte(c)
		case '\\':
			i++
			if i < len(line) && line[i] != '\n' {
				word.WriteByte(line[i])
				has = true
			}
		case '\'', '"':
			has = true
			for i++; i < len(line) && line[i] != c; i++ {
				if c == '"' && line[i] == '\\' && i+1 < len(line) && strings.IndexByte("\"\\$`", line[i+1]) >= 0 {
					i++
				}
				word.WriteByte(line[i])
			}
		case '$':
			has = true
			if strings.HasPrefix(line[i:], "${") {
				if j := strings.IndexByte(line[i:], '}'); j > 0 {
					v := line[i : i+j+1]
					if _, d, ok := strings.Cut(strings.Trim(v, "${}"), ":-"); ok {
						v = d
					}
					word.WriteString(v)
					i += j
					continue
				}
			}
			word.WriteByte(c)
		default:
			word.WriteByte(c)
			has = true
		}
	}
	end()
	return out
}

// shells run the line that follows -c; wrappers run the command that follows
// their own words.
var (
	shells   = map[string]bool{"sh": true, "bash": true, "dash": true, "ash": true, "zsh": true}
	wrappers = map[string]string{"exec": "", "env": "", "nohup": "", "time": "", "nice": "", "sudo": "", "dumb-init": "", "tini": "", "gosu": "1", "su-exec": "1", "setpriv": "",
		"poetry": "run", "pipenv": "run", "uv": "run", "pdm": "run", "hatch": "run", "rye": "run", "conda": "run", "ddtrace-run": "", "opentelemetry-instrument": "",
		"newrelic-admin": "run-program", "bundle": "exec", "honcho": "run", "chamber": "exec", "doppler": "run", "xvfb-run": "", "stdbuf": "", "numactl": "", "command": ""}
)

// Command reads one command with the environment that it is started in. ok is
// false where it starts no server that is known.
func Command(words []string, env map[string]Setting, at Place) (s *Server, ok bool) {
	for depth := 0; depth < 16 && len(words) > 0; depth++ {
		w := words[0]
		name := path.Base(w)
		if eq := strings.IndexByte(w, '='); eq > 0 && !strings.ContainsAny(w[:eq], "/-:.") {
			env = with(env, w[:eq], Setting{at, w[eq+1:]})
			words = words[1:]
			continue
		}
		// systemd's prefixes of a command.
		name = strings.TrimLeft(name, "-@:+!")
		switch {
		case shells[name]:
			for i, a := range words {
				if strings.HasPrefix(a, "-") && strings.HasSuffix(a, "c") && i+1 < len(words) {
					for _, c := range Words(words[i+1]) {
						if s, ok := Command(c, env, at); ok {
							return s, true
						}
					}
				}
			}
			return nil, false
		case strings.HasPrefix(name, "python") || strings.HasPrefix(name, "pypy"):
			i := 1
			for i < len(words) && strings.HasPrefix(words[i], "-") && words[i] != "-m" {
				if words[i] == "-W" || words[i] == "-X" {
					i++
				}
				i++
			}
			if i+1 >= len(words) {
				return nil, false
			}
			if words[i] == "-m" {
				i++
			}
			words = words[i:]
			continue
		case strings.HasPrefix(name, "gunicorn"):
			return within(gunicorn(words[1:], env, at), env), true
		case strings.HasPrefix(name, "uwsgi"):
			return within(uwsgiCommand(words[1:], env, at), env), true
		case name == "celery":
			s, ok := celery(words[1:], env, at)
			return within(s, env), ok
		case name == "puma" || name == "pumactl":
			return pumaCommand(words[1:], at), true
		}
		first, known := wrappers[name]
		if !known {
			return nil, false
		}
		words = words[1:]
		if first == "1" && len(words) > 0 {
			words = words[1:]
		}
		if first == "run" || first == "exec" || first == "run-program" {
			for len(words) > 0 && words[0] != first {
				words = words[1:]
			}
			if len(words) > 0 {
				words = words[1:]
			}
		}
		for len(words) > 0 && strings.HasPrefix(words[0], "-") {
			words = words[1:]
		}
	}
	return nil, false
}

// within adds the environment to what a server's own options set.
func within(s *Server, env map[string]Setting) *Server {
	for k, v := range env {
		if _, ok := s.Env[k]; !ok {
			s.setenv(k, v.Value)
		}
	}
	return s
}

func (s *Server) setenv(name, value string) {
	if s.Env == nil {
		s.Env = make(map[string]string)
	}
	s.Env[name] = value
}

func with(env map[string]Setting, name string, v Setting) map[string]Setting {
	out := map[string]Setting{name: v}
	for k, v := range env {
		if k != name {
			out[k] = v
		}
	}
	return out
}

// gunicornShort are gunicorn's short options with their long names (gunicorn/config.py).
var gunicornShort = map[string]string{"c": "config", "b": "bind", "w": "workers", "k": "worker-class", "t": "timeout", "n": "name", "u": "user", "g": "group", "m": "umask", "p": "pid",
	"D": "daemon", "e": "env", "R": "enable-stdio-inheritance", "v": "version"}

// gunicornFlags are those that take no value.
var gunicornFlags = map[string]bool{"preload": true, "reload": true, "spew": true, "check-config": true, "print-config": true, "daemon": true, "no-sendfile": true, "initgroups": true,
	"capture-output": true, "enable-stdio-inheritance": true, "disable-redirect-access-to-syslog": true, "log-syslog": true, "proxy-protocol": true, "reuse-port": true, "version": true,
	"do-handshake-on-connect": true, "suppress-ragged-eofs": true, "no-control-socket": true, "strip-header-spaces": true, "permit-obsolete-folding": true, "help": true}

func gunicorn(words []string, env map[string]Setting, at Place) *Server {
	s := &Server{Kind: "gunicorn", Place: at, Forks: true}
	if v, ok := env["GUNICORN_CMD_ARGS"]; ok {
		for _, c := range Words(v.Value) {
			gunicornArgs(s, c, v.Place)
		}
	}
	if v, ok := env["PYTHONPATH"]; ok {
		s.Paths = append(s.Paths, strings.Split(v.Value, ":")...)
	}
	gunicornArgs(s, words, at)
	return s
}

func gunicornArgs(s *Server, words []string, at Place) {
	options(words, gunicornShort, gunicornFlags, func(name, value string) {
		s.set(name, value, at)
		switch name {
		case "preload":
			s.Preload, s.PreloadAt = Yes, at
		case "config":
			s.Config = strings.TrimPrefix(value, "file:")
			if m, ok := strings.CutPrefix(value, "python:"); ok {
				s.Config = strings.ReplaceAll(m, ".", "/") + ".py"
			}
		case "chdir":
			s.Dir = value
		case "env":
			if k, v, ok := strings.Cut(value, "="); ok {
				s.setenv(k, v)
			}
		case "pythonpath":
			s.Paths = append(s.Paths, strings.Split(value, ",")...)
		case "":
			if s.App == "" {
				s.App = value
			}
		}
	})
}

// options calls f for each option of a command line with its long name, and with
// an empty name for what is none.
func options(words []string, short map[string]string, flags map[string]bool, f func(name, value string)) {
	for i := 0; i < len(words); i++ {
		w := words[i]
		name, value, has := "", w, false
		switch {
		case w == "--":
			continue
		case strings.HasPrefix(w, "--"):
			name, value, has = strings.Cut(w[2:], "=")
		case strings.HasPrefix(w, "-") && len(w) > 1:
			name = short[w[1:2]]
			if name == "" {
				name = w[1:2]
			}
			value, has = strings.TrimPrefix(w[2:], "="), len(w) > 2
		default:
			f("", w)
			continue
		}
		if !has && !flags[name] && i+1 < len(words) && !(strings.HasPrefix(words[i+1], "--") && len(words[i+1]) > 2) {
			i++
			value = words[i]
		}
		f(name, value)
	}
}

var celeryShort = map[string]string{"A": "app", "P": "pool", "c": "concurrency", "l": "loglevel", "Q": "queues", "n": "hostname", "B": "beat", "E": "task-events", "b": "broker", "D": "detach"}

var celeryFlags = map[string]bool{"beat": true, "task-events": true, "purge": true, "without-gossip": true, "without-mingle": true, "without-heartbeat": true, "detach": true}

// celery reads a Celery command; it is a server if it is a worker.
func celery(words []string, env map[string]Setting, at Place) (*Server, bool) {
	s := &Server{Kind: "celery", Place: at, Forks: true, Preload: Yes, PreloadAt: at}
	if v, ok := env["CELERY_APP"]; ok {
		s.App = v.Value
	}
	worker := false
	options(words, celeryShort, celeryFlags, func(name, value string) {
		s.set(name, value, at)
		switch name {
		case "":
			worker = worker || value == "worker" || value == "multi"
		case "app":
			s.App = value
		case "workdir":
			s.Dir = value
		case "pool":
			if value != "prefork" && value != "processes" {
				s.Forks = false
			}
		}
	})
	return s, worker
}
