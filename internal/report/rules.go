package report

import "forkproof/internal/finding"

// Rule explains one rule: SARIF carries it as help, docs/rules.md is made of it.
type Rule struct {
	Name finding.Rule
	// Short is a phrase without a full stop.
	Short string
	// Means says what the finding says and what it does not say.
	Means string
	// How says what it is concluded from.
	How string
	// Confidence lists the confidences that it comes with.
	Confidence string
	// Severity is the usual one; a finding may have a lower one.
	Severity finding.Severity
	// Do says what to do, an item each.
	Do []string
}

// remedies that several rules share.
const (
	replaceWorker = "Replace the process now: it cannot recover. With most servers it is enough to kill it (kill -KILL PID), the master then forks another one, which may hang in the same manner."
	afterFork     = "Then remove the cause: start threads, pools and clients in each worker after the fork (gunicorn's post_fork, uWSGI's @postfork, Celery's worker_process_init, Puma's before_worker_boot), or do not load the application before the fork."
)

// Rules returns all rules: those of processes, then those of sources, each worst
// first.
func Rules() []Rule {
	return append([]Rule{
		{
			Name: finding.DeadlockOwnerGone, Severity: finding.Critical, Confidence: "proven",
			Short: "a thread waits for a lock whose recorded owner is no thread of this process",
			Means: "The lock was copied in its locked state by fork, and the thread that held it was not copied. The waiting thread sleeps for ever. Other threads of the process may still run.",
			How:   "Two looks saw the thread asleep in the same system call, on private memory without a time limit. The lock's own owner field names a thread that this process does not have, and that is not the number which the forking thread had in the parent either. No other process shares the memory.",
			Do:    []string{replaceWorker, afterFork},
		},
		{
			Name: finding.DeadlockNobodyLeft, Severity: finding.Critical, Confidence: "proven; observed where a signal handler of the program could still wake it",
			Short: "every thread sleeps until another thread of the same process wakes it",
			Means: "Whatever lock it is, nobody is left to release it. That is what is proven, not who held the lock: where the lock records no owner, the report names the thread of the parent that holds the same lock there now, or lists those that ran at the fork and are missing here, one of which may have held it.",
			How:   "Two looks saw every thread asleep in the same futex call, on private memory without a time limit, and neither processor time nor a context switch in between. No other process shares the memory.",
			Do:    []string{replaceWorker, afterFork},
		},
		{
			Name: finding.DeadlockGILGone, Severity: finding.Critical, Confidence: "proven",
			Short: "Python's interpreter lock is held by a thread that does not exist in this process",
			Means: "No Python code can ever run in this process again. Its threads wake every few milliseconds, see the lock held and sleep again, which is why the process looks alive.",
			How:   "CPython's own state says that the lock is taken and by which thread; that thread is none of this process; the state did not change between two looks, and a thread waits for it.",
			Do:    []string{replaceWorker, "Then see to it that whoever forks holds the interpreter lock and tells the interpreter afterwards: uWSGI needs --py-call-uwsgi-fork-hooks (or lazy-apps) with --enable-threads."},
		},
		{
			Name: finding.DeadlockCycle, Severity: finding.Critical, Confidence: "proven",
			Short: "threads wait for each other's locks in a ring",
			Means: "An ordinary deadlock within one process. It has nothing to do with fork.",
			How:   "Each thread of the ring sleeps, unchanged over two looks, on a lock whose owner field names the next one.",
			Do:    []string{"Replace the process.", "Then let all code take these locks in one order."},
		},
		{
			Name: finding.DeadlockHeldAtFork, Severity: finding.Critical, Confidence: "proven for locks of the C library's own; observed for Python's, which a program may make anew",
			Short: "a thread waits for a lock that a trace saw held at the fork by a thread which is not in this process",
			Means: "The lock records no owner, and other threads of the process may still run. The waiting thread sleeps for ever.",
			How:   "Two looks saw the thread asleep in the same system call, on private memory without a time limit. 'forkproof trace' had read this process's memory before its first instruction and found the lock held, while the thread that forked was in no function of the C library that could have taken it. It is one that only its taker releases and that fork does not make anew.",
			Do:    []string{replaceWorker, afterFork},
		},
		{
			Name: finding.CheckFailed, Severity: finding.Critical, Confidence: "observed",
			Short: "a check failed for a worker that was forked while another thread held a lock",
			Means: "The check passes after an ordinary fork and failed after one that forkproof provoke forced at the worst moment for that lock. The worker is not proven to hang: it may have ended, answered wrongly, or been too slow.",
			How:   "forkproof provoke held the thread that has the lock until the fork was made, saw in the memory of the child that the lock is held there by a thread which the child does not have, let all go on, and ran the check.",
			Do:    []string{"Run the check by hand against the worker, or provoke again with --replay.", afterFork},
		},
		{
			Name: finding.SuspectedSpin, Severity: finding.Warning, Confidence: "observed",
			Short: "a thread makes no progress at one place, without sleeping steadily",
			Means: "It waits for a lock that never sleeps for long (a spinlock), or for other threads of an OpenMP or OpenBLAS team, and who should come did not survive the fork. A wait that merely takes long looks the same, so this is never called proven.",
			How:   "Four samples or more of a worker's thread, some 8 ms apart, found the same frames from the outermost one down to a function that is known to spin, with hardly a register changed, while it used the processor or woke from short sleeps. Whoever could end the wait is not here: no thread of the team (the parent has some), or no other thread that runs in the code which uses the lock. A thread that computes is not reported.",
			Do:    []string{"Look at the stack: if it ends in a spinlock's slow path and stays there, replace the process.", afterFork},
		},
		{
			Name: finding.StuckInFork, Severity: finding.Warning, Confidence: "observed",
			Short: "a thread sleeps inside fork() for longer than handlers take",
			Means: "A fork handler (pthread_atfork, os.register_at_fork) waits for a lock or for the end of a thread, and fork does not return: a master in this state makes no workers. Where nothing can end the wait, this is reported as a deadlock instead.",
			How:   "Two looks saw the thread asleep in a futex without a time limit, its stack leads through fork, and the kernel says that it has not run for a second or longer.",
			Do:    []string{"Look at what the owner of the lock does, and let no fork handler wait for a thread that may itself wait for long."},
		},
		{
			Name: finding.OrphanedLock, Severity: finding.Warning, Confidence: "observed",
			Short: "a lock is held by a thread that did not survive the fork; nobody waits for it yet",
			Means: "The process works, and the first thread that wants this lock will hang, if any ever does.",
			How:   "A lock in the memory of the process names as its owner a thread that this process does not have; or it names nobody, but a thread that the fork did not copy holds the same lock in the parent now, and no thread here uses it. A second look saw the same. What only looks like a lock is left out as far as can be told, which is why this is called observed.",
			Do:    []string{"Restart the worker at a quiet moment.", afterFork},
		},
		{
			Name: finding.VanishedThread, Severity: finding.Info, Confidence: "observed",
			Short: "the parent has threads that its workers lack",
			Means: "fork copies one thread only. Whatever these threads do, nobody does in the workers, and what they hold at the instant of a fork stays locked there. By itself it is no fault.",
			How:   "The start times of the parent's threads are older than those of the workers, and the workers have no such thread.",
			Do:    []string{"See whether a worker needs what the thread does.", afterFork},
		},
		{
			Name: finding.SharedConnection, Severity: finding.Warning, Confidence: "observed",
			Short: "one connection is open in several processes",
			Means: "If two of them use it, their requests mix and answers reach the wrong one. That they use it was not seen; that both could was. A service is named by its port alone.",
			How:   "The same socket is open in each of the processes.",
			Do:    []string{"Open the connection in each worker after the fork, and drop the inherited one without saying good-bye on it (SQLAlchemy: engine.dispose(close=False); Django, Redis and others: connect lazily)."},
		},
		{
			Name: finding.SharedEventQueue, Severity: finding.Warning, Confidence: "observed",
			Short: "one epoll queue, eventfd, timerfd, inotify or io_uring is open in several processes",
			Means: "An event that one process takes never reaches the other, and what one adds or removes changes it for both. Where only one process was seen to use it, the finding is information.",
			How:   "The kernel says that the descriptors are one and the same open queue, and that a process sleeps on it or watches it.",
			Do:    []string{"Make the event loop anew in each worker."},
		},
		{
			Name: finding.SharedFileOffset, Severity: finding.Warning, Confidence: "observed",
			Short: "several processes share the position in one open file",
			Means: "A read, write or seek of one moves the position for all. Files opened for appending are left out.",
			How:   "The kernel says that the descriptors are one and the same open file.",
			Do:    []string{"Open the file in each worker, or use pread and pwrite."},
		},
		{
			Name: finding.ForkWithThreads, Severity: finding.Warning, Confidence: "observed; inferred by lint",
			Short: "a process forks while it has several threads",
			Means: "Each fork may copy a lock in its locked state. It is a hazard, not a hang.",
			How:   "The parent had more than one thread at a fork; or its source starts a thread, and forks then.",
			Do:    []string{afterFork},
		},
		{
			Name: finding.LibcDefect, Severity: finding.Warning, Confidence: "known; inferred where a package may have mended it",
			Short: "this version of the C library has a published defect around fork",
			Means: "The version matches the published range, and the distribution's package is not known to have mended it. Where that cannot be told, the finding says that it may be.",
			How:   "The C library that the process has mapped, or that is installed, its version and package against a table with sources; of some fixes a mark in the file.",
			Do:    []string{"Upgrade the C library, or avoid what the defect is about in workers."},
		},
		{
			Name: finding.LibraryHazard, Severity: finding.Warning, Confidence: "known; inferred where it is only installed, or its version is not known",
			Short: "a library is here that fork harms",
			Means: "The library has locks, threads or connections that a fork does not carry over, and does not repair all of them in the child. One that is only installed, or loaded where the master has neither a second thread nor a connection at the fork, is information.",
			How:   "The files that the process has mapped, what is linked into its program, or the package database and Python's distributions; its version against a table with sources.",
			Do:    []string{"Use it after the fork alone, or do what its entry says: forkproof explain ID, forkproof remedy."},
		},
		{
			Name: finding.ConfigHazard, Severity: finding.Warning, Confidence: "known for a defect of the server's version; else inferred",
			Short: "a setting, or this version of the server, makes forking more dangerous",
			Means: "What the server or its configuration does may leave locks, threads or connections to the workers, or hide that a worker hangs.",
			How:   "The server's version against a table with sources, its arguments, and a reading of its configuration, which is not run.",
			Do:    []string{"Change the setting, or the server's version."},
		},
	}, append(lintRules(), nativeRules()...)...)
}

// rule looks one up.
func rule(n finding.Rule) (Rule, bool) {
	for _, r := range Rules() {
		if r.Name == n {
			return r, true
		}
	}
	return Rule{}, false
}
