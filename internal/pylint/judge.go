package pylint

import (
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/finding"
	"forkproof/internal/serverconf"
)

// forkDocs is where Python itself warns of forks with threads.
const forkDocs = "https://docs.python.org/3/library/os.html#os.fork"

// judge makes findings of what is alive at the fork.
func (in *interp) judge(s Spec, conf *module) {
	if s.Kind == "celery" && in.pool != "" && in.pool != "prefork" && in.pool != "processes" {
		return // nothing is forked
	}
	threads := false
	var unmended []string
	seen := make(map[string]bool)
	for _, o := range in.heap {
		sev, ok := o.severity()
		if !ok || in.mended[o.api] || in.single(o) {
			continue
		}
		at := o.made
		if o.live && o.lived.src != nil {
			at = o.lived
		}
		if at.src == nil {
			continue
		}
		key := fmt.Sprintf("%s %s %v", o.api.What, at.src.path, at.span)
		if seen[key] {
			continue
		}
		seen[key] = true
		threads = threads || o.live && o.api.What == "thread"
		f := finding.Finding{Rule: rules[o.api.What], Severity: sev, Confidence: finding.Inferred, Place: at.finding(), Title: o.title(), Why: o.api.Why,
			Evidence: in.evidence(o, at), Remedy: o.api.Remedy, Sources: []string{o.api.Source}, Fact: o.api.Fact}
		if s.Preload == serverconf.Unknown && !strings.HasPrefix(strings.Join(o.path, ""), "the server runs") && !strings.HasPrefix(strings.Join(o.path, ""), "gunicorn reads") {
			f.Severity = finding.Info
			f.Why += " It is not known whether the application is loaded before the fork; if it is not, this does no harm."
		}
		if sev > finding.Info && o.api.What != "thread" {
			unmended = append(unmended, f.Place.File+fmt.Sprintf(":%d: ", f.Place.Line)+f.Title)
		}
		in.found = append(in.found, f)
	}
	for _, h := range s.Hazards {
		if !h.WithThreads || threads {
			in.found = append(in.found, Hazard(h))
		}
	}
	if len(unmended) > 0 && s.Preload == serverconf.Yes && s.At.File != "" && !in.hasHook(s, conf) {
		what := map[string]string{"gunicorn": "post_fork(server, worker) in its configuration", "uwsgi": "a function with @postfork (uwsgidecorators)", "celery": "a handler of worker_process_init"}[s.Kind]
		if len(unmended) > 5 {
			unmended = append(unmended[:5], fmt.Sprintf("and %d more", len(unmended)-5))
		}
		in.found = append(in.found, finding.Finding{Rule: finding.MissingHook, Severity: finding.Info, Confidence: finding.Inferred,
			Place: &finding.Place{File: s.At.File, Line: s.At.Line}, Title: "the application is loaded before the fork, and no hook makes anything anew in the workers",
			Why:      "What the application made while it was loaded is the master's, and nothing replaces it in the workers.",
			Evidence: unmended, Remedy: []string{"Add " + what + " that drops it and makes it anew; forkproof remedy writes one."}, Sources: []string{forkDocs}})
	}
}

// single reports whether a library that computes does so with one thread: a
// variable said so before it was loaded. A device is another matter.
func (in *interp) single(o *object) bool {
	return o.live && o.api.Single != "" && in.set[o.api.Single] == "1" && o.method != "cuda" && o.method != "to" && !strings.Contains(o.name, "cuda") && !strings.HasPrefix(o.name, "cupy")
}

// Hazard is the finding of a setting.
func Hazard(h serverconf.Hazard) finding.Finding {
	f := finding.Finding{Rule: finding.ConfigHazard, Severity: finding.Info, Confidence: finding.Inferred, Fact: h.Fact, Place: &finding.Place{File: h.File, Line: h.Line},
		Title: h.Title, Why: h.Why, Remedy: h.Do, Sources: []string{h.Source}}
	if h.Grave {
		f.Severity = finding.Warning
	}
	return f
}

// hasHook reports whether any hook runs in the workers.
func (in *interp) hasHook(s Spec, conf *module) bool {
	if slices.ContainsFunc(in.hooks, func(h hook) bool { return h.when == "worker" && h.name != "os.register_at_fork" }) {
		return true
	}
	return conf != nil && (conf.env.vars["post_fork"] != nil || conf.env.vars["post_worker_init"] != nil)
}

// title says what is alive, in one line.
func (o *object) title() string {
	noun := o.api.Noun
	switch {
	case !o.live:
		return noun + " is made before the fork (it is not in use there yet)"
	case o.api.What == "thread":
		return noun + " is started before the fork"
	case o.api.What == "lock":
		return noun + " is held at the fork"
	case strings.HasPrefix(o.name, "import "):
		return noun + " is loaded before the fork"
	case o.api.What == "compute":
		return noun + " computes before the fork"
	case o.api.What == "random":
		return noun + " is used before the fork"
	case is(o.api.Active, "made"):
		return noun + " is made before the fork"
	}
	return noun + " is used before the fork"
}

