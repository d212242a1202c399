package serverconf

import (
	"strings"
)

// Puma reads a config/puma.rb by its lines: calls with plain arguments at the top.
// What is conditional or computed is not known, and unread lists the lines of
// calls that matter and could not be read.
func Puma(src, file string) (s *Server, unread []int) {
	s = &Server{Kind: "puma", Place: Place{file, 1}, Preload: Unknown}
	depth, n := 0, 0
	hooks := 0
	within := false
	for line := range strings.Lines(src) {
		n++
		at := Place{file, n}
		text := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "=begin"):
			within = true
		case strings.HasPrefix(line, "=end"):
			within = false
			continue
		}
		if within || text == "" || text[0] == '#' {
			continue
		}
		if i := strings.Index(text, " #"); i >= 0 && !strings.Contains(text[i:], "#{") {
			text = strings.TrimSpace(text[:i])
		}
		words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '(' || r == ')' || r == ',' })
		if len(words) == 0 {
			continue
		}
		_, tail, conditional := strings.Cut(text, " if ")
		if !conditional {
			_, tail, conditional = strings.Cut(text, " unless ")
		}
		conditional = conditional && tail != "" || depth > 0
		switch words[0] {
		case "end", "}", "end.":
			depth = max(0, depth-1)
		case "preload_app!":
			s.Preload, s.PreloadAt = Yes, at
			if len(words) > 1 && words[1] == "false" {
				s.Preload = No
			}
			if conditional {
				s.Preload = Unknown
				unread = append(unread, n)
			}
		case "workers":
			v := ""
			if len(words) > 1 {
				v = words[1]
			}
			s.set("workers", v, at)
			if s.Forks = v != "0"; strings.Trim(v, "0123456789") != "" || conditional {
				unread = append(unread, n)
			}
		case "fork_worker":
			s.set("fork_worker", "", at)
			s.Hazards = append(s.Hazards, Hazard{Place: at, Grave: true,
				Title: "worker 0 forks the others while it serves", Why: "With fork_worker Puma forks workers from worker 0, from a thread that is not its first, while other threads there may hold locks.",
				Do:     []string{"Use preload_app! without fork_worker, or stop background threads in before_refork (on_refork before Puma 7)."},
				Source: "https://github.com/puma/puma/blob/main/docs/fork_worker.md"})
		case "before_fork", "on_worker_boot", "before_worker_boot", "on_worker_fork", "before_worker_fork":
			hooks++
			s.set(words[0], "", at)
		case "threads":
			s.set("threads", strings.Join(words[1:], ","), at)
		}
		if opens(words, text) {
			depth++
		}
	}
	if s.Forks && s.Preload == Yes && hooks == 0 {
		s.Hazards = append(s.Hazards, Hazard{Place: s.PreloadAt,
			Title: "the application is loaded before the fork, and no hook makes anything anew in the workers", Why: "Connections and threads that the application made while it was loaded are the master's.",
			Do:     []string{"Close connections in before_fork, and make them anew in before_worker_boot (on_worker_boot before Puma 7)."},
			Source: "https://github.com/puma/puma#clustered-mode"})
	}
	return s, unread
}

// opens reports whether a line begins a block of Ruby that an "end" or a brace of
// a later line ends.
func opens(words []string, text string) bool {
	last := words[len(words)-1]
	if strings.HasSuffix(text, " end") || strings.HasSuffix(text, "}") && strings.Contains(text, "{") {
		return false
	}
	switch words[0] {
	case "if", "unless", "case", "def", "while", "until", "begin", "class", "module", "for":
		return true
	}
	return last == "do" || last == "{" || strings.Contains(text, " do |") || strings.HasSuffix(text, "|") && strings.Contains(text, "{ |")
}

func pumaCommand(words []string, at Place) *Server {
	s := &Server{Kind: "puma", Place: at, Preload: Unknown}
	options(words, map[string]string{"C": "config", "w": "workers", "t": "threads", "b": "bind", "p": "port", "e": "environment"}, map[string]bool{"preload": true, "prune-bundler": true}, func(name, value string) {
		s.set(name, value, at)
		switch name {
		case "preload":
			s.Preload, s.PreloadAt = Yes, at
		case "config":
			s.Config = value
		case "workers":
			s.Forks = value != "0"
		}
	})
	return s
}

// threadedExtensions are PHP's extensions that start threads in the master: see
// the notes of php-fpm among the facts.
var threadedExtensions = map[string]bool{"grpc": true, "rdkafka": true, "opentelemetry": true, "swoole": true, "openswoole": true}

// PHPFPM reads a pool or the main file of php-fpm, or a php.ini. ok is false where
// the file says nothing that php-fpm's workers depend on.
func PHPFPM(src, file string) (s *Server, ok bool) {
	s = &Server{Kind: "php-fpm", Place: Place{file, 1}, Forks: true, Preload: No, PreloadAt: Place{file, 1}}
	n := 0
	for line := range strings.Lines(src) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '[' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if !found {
			continue
		}
		name, value = strings.TrimSpace(name), strings.Trim(strings.TrimSpace(value), `"'`)
		at := Place{file, n}
		if i := strings.IndexByte(name, '['); i > 0 && (strings.HasPrefix(name, "php_value") || strings.HasPrefix(name, "php_admin_value")) {
			name = strings.Trim(name[i:], "[]")
		}
		switch name {
		case "pm", "pm.max_children", "request_terminate_timeout":
			ok = true
			s.set(name, value, at)
		case "opcache.preload":
			if value != "" {
				ok = true
				s.Preload, s.PreloadAt = Yes, at
				s.set(name, value, at)
			}
		case "extension", "zend_extension":
			ext := strings.TrimSuffix(value[strings.LastIndexByte(value, '/')+1:], ".so")
			if threadedExtensions[ext] {
				ok = true
				s.Hazards = append(s.Hazards, Hazard{Place: at, Grave: true, Title: "the extension " + ext + " may start threads in php-fpm's master",
					Why:    "Extensions start in the master, before it forks; what their threads hold at a fork stays locked in the worker.",
					Do:     []string{"Load it only where it is needed, and let it start nothing while it is loaded (grpc: grpc.enable_fork_support = 1)."},
					Source: "https://github.com/grpc/grpc/tree/master/src/php#pcntl_fork-support"})
			}
		}
	}
	return s, ok
}
