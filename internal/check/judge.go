package check

import (
	"fmt"
	"slices"
	"strings"

	"forkproof/internal/facts"
	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
	"forkproof/internal/serverconf"
)

// subject is one thing that is checked, as it was observed.
type subject struct {
	target finding.Target
	// live: a running process, whose memory tells what is loaded.
	live   bool
	server *forkserver.Server
	// serverID is the server's id in the facts, empty where none is known, and
	// version its version, empty where that is not known.
	serverID, version string
	sys               *system
	// build is the C library; nil where none was found.
	build *build
	// goes: the program was built by Go's compiler and has no C library.
	goes  bool
	libs  []library
	dists []dist
	// threads and connections are what workers lack or share.
	threads, connections []finding.Finding
	// preload: the application is loaded before the fork.
	preload serverconf.Tri
	// hooksRun and pythonThreads are options of uWSGI.
	hooksRun, pythonThreads bool
	config                  *serverconf.Python
	notes                   []string

	verdict  facts.Verdict
	findings []finding.Finding
}

// guessServer takes a server from the name of a program.
func (s *subject) guessServer(base string) {
	if s.serverID != "" {
		return
	}
	for id, names := range map[string][]string{
		forkserver.Gunicorn: {"gunicorn", "gunicorn3"}, forkserver.UWSGI: {"uwsgi", "uwsgi-core"}, forkserver.Celery: {"celery"},
		forkserver.Puma: {"puma"}, forkserver.Unicorn: {"unicorn", "unicorn_rails"}, forkserver.Pitchfork: {"pitchfork"}, forkserver.PHPFPM: {"php-fpm"},
	} {
		if slices.Contains(names, base) {
			s.serverID = id
		}
	}
}

// judge turns what was observed into findings, answers and a verdict. It reads
// nothing but marks in the C library's file.
func (j *job) judge(s *subject) {
	if s.version == "" {
		for _, d := range s.dists {
			if facts.Normalise(d.name) == s.serverID {
				s.version = d.version
			}
		}
	}
	if b := s.build; b != nil {
		s.verdict = j.base.Libc(b.fact())
		l := &finding.Libc{Family: b.Family, Version: b.Identity.Version, Package: b.Package.Version, BuildID: b.buildID, Path: b.Path}
		if l.Package == "" {
			l.Package = b.Identity.Package
		}
		s.target.Libc = l
		if b.Family == "none" {
			s.target.Libc = nil
		} else if s.verdict.Says != "" {
			s.notes = append(s.notes, s.verdict.Says)
		}
	}
	s.libcDefects()
	s.libraryHazards()
	s.serverDefects(j.base)
	s.threadFinding()
	s.configHazards()
	for _, l := range s.libs {
		s.target.Libraries = append(s.target.Libraries, finding.Library{ID: l.Library.ID, Name: l.Library.Name, Version: l.Version, Loaded: l.loaded, Where: l.where})
	}
	s.notes = append(s.sysNotes(), s.notes...)
	s.target.Notes = s.notes
	s.target.Verdict = s.word()
	s.answer(j.base)
}

func (s *subject) sysNotes() []string {
	if s.sys == nil {
		return nil
	}
	return slices.Clone(s.sys.notes)
}

func (s *subject) add(f finding.Finding) {
	f.PID = s.target.PID
	s.findings = append(s.findings, f)
}

// threaded: at a fork the master had threads besides the one that forks.
func (s *subject) threaded() bool { return len(s.threads) > 0 }

func severity(f facts.Severity) finding.Severity {
	var out finding.Severity
	_ = out.UnmarshalText([]byte(f)) // the data are checked by a test of facts
	return out
}

// sources are where a fact comes from, with the way to read more of it first.
func sources(id string, all []facts.Source) []string {
	out := []string{"forkproof explain " + id}
	for _, x := range all {
		out = append(out, x.String())
	}
	return out
}

