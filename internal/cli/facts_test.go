package cli

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"forkproof/internal/facts"
	"forkproof/internal/report"
	"forkproof/internal/testbed"
)

// TestHazardsNameRulesThatExist: the facts cannot know the rules, which are
// documented above them.
func TestHazardsNameRulesThatExist(t *testing.T) {
	b, err := facts.Load()
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	mapped := 0
	for _, r := range report.Rules() {
		rules = append(rules, string(r.Name))
		if len(b.HazardsOf(string(r.Name))) > 0 {
			mapped++
		}
		if a, ok := article(b, string(r.Name)); !ok || a.Kind != "rule" || len(a.Do) == 0 {
			t.Errorf("rule %s is not explained: %+v", r.Name, a)
		}
	}
	if mapped < 5 {
		t.Errorf("only %d rules lead to a remedy", mapped)
	}
	for _, h := range b.Hazards() {
		for _, r := range h.Rules {
			if !slices.Contains(rules, r) {
				t.Errorf("hazard %s names the rule %q, which is not in the reports", h.ID, r)
			}
		}
	}
}

// TestRemedyOfARunningServer: gunicorn's workers hang on a lock that a thread of
// the master holds; the remedy is the configuration that does not preload.
func TestRemedyOfARunningServer(t *testing.T) {
	server := testbed.Gunicorn(t, testbed.Open(t, "bookworm"), testbed.Site{App: "lock_module", Workers: 1, Hooks: "touch"})
	server.AwaitHung(t, 1)
	var out, errs bytes.Buffer
	if code := Run(context.Background(), []string{"remedy", strconv.Itoa(server.Master())}, &out, &errs); code != exitOK {
		t.Fatalf("status %d\n%s", code, errs.String())
	}
	for _, want := range []string{"for gunicorn against: ", "deadlock-nobody-left", "\npreload_app = False\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing of %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "def ") {
		t.Errorf("it has hooks that nothing calls for:\n%s", out.String())
	}
}

// TestPagesNameWhatIsExplained: an id that a page of docs names can be asked for.
func TestPagesNameWhatIsExplained(t *testing.T) {
	b, err := facts.Load()
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\b(?:RHBZ|BZ)-[0-9]+\b|\b(?:glibc|musl|gunicorn|uwsgi)-[a-z]+(?:-[a-z]+)*\b`)
	for page, least := range map[string]int{"../../docs/seed.md": 25, "../../README.md": 1} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllString(string(text), -1)
		if len(found) < least {
			t.Errorf("%s names only %v", page, found)
		}
		for _, id := range found {
			if _, ok := b.Explain(id); !ok {
				t.Errorf("%s names %s, which is not explained", page, id)
			}
		}
	}
}
