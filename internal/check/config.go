package check

import (
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// config is what a light reading of a gunicorn.conf.py tells. The file is a
// program, which is never run here: what it computes is not known.
type config struct {
	path string
	// values are settings with a plain value, as text: "True", "30", "gthread".
	values map[string]string
	// dynamic are settings whose value is computed, or set under a condition.
	dynamic map[string]bool
	// hooks are the functions that it defines, with the line of each.
	hooks map[string]int
	// threads are the lines that seem to start a thread in the master.
	threads []int
}

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 4 << 20

var (
	assignment = regexp.MustCompile(`^([ \t]*)([A-Za-z_][A-Za-z0-9_]*)[ \t]*(?::[^=]*)?=[ \t]*([^=].*)$`)
	definition = regexp.MustCompile(`^(?:async[ \t]+)?def[ \t]+([A-Za-z_][A-Za-z0-9_]*)[ \t]*\(`)
	lambda     = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*lambda\b`)
	literal    = regexp.MustCompile(`^(?:True|False|None|-?[0-9][0-9_]*(?:\.[0-9]+)?|[rbuRBU]?"[^"\\]*"|[rbuRBU]?'[^'\\]*')$`)
	quoted     = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	// starter are the usual ways to start a thread.
	starter = regexp.MustCompile(`\b(?:threading\.Thread|Thread|threading\.Timer|Timer|ThreadPoolExecutor|BackgroundScheduler)\(`)
)

// masterHooks are the hooks of gunicorn that run in the master (gunicorn/config.py).
var masterHooks = map[string]bool{"on_starting": true, "on_reload": true, "when_ready": true, "pre_fork": true, "child_exit": true, "nworkers_changed": true, "on_exit": true, "pre_exec": true}

func readConfig(r io.Reader, path string) (*config, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxConfig || strings.IndexByte(string(b), 0) >= 0 {
		return nil, fmt.Errorf("read %s: it is no configuration of gunicorn: larger than %d bytes, or not text", path, maxConfig)
	}
	return parseConfig(string(b), path), nil
}

func openConfig(t tree, name string) (*config, error) {
	f, err := t.Open(strings.TrimPrefix(name, "/"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	return readConfig(f, name)
}

func parseConfig(s, path string) *config {
	c := &config{path: path, values: make(map[string]string), dynamic: make(map[string]bool), hooks: make(map[string]int)}
	within := "" // the quotes of a text that spans lines
	function := ""
	n := 0
	for line := range strings.Lines(s) {
		n++
		line = strings.TrimRight(line, "\r\n")
		var inside bool
		line, within, inside = uncomment(line, within)
		if inside || strings.TrimSpace(line) == "" {
			continue
		}
		indented := line[0] == ' ' || line[0] == '\t'
		if !indented {
			function = ""
			if m := definition.FindStringSubmatch(line); m != nil {
				function = m[1]
				c.hooks[m[1]] = n
				continue
			}
			if m := lambda.FindStringSubmatch(line); m != nil {
				c.hooks[m[1]] = n
				continue
			}
		}
		if starter.MatchString(quoted.ReplaceAllString(line, "''")) && (function == "" || masterHooks[function]) {
			c.threads = append(c.threads, n)
		}
		m := assignment.FindStringSubmatch(line)
		if m == nil || function != "" {
			continue
		}
		value := strings.TrimSpace(m[3])
		if indented || !literal.MatchString(value) {
			c.dynamic[m[2]] = true
			delete(c.values, m[2])
			continue
		}
		delete(c.dynamic, m[2])
		c.values[m[2]] = strings.Trim(strings.TrimLeft(value, "rbuRBU"), `"'`)
	}
	return c
}

// uncomment takes comments off a line of Python, and follows texts in three
// quotes over lines: within is the quotes of one that is open, inside is true for
// a line that begins within one.
func uncomment(line, within string) (code, open string, inside bool) {
	inside = within != ""
	for i := 0; i < len(line); i++ {
		rest := line[i:]
		switch {
		case within != "" && line[i] == '\\':
			i++
		case within != "" && strings.HasPrefix(rest, within):
			i += len(within) - 1
			within = ""
		case within != "":
		case line[i] == '#':
			return line[:i], "", inside
		case strings.HasPrefix(rest, `"""`), strings.HasPrefix(rest, `'''`):
			within = rest[:3]
			i += 2
		case line[i] == '"', line[i] == '\'':
			within = rest[:1]
		}
	}
	if len(within) == 1 {
		within = "" // a text in single quotes ends with its line
	}
	return line, within, inside
}

// tri is yes, no, or not known.
type tri int

const (
	unknown tri = iota
	yes
	no
)

// is says whether a setting is true.
func (c *config) is(name string) tri {
	switch v, ok := c.values[name]; {
	case c.dynamic[name]:
		return unknown
	case !ok, v == "False", v == "0", v == "None", v == "":
		return no
	}
	return yes
}

// number is a setting's value; ok is false where it is not set or computed.
func (c *config) number(name string) (int, bool) {
	v, err := strconv.Atoi(strings.ReplaceAll(c.values[name], "_", ""))
	return v, err == nil
}

// workerHooks are those of its hooks that run in a worker after the fork.
func (c *config) workerHooks() []string {
	var out []string
	for _, h := range []string{"post_fork", "post_worker_init"} {
		if c.hooks[h] > 0 {
			out = append(out, h)
		}
	}
	return out
}
