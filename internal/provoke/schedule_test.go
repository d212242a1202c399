package provoke

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"forkproof/internal/finding"
)

const goodSchedule = `{"schema":"forkproof/schedule/v1","seed":1,"schedules":[{"lock":"pthread_mutex:a` + "`" + `b","kind":"pthread_mutex","name":"b","taking":2,"fork":1,"order":"lock first","holder_at":"lock taken","outcome":"deadlock"}]}`

func TestBadSchedules(t *testing.T) {
	for _, tt := range []struct{ old, new, want string }{
		{"", "", ""},
		{"/v1", "/v2", "schema"},
		{`"taking":2`, `"taking":0`, "from 1 on"},
		{`"fork":1`, `"fork":-1`, "from 1 on"},
		{`"kind":"pthread_mutex",`, "", "kind"},
		{`"seed":1`, `"sead":1`, "sead"},
		{`"seed":1`, `"seed":-1`, "seed"},
	} {
		_, err := parseSchedules(strings.NewReader(strings.Replace(goodSchedule, tt.old, tt.new, 1)))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q for %q: %v, want %q", tt.new, tt.old, err, tt.want)
		}
	}
}

func FuzzSchedules(f *testing.F) {
	f.Add([]byte(goodSchedule))
	f.Add([]byte(`{"schema":"forkproof/schedule/v1","schedules":[{},{}]}`))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSchedules(bytes.NewReader(b))
		if err != nil {
			return
		}
		out, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseSchedules(bytes.NewReader(out))
		if err != nil || len(again.Found) != len(s.Found) {
			t.Errorf("what was read is not read again: %v\n%s", err, out)
		}
	})
}

// TestJUnit: names are the target's, and may hold anything.
func TestJUnit(t *testing.T) {
	doc := &finding.Document{Provoked: &finding.Provoked{
		Plain: finding.PlainFork{Outcome: finding.ProvokedHealthy},
		Locks: []finding.ProvokedLock{
			{Name: "a\x1b[31m<b>&\x00\"", Outcome: finding.ProvokedDeadlock, Seconds: 0.25},
			{Name: "c]]>", Outcome: finding.ProvokedNotReached, Detail: "no thread took it"},
			{Name: "d\xff", Outcome: finding.ProvokedGuarded},
		},
	}}
	b, err := JUnit(doc, "app \x01")
	if err != nil {
		t.Fatal(err)
	}
	var s suite
	if err := xml.Unmarshal(b, &s); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if s.Tests != 4 || s.Failures != 1 || s.Skipped != 1 || len(s.Cases) != 4 {
		t.Errorf("%d tests, %d failures, %d skipped in %d cases", s.Tests, s.Failures, s.Skipped, len(s.Cases))
	}
	if bytes.ContainsAny(b, "\x1b\x00\x01") || s.Cases[1].Name != `a?[31m<b>&?"` || s.Cases[1].Failure == nil {
		t.Errorf("the names are not visible text: %q", s.Cases[1].Name)
	}
}
