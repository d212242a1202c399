// Package finding holds the words of forkproof: rules, severities, confidences
// and the document that every job produces and every report renders. It is the
// lowest room: it imports nothing of the project.
package finding

import "fmt"

// Rule is the stable name of one kind of finding. Names are never changed:
// people filter by them.
type Rule string

// The rules. Each is documented in docs/rules.md.
const (
	DeadlockNobodyLeft Rule = "deadlock-nobody-left"
	DeadlockOwnerGone  Rule = "deadlock-owner-gone"
	DeadlockCycle      Rule = "deadlock-cycle"
	DeadlockGILGone    Rule = "deadlock-gil-gone"
	DeadlockHeldAtFork Rule = "deadlock-held-at-fork"
	CheckFailed        Rule = "check-failed"
	SuspectedSpin      Rule = "suspected-spin"
	StuckInFork        Rule = "stuck-in-fork"
	OrphanedLock       Rule = "orphaned-lock"
	VanishedThread     Rule = "vanished-thread"
	SharedConnection   Rule = "shared-connection"
	SharedEventQueue   Rule = "shared-event-queue"
	SharedFileOffset   Rule = "shared-file-offset"
	ForkWithThreads    Rule = "fork-with-threads"
	LibcDefect         Rule = "libc-defect"
	LibraryHazard      Rule = "library-hazard"
	ConfigHazard       Rule = "config-hazard"
	ThreadBeforeFork   Rule = "thread-before-fork"
	ClientBeforeFork   Rule = "client-before-fork"
	LockBeforeFork     Rule = "lock-before-fork"
	LoopBeforeFork     Rule = "loop-before-fork"
	AgentBeforeFork    Rule = "agent-before-fork"
	ComputeBeforeFork  Rule = "compute-before-fork"
	RandomBeforeFork   Rule = "random-before-fork"
	HookUsesInherited  Rule = "hook-uses-inherited"
	MissingHook        Rule = "missing-hook"
	LateEnvironment    Rule = "late-environment"
	ForkWithoutExec    Rule = "fork-without-exec"
	UnreadableSource   Rule = "unreadable-source"
	Suppression        Rule = "suppression"
	AtforkUnsafeCall   Rule = "atfork-unsafe-call"
	AtforkReentry      Rule = "atfork-reentry"
	AtforkLockLeft     Rule = "atfork-lock-left"
	LibraryNoAtfork    Rule = "library-without-atfork"
)

// Rules returns all rules, in no order that means anything.
func Rules() []Rule {
	return []Rule{
		DeadlockNobodyLeft, DeadlockOwnerGone, DeadlockCycle, DeadlockGILGone, SuspectedSpin, StuckInFork, OrphanedLock, VanishedThread, SharedConnection, SharedEventQueue,
		SharedFileOffset, ForkWithThreads, LibcDefect, LibraryHazard, ConfigHazard, ThreadBeforeFork, ClientBeforeFork, LockBeforeFork, LoopBeforeFork, AgentBeforeFork,
		ComputeBeforeFork, RandomBeforeFork, HookUsesInherited, MissingHook, LateEnvironment, ForkWithoutExec, UnreadableSource, Suppression,
		AtforkUnsafeCall, AtforkReentry, AtforkLockLeft, LibraryNoAtfork,
	}
}

// Severity says how much a finding matters. The order is that of the numbers:
// a larger one is worse.
type Severity int

// Severities, least first.
const (
	Info Severity = iota
	Warning
	Critical
)

var severityNames = [...]string{"info", "warning", "critical"}

func (s Severity) String() string {
	if s < 0 || int(s) >= len(severityNames) {
		return fmt.Sprintf("severity(%d)", int(s))
	}
	return severityNames[s]
}

