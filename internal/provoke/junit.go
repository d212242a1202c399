package provoke

import (
	"encoding/xml"
	"fmt"
	"strings"

	"forkproof/internal/finding"
)

// The form that JUnit's own Ant task writes and that build servers read.
type suite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Skipped  int        `xml:"skipped,attr"`
	Errors   int        `xml:"errors,attr"`
	Time     string     `xml:"time,attr"`
	Cases    []testcase `xml:"testcase"`
}

type testcase struct {
	XMLName xml.Name `xml:"testcase"`
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Failure *message `xml:"failure,omitempty"`
	Skipped *message `xml:"skipped,omitempty"`
	Out     string   `xml:"system-out,omitempty"`
}

type message struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit writes a result as a test suite: a case for the fork without help, and one
// for each lock.
func JUnit(doc *finding.Document, name string) ([]byte, error) {
	p := doc.Provoked
	s := suite{Name: "forkproof provoke: " + visible(name)}
	total := 0.0
	add := func(name string, o finding.ProvokedOutcome, detail string, seconds float64, out string) {
		c := testcase{Class: "forkproof.provoke", Name: visible(name), Time: fmt.Sprintf("%.3f", seconds), Out: visible(out)}
		switch o {
		case finding.ProvokedDeadlock, finding.ProvokedCheckFailed:
			c.Failure = &message{Message: visible(string(o) + ": " + detail), Type: string(o), Text: visible(evidence(doc, name))}
			s.Failures++
		case finding.ProvokedHidden, finding.ProvokedNotReached:
			c.Skipped = &message{Message: visible(string(o) + ": " + detail)}
			s.Skipped++
		}
		total += seconds
		s.Tests++
		s.Cases = append(s.Cases, c)
	}
	add("a fork without help", p.Plain.Outcome, p.Plain.Detail, 0, p.Plain.Detail)
	for i := range p.Locks {
		l := &p.Locks[i]
		add(l.Name, l.Outcome, l.Detail, l.Seconds, string(l.Outcome)+": "+l.Detail)
	}
	s.Time = fmt.Sprintf("%.3f", total)
	b, err := xml.MarshalIndent(s, "", "  ")
	return append([]byte(xml.Header), append(b, '\n')...), err
}

// evidence is what the findings about a lock say.
func evidence(doc *finding.Document, name string) string {
	var b strings.Builder
	for i := range doc.Findings {
		f := &doc.Findings[i]
		if f.Lock != nil && len(f.Evidence) > 0 && strings.Contains(f.Evidence[0], name) {
			fmt.Fprintf(&b, "%s\n%s\n", f.Title, strings.Join(f.Evidence, "\n"))
		}
	}
	return b.String()
}

// visible leaves out what XML cannot hold or a reader could take for a command.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) && r != 0xfffe && r != 0xffff {
			return r
		}
		return '?'
	}, s)
}
