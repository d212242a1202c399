package report

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"forkproof/internal/finding"
)

// object is any JSON object.
type object = map[string]any

// TestSARIF checks what the standard's schema (SARIF 2.1.0, OASIS) demands of
// the parts that are written: required properties, enumerations, minima, URIs.
func TestSARIF(t *testing.T) {
	for title, doc := range documents() {
		var log object
		if err := json.Unmarshal(render(t, "sarif", doc, Options{}), &log); err != nil {
			t.Fatal(err)
		}
		c := checker{t, title}
		if log["version"] != "2.1.0" {
			t.Errorf("%s: version %v", title, log["version"])
		}
		runs := c.list(log, "runs")
		if len(runs) != 1 {
			t.Fatalf("%s: %d runs", title, len(runs))
		}
		driver := c.object(c.object(runs[0], "tool"), "driver")
		c.text(driver, "name")
		var ids []string
		for _, r := range c.list(driver, "rules") {
			ids = append(ids, c.text(r, "id"))
			for _, k := range []string{"shortDescription", "fullDescription", "help"} {
				c.text(c.object(r, k), "text")
			}
			c.level(c.object(r, "defaultConfiguration"))
		}
		for _, in := range c.list(runs[0], "invocations") {
			if _, ok := in["executionSuccessful"].(bool); !ok {
				t.Errorf("%s: executionSuccessful is required", title)
			}
		}
		results := c.list(runs[0], "results")
		if len(results) != len(blocks(doc)) {
			t.Errorf("%s: %d results of %d blocks", title, len(results), len(blocks(doc)))
		}
		for _, r := range results {
			i, ok := r["ruleIndex"].(float64)
			if !ok || int(i) >= len(ids) || ids[int(i)] != c.text(r, "ruleId") {
				t.Errorf("%s: ruleIndex %v is not that of %v", title, r["ruleIndex"], r["ruleId"])
			}
			c.level(r)
			c.text(c.object(r, "message"), "text")
			if n, ok := r["occurrenceCount"].(float64); !ok || n < 1 {
				t.Errorf("%s: occurrenceCount %v", title, r["occurrenceCount"])
			}
			c.text(c.object(r, "partialFingerprints"), "forkproof/v1")
			for _, k := range []string{"locations", "relatedLocations"} {
				if _, has := r[k]; has {
					for _, l := range c.list(r, k) {
						c.location(l)
					}
				}
			}
			if _, has := r["stacks"]; has {
				for _, s := range c.list(r, "stacks") {
					c.text(c.object(s, "message"), "text")
					for _, f := range c.list(s, "frames") {
						c.location(c.object(f, "location"))
					}
				}
			}
		}
	}
}

type checker struct {
	*testing.T
	title string
}

func (c checker) object(o object, key string) object {
	v, ok := o[key].(object)
	if !ok {
		c.Errorf("%s: %s is not an object but %v", c.title, key, o[key])
	}
	return v
}

func (c checker) list(o object, key string) []object {
	v, ok := o[key].([]any)
	if !ok {
		c.Errorf("%s: %s is not a list but %v", c.title, key, o[key])
	}
	var out []object
	for _, e := range v {
		m, ok := e.(object)
		if !ok {
			c.Errorf("%s: %s holds %v", c.title, key, e)
		}
		out = append(out, m)
	}
	return out
}

func (c checker) text(o object, key string) string {
	v, ok := o[key].(string)
	if !ok || v == "" {
		c.Errorf("%s: %s is not a text but %v", c.title, key, o[key])
	}
	return v
}

func (c checker) level(o object) {
	switch c.text(o, "level") {
	case "error", "warning", "note", "none":
	default:
		c.Errorf("%s: level %v", c.title, o["level"])
	}
}

func (c checker) location(l object) {
	if p, has := l["physicalLocation"]; has {
		p := p.(object)
		uri := c.text(c.object(p, "artifactLocation"), "uri")
		if u, err := url.Parse(uri); err != nil || u.Scheme != "file" && (c.title != "lint" || strings.HasPrefix(uri, "/")) {
			c.Errorf("%s: uri %q: %v", c.title, uri, err)
		}
		if r, has := p["region"]; has {
			if n, ok := r.(object)["startLine"].(float64); !ok || n < 1 {
				c.Errorf("%s: startLine %v", c.title, r)
			}
		}
	}
	if _, has := l["logicalLocations"]; has {
		for _, x := range c.list(l, "logicalLocations") {
			c.text(x, "name")
		}
	}
}

// A fingerprint is the same in the next run, with other processes, addresses and
// lines, and another one for another lock.
func TestFingerprint(t *testing.T) {
	first := func(change func(d *finding.Document)) string {
		d := hung(4, 1)
		change(d)
		return fingerprint(blocks(d)[0])
	}
	same := first(func(*finding.Document) {})
	if got := first(func(d *finding.Document) {
		for i := range d.Findings {
			d.Findings[i].PID += 4000
			d.Findings[i].TID += 4000
			d.Findings[i].Lock.Address += 4096
			d.Targets[i+1].PID += 4000
			d.Targets[i+1].Threads[0].TID += 4000
			d.Targets[i+1].Threads[0].Python[0].Line += 9
		}
	}); got != same {
		t.Error("another run has another fingerprint")
	}
	if got := first(func(d *finding.Document) { d.Findings[0].Lock.Where = "other.LOCK" }); got == same {
		t.Error("another lock has the same fingerprint")
	}
	shared := func(title string) string {
		return fingerprint(&block{Finding: &finding.Finding{Rule: finding.SharedConnection, Title: title}})
	}
	if shared("9 processes share a connection to 10.0.0.5:5432") != shared("7 processes share a connection to 10.0.0.5:5432") {
		t.Error("the number of processes changes the fingerprint")
	}
	if shared("9 processes share a connection to 10.0.0.5:5432") == shared("9 processes share a connection to 10.0.0.6:5432") {
		t.Error("another peer has the same fingerprint")
	}
}
