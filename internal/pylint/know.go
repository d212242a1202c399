package pylint

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"

	"forkproof/internal/finding"
)

//go:embed apis.toml
var apisTOML []byte

// API is what is known of a class or function of a library: see apis.toml, which
// says what each field means.
type API struct {
	Name     []string `toml:"name"`
	What     string   `toml:"what"`
	Noun     string   `toml:"noun"`
	Active   []string `toml:"active"`
	Passive  []string `toml:"passive"`
	Ends     []string `toml:"ends"`
	Closes   bool     `toml:"closes"`
	Renews   []string `toml:"renews"`
	Mends    []string `toml:"mends"`
	Lazy     []string `toml:"lazy"`
	Idle     string   `toml:"idle"`
	Severity string   `toml:"severity"`
	Through  bool     `toml:"through"`
	Local    bool     `toml:"local"`
	Forks    bool     `toml:"forks"`
	Single   string   `toml:"single"`
	Fact     string   `toml:"fact"`
	Why      string   `toml:"why"`
	Remedy   []string `toml:"remedy"`
	Source   string   `toml:"source"`
}

// variable is an environment variable that libraries read as they are loaded.
type variable struct {
	Name   []string `toml:"name"`
	ReadBy []string `toml:"read_by"`
	Source string   `toml:"source"`
}

// rules says which rule a kind of thing falls under.
var rules = map[string]finding.Rule{
	"thread": finding.ThreadBeforeFork, "client": finding.ClientBeforeFork, "lock": finding.LockBeforeFork, "loop": finding.LoopBeforeFork,
	"agent": finding.AgentBeforeFork, "compute": finding.ComputeBeforeFork, "random": finding.RandomBeforeFork,
}

type knowledge struct {
	apis      []*API
	exact     map[string]*API
	globs     map[string][]glob // by the first part of the name
	variables map[string]*variable
	// roots are the packages that something is known of.
	roots map[string]bool
}

type glob struct {
	pattern string
	api     *API
}

// known is the knowledge of apis.toml, which is part of the program: a test reads
// it, so that it cannot fail here.
var known = sync.OnceValue(func() *knowledge {
	k, err := readKnowledge(apisTOML)
	if err != nil {
		panic(err)
	}
	return k
})

// APIs returns everything that is known of libraries' calls.
func APIs() []*API { return known().apis }

func readKnowledge(b []byte) (*knowledge, error) {
	var file struct {
		API      []*API      `toml:"api"`
		Variable []*variable `toml:"variable"`
	}
	d := toml.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("apis.toml: %w", err)
	}
	k := &knowledge{apis: file.API, exact: make(map[string]*API), globs: make(map[string][]glob), variables: make(map[string]*variable), roots: make(map[string]bool)}
	for _, a := range file.API {
		if rules[a.What] == "" {
			return nil, fmt.Errorf("apis.toml: %q is no kind of thing", a.What)
		}
		for _, s := range []string{a.Idle, a.Severity} {
			if _, ok := severity(s); !ok && s != "" {
				return nil, fmt.Errorf("apis.toml: %q is no severity", s)
			}
		}
		for _, n := range a.Name {
			root, _, _ := strings.Cut(n, ".")
			k.roots[root] = true
			if strings.Contains(n, "*") {
				k.globs[root] = append(k.globs[root], glob{n, a})
				continue
			}
			if k.exact[n] != nil {
				return nil, fmt.Errorf("apis.toml: %s is there twice", n)
			}
			k.exact[n] = a
		}
	}
	for _, v := range file.Variable {
		for _, n := range v.Name {
			k.variables[n] = v
		}
	}
	return k, nil
}

func severity(s string) (finding.Severity, bool) {
	var v finding.Severity
	return v, v.UnmarshalText([]byte(s)) == nil
}

// lookup finds what is known of a dotted name; a call in it is written "()".
func (k *knowledge) lookup(name string) *API {
	if a := k.exact[name]; a != nil {
		return a
	}
	root, _, _ := strings.Cut(name, ".")
	for _, g := range k.globs[root] {
		if match(g.pattern, name) {
			return g.api
		}
	}
	return nil
}

// match compares a name with a pattern in which * stands for anything but a call.
func match(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for i := 0; i <= len(name); i++ {
		if match(rest, name[i:]) && !strings.Contains(name[:i], "(") {
			return true
		}
	}
	return false
}

// is reports whether a method is among those of a list. "*" there stands for any
// method that has no underscore before it.
func is(list []string, method string) bool {
	return slices.ContainsFunc(list, func(p string) bool {
		switch {
		case p == method:
			return true
		case p == "*":
			return !strings.HasPrefix(method, "_") && !strings.Contains(method, ".")
		}
		return strings.HasSuffix(p, ".*") && strings.HasPrefix(method, p[:len(p)-1])
	})
}

// lives reports whether a call of a method makes a thing of this API live.
func (a *API) lives(method string) bool { return is(a.Active, method) && !is(a.Passive, method) }
