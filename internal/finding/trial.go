package finding

// Trial is what the command stress saw of one command line or server: chance,
// as a number, and the symptoms of forks that went wrong.
type Trial struct {
	// Command is what was run, as one line; or the server that was there.
	Command string `json:"command"`
	// Server is the recognised server, empty for a program that is none.
	Server string `json:"server,omitempty"`
	// Reload says how the server was made to fork, empty where it was not.
	Reload string `json:"reload,omitempty"`
	// Starts is how often the command was started, 0 for a server that was there.
	Starts  int     `json:"starts"`
	Seconds float64 `json:"seconds"`

	// Forks are the forks seen that did not go on to execve, and attempts that
	// hung inside fork itself.
	Forks int `json:"forks"`
	// Exact: no fork was missed. Else short-lived children may have been.
	Exact bool `json:"exact"`
	// Execs are the forks whose child went on to another program: they copy no
	// lock that matters, and are not among Forks.
	Execs int `json:"execs"`
	// Hung are the forks of which the child, or for InFork the parent, was
	// proven to be deadlocked.
	Hung   int `json:"hung"`
	InFork int `json:"in_fork,omitempty"`
	// Low and High are the ends of the exact 95 % interval of the chance that a
	// fork hangs.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Below is the chance that is, with 95 % confidence, not reached where none hung (the
	// rule of three); 0 where some did, or where nothing was forked.
	Below float64 `json:"below,omitempty"`
	// First is which of the forks was the first to hang, counted from 1; 0 for
	// none.
	First int `json:"first,omitempty"`
	// Failures are runs of a program that ended with an error.
	Failures int `json:"failures"`
	// Suspected are processes that stood still until the time-out without a proof.
	Suspected int `json:"suspected"`

	// Ended are the forked processes that ended, Killed those of them that a
	// signal ABRT or KILL ended which forkproof did not send: a server's own time-out as a
	// rule. FailedAtBoot ended in their first seconds with an error.
	// These are not known where Exact is false.
	Ended        int `json:"ended"`
	Killed       int `json:"killed"`
	FailedAtBoot int `json:"failed_at_boot"`

	// Requests were sent by forkproof's own load; Failed were not answered in
	// time, or with a status of 500 or more. LatencyMS are the times of the others.
	Requests  int        `json:"requests"`
	Failed    int        `json:"failed"`
	LatencyMS *Latencies `json:"latency_ms,omitempty"`

	// Locks are what the hung ones waited for, the most frequent first.
	Locks []TrialLock `json:"locks,omitempty"`
}

// Latencies are times in milliseconds: of so many in a hundred requests none took longer.
type Latencies struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// TrialLock is a lock that forks hung on.
type TrialLock struct {
	Rule  Rule   `json:"rule"`
	Kind  string `json:"kind"`
	Where string `json:"where,omitempty"`
	Count int    `json:"count"`
}

// Comparison says whether the second of two trials differs from the first.
type Comparison struct {
	// P is of Fisher's exact test, two-sided: how often chance alone makes such
	// a difference.
	P float64 `json:"p"`
	// Difference is how much more often the second hangs, from -1 to 1, Low and
	// High its 95 % interval.
	Difference float64 `json:"difference"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	// Verdict is less, more, or undecided.
	Verdict string `json:"verdict"`
}
