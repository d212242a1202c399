package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for line, want := range map[string]event{
		"begin malloc 12":           {kind: "begin", name: "malloc", pid: 12},
		"still 13 4":                {kind: "still", pid: 13, forks: 4},
		"moving":                    {kind: "moving"},
		"end malloc works 5 4 0 0 ": {kind: "end", name: "malloc", result: "works", forks: 5, reached: 4},
		"end order differs 1 -1 0 0 the child saw 1 2": {kind: "end", name: "order", result: "differs", forks: 1, reached: -1, text: "the child saw 1 2"},
		"end x crashes 1 -1 11 0":                      {kind: "end", name: "x", result: "crashes", forks: 1, reached: -1, signal: 11},
	} {
		if got, err := parse(line); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", line, got, err, want)
		}
	}
	for _, line := range []string{"", "begin", "begin x", "begin x y", "still", "still 1", "still a 1", "end x", "end x works 1 2 3", "end x works 1 2 3 y", "what 1"} {
		if e, err := parse(line); err == nil {
			t.Errorf("%q: %+v, want an error", line, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("end malloc works 5 4 0 0 text")
	f.Add("still 13 4")
	f.Fuzz(func(t *testing.T, line string) {
		if e, err := parse(line); err == nil && e.kind == "" {
			t.Errorf("%q: no kind and no error", line)
		}
	})
}

// A proof counts only for the process that the server had not collected.
func TestFinish(t *testing.T) {
	proof := &Proof{Rule: "deadlock-nobody-left", Confidence: "proven"}
	still := event{kind: "still", pid: 20, forks: 3}
	for name, tt := range map[string]struct {
		end    event
		still  event
		proof  *Proof
		want   Outcome
		proven bool
		parent bool
	}{
		"proven":             {event{result: "stopped", pid: 20, forks: 3}, still, proof, Hangs, true, false},
		"given up":           {event{result: "stopped", pid: 20, forks: 3}, still, nil, Hangs, false, false},
		"observed only":      {event{result: "stopped", pid: 20, forks: 3}, still, &Proof{Rule: "suspected-spin", Confidence: "observed"}, Hangs, false, false},
		"the parent":         {event{result: "stopped", pid: 10, forks: 0}, event{kind: "still", pid: 10}, proof, Hangs, true, true},
		"another child":      {event{result: "stopped", pid: 21, forks: 4}, still, proof, NotReached, false, false},
		"the same number":    {event{result: "stopped", pid: 20, forks: 900}, still, proof, NotReached, false, false},
		"moved since":        {event{result: "stopped", pid: 20, forks: 3}, event{}, nil, NotReached, false, false},
		"ended by itself":    {event{result: "works", forks: 4}, still, proof, Works, false, false},
		"out of time":        {event{result: "overdue", pid: 10, forks: 4}, event{}, nil, NotReached, false, false},
		"killed":             {event{result: "crashes", signal: 6, text: "the parent: assertion"}, event{}, nil, Crashes, false, true},
		"threads alone":      {event{result: "unsafe", signal: 11}, event{}, nil, NotReached, false, false},
		"no window":          {event{result: "not-reached"}, event{}, nil, NotReached, false, false},
		"a word of tomorrow": {event{result: "surprises"}, event{}, nil, Refused, false, false},
	} {
		var r Result
		finish(&r, tt.end, tt.still, tt.proof, 10)
		if r.Outcome != tt.want || r.Proven != tt.proven || r.Parent != tt.parent {
			t.Errorf("%s: %+v", name, r)
		}
		if !r.Proven && r.Outcome != Hangs && r.Proof != nil {
			t.Errorf("%s: a proof of a process that does not hang", name)
		}
	}
}

func TestSelect(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  int
	}{{nil, len(All())}, {[]string{"popen"}, 1}, {[]string{"bz-24595-*", "bz-24595-child"}, 3}, {[]string{"popen", "malloc"}, 2}} {
		if got, err := Select(tt.names); err != nil || len(got) != tt.want {
			t.Errorf("%q: %d, %v, want %d", tt.names, len(got), err, tt.want)
		}
	}
	for _, bad := range []string{"", "frobnicate", "[", "MALLOC"} {
		if got, err := Select([]string{bad}); err == nil {
			t.Errorf("%q: %d probes, want an error", bad, len(got))
		}
	}
}

// request measures this machine without proofs.
func request(t *testing.T, names ...string) Request {
	t.Helper()
	probes, err := Select(names)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Probes: probes, Forks: 20, Time: 5 * time.Second, GiveUp: 200 * time.Millisecond}
}

// Where nothing may be read, time decides, and the answer says so.
func TestBlind(t *testing.T) {
	req := request(t, "mutex-other", "mutex-normal", "barrier-vanished")
	asked := 0
	req.Prove = func(context.Context, int) (*Proof, error) {
		asked++
		return nil, fmt.Errorf("%w: permission denied", ErrBlind)
	}
	r, err := Run(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Outcome{"mutex-other": Hangs, "barrier-vanished": Hangs, "mutex-normal": Works} {
		if res := r.Result(name); res == nil || res.Outcome != want || res.Proven {
			t.Errorf("%s: %+v", name, res)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times for what cannot be had", asked)
	}
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "a time-out decided") {
		t.Errorf("notes %q", r.Notes)
	}
}

// A context that ends, ends the run at once, whatever hangs.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	req := request(t, "mutex-other")
	req.GiveUp = time.Hour
	req.Prove = func(context.Context, int) (*Proof, error) {
		cancel()
		return nil, nil
	}
	if _, err := Run(ctx, req); err == nil || ctx.Err() == nil {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

func TestMeasured(t *testing.T) {
	all, err := Measured()
	if err != nil {
		t.Fatal(err)
	}
	builds := make(map[string]int)
	for _, r := range all {
		builds[r.Libc.Family]++
		if r.Schema != SchemaV1 || r.Libc.Version == "" || r.Libc.BuildID == "" && r.Libc.Family == "glibc" || r.Root != "" {
			t.Errorf("%s: %+v, root %q", r.Libc.Name(), r.Libc, r.Root)
		}
		for _, p := range All() {
			if r.Result(p.Name) == nil {
				t.Errorf("%s: %s was not measured: run make measure", r.Libc.Name(), p.Name)
			}
		}
	}
	if builds["glibc"] < 4 || builds["musl"] < 3 {
		t.Errorf("measured: %v", builds)
	}
	var last []int
	for _, r := range all {
		if r.Libc.Family == "glibc" {
			if v := numbers(r.Libc.Version); last != nil && slices.Compare(last, v) > 0 {
				t.Errorf("%v comes after %v", v, last)
			} else {
				last = v
			}
		}
	}
}
