package report

import (
	"strings"
	"testing"

	"forkproof/internal/finding"
)

// checkedImage is what check says of an image that an enemy named.
func checkedImage() *finding.Document {
	doc := base()
	doc.Command = "check"
	doc.Targets = []finding.Target{{
		Role: "image", Name: "image app:1 \x1b[2J(linux/amd64)", Command: "gunicorn --preload", Verdict: "hazards",
		Libc:      &finding.Libc{Family: "glibc", Version: "2.31", Package: "2.31-13+deb11u11", Path: "/lib/x86_64-linux-gnu/libc.so.6"},
		Libraries: []finding.Library{{ID: "libgomp", Name: "libgomp", Version: "10.2", Where: "package libgomp1 10.2.1-6"}},
		Answers: []finding.Answer{
			{Question: "Is malloc usable in a worker after fork?", Short: "yes", Says: []string{"glibc 2.31 repairs malloc itself in the child"}},
			{Question: "What belongs into post_fork?", Short: "see below", Code: "# for <app>\ndef post_fork(server, worker):\n    import \x1b[31mgc\n"},
		},
		Notes: []string{"a layer has usr/lib/x\x07 twice"},
	}}
	doc.Findings = []finding.Finding{
		{Rule: finding.LibcDefect, Severity: finding.Warning, Confidence: finding.Known, Fact: "BZ-24595", Title: "glibc 2.31: dlclose in a fork handler hangs", Why: "fork holds the lock.",
			Evidence: []string{"glibc 2.31"}, Remedy: []string{"Upgrade."}, Sources: []string{"forkproof explain BZ-24595"}},
		{Rule: finding.LibraryHazard, Severity: finding.Info, Confidence: finding.Inferred, Fact: "libgomp", Title: "libgomp 10.2 is installed", Why: "It has threads."},
	}
	return doc
}

// TestVerdictOfCheck: the first line says the worst of all targets, and of whom.
func TestVerdictOfCheck(t *testing.T) {
	for _, tt := range []struct {
		verdicts []string
		want     string
	}{
		{nil, "NOTHING WAS LOOKED AT"},
		{[]string{"clear"}, "NOTHING FOUND AGAINST IT: process 1"},
		{[]string{"clear", "hazards"}, "HAZARDS: process 2"},
		{[]string{"unsafe", "hazards", "unsafe"}, "NOT SAFE: process 1 and 1 other alike"},
		{[]string{"clear", "unknown"}, "NOT KNOWN: process 2"},
	} {
		doc := &finding.Document{Command: "check"}
		for i, v := range tt.verdicts {
			doc.Targets = append(doc.Targets, finding.Target{PID: i + 1, Verdict: v})
		}
		if got := string(render(t, "text", doc, Options{})); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%v: %.80q", tt.verdicts, got)
		}
	}
}
