// Package stress is the job that waits for luck, and counts it: it lets a
// program fork again and again, the server by reloads under load, the small program by
// being run, and says how many of the forks hang, with an interval. It is the
// baseline of provoke, and shows whether a mend helped.
package stress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"forkproof/internal/chance"
	"forkproof/internal/finding"
)

// Request says what to do.
type Request struct {
	// Commands are the command line to run, or two to compare. With PID there
	// are none.
	Commands [][]string
	// PID is the master of a server that runs; it is left running, and its hung
	// workers as they are.
	PID int
	// Self is the command line that calls [Keep] with what follows it.
	Self []string
	// Load are URLs to ask for, on so many Connections at once.
	Load        []string
	Connections int
	// LoadCmd is a command for the shell that makes load of its own; it is run
	// again when it ends.
	LoadCmd string
	// Reload is how to make the server fork: one of [Ways], or a command for the
	// shell; empty means the server's own way.
	Reload string
	// Forks is after how many forks of each command to end, Duration after how
	// long at the latest.
	Forks    int
	Duration time.Duration
	// Timeout is after how long without an answer a request failed, and a program that
	// neither forks nor ends is suspected.
	Timeout time.Duration
	// Prove inspects processes; the document is nil where they are gone.
	Prove func(ctx context.Context, pids []int) (*finding.Document, error)
	// Progress is called now and then with the forks made, those wanted, and those
	// that hung; it may be nil.
	Progress func(forks, wanted, hung int)
	// Output gets what the programs write; it may be nil.
	Output io.Writer
}

// rounds is how often two commands take turns, so that what happens to the
// machine meanwhile happens to both.
const rounds = 5

// Run does what the request says. The document has one trial for each command;
// findings are those of the last one. When the context ends, everything that was
// started is ended, and the document tells what was seen until then.
func Run(ctx context.Context, req Request) (*finding.Document, error) {
	doc := &finding.Document{Schema: finding.SchemaV1, Command: "stress", Time: time.Now().UTC().Format(time.RFC3339)}
	var trials []*trial
	if req.PID != 0 {
		trials = append(trials, newTrial(&req, nil))
	}
	for _, c := range req.Commands {
		trials = append(trials, newTrial(&req, c))
	}
	turns := 1
	if len(trials) > 1 {
		turns = min(rounds, req.Forks)
	}
	for turn := range turns {
		for _, t := range trials {
			if err := t.session(ctx, req.Forks*(turn+1)/turns, req.Duration/time.Duration(turns)); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range trials {
		doc.Trials = append(doc.Trials, t.result())
		for _, n := range t.notes {
			if !slices.Contains(doc.Notes, n) {
				doc.Notes = append(doc.Notes, n)
			}
		}
		doc.Host = t.host
	}
	if len(trials) == 2 {
		doc.Comparison = compare(&doc.Trials[0], &doc.Trials[1])
	}
	last := trials[len(trials)-1]
	for _, h := range last.hung {
		f := h.finding
		f.Evidence = append(slices.Clone(f.Evidence), fmt.Sprintf("%d of %d forks hung so", h.count, last.tally.forks()+last.inFork))
		doc.Findings = append(doc.Findings, f)
		doc.Targets = append(doc.Targets, h.target)
	}
	if ctx.Err() != nil {
		doc.Notes = append(doc.Notes, "interrupted before the end: this is what was seen until then")
	}
	return doc, nil
}

// compare says whether the second trial differs from the first.
func compare(a, b *finding.Trial) *finding.Comparison {
	d, i := chance.Difference(a.Hung, a.Forks, b.Hung, b.Forks)
	c := &finding.Comparison{P: chance.Fisher(a.Hung, a.Forks, b.Hung, b.Forks), Difference: d, Low: i.Low, High: i.High, Verdict: "undecided"}
	switch {
	case c.P > 1-chance.Confidence:
	case d < 0:
		c.Verdict = "less"
	case d > 0:
		c.Verdict = "more"
	}
	return c
}

// trial is what was seen of one command.
type trial struct {
	req     *Request
	command []string
	name    string

	server, reload string
	starts         int
	took           time.Duration
	tally          tally
	inexact        bool
	inFork, first  int
	suspected      int
	failures       int
	hung           []*hang
	requests       *load
	notes          []string
	host           finding.Host
}

// hang is a lock that forks hung on.
type hang struct {
	finding finding.Finding
	target  finding.Target
	count   int
}

func newTrial(req *Request, command []string) *trial {
	return &trial{req: req, command: command, name: strings.Join(command, " "), requests: newLoad(req.Load, req.Timeout)}
}

// record counts one proof.
func (t *trial) record(f finding.Finding, target finding.Target) {
	for _, h := range t.hung {
		if h.finding.Rule == f.Rule && h.finding.Lock.Kind == f.Lock.Kind && sameLock(h.finding.Lock.Where, f.Lock.Where) {
			h.count++
			return
		}
	}
	t.hung = append(t.hung, &hang{f, target, 1})
}

// sameLock compares the names of locks; those that are only a mapping and an offset
// differ from run to run.
func sameLock(a, b string) bool {
	cut := func(s string) string { name, _, _ := strings.Cut(s, "+0x"); return name }
	return cut(a) == cut(b)
}

func (t *trial) count() (n int) {
	for _, h := range t.hung {
		n += h.count
	}
	return n
}

func (t *trial) note(format string, a ...any) {
	if n := fmt.Sprintf(format, a...); !slices.Contains(t.notes, n) {
		t.notes = append(t.notes, n)
	}
}

func (t *trial) result() finding.Trial {
	r := finding.Trial{
		Command: t.name, Server: t.server, Reload: t.reload, Starts: t.starts, Seconds: t.took.Seconds(),
		Forks: t.tally.forks() + t.inFork, Exact: !t.inexact, Execs: t.tally.execs,
		Hung: t.count(), InFork: t.inFork, First: t.first, Suspected: t.suspected, Failures: t.failures,
		Ended: t.tally.ended, Killed: t.tally.killed, FailedAtBoot: t.tally.failedAtBoot,
		Requests: t.requests.requests, Failed: t.requests.failed, LatencyMS: t.requests.times.latencies(),
	}
	// A process that was forked before the count began may hang too.
	r.Forks = max(r.Forks, r.Hung)
	i := chance.Exact(r.Hung, r.Forks)
	r.Low, r.High = i.Low, i.High
	if r.Hung == 0 && r.Forks > 0 {
		r.Below = chance.None(r.Forks)
	}
	slices.SortStableFunc(t.hung, func(a, b *hang) int { return b.count - a.count })
	for _, h := range t.hung {
		r.Locks = append(r.Locks, finding.TrialLock{Rule: h.finding.Rule, Kind: h.finding.Lock.Kind, Where: h.finding.Lock.Where, Count: h.count})
	}
	return r
}

// ErrNoForks says that there was nothing to count.
var ErrNoForks = errors.New("no fork was seen")
