// Package lint looks for what forks badly before it runs: in the source of Python
// servers, in servers' configurations and in the command lines that start them, and
// in programs and libraries. It reads files and executes nothing.
package lint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"forkproof/internal/finding"
	"forkproof/internal/pylint"
	"forkproof/internal/serverconf"
)

// Request says what to look at.
type Request struct {
	// Paths are files and folders; the current folder if there are none.
	Paths []string
	// Server is gunicorn, uwsgi or celery where the applications were named, and
	// Apps are these: "app:create_app()".
	Server string
	Apps   []string
	// Preload is auto, yes or no: whether applications are loaded before the
	// fork; auto leaves it to the configuration.
	Preload string
	// Baseline is a file of findings that are known, or empty; with WriteBaseline
	// it is written.
	Baseline      string
	WriteBaseline bool
	// Packages are installed packages whose programs and libraries are looked at.
	Packages []string
	// Strict and Deep are those of package native.
	Strict, Deep bool
}

// ErrUsage is wrapped by errors about the request itself.
var ErrUsage = errors.New("wrong request")

// job is one run.
type job struct {
	ctx      context.Context
	req      Request
	py       *pylint.Analyzer
	files    []file
	binaries []string
	roots    []string
	findings []finding.Finding
	targets  []finding.Target
	notes    []string
	noted    map[string]bool
}

// Run lints and returns the document.
func Run(ctx context.Context, req Request) (*finding.Document, error) {
	switch req.Server {
	case "", "gunicorn", "uwsgi", "celery":
	default:
		return nil, fmt.Errorf("--server %q is not one of gunicorn, uwsgi, celery (%w)", req.Server, ErrUsage)
	}
	switch req.Preload {
	case "", "auto", "yes", "no":
	default:
		return nil, fmt.Errorf("--preload %q is not one of auto, yes, no (%w)", req.Preload, ErrUsage)
	}
	if req.Server != "" && len(req.Apps) == 0 {
		return nil, fmt.Errorf("--server %s needs an application, such as 'app:create_app()' (%w)", req.Server, ErrUsage)
	}
	if req.WriteBaseline && req.Baseline == "" {
		return nil, fmt.Errorf("--write-baseline needs a file: --baseline FILE (%w)", ErrUsage)
	}
	var base *baseline
	if req.Baseline != "" && !req.WriteBaseline {
		var err error
		if base, err = readBaseline(req.Baseline); err != nil {
			return nil, err
		}
	}
	j := &job{ctx: ctx, req: req, py: pylint.New(), noted: make(map[string]bool)}
	if len(j.req.Paths) == 0 && len(req.Packages) == 0 {
		j.req.Paths = []string{"."}
	}
	if err := j.walk(); err != nil {
		return nil, err
	}
	if err := j.syntax(); err != nil {
		return nil, err
	}
	for _, s := range j.servers() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		j.judge(s)
	}
	for _, f := range j.files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if f.kind == "python" && !f.config {
			found, serves := j.py.Script(ctx, f.path, j.paths(f.path, nil))
			if serves {
				s := server{forks: true, why: "the program is the master itself", stated: serverconf.Place{File: f.path, Line: 1}}
				s.Kind, s.Preload = "gunicorn", serverconf.Yes
				j.target(s, found)
			}
			j.add(found)
		}
	}
	j.single()
	if err := j.native(); err != nil {
		return nil, err
	}
	j.suppress()
	j.relative()
	slices.SortStableFunc(j.findings, byPlace)
	if req.WriteBaseline {
		if err := writeBaseline(req.Baseline, j.findings); err != nil {
			return nil, err
		}
		j.note(fmt.Sprintf("written to the baseline %s: %s", req.Baseline, count(len(j.findings), "finding")))
		j.findings = nil
	}
	if base != nil {
		known, stale := base.subtract(&j.findings)
		if known > 0 {
			j.note(fmt.Sprintf("left out, as the baseline %s has it: %s", req.Baseline, count(known, "finding")))
		}
		if stale > 0 {
			j.note(fmt.Sprintf("found no more: %s of the baseline %s; write it anew with --write-baseline", count(stale, "entry"), req.Baseline))
		}
	}
	j.summary()
	return &finding.Document{Schema: finding.SchemaV1, Command: "lint", Host: finding.Host{Arch: runtime.GOARCH}, Targets: j.targets, Findings: j.findings, Notes: j.notes}, nil
}

func byPlace(a, b finding.Finding) int {
	if a.Place == nil || b.Place == nil {
		return cmp.Compare(bool2int(a.Place != nil), bool2int(b.Place != nil))
	}
	return cmp.Or(cmp.Compare(a.Place.File, b.Place.File), cmp.Compare(a.Place.Line, b.Place.Line), cmp.Compare(a.Place.Column, b.Place.Column), cmp.Compare(a.Rule, b.Rule))
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}

