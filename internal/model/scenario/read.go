package scenario

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Error says where in a scenario something cannot be taken, and what can.
type Error struct {
	File string
	Pos
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// most is how many errors of one file are told.
const most = 10

// Read reads a scenario in YAML; file is its name in errors. What it returns keeps
// to the limits and names nothing that is not declared. The error joins up to ten
// of type *Error.
func Read(file string, text []byte) (*Scenario, error) {
	r := &reader{file: file, s: &Scenario{Arenas: 2}}
	if len(text) > MaxSize {
		r.fail(Pos{1, 1}, "the file has %d bytes; a scenario has at most %d", len(text), MaxSize)
		return nil, r.err()
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		r.fail(syntaxAt(err), "%s", syntaxSays(err))
		return nil, r.err()
	}
	if len(doc.Content) == 0 {
		r.fail(Pos{1, 1}, "the file is empty; a scenario has at least threads:")
		return nil, r.err()
	}
	r.plain(doc.Content[0], 0)
	if len(r.errs) == 0 {
		r.scenario(doc.Content[0])
		r.check()
	}
	if len(r.errs) > 0 {
		return nil, r.err()
	}
	return r.s, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(?s:(.*))$`)

// syntaxAt is where YAML itself went wrong: its reader knows the line alone.
func syntaxAt(err error) Pos {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		if n, err := strconv.Atoi(m[1]); err == nil && n > 0 {
			return Pos{n, 1}
		}
	}
	return Pos{1, 1}
}

func syntaxSays(err error) string {
	says := err.Error()
	if m := yamlLine.FindStringSubmatch(says); m != nil {
		says = m[2]
	}
	return "this is not YAML: " + says
}

// reader reads one file.
type reader struct {
	file string
	s    *Scenario
	errs []*Error
	// uses are names whose declarations may stand further down.
	uses []use
	// places of declarations, for errors about them.
	places map[string]Pos
}

// use is a name at the place where it is used.
type use struct {
	takes Takes
	name  string
	pos   Pos
}

func (r *reader) fail(at Pos, format string, args ...any) {
	if len(r.errs) < most {
		r.errs = append(r.errs, &Error{r.file, at, fmt.Sprintf(format, args...)})
	}
}

func (r *reader) err() error {
	all := make([]error, 0, len(r.errs))
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	for _, e := range r.errs {
		all = append(all, e)
	}
	return errors.Join(all...)
}

func at(n *yaml.Node) Pos { return Pos{max(n.Line, 1), max(n.Column, 1)} }

// plain refuses what YAML can do and a scenario does not need: references, with
// which a short file stands for an endless one, and types of its own.
func (r *reader) plain(n *yaml.Node, depth int) {
	switch {
	case depth > 4*MaxNesting:
		r.fail(at(n), "this is nested too deeply; at most %d repeats, forks and functions stand within one another", MaxNesting)
		return
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fail(at(n), "anchors and aliases (&, *) are not part of the language; a function says calls once for many places")
		return
	case n.Style&yaml.TaggedStyle != 0:
		r.fail(at(n), "types (%s) are not part of the language", n.Tag)
		return
	}
	for _, c := range n.Content {
		r.plain(c, depth+1)
	}
}

// keys goes over the pairs of a mapping, of which only some keys are known.
func (r *reader) keys(n *yaml.Node, what string, known map[string]func(*yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fail(at(n), "%s is a mapping of %s", what, listed(known))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		read, ok := known[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode || !ok:
			r.fail(at(k), "%.48q is not a key of %s; it has %s", k.Value, what, listed(known))
		case seen[k.Value]:
			r.fail(at(k), "%s has %.48q twice", what, k.Value)
		default:
			seen[k.Value] = true
			read(v)
		}
	}
}

func listed(known map[string]func(*yaml.Node)) string {
	var all []string
	for k := range known {
		all = append(all, k)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// text reads one scalar.
func (r *reader) text(n *yaml.Node, what string) string {
	if n.Kind != yaml.ScalarNode {
		r.fail(at(n), "%s is a text", what)
		return ""
	}
	if i := strings.IndexFunc(n.Value, unprintable); i >= 0 {
		r.fail(at(n), "%s has a character that cannot be printed: %q", what, n.Value[i:i+1])
		return ""
	}
	return n.Value
}

// unprintable reports characters that must reach no terminal.
func unprintable(c rune) bool {
	return c != '\n' && !unicode.IsPrint(c) || c == unicode.ReplacementChar
}

// texts reads a list of scalars.
func (r *reader) texts(n *yaml.Node, what string) []string {
	if n.Kind != yaml.SequenceNode {
		r.fail(at(n), "%s is a list", what)
		return nil
	}
	var out []string
	for _, c := range n.Content {
		out = append(out, r.text(c, "each of "+what))
	}
	return out
}

// number reads a whole number within bounds.
func (r *reader) number(n *yaml.Node, what string, least, most int) int {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || i < least || i > most {
		r.fail(at(n), "%s is a whole number from %d to %d", what, least, most)
		return least
	}
	return i
}

func (r *reader) boolean(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
		r.fail(at(n), "%s is true or false", what)
	}
	return n.Value == "true"
}

var named = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,47}$`)

// name reads a name that is declared here, once among its kind.
func (r *reader) name(n *yaml.Node, takes Takes) string {
	what := string(takes)
	switch {
	case n.Kind != yaml.ScalarNode || !named.MatchString(n.Value):
		r.fail(at(n), "%.48q cannot be the name of a %s; names are letters, digits, _, . and -, at most 48, and begin with a letter or _", n.Value, what)
		return ""
	case takes == TakesHandler && n.Value == Malloc:
		r.fail(at(n), "a handler cannot be named malloc: under atfork that stands for malloc's own")
		return ""
	}
	if r.places == nil {
		r.places = make(map[string]Pos)
	}
	key := what + " " + n.Value
	if before, ok := r.places[key]; ok {
		r.fail(at(n), "there is a %s of the name %q already, in line %d", what, n.Value, before.Line)
		return ""
	}
	r.places[key] = at(n)
	return n.Value
}

// each goes over the declarations of one kind: a mapping of names.
func (r *reader) each(n *yaml.Node, takes Takes, limit int, do func(name string, pos Pos, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fail(at(n), "%s is a mapping of names to what they are", plural(takes))
		return
	}
	if len(n.Content)/2 > limit {
		r.fail(at(n), "there are %d %s; the model takes at most %d", len(n.Content)/2, plural(takes), limit)
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if name := r.name(n.Content[i], takes); name != "" {
			do(name, at(n.Content[i]), n.Content[i+1])
		}
	}
}

// names reads declarations that are names alone.
func (r *reader) names(n *yaml.Node, takes Takes, limit int) []string {
	if n.Kind != yaml.SequenceNode {
		r.fail(at(n), "%s is a list of names", plural(takes))
		return nil
	}
	if len(n.Content) > limit {
		r.fail(at(n), "there are %d %s; the model takes at most %d", len(n.Content), plural(takes), limit)
		return nil
	}
	var out []string
	for _, c := range n.Content {
		if name := r.name(c, takes); name != "" {
			out = append(out, name)
		}
	}
	return out
}

func plural(t Takes) string {
	if t == TakesLibrary {
		return "libraries"
	}
	return string(t) + "s"
}

func (r *reader) scenario(n *yaml.Node) {
	s := r.s
	r.keys(n, "a scenario", map[string]func(*yaml.Node){
		"name":       func(n *yaml.Node) { s.Name = r.name(n, "scenario") },
		"title":      func(n *yaml.Node) { s.Title = r.text(n, "title") },
		"about":      func(n *yaml.Node) { s.About = strings.TrimSpace(r.text(n, "about")) },
		"known":      func(n *yaml.Node) { s.Known = r.texts(n, "known") },
		"sources":    func(n *yaml.Node) { s.Sources = r.texts(n, "sources") },
		"arenas":     func(n *yaml.Node) { s.Arenas = r.number(n, "arenas", 1, MaxArenas) },
		"streams":    func(n *yaml.Node) { s.Streams = r.names(n, TakesStream, MaxStreams) },
		"locks":      r.locks,
		"semaphores": func(n *yaml.Node) { s.Semaphores = r.names(n, TakesSemaphore, MaxSemaphores) },
		"functions":  r.functions,
		"libraries":  r.libraries,
		"handlers":   r.handlers,
		"atfork":     r.atfork,
		"threads":    r.threads,
	})
	if len(s.Threads) == 0 && len(r.errs) == 0 {
		r.fail(at(n), "a scenario has at least one thread, under threads:")
	}
	if !slices.Contains(s.Atfork, Malloc) {
		s.Atfork = append([]string{Malloc}, s.Atfork...)
	}
}

// locks are a list of names, or a mapping of names to kinds.
func (r *reader) locks(n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		for _, name := range r.names(n, TakesLock, MaxLocks) {
			r.s.Locks = append(r.s.Locks, Lock{name, Normal})
		}
		return
	}
	r.each(n, TakesLock, MaxLocks, func(name string, _ Pos, v *yaml.Node) {
		k := Kind(r.text(v, "the kind of a lock"))
		if k != Normal && k != Recursive && k != Errorcheck {
			r.fail(at(v), "%.48q is not a kind of lock; they are normal, recursive, errorcheck", k)
		}
		r.s.Locks = append(r.s.Locks, Lock{name, k})
	})
}