// MarshalText implements encoding.TextMarshaler.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Severity) UnmarshalText(text []byte) error {
	for i, n := range severityNames {
		if n == string(text) {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("severity %q is not one of info, warning, critical", text)
}

// Confidence says what carries a finding. The order is that of the numbers: a
// larger one is stronger. Never print a stronger word than the evidence carries.
type Confidence int

// Confidences, weakest first.
const (
	// Inferred: static or heuristic.
	Inferred Confidence = iota
	// Known: a published defect matches this version.
	Known
	// Observed: the state was seen, its effect not yet.
	Observed
	// Proven: it follows from what was read that no thread left can ever
	// release the lock.
	Proven
)

var confidenceNames = [...]string{"inferred", "known", "observed", "proven"}

func (c Confidence) String() string {
	if c < 0 || int(c) >= len(confidenceNames) {
		return fmt.Sprintf("confidence(%d)", int(c))
	}
	return confidenceNames[c]
}

// MarshalText implements encoding.TextMarshaler.
func (c Confidence) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Confidence) UnmarshalText(text []byte) error {
	for i, n := range confidenceNames {
		if n == string(text) {
			*c = Confidence(i)
			return nil
		}
	}
	return fmt.Errorf("confidence %q is not one of inferred, known, observed, proven", text)
}

// Addr is an address in the memory of a target. It is written as hexadecimal
// text, since JSON numbers lose bits beyond 2^53.
type Addr uint64

func (a Addr) String() string { return fmt.Sprintf("0x%x", uint64(a)) }

// MarshalText implements encoding.TextMarshaler.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Addr) UnmarshalText(text []byte) error {
	var v uint64
	if _, err := fmt.Sscanf(string(text), "0x%x", &v); err != nil {
		return fmt.Errorf("address %q is not of the form 0x1f: %w", text, err)
	}
	*a = Addr(v)
	return nil
}

// Finding is one thing that forkproof says about one subject.
type Finding struct {
	Rule       Rule       `json:"rule"`
	Severity   Severity   `json:"severity"`
	Confidence Confidence `json:"confidence"`
	// PID is the process that the finding is about, in forkproof's own PID
	// namespace; 0 for the machine as a whole.
	PID int `json:"pid,omitempty"`
	// TID is the thread that waits, 0 where the finding is about no thread.
	TID  int   `json:"tid,omitempty"`
	Lock *Lock `json:"lock,omitempty"`
	// Place is where in a source file the finding is; nil where it is about a
	// process.
	Place *Place `json:"place,omitempty"`
	// Fact is the id of the published defect or hazard behind the finding, which
	// forkproof explain takes; empty where there is none.
	Fact string `json:"fact,omitempty"`
	// Others are the other processes that the finding involves: those that
	// share a connection, the master whose threads vanished.
	Others []int `json:"others,omitempty"`
	// Title is one line without a full stop.
	Title string `json:"title"`
	// Why says in a sentence or two what follows from the evidence.
	Why string `json:"why"`
	// Evidence lists what was read, each a line.
	Evidence []string `json:"evidence,omitempty"`
	// Remedy lists what the person on call, or the author of the code, can do.
	Remedy []string `json:"remedy,omitempty"`
	// Sources are public documents, bug ids or commits behind the finding.
	Sources []string `json:"sources,omitempty"`
}

// Place is a part of a source file. Lines and columns count from 1, columns in
// characters; the end is exclusive.
type Place struct {
	// File is a path as it was given or found, with "/" between its parts.
	File string `json:"file"`
	Line int    `json:"line"`
	// Column, EndLine and EndColumn are 0 where they are not known.
	Column    int `json:"column,omitempty"`
	EndLine   int `json:"end_line,omitempty"`
	EndColumn int `json:"end_column,omitempty"`
}

// Lock is a lock in a target's memory, named as well as it can be.
type Lock struct {
	// Kind is a term of the field: pthread_mutex, pthread_rwlock, stdio,
	// libc-internal, semaphore, condition-variable, barrier, thread-join
	// (the end of a thread), pthread-once, python-lock, python-rlock,
	// python-buffered, python-import, python-queue, python-event,
	// python-internal, gil, openmp-barrier, spin-lock, futex.
	Kind    string `json:"kind"`
	Address Addr   `json:"address"`
	// Where names the lock: libfoo.so`g_lock, "app.refresh_lock", glibc's time
	// zone lock, or mapping and offset.
	Where string `json:"where,omitempty"`
	// State is the lock word in the field's words, for example "held, with waiters".
	State string `json:"state,omitempty"`
	// OwnerTID is the thread id that the lock records (for thread-join the one
	// whose end is waited for), as the target's own PID
	// namespace counts it; 0 where the lock records none.
	OwnerTID int    `json:"owner_tid,omitempty"`
	Owner    *Owner `json:"owner,omitempty"`
	// Suspects are, for a lock that records no owner, the threads of the parent
	// that ran at the fork and are not in the target: one of them may have left
	// the lock behind.
	Suspects []Owner `json:"suspects,omitempty"`
}