// maxTrail bounds the steps of a path in evidence.
const maxTrail = 12

func (in *interp) evidence(o *object, at place) []string {
	var out []string
	name := strings.TrimSuffix(o.name, "()")
	if o.live && o.method != "" && o.method != "made" {
		name += "()." + o.method
		if o.made.src != nil && (o.made.src != at.src || o.made.span.Start.Line != at.span.Start.Line) {
			out = append(out, fmt.Sprintf("%s: made by %s()", o.made, strings.TrimSuffix(o.name, "()")))
		}
	}
	path := o.path
	if len(path) > maxTrail {
		path = append(append(append([]string{}, path[:3]...), fmt.Sprintf("(%d more steps)", len(path)-maxTrail)), path[len(path)-maxTrail+4:]...)
	}
	if strings.HasPrefix(name, "import ") {
		return append(out, append(path, fmt.Sprintf("%s: %s", at, name))...)
	}
	return append(out, append(path, fmt.Sprintf("%s: %s()", at, strings.TrimSuffix(name, "()")))...)
}

// inherited is a hook that uses what it must not.
func (in *interp) inherited(o *object, how string, at place) {
	if at.src == nil || o.api.What == "random" || o.api.What == "agent" {
		return
	}
	sev, ok := severity(o.api.Severity)
	if !ok || sev == finding.Info {
		return
	}
	in.found = append(in.found, finding.Finding{Rule: finding.HookUsesInherited, Severity: sev, Confidence: finding.Inferred, Place: at.finding(), Fact: o.api.Fact,
		Title: "a worker uses " + o.api.Noun + " that the master made", Why: o.api.Why,
		Evidence: append(in.trail(), fmt.Sprintf("%s: %s.%s()", at, strings.TrimSuffix(o.name, "()"), how), fmt.Sprintf("%s: where the master made it", o.made)),
		Remedy:   o.api.Remedy, Sources: []string{o.api.Source}})
}

// late is a variable that is set after the library that reads it was loaded.
func (in *interp) late(name, lib string, v *variable, from, at place) {
	if at.src == nil {
		return
	}
	f := finding.Finding{Rule: finding.LateEnvironment, Severity: finding.Warning, Confidence: finding.Inferred, Place: at.finding(),
		Title:    fmt.Sprintf("%s is set after %s was loaded, which has no effect", name, lib),
		Why:      fmt.Sprintf("%s reads the variable once, as it is loaded. What is set later counts for programs that are started from here, and for nothing else.", lib),
		Evidence: []string{fmt.Sprintf("%s: imports %s", from, lib), fmt.Sprintf("%s: sets %s", at, name)},
		Remedy:   []string{"Set it in the environment of the server (systemd: Environment=, Dockerfile: ENV, gunicorn: --env), or before the first import; threadpoolctl changes it later."},
		Sources:  []string{v.Source}}
	if from.src == nil {
		// Nobody knows what the application loads.
		f.Severity = finding.Info
		f.Title = fmt.Sprintf("%s is set in a worker, which has no effect on what the application has loaded before the fork", name)
		f.Evidence = f.Evidence[1:]
	}
	if in.hooking != "" {
		f.Evidence = append([]string{"the server runs the hook " + in.hooking}, f.Evidence...)
	}
	for _, g := range in.found {
		if g.Rule == f.Rule && *g.Place == *f.Place {
			return
		}
	}
	in.found = append(in.found, f)
}

// forks is a fork in the middle of a program: it matters which threads run then.
func (in *interp) forks(at place, what string, plain bool) {
	if in.spawn && !plain || at.src == nil {
		return
	}
	var threads []string
	for _, o := range in.heap {
		if o.api != nil && o.api.What == "thread" && o.live && !o.finished() && o.master != in.worker && o.lived != at {
			threads = append(threads, fmt.Sprintf("%s: %s is started", o.lived, o.api.Noun))
		}
	}
	if len(threads) == 0 {
		return
	}
	in.found = append(in.found, finding.Finding{Rule: finding.ForkWithThreads, Severity: finding.Warning, Confidence: finding.Inferred, Place: at.finding(),
		Title: what + " forks while the program has threads", Why: "Whatever lock such a thread holds at that moment stays locked in the child for ever.",
		Evidence: append(threads, fmt.Sprintf("%s: %s", at, what)),
		Remedy: []string{"Start processes first and threads afterwards, or let multiprocessing start them anew: multiprocessing.get_context(\"forkserver\") or \"spawn\" (the default from Python 3.14 on).",
			"To run another program use subprocess."},
		Sources: []string{"https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods", forkDocs}})
}