func (r *reader) functions(n *yaml.Node) {
	r.each(n, TakesFunction, MaxFunctions, func(name string, _ Pos, v *yaml.Node) {
		f := Function{Name: name}
		if v.Kind == yaml.MappingNode {
			r.keys(v, "a function", map[string]func(*yaml.Node){
				"library": func(n *yaml.Node) { f.Library = r.using(n, TakesLibrary) },
				"do":      func(n *yaml.Node) { f.Body = r.calls(n, 0) },
			})
		} else {
			f.Body = r.calls(v, 0)
		}
		r.s.Functions = append(r.s.Functions, f)
	})
}

func (r *reader) libraries(n *yaml.Node) {
	r.each(n, TakesLibrary, MaxLibraries, func(name string, _ Pos, v *yaml.Node) {
		l := Library{Name: name}
		if v.Tag != "!!null" {
			r.keys(v, "a library", map[string]func(*yaml.Node){
				"loaded": func(n *yaml.Node) { l.Loaded = r.boolean(n, "loaded") },
				"load":   func(n *yaml.Node) { l.Load = r.calls(n, 0) },
				"unload": func(n *yaml.Node) { l.Unload = r.calls(n, 0) },
			})
		}
		r.s.Libraries = append(r.s.Libraries, l)
	})
}

