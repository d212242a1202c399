package report

import "forkproof/internal/finding"

// readOnly is how lint knows what it says of Python.
const readOnly = "The source was followed from the application's entry as Python would run it in the master: modules as they are imported, functions as they are called, up to the fork and then through the workers' hooks. Nothing was executed; what a variable holds is known only where it is plain."

// inWorker is what to do about most of them.
const inWorker = "Do it in each worker after the fork (gunicorn's post_fork, uWSGI's @postfork, Celery's worker_process_init), or on first use."

// lintRules are the rules of the command lint.
func lintRules() []Rule {
	return []Rule{
		{
			Name: finding.LockBeforeFork, Severity: finding.Critical, Confidence: "inferred",
			Short: "a lock is held at the fork",
			Means: "Every worker gets a copy that is locked. Only the thread that forks exists there, so that whoever else was to release it never will.",
			How:   readOnly, Do: []string{"Release it before the fork, or make it anew in each worker (os.register_at_fork)."},
		},
		{
			Name: finding.ComputeBeforeFork, Severity: finding.Critical, Confidence: "inferred",
			Short: "a library computes with threads before the fork",
			Means: "Its pool of threads exists in the master alone. With libgomp the first parallel region of a worker waits for them for ever; a context of a GPU cannot be used in a worker at all. Where the usual build is safe it is information.",
			How:   readOnly, Do: []string{"Load models before the fork if memory is to be shared, but compute in the workers alone.", "Or let it have one thread: OMP_NUM_THREADS=1 in the environment of the server."},
		},
		{
			Name: finding.ThreadBeforeFork, Severity: finding.Warning, Confidence: "inferred",
			Short: "a thread, pool or scheduler is started before the fork",
			Means: "It exists in the master alone: no worker does its work, and what it holds at a fork stays locked in the worker.",
			How:   readOnly, Do: []string{inWorker, "Or leave the application to be loaded in the workers: without --preload, with lazy-apps."},
		},
		{
			Name: finding.ClientBeforeFork, Severity: finding.Warning, Confidence: "inferred",
			Short: "a connection or client is made before the fork",
			Means: "All workers have the same sockets: if two use one, requests and answers mix. One that is made and opens nothing before it is used is information.",
			How:   readOnly, Do: []string{inWorker, "Drop what was inherited without closing it (SQLAlchemy: engine.dispose(close=False))."},
		},
		{
			Name: finding.LoopBeforeFork, Severity: finding.Warning, Confidence: "inferred",
			Short: "an event loop is made before the fork",
			Means: "Its epoll queue and wake-up sockets are shared by the master and all workers: an event that one takes never reaches the other.",
			How:   readOnly, Do: []string{"Make the loop in each worker; for a single call before the fork use asyncio.run, which closes its loop."},
		},
		{
			Name: finding.AgentBeforeFork, Severity: finding.Warning, Confidence: "inferred",
			Short: "a tracing or error agent is started before the fork",
			Means: "Agents send from a thread of their own, which workers lack unless the agent starts it anew. Of those that do so it is information.",
			How:   readOnly, Do: []string{inWorker},
		},
		{
			Name: finding.HookUsesInherited, Severity: finding.Warning, Confidence: "inferred",
			Short: "a hook of a worker uses what the master made",
			Means: "It runs in every worker, on the same connection, pool or loop: what was to be made anew there is used instead.",
			How:   readOnly, Do: []string{"Drop it in the hook first, and make it anew."},
		},
		{
			Name: finding.LateEnvironment, Severity: finding.Warning, Confidence: "inferred",
			Short: "an environment variable is set after the library that reads it was loaded",
			Means: "The library read it once, as it was loaded, so that setting it now changes nothing: os.environ['OMP_NUM_THREADS'] in post_fork of an application that was preloaded.",
			How:   readOnly, Do: []string{"Set it in the environment of the server, or before the first import of the library."},
		},
		{
			Name: finding.RandomBeforeFork, Severity: finding.Info, Confidence: "inferred",
			Short: "a random generator is used or seeded before the fork",
			Means: "Its state is copied: all workers draw the same numbers.",
			How:   readOnly, Do: []string{"Seed it in each worker, or make a generator there."},
		},
		{
			Name: finding.MissingHook, Severity: finding.Info, Confidence: "inferred",
			Short: "the application is loaded before the fork, and no hook makes anything anew in the workers",
			Means: "What the findings named in it are about could be mended by one hook, and there is none.",
			How:   "The configuration or command line loads the application before the fork; neither it nor the application has a hook that runs in workers.",
			Do:    []string{"Write one: forkproof remedy --server gunicorn has a beginning."},
		},
		{
			Name: finding.ForkWithoutExec, Severity: finding.Info, Confidence: "inferred",
			Short: "os.fork is called, and no exec follows",
			Means: "If another thread runs at that moment, what it holds stays locked in the child. No thread was seen to run then; where one was, the finding is fork-with-threads.",
			How:   "A call of os.fork, os.forkpty or pty.fork in a function that calls no exec. Functions that become a daemon (os.setsid) are left out.",
			Do:    []string{"Fork before the first thread starts, or start a program with subprocess."},
		},
		{
			Name: finding.UnreadableSource, Severity: finding.Warning, Confidence: "inferred",
			Short: "a statement or file could not be read",
			Means: "It was left out, and nothing is known of what it does. What follows it was read.",
			How:   "The grammar of Python through 3.14, and the encoding that the file names; of a program or library, tables that contradict one another or the file's size.", Do: []string{"Mend it, or leave the file out."},
		},
		{
			Name: finding.Suppression, Severity: finding.Warning, Confidence: "inferred",
			Short: "a comment that ignores findings is of no use, or gives no reason",
			Means: "\"# forkproof: ignore[rule] reason\" leaves findings of its line out, or of the next one where it stands alone. Without a rule it is not heeded; one that matches nothing is information.",
			How:   "The comments of the files that were looked at.", Do: []string{"Name the rule and the reason, or delete the comment."},
		},
	}
}