// count is a number with its noun.
func count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "y"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// note keeps what could not be looked at, once.
func (j *job) note(s string) {
	if !j.noted[s] {
		j.noted[s] = true
		j.notes = append(j.notes, s)
	}
}

// add keeps findings; what is said of a place already, by another server of the
// same application, is not said again, unless it is worse now.
func (j *job) add(all []finding.Finding) {
next:
	for _, f := range all {
		for i := range j.findings {
			g := &j.findings[i]
			if g.Rule == f.Rule && g.Title == f.Title && g.Place != nil && f.Place != nil && *g.Place == *f.Place {
				if f.Severity > g.Severity {
					*g = f
				}
				continue next
			}
		}
		j.findings = append(j.findings, f)
	}
}

// single leaves out what another finding of the same place says better.
func (j *job) single() {
	told := make(map[finding.Place]bool)
	for _, f := range j.findings {
		if f.Rule == finding.ForkWithThreads && f.Place != nil {
			told[*f.Place] = true
		}
	}
	j.findings = slices.DeleteFunc(j.findings, func(f finding.Finding) bool {
		return f.Rule == finding.ForkWithoutExec && f.Place != nil && told[*f.Place]
	})
}

// syntax says what of the files that were named could not be read.
func (j *job) syntax() error {
	for i := range j.files {
		f := &j.files[i]
		if f.kind != "python" {
			continue
		}
		if err := j.ctx.Err(); err != nil {
			return err
		}
		found, err := j.py.Syntax(f.path)
		if err != nil {
			j.note(err.Error())
			f.kind = ""
			continue
		}
		j.add(found)
		if !f.config && strings.HasPrefix(filepath.Base(f.path), "gunicorn") {
			// gunicorn_web.py and the like: what it sets says what it is.
			conf, err := j.py.Config(f.path)
			f.config = err == nil && conf.IsGunicorn()
		}
	}
	return nil
}

// judge follows one server.
func (j *job) judge(s server) {
	var found []finding.Finding
	if s.forks {
		switch s.Kind {
		case "gunicorn", "uwsgi", "celery":
			var notes []string
			found, notes = j.py.Server(j.ctx, s.Spec)
			for _, n := range notes {
				j.note(n)
			}
		default:
			for _, h := range s.Hazards {
				found = append(found, pylint.Hazard(h))
			}
		}
	}
	j.add(found)
	j.target(s, found)
}

// target keeps what was learnt of a server.
func (j *job) target(s server, found []finding.Finding) {
	t := finding.Target{Role: "server", Server: s.Kind, Name: s.name(), Command: s.App, Verdict: "clear"}
	says := []string{}
	if s.why != "" {
		says = append(says, s.why)
	}
	if s.At.File != "" {
		says = append(says, j.short(s.At.File)+fmt.Sprintf(":%d", s.At.Line))
	}
	short := s.Preload.String()
	if !s.forks {
		short = "nothing is forked"
	}
	t.Answers = []finding.Answer{{Question: "Is the application loaded before the fork?", Short: short, Says: says}}
	for _, f := range found {
		if f.Severity > finding.Info {
			t.Verdict = "hazards"
		}
	}
	if s.Preload == serverconf.Unknown && t.Verdict == "clear" {
		t.Verdict = "unknown"
	}
	j.targets = append(j.targets, t)
}

// relative writes paths as a person gave them: within the current folder without
// it.
func (j *job) relative() {
	for i := range j.findings {
		if p := j.findings[i].Place; p != nil {
			q := *p
			q.File = j.short(p.File)
			j.findings[i].Place = &q
		}
		for k, e := range j.findings[i].Evidence {
			for _, r := range j.roots {
				e = strings.ReplaceAll(e, r+string(filepath.Separator), j.short(r+string(filepath.Separator)))
			}
			j.findings[i].Evidence[k] = e
		}
	}
}

// short is a path as it is shown.
func (j *job) short(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if s, ok := strings.CutPrefix(path, wd+string(filepath.Separator)); ok {
			return filepath.ToSlash(s)
		}
	}
	return filepath.ToSlash(path)
}

// summary says how much was looked at.
func (j *job) summary() {
	python, configs := 0, 0
	for _, f := range j.files {
		switch {
		case f.kind == "python" && !f.config:
			python++
		case f.kind != "":
			configs++
		}
	}
	var servers []string
	if n := len(j.binaries); n > 0 {
		servers = append(servers, count(n, "file")+" of machine code")
	}
	if len(j.targets) == 0 && python+configs > 0 {
		servers = append(servers, "no server or application was found in them: name one, --server gunicorn 'module:app'")
	}
	j.notes = append([]string{strings.Join(append([]string{fmt.Sprintf("looked at %s of Python and %s; %s of Python in all", count(python, "file"), count(configs, "configuration"), count(j.py.Lines(), "line"))}, servers...), "; ")}, j.notes...)
}