func (r *reader) handlers(n *yaml.Node) {
	r.each(n, TakesHandler, MaxHandlers, func(name string, _ Pos, v *yaml.Node) {
		h := Handler{Name: name}
		r.keys(v, "a handler", map[string]func(*yaml.Node){
			"library": func(n *yaml.Node) { h.Library = r.using(n, TakesLibrary) },
			"prepare": func(n *yaml.Node) { h.Prepare = r.calls(n, 0) },
			"parent":  func(n *yaml.Node) { h.Parent = r.calls(n, 0) },
			"child":   func(n *yaml.Node) { h.Child = r.calls(n, 0) },
		})
		r.s.Handlers = append(r.s.Handlers, h)
	})
}

// atfork is the order of the handlers that are registered at the start.
func (r *reader) atfork(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		r.fail(at(n), "atfork is a list of handlers, oldest first")
		return
	}
	seen := make(map[string]bool)
	for _, c := range n.Content {
		name := r.text(c, "each of atfork")
		if seen[name] {
			r.fail(at(c), "%.48q is registered twice", name)
		}
		seen[name] = true
		if name != Malloc {
			r.uses = append(r.uses, use{TakesHandler, name, at(c)})
		}
		r.s.Atfork = append(r.s.Atfork, name)
	}
}

func (r *reader) threads(n *yaml.Node) {
	r.each(n, TakesThread, MaxThreads, func(name string, pos Pos, v *yaml.Node) {
		r.s.Threads = append(r.s.Threads, Thread{name, r.calls(v, 0), pos})
	})
}