// Owner is the thread that left a lock behind, looked up in the process that
// the target was forked from.
type Owner struct {
	PID   int    `json:"pid"`
	TID   int    `json:"tid"`
	Name  string `json:"name,omitempty"`
	Alive bool   `json:"alive"`
	// Basis is what tells that this is the owner; empty for a suspect.
	Basis Basis `json:"basis,omitempty"`
	// State is what the thread does in the master now, as Thread.State.
	State  string        `json:"state,omitempty"`
	Native []NativeFrame `json:"native,omitempty"`
	Python []PythonFrame `json:"python,omitempty"`
}

// Basis says how an owner is known.
type Basis string

// The bases, strongest first.
const (
	// Recorded: the lock itself names the thread.
	Recorded Basis = "recorded"
	// HoldsNow: the lock names nobody; the thread holds the same lock in the
	// master now, and was there at the fork.
	HoldsNow Basis = "holds-now"
	// HeldThen: the lock names nobody; the thread held it at the fork, as the
	// child's memory before its first instruction tells.
	HeldThen Basis = "held-then"
)

// NativeFrame is one machine-level stack frame, innermost first in its list.
type NativeFrame struct {
	IP Addr `json:"ip"`
	// Function is the demangled name, empty where no symbol covers IP.
	Function string `json:"function,omitempty"`
	// Object is the base name of the mapped file, "[vdso]", or empty.
	Object string `json:"object,omitempty"`
	// Offset is IP's distance from the start of Function, or, where Function is
	// empty, the address within Object as its own file counts it.
	Offset uint64 `json:"offset"`
	// Guessed marks a frame found by searching the stack for a return address
	// where no unwind information led to it.
	Guessed bool `json:"guessed,omitempty"`
}

// PythonFrame is one frame of the Python interpreter, innermost first in its list.
type PythonFrame struct {
	Function string `json:"function"`
	File     string `json:"file"`
	// Line is 1 or more, 0 where it could not be read.
	Line int `json:"line"`
	// Native is the index in the thread's native list of the interpreter frame
	// that runs this Python frame, -1 where it is not known.
	Native int `json:"native"`
}

// Wait says what a sleeping thread waits on.
type Wait struct {
	// Address is the futex word.
	Address Addr `json:"address"`
	// Private: only threads that share this memory could wake it.
	Private bool `json:"private"`
	// Timeout: the wait ends by itself.
	Timeout bool `json:"timeout"`
	// Value is what the thread saw in the word when it went to sleep.
	Value uint32 `json:"value"`
}

// Thread is one thread of a target.
type Thread struct {
	TID int `json:"tid"`
	// NSTID is the thread's id in its own PID namespace, where that differs.
	NSTID int    `json:"ns_tid,omitempty"`
	Name  string `json:"name"`
	// State is running, sleeping, futex-wait, poll, accept, read, nanosleep,
	// stopped, traced, uninterruptible, zombie, or the name of the system call.
	State string `json:"state"`
	Wait  *Wait  `json:"wait,omitempty"`
	// SinceSeconds is how long the thread has not run, 0 where unknown.
	SinceSeconds float64       `json:"since_seconds,omitempty"`
	Native       []NativeFrame `json:"native,omitempty"`
	Python       []PythonFrame `json:"python,omitempty"`
}

// Libc identifies the C library that a target has mapped.
type Libc struct {
	// Family is glibc, musl, bionic, uclibc, none (a static program without a
	// known libc) or unknown.
	Family  string `json:"family"`
	Version string `json:"version,omitempty"`
	// Package is the distribution's package version, as the library's own
	// banner or the package database tells.
	Package string `json:"package,omitempty"`
	BuildID string `json:"build_id,omitempty"`
	Path    string `json:"path,omitempty"`
}