// libcDefects reports each defect that this C library has or may have. What needs
// a thread of the master is information where there is none, and no more than a
// warning where no process was looked at. So is what every version has and no
// thread brings about, since neither an upgrade nor a setting helps.
func (s *subject) libcDefects() {
	if s.build == nil {
		return
	}
	name := strings.TrimSpace(s.build.Family + " " + s.build.Identity.Version)
	for _, d := range s.verdict.Defects {
		if !d.Open() {
			continue
		}
		f := finding.Finding{
			Rule: finding.LibcDefect, Severity: severity(d.Defect.Severity), Confidence: finding.Known, Fact: d.ID,
			Title: fmt.Sprintf("%s: %s", name, d.Defect.Title), Why: d.Defect.Mechanism,
			Evidence: []string{s.build.says(), d.Why}, Remedy: d.Defect.Remedy.Say, Sources: sources(d.ID, d.Defect.Sources),
		}
		if d.State == facts.Possible {
			f.Confidence = finding.Inferred
			f.Title = fmt.Sprintf("%s may have this: %s", name, d.Defect.Title)
		}
		switch {
		case s.live && d.Defect.Threads && !s.threaded():
			f.Severity = finding.Info
			f.Evidence = append(f.Evidence, "it takes a second thread in the process that forks, and none was seen")
		case (!s.threaded() || !d.Defect.Threads) && f.Severity < finding.Critical && d.Defect.Until(s.build.Identity.Version) == "":
			// Every system has it, and no upgrade helps: it is no news of this one.
			f.Severity = finding.Info
			if d.Defect.Threads {
				f.Evidence = append(f.Evidence, "it takes a second thread in the process that forks; whether one has it is not seen from here")
			}
		case !s.live, d.State == facts.Possible:
			f.Severity = min(f.Severity, finding.Warning)
		}
		s.add(f)
	}
}

func (b *build) says() string {
	out := strings.TrimSpace(b.Family + " " + b.Identity.Version)
	if b.static {
		out += ", linked into " + b.Path
	} else {
		out += ", " + b.Path
	}
	switch {
	case b.Package.Version != "":
		out += fmt.Sprintf(", package %s %s", b.Package.Name, b.Package.Version)
	case b.Identity.Package != "":
		out += ", which calls itself " + b.Identity.Package
	}
	if b.buildID != "" {
		out += ", build-id " + b.buildID
	}
	return out
}

// active reports whether a library that is loaded before the fork has what it
// takes to go wrong: a thread at the fork, or a connection that workers share.
func (s *subject) active(l *library) bool {
	return s.live && l.loaded && !l.later && (s.threaded() || len(s.connections) > 0 && slices.Contains(l.Library.Hazards, "SC"))
}

// libraryHazards reports the libraries that fork may harm.
func (s *subject) libraryHazards() {
	for i := range s.libs {
		l := &s.libs[i]
		r := l.behaves()
		f := finding.Finding{
			Rule: finding.LibraryHazard, Severity: severity(r.Severity), Confidence: finding.Known, Fact: l.Library.ID,
			Why: r.What, Evidence: []string{l.where}, Remedy: l.Library.Remedy.Say, Sources: sources(l.Library.ID, l.Library.Sources),
		}
		if l.Says != "" {
			f.Confidence = finding.Inferred
			f.Evidence = append(f.Evidence, l.Says)
		}
		switch {
		case !s.live && l.own:
			f.Title = l.label() + " is loaded when the program starts"
		case !s.live || !l.loaded:
			f.Title = l.label() + " is installed"
			f.Evidence = append(f.Evidence, "whether it is loaded before a fork was not seen")
		case l.later:
			f.Title = l.label() + " is loaded in workers, after the fork"
			f.Evidence = append(f.Evidence, "the master does not have it, so no fork copies it")
		case s.active(l):
			f.Title = l.label() + " is loaded in the process that forks"
			for _, t := range append(slices.Clone(s.threads), s.connections...) {
				f.Evidence = append(f.Evidence, t.Title)
			}
		default:
			f.Title = l.label() + " is loaded in the process that forks, which had no thread besides"
		}
		switch {
		case !s.active(l):
			f.Severity, f.Confidence = finding.Info, finding.Inferred
		case l.Range == nil:
			// The worst of all versions is assumed, not known of this one.
			f.Severity = min(f.Severity, finding.Warning)
		}
		s.add(f)
	}
}