// using reads a name that must be declared somewhere.
func (r *reader) using(n *yaml.Node, takes Takes) string {
	name := r.text(n, "the name of a "+string(takes))
	r.uses = append(r.uses, use{takes, name, at(n)})
	return name
}

// calls reads a list of calls.
func (r *reader) calls(n *yaml.Node, depth int) []Call {
	if n.Kind != yaml.SequenceNode {
		r.fail(at(n), "calls are a list, such as [malloc, lock a]")
		return nil
	}
	if depth > MaxNesting {
		r.fail(at(n), "repeats and forks stand within one another %d deep; at most %d may", depth, MaxNesting)
		return nil
	}
	out := []Call{} // a body that was given is not nil
	for _, c := range n.Content {
		if call, ok := r.call(c, depth); ok {
			out = append(out, call)
		}
	}
	return out
}

// call reads one call: a text, or a mapping for one that has calls of its own.
func (r *reader) call(n *yaml.Node, depth int) (Call, bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		return r.simple(n)
	case yaml.MappingNode:
	default:
		r.fail(at(n), "a call is a text such as lock a, or a mapping of fork or repeat")
		return Call{}, false
	}
	c := Call{Pos: at(n)}
	r.keys(n, "a call with calls of its own", map[string]func(*yaml.Node){
		"fork":   func(n *yaml.Node) { c.Verb, c.Body = ForkVerb, r.calls(n, depth+1) },
		"repeat": func(n *yaml.Node) { c.Verb, c.Times = RepeatVerb, r.number(n, "repeat", 1, MaxRepeat) },
		"do":     func(n *yaml.Node) { c.Body = r.calls(n, depth+1) },
	})
	pairs := len(n.Content) / 2
	switch {
	case c.Verb == ForkVerb && pairs == 1:
	case c.Verb == RepeatVerb && pairs == 2 && c.Body != nil:
	default:
		r.fail(at(n), "a call with calls of its own is fork: [calls of the child], or repeat: times with do: [calls]")
		return c, false
	}
	return c, true
}

// simple reads a call that is a text.
func (r *reader) simple(n *yaml.Node) (Call, bool) {
	c := Call{Pos: at(n)}
	words := strings.Fields(n.Value)
	if len(words) == 0 {
		r.fail(at(n), "there is no call here; calls are %s", verbs())
		return c, false
	}
	w, ok := wordOf[Verb(words[0])]
	switch {
	case !ok:
		r.fail(at(n), "%.48q is not a call; calls are %s", words[0], verbs())
		return c, false
	case w.Verb == RepeatVerb:
		r.fail(at(n), "repeat is written as a mapping: {repeat: 3, do: [malloc, free]}")
		return c, false
	case w.Takes == TakesNothing && len(words) > 1:
		r.fail(at(n), "%s stands alone; nothing follows it", w.Verb)
		return c, false
	case w.Takes != TakesNothing && len(words) == 1 && !w.Optional:
		r.fail(at(n), "%s is followed by the name of a %s", w.Verb, w.Takes)
		return c, false
	case len(words) > 2:
		r.fail(at(n), "%s is followed by the name of one %s, and nothing else", w.Verb, w.Takes)
		return c, false
	}
	c.Verb = w.Verb
	if len(words) == 2 {
		c.Arg = words[1]
		r.uses = append(r.uses, use{w.Takes, c.Arg, at(n)})
	}
	return c, true
}