// Target is one process that was looked at.
type Target struct {
	PID int `json:"pid"`
	// NSPID is the PID in the process's own namespace, where that differs.
	NSPID int `json:"ns_pid,omitempty"`
	// Role is master, worker or process.
	Role string `json:"role"`
	// Server is the recognised server, "pre-fork server" for a generic one,
	// empty for a process that is none.
	Server string `json:"server,omitempty"`
	// Parent is the process that the target was forked from, 0 where unknown.
	Parent  int    `json:"parent,omitempty"`
	Name    string `json:"name,omitempty"`
	Command string `json:"command,omitempty"`
	Exe     string `json:"exe,omitempty"`
	Libc    *Libc  `json:"libc,omitempty"`
	// Python is the interpreter's version, for example 3.11.2.
	Python  string   `json:"python,omitempty"`
	Threads []Thread `json:"threads,omitempty"`
	// Verdict is deadlocked, suspected, armed (nothing hangs yet, but a lock was
	// left locked by the fork), healthy, busy, stopped or unreadable. Of the
	// command check it is unsafe, hazards, clear or unknown.
	Verdict string `json:"verdict"`
	// Libraries are those that fork may harm; of the command check alone.
	Libraries []Library `json:"libraries,omitempty"`
	// Answers are what a person asks, answered; of the command check alone.
	Answers []Answer `json:"answers,omitempty"`
	// Notes say what could not be read, and what to do about it.
	Notes []string `json:"notes,omitempty"`
}

// Library is a library of a target that fork may harm.
type Library struct {
	// ID is what forkproof explain takes.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Version is the upstream version, empty where it could not be told.
	Version string `json:"version,omitempty"`
	// Loaded: it is in the memory of the process. One that is only installed may
	// never be loaded.
	Loaded bool `json:"loaded"`
	// Where is the file, package or symbol that tells.
	Where string `json:"where"`
}

// Answer is a question that people ask, with its answer.
type Answer struct {
	Question string `json:"question"`
	// Short is the answer in a word or two: "yes", "no", "only without threads".
	Short string `json:"short"`
	// Says are the reasons, a line each.
	Says []string `json:"says,omitempty"`
	// Code is a configuration to copy, empty for most answers.
	Code string `json:"code,omitempty"`
}

// Host is the machine that forkproof ran on.
type Host struct {
	Name   string `json:"name,omitempty"`
	Kernel string `json:"kernel,omitempty"`
	Arch   string `json:"arch"`
	Libc   *Libc  `json:"libc,omitempty"`
	// LibcMeans says what this libc implies for pre-fork servers, a line each.
	LibcMeans []string `json:"libc_means,omitempty"`
}

// SchemaV1 is the value of Document.Schema.
const SchemaV1 = "forkproof/v1"

// Document is what a job produces: the same for every command, rendered by
// package report.
type Document struct {
	Schema  string `json:"schema"`
	Command string `json:"command"`
	Version string `json:"version"`
	// Time is when the job began, RFC 3339 in UTC; empty in golden tests.
	Time     string    `json:"time,omitempty"`
	Host     Host      `json:"host"`
	Targets  []Target  `json:"targets"`
	Findings []Finding `json:"findings"`
	// Trials, and for two of them Comparison, are of the command stress alone.
	Trials     []Trial     `json:"trials,omitempty"`
	Comparison *Comparison `json:"comparison,omitempty"`
	// Forks are the places that made processes, of the command trace alone.
	Forks []ForkSite `json:"forks,omitempty"`
	// Provoked is there for the command provoke alone.
	Provoked *Provoked `json:"provoked,omitempty"`
	// Notes say what could not be looked at as a whole.
	Notes []string `json:"notes,omitempty"`
}

// Worst returns the highest severity among the findings; ok is false where
// there are none.
func (d *Document) Worst() (worst Severity, ok bool) {
	for i := range d.Findings {
		if !ok || d.Findings[i].Severity > worst {
			worst, ok = d.Findings[i].Severity, true
		}
	}
	return worst, ok
}
