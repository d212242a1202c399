package cli

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"forkproof/internal/facts"
	"forkproof/internal/model"
	"forkproof/internal/model/libc"
	"forkproof/internal/model/scenario"
)

// notModelled are defects of C libraries that no scenario shows, and why.
var notModelled = map[string]string{
	"BZ-12847":             "about memory that is no lock",
	"BZ-19402":             "about locks that processes share",
	"BZ-19703":             "takes a signal handler",
	"BZ-21386":             "about process ids in namespaces",
	"BZ-26275":             "about the handling of SIGABRT",
	"BZ-28357":             "about starting a thread while a constructor runs, not about fork",
	"BZ-32215":             "takes a signal handler",
	"BZ-32994":             "a false report of a tool",
	"BZ-4737":              "takes a signal handler",
	"glibc-atfork-malloc":  "takes 48 handlers and an allocator of one's own",
	"glibc-cond-destroy":   "condition variables are not in the language",
	"glibc-cond-ghosts":    "condition variables are not in the language",
	"glibc-cond-lost":      "condition variables are not in the language",
	"glibc-exit-lock":      "takes a thread that stays inside exit, in a function of atexit",
	"glibc-funlockfile":    "takes threads that the child starts",
	"glibc-helper-threads": "threads of libc itself are not in the language",
	"glibc-rwlock-atfork":  "rwlocks are not in the language",
	"glibc-stack-cache":    "about memory, not about locks",
}

// TestModelAgreesWithFacts: a scenario that names a defect or a lock goes wrong on
// just those releases that the facts name, and every defect is shown by a scenario.
func TestModelAgreesWithFacts(t *testing.T) {
	b, err := facts.Load()
	if err != nil {
		t.Fatal(err)
	}
	type known struct {
		family string
		ranges []facts.Range
	}
	ids := make(map[string]known)
	families := make(map[string]bool)
	for _, f := range b.Families() {
		families[f.ID] = true
	}
	for _, d := range b.Defects() {
		for _, id := range append([]string{d.ID}, d.Aliases...) {
			ids[id] = known{d.Subject, d.Ranges}
		}
	}
	for _, l := range b.Locks() {
		ids[l.ID] = known{l.Family, l.Ranges}
	}
	shipped, err := scenario.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	compared := 0
	for _, s := range shipped {
		about := make(map[string][]facts.Range)
		for _, id := range s.Known {
			k, ok := ids[id]
			if !ok {
				t.Errorf("%s shows %s, of which the facts know nothing", s.Name, id)
				continue
			}
			shown[id] = true
			about[k.family] = append(about[k.family], k.ranges...)
		}
		for _, l := range libc.All() {
			ranges, ok := about[l.Family]
			if !ok {
				continue
			}
			r, err := model.Run(t.Context(), s, &l, model.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Unread != nil {
				continue
			}
			w := r.Worst()
			bad := w != nil && w.Kind != model.LeftLocked
			has := slices.ContainsFunc(ranges, func(r facts.Range) bool { return l.First == "" || r.Holds(l.First) })
			if bad != has {
				t.Errorf("%s on %s: the model finds %v, the facts (%s) say that it has it: %v", s.Name, l.Name, w, strings.Join(s.Known, ", "), has)
			}
			compared++
		}
	}
	if compared < 200 {
		t.Errorf("only %d outcomes were compared", compared)
	}
	modelled := make(map[string]bool)
	for _, l := range libc.All() {
		modelled[l.Family] = true
	}
	for _, d := range b.Defects() {
		if !modelled[d.Subject] || shown[d.ID] || slices.ContainsFunc(d.Aliases, func(a string) bool { return shown[a] }) {
			continue
		}
		if notModelled[d.ID] == "" {
			t.Errorf("no scenario shows %s (%s), and nobody says why", d.ID, d.Title)
		}
	}
	for id := range notModelled {
		if shown[id] || ids[id].family == "" {
			t.Errorf("%s is said not to be modelled, but is shown, or is not known", id)
		}
	}
}

// TestModelReadsItsOwnScenarios: what model show prints is what model run takes.
func TestModelReadsItsOwnScenarios(t *testing.T) {
	for _, name := range scenarioNames() {
		var text, errs strings.Builder
		if code := Run(context.Background(), []string{"model", "show", name}, &text, &errs); code != exitOK {
			t.Fatalf("%s: %s", name, errs.String())
		}
		s, err := scenario.Read(name, []byte(text.String()))
		if err != nil || s.Name != name {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestModelPageIsTrue: the scenario that docs/model.md explains the language with is
// one, and has every key that there is.
func TestModelPageIsTrue(t *testing.T) {
	page, err := os.ReadFile("../../docs/model.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "## To write a scenario\n\n")
	text, _, ok2 := strings.Cut(rest, "\n\n`model list --calls`")
	if !ok || !ok2 {
		t.Fatal("the page has no scenario where it is looked for")
	}
	s, err := scenario.Read("docs/model.md", []byte(strings.ReplaceAll(text, "\n    ", "\n")[4:]))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Locks) == 0 || len(s.Semaphores) == 0 || len(s.Streams) == 0 || len(s.Libraries) == 0 || len(s.Functions) == 0 || len(s.Handlers) == 0 || len(s.Atfork) == 0 {
		t.Errorf("the page leaves something out: %+v", s)
	}
	for _, l := range libc.All() {
		if _, err := model.Run(t.Context(), s, &l, model.Options{}); err != nil {
			t.Errorf("%s: %v", l.Name, err)
		}
	}
}