// serverDefects reports what is known of this version of the server itself.
func (s *subject) serverDefects(base *facts.Base) {
	if s.serverID == "" {
		return
	}
	for _, known := range base.OfServer(s.serverID, s.version) {
		d := known.Defect
		if d.ID == "uwsgi-no-fork-hooks" && (s.hooksRun || s.preload == serverconf.No) || d.ID == "puma-fork-worker" && !s.reforks() {
			continue
		}
		f := finding.Finding{
			Rule: finding.ConfigHazard, Severity: severity(d.Severity), Confidence: finding.Known, Fact: d.ID,
			Title: s.serverID + ": " + d.Title, Why: d.Mechanism, Remedy: d.Remedy.Say, Sources: sources(d.ID, d.Sources),
			Evidence: []string{"it takes: " + d.Trigger},
		}
		switch {
		case known.State == facts.Applies:
			f.Title = s.serverID + " " + s.version + ": " + d.Title
		case known.State != facts.Possible || !slices.ContainsFunc(d.Ranges, func(r facts.Range) bool { return r.Until == "" }):
			continue // another version has it; or only some have, and this one is not known
		}
		if d.Threads && s.live && !s.threaded() && !s.pythonThreads {
			f.Severity = finding.Info
		}
		if !s.live {
			f.Severity, f.Confidence = min(f.Severity, finding.Warning), finding.Inferred
		}
		s.add(f)
	}
}

// reforks reports whether a server forks workers from a worker.
func (s *subject) reforks() bool {
	return s.server != nil && s.server.Template.ID.PID != 0 && s.server.Template.ID.PID != s.server.Master.ID.PID
}

// threadFinding says that forks happen while there are threads.
func (s *subject) threadFinding() {
	for _, t := range s.threads {
		f := t
		f.Rule, f.Severity, f.Confidence = finding.ForkWithThreads, finding.Warning, finding.Observed
		if f.Why == "" {
			f.Why = "Each fork may copy a lock that one of these threads holds, and the child then waits for it for ever."
		}
		if s.server == nil {
			// That it forks at all was not seen.
			f.Severity = finding.Info
		}
		s.add(f)
	}
}

// neverKilled is the title of a finding that holds with and without preloading.
const neverKilled = "a worker that hangs is never killed"

// configHazards judges a gunicorn.conf.py.
func (s *subject) configHazards() {
	c := s.config
	if c == nil {
		return
	}
	hazard := func(sev finding.Severity, title, why string, evidence, remedy []string) {
		s.add(finding.Finding{Rule: finding.ConfigHazard, Severity: sev, Confidence: finding.Inferred, Title: title, Why: why,
			Evidence: evidence, Remedy: remedy, Sources: []string{"https://docs.gunicorn.org/en/stable/settings.html"}})
	}
	line := func(n int) string { return fmt.Sprintf("%s:%d", c.Path, n) }
	for _, n := range c.Threads {
		hazard(finding.Warning, "the configuration seems to start a thread in the master", "What the configuration runs outside of the workers' hooks runs in the master, before or between the forks: whatever lock the thread holds at a fork stays locked in the worker.",
			[]string{line(n)}, []string{"Start it in post_fork or post_worker_init."})
	}
	preload := s.preload
	if preload == serverconf.Unknown {
		preload = c.Is("preload_app")
	}
	if preload == serverconf.Yes && len(c.WorkerHooks()) == 0 {
		hazard(finding.Info, "the application is loaded before the fork, and no hook makes anything anew in the workers", "Connections, threads and random numbers that the application made while it was loaded are the master's.",
			[]string{c.Path + " defines neither post_fork nor post_worker_init"}, []string{"Define post_fork(server, worker), and drop and make anew there what must not be shared; forkproof remedy writes one."})
	}
	if v, ok := c.Number("timeout"); ok && v == 0 {
		hazard(finding.Warning, neverKilled, "With timeout = 0 gunicorn waits for ever for a worker that is deadlocked, and serves with fewer workers.",
			[]string{c.Path + ": timeout = 0"}, []string{"Set timeout to what the slowest request takes, such as 30; forkproof inspect finds what hangs."})
	}
	if c.Dynamic["preload_app"] {
		s.notes = append(s.notes, c.Path+" computes preload_app: whether the application is loaded before the fork is not known (the file is read, never run)")
	}
}

// word is the verdict on a subject.
func (s *subject) word() string {
	worst := finding.Info
	for _, f := range s.findings {
		worst = max(worst, f.Severity)
	}
	switch {
	case worst == finding.Critical:
		return "unsafe"
	case worst == finding.Warning:
		return "hazards"
	case s.build == nil && !s.goes, s.build != nil && s.verdict.Standing == facts.Unknown && s.build.Family != "none":
		return "unknown"
	}
	return "clear"
}
