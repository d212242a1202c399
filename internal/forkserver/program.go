package forkserver

import (
	"path"
	"regexp"
	"strings"
)

// run is what a process runs: the script or module where its program is an
// interpreter.
type run struct {
	// name is the base name of the program or script, or the name of the
	// module after python's -m; empty where there is none.
	name string
	// args are the arguments after it.
	args []string
}

var (
	pythons = regexp.MustCompile(`^(python|pypy|graalpy)[0-9.]*(t|d)?$`)
	rubies  = regexp.MustCompile(`^(ruby|jruby|truffleruby)[0-9.]*(\.[a-z0-9]+)?$`)
	perls   = regexp.MustCompile(`^perl[0-9.]*$`)
	phps    = regexp.MustCompile(`^php[0-9.]*$`)
)

// program takes a command line apart. It knows the options of CPython and Ruby
// that
// stand before the name of the script.
func program(p *Process) run {
	if len(p.Args) == 0 {
		return run{}
	}
	base := path.Base(p.Args[0])
	switch {
	case pythons.MatchString(base):
		return script(p.Args[1:], "WX", "m", "c")
	case rubies.MatchString(base):
		return script(p.Args[1:], "IrCEFKx", "", "e")
	case perls.MatchString(base):
		return script(p.Args[1:], "IMmCDFix", "", "eE")
	case phps.MatchString(base):
		return script(p.Args[1:], "cdzf", "", "r")
	}
	return run{name: base, args: p.Args[1:]}
}

// script skips an interpreter's options. The letters are of options that take
// the next argument where none is joined to them: valued ones in general, the
// one that names a module, and the one that gives code on the command line.
func script(args []string, valued, module, code string) run {
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		if a == "--" && len(args) > 0 {
			return run{name: path.Base(args[0]), args: args[1:]}
		}
		if a == "" || a[0] != '-' || a == "-" {
			return run{name: path.Base(a), args: args}
		}
		if strings.HasPrefix(a, "--") {
			continue
		}
		// Flags may be joined: "-Esm gunicorn".
		for i := 1; i < len(a); i++ {
			c := string(a[i])
			joined := a[i+1:]
			switch {
			case c == module:
				if joined != "" {
					return run{name: joined, args: args}
				}
				if len(args) == 0 {
					return run{}
				}
				return run{name: args[0], args: args[1:]}
			case strings.Contains(code, c):
				return run{}
			case strings.Contains(valued, c):
				if joined == "" && len(args) > 0 {
					args = args[1:]
				}
			default:
				continue
			}
			break
		}
	}
	return run{}
}

// option returns the value of an option, given by any of its names: "-k gevent",
// "-kgevent" (of a one-letter name), "--worker-class gevent",
// "--worker-class=gevent". The last one on the line wins.
func (r run) option(names ...string) (value string, ok bool) {
	for i, a := range r.args {
		for _, n := range names {
			switch {
			case a == n && i+1 < len(r.args):
				value, ok = r.args[i+1], true
			case strings.HasPrefix(n, "--") && strings.HasPrefix(a, n+"="):
				value, ok = a[len(n)+1:], true
			case len(n) == 2 && len(a) > 2 && strings.HasPrefix(a, n):
				value, ok = strings.TrimPrefix(a[2:], "="), true
			}
		}
	}
	return value, ok
}

// has reports whether one of the flags stands among the arguments.
func (r run) has(flags ...string) bool {
	for _, a := range r.args {
		if oneOf(a, flags...) {
			return true
		}
	}
	return false
}

// title is the whole command line as one string: what a process shows of itself
// when it wrote a title over its arguments. uWSGI and others fill up with blanks
// and leave the last arguments behind them standing; those are cut off.
func (p *Process) title() string {
	t, _, _ := strings.Cut(strings.TrimSpace(strings.Join(p.Args, " ")), "    ")
	return t
}

// hasTitle reports whether what the process shows of itself begins with one of
// prefixes.
func hasTitle(p *Process, prefixes ...string) bool {
	t := p.title()
	for _, s := range prefixes {
		if strings.HasPrefix(t, s) {
			return true
		}
	}
	return false
}
