package probe

import "time"

// SchemaV1 is the value of Report.Schema.
const SchemaV1 = "forkproof/probe/v1"

// Outcome is what came out of one probe.
type Outcome string

// The outcomes.
const (
	// Works: every fork that was tried went well. Evidence, not proof.
	Works Outcome = "works"
	// Hangs: the child, or the parent within fork, stood still for good.
	Hangs Outcome = "hangs"
	// Crashes: the child or the parent was killed by a signal.
	Crashes Outcome = "crashes"
	// Differs: it went on, but with another result than a sound libc gives.
	Differs Outcome = "differs"
	// NotReached: no fork met a thread inside the function, or something else than
	// fork came in between, which Text says; nothing is known.
	NotReached Outcome = "not-reached"
	// Absent: this libc does not have the function.
	Absent Outcome = "absent"
	// Refused: the machine did not let the probe do what it must.
	Refused Outcome = "refused"
)

// Outcomes lists them in the order of reports, worst first.
func Outcomes() []Outcome {
	return []Outcome{Hangs, Crashes, Differs, NotReached, Refused, Absent, Works}
}

// Bad reports whether a program that relies on the probe's subject is in trouble.
func (o Outcome) Bad() bool { return o == Hangs || o == Crashes || o == Differs }

// Proof is what was read from a process that stands still.
type Proof struct {
	// Rule and Confidence are those of the finding; only "proven" is a proof.
	Rule       string `json:"rule"`
	Confidence string `json:"confidence"`
	// Kind and Lock name the lock that it waits for.
	Kind string `json:"kind,omitempty"`
	Lock string `json:"lock,omitempty"`
	// Stack are the functions that the waiting thread is in, innermost first.
	Stack []string `json:"stack,omitempty"`
}

// proven reports whether the process can never go on.
func (p *Proof) proven() bool { return p != nil && p.Confidence == "proven" }

// Result is what one probe came to.
type Result struct {
	Probe   string  `json:"probe"`
	Group   Group   `json:"group"`
	Title   string  `json:"title,omitempty"`
	Claim   string  `json:"claim,omitempty"`
	Outcome Outcome `json:"outcome"`
	// Forks is how many forks were tried; the last one is what Outcome tells of.
	Forks int `json:"forks"`
	// Reached is at how many of them another thread was inside the function; -1
	// for a probe that leaves nothing to chance.
	Reached int `json:"reached"`
	// Parent is set where the process that forks hangs or crashes, not its child.
	Parent bool `json:"parent,omitempty"`
	// Signal is the number of the signal that killed it, 0 for none.
	Signal int `json:"signal,omitempty"`
	// Proven: that it hangs follows from what was read. Otherwise it was given up
	// after the time-out.
	Proven bool   `json:"proven,omitempty"`
	Proof  *Proof `json:"proof,omitempty"`
	// Text says what differs or was refused.
	Text string `json:"text,omitempty"`
	// Milliseconds is how long the probe took.
	Milliseconds int64 `json:"milliseconds"`
}

// Libc is the C library that was measured, as it was mapped.
type Libc struct {
	// Family is glibc or musl.
	Family  string `json:"family"`
	Version string `json:"version,omitempty"`
	// Package is the distribution's version as the library itself tells.
	Package string `json:"package,omitempty"`
	BuildID string `json:"build_id,omitempty"`
	// Path is where it is, within Report.Root where there is one.
	Path string `json:"path,omitempty"`
}

// Name is family and version in a few words.
func (l Libc) Name() string {
	switch {
	case l.Package != "":
		return l.Family + " " + l.Package
	case l.Version != "":
		return l.Family + " " + l.Version
	}
	return l.Family
}

// Report is what one run measured on one libc.
type Report struct {
	Schema  string `json:"schema"`
	Version string `json:"version,omitempty"`
	// Time is when it began, RFC 3339 in UTC.
	Time   string `json:"time,omitempty"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	Libc   Libc   `json:"libc"`
	// Root is the folder that the libc is of, empty for the machine itself.
	Root string `json:"root,omitempty"`
	// Preload lists the libraries that were loaded before libc.
	Preload []string `json:"preload,omitempty"`
	Results []Result `json:"results"`
	// Notes say what limits the results.
	Notes []string `json:"notes,omitempty"`
	// Milliseconds is how long the run took.
	Milliseconds int64 `json:"milliseconds,omitempty"`
}

// Count is how many results have an outcome.
func (r *Report) Count(o Outcome) int {
	n := 0
	for i := range r.Results {
		if r.Results[i].Outcome == o {
			n++
		}
	}
	return n
}

// Result returns that of a probe, nil where it was not run.
func (r *Report) Result(name string) *Result {
	for i := range r.Results {
		if r.Results[i].Probe == name {
			return &r.Results[i]
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
