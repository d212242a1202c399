package timeline

import (
	"encoding/json"
	"io"

	"forkproof/internal/model"
)

// Schema of the JSON.
const Schema = "forkproof/model/v1"

type document struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
	Runs    []run  `json:"runs"`
}

type run struct {
	Scenario string   `json:"scenario"`
	Title    string   `json:"title,omitempty"`
	Libc     string   `json:"libc"`
	Releases string   `json:"releases,omitempty"`
	Outcome  string   `json:"outcome"`
	Unread   string   `json:"unread,omitempty"`
	Threads  []string `json:"threads"`
	States   int      `json:"states"`
	Steps    int      `json:"steps"`
	Ends     int      `json:"ends"`
	Bytes    int      `json:"bytes"`
	Complete bool     `json:"complete"`
	Findings []item   `json:"findings"`
}

type item struct {
	Kind   model.Kind  `json:"kind"`
	Fault  bool        `json:"fault"`
	Where  model.Where `json:"where"`
	Says   string      `json:"says"`
	Ends   int         `json:"ends"`
	Events []event     `json:"events"`
	Waits  []wait      `json:"waits"`
	Cycle  []string    `json:"cycle"`
	Held   []lock      `json:"held"`
}

type event struct {
	Thread  string `json:"thread"`
	Process int    `json:"process"` // 0: the one that forks
	Call    string `json:"call"`
	Step    string `json:"step,omitempty"`
	Line    int    `json:"line,omitempty"`
	Forks   bool   `json:"forks,omitempty"`
	Quiet   bool   `json:"quiet,omitempty"`
}

type wait struct {
	Thread string `json:"thread"`
	Call   string `json:"call"`
	For    string `json:"for"`
	Owner  string `json:"owner"`
	Line   int    `json:"line,omitempty"`
}

type lock struct {
	Lock  string `json:"lock"`
	Owner string `json:"owner"`
}

// JSON writes runs for programs. Arrays are never null.
func JSON(w io.Writer, version string, results []*model.Result) error {
	d := document{Schema: Schema, Version: version, Runs: []run{}}
	for _, r := range results {
		x := run{
			Scenario: r.Scenario.Name, Title: r.Scenario.Title, Libc: r.Libc.Name, Releases: r.Libc.Releases(), Outcome: r.Outcome(), Threads: r.Threads,
			States: r.States, Steps: r.Steps, Ends: r.Ends, Bytes: r.Bytes, Complete: r.Complete, Findings: []item{},
		}
		if r.Unread != nil {
			x.Unread = r.Unread.Error()
		}
		for _, f := range r.Findings {
			i := item{Kind: f.Kind, Fault: f.Kind.Fault(), Where: f.Where, Says: f.Says, Ends: f.Ends, Events: []event{}, Waits: []wait{}, Cycle: []string{}, Held: []lock{}}
			for _, e := range f.Events {
				i.Events = append(i.Events, event{r.Threads[e.Thread], e.Child, e.Call, e.Step, e.Line, e.Forks, e.Quiet})
			}
			for _, v := range f.Waits {
				i.Waits = append(i.Waits, wait{v.Thread, v.Call, v.For, v.Owner, v.Line})
			}
			i.Cycle = append(i.Cycle, f.Cycle...)
			for _, h := range f.Held {
				i.Held = append(i.Held, lock(h))
			}
			x.Findings = append(x.Findings, i)
		}
		d.Runs = append(d.Runs, x)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(d)
}
