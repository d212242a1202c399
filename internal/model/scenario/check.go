package scenario

import (
	"slices"
	"strings"
)

// streams that every program has.
var standard = []string{"stdin", "stdout", "stderr"}

// check sees that what is used is declared, that nothing calls itself, and that the
// whole is of a size that can be explored.
func (r *reader) check() {
	declared := r.s.declared()
	for _, u := range r.uses {
		if names := declared[u.takes]; !slices.Contains(names, u.name) {
			r.fail(u.pos, "there is no %s %.48q; %s", u.takes, u.name, allowed(u.takes, names))
		}
	}
	for _, h := range r.s.Handlers {
		i := slices.IndexFunc(r.s.Libraries, func(l Library) bool { return l.Name == h.Library })
		if i >= 0 && !r.s.Libraries[i].Loaded && slices.Contains(r.s.Atfork, h.Name) {
			r.fail(r.places["handler "+h.Name], "handler %q is registered when the threads start, but its library %q is not loaded by then: write loaded: true, or register it in load:", h.Name, h.Library)
		}
	}
	if len(r.errs) > 0 {
		return
	}
	w := walker{reader: r, functions: make(map[string]*Function), libraries: make(map[string]*Library)}
	for i := range r.s.Functions {
		w.functions[r.s.Functions[i].Name] = &r.s.Functions[i]
	}
	for i := range r.s.Libraries {
		w.libraries[r.s.Libraries[i].Name] = &r.s.Libraries[i]
	}
	w.all()
}

// declared names what the scenario has, by what verbs take.
func (s *Scenario) declared() map[Takes][]string {
	d := map[Takes][]string{TakesStream: append(slices.Clone(standard), s.Streams...), TakesSemaphore: s.Semaphores}
	for _, l := range s.Locks {
		d[TakesLock] = append(d[TakesLock], l.Name)
	}
	for _, f := range s.Functions {
		d[TakesFunction] = append(d[TakesFunction], f.Name)
	}
	for _, l := range s.Libraries {
		d[TakesLibrary] = append(d[TakesLibrary], l.Name)
	}
	for _, h := range s.Handlers {
		d[TakesHandler] = append(d[TakesHandler], h.Name)
	}
	for _, t := range s.Threads {
		d[TakesThread] = append(d[TakesThread], t.Name)
	}
	return d
}

func allowed(t Takes, names []string) string {
	if len(names) == 0 {
		return "the scenario has no " + plural(t) + ": name them under " + plural(t) + ":"
	}
	return plural(t) + " are " + strings.Join(names, ", ")
}

// walker follows bodies through functions and libraries.
type walker struct {
	*reader
	functions map[string]*Function
	libraries map[string]*Library
	within    []string // functions, constructors and destructors on the way here
	size      int      // calls so far, written out
	stopped   bool
}

func (w *walker) all() {
	s := w.s
	// Each body by itself first, so that a function that nothing calls is checked
	// too; its calls do not count then.
	for _, f := range s.Functions {
		w.call(Call{Verb: CallVerb, Arg: f.Name, Pos: w.places["function "+f.Name]})
	}
	for _, l := range s.Libraries {
		w.call(Call{Verb: DlopenVerb, Arg: l.Name, Pos: w.places["library "+l.Name]})
		w.call(Call{Verb: DlcloseVerb, Arg: l.Name, Pos: w.places["library "+l.Name]})
	}
	w.size = 0
	for _, h := range s.Handlers {
		w.body(h.Prepare)
		w.body(h.Parent)
		w.body(h.Child)
	}
	for _, t := range s.Threads {
		w.body(t.Body)
	}
}

func (w *walker) body(calls []Call) {
	for _, c := range calls {
		if w.stopped {
			return
		}
		w.call(c)
	}
}

func (w *walker) call(c Call) {
	if w.size++; w.size > MaxCalls {
		w.stop(c.Pos, "the scenario has more than %d calls when its repeats and functions are written out", MaxCalls)
		return
	}
	switch c.Verb {
	case RepeatVerb:
		for range c.Times {
			w.body(c.Body)
		}
	case ForkVerb:
		w.body(c.Body)
	case CallVerb:
		w.enter(c, c.Arg, w.functions[c.Arg].Body)
	case DlopenVerb:
		w.enter(c, "the constructor of "+c.Arg, w.libraries[c.Arg].Load)
	case DlcloseVerb:
		w.enter(c, "the destructor of "+c.Arg, w.libraries[c.Arg].Unload)
	}
}

// enter follows a body that has a name, and refuses one that leads back to itself.
func (w *walker) enter(c Call, name string, body []Call) {
	if i := slices.Index(w.within, name); i >= 0 {
		chain := append(slices.Clone(w.within[i:]), name)
		w.stop(c.Pos, "this never ends: %s; no function may call itself, repeat: bounds what is done again", strings.Join(chain, " calls "))
		return
	}
	if len(w.within) >= MaxNesting {
		w.stop(c.Pos, "functions call one another %d deep; at most %d may", len(w.within)+1, MaxNesting)
		return
	}
	w.within = append(w.within, name)
	w.body(body)
	w.within = w.within[:len(w.within)-1]
}

func (w *walker) stop(at Pos, format string, args ...any) {
	if !w.stopped {
		w.fail(at, format, args...)
	}
	w.stopped = true
}
