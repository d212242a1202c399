package report

import (
	"strings"

	"forkproof/internal/finding"
)

// documents are fixed values that the golden files are made of. Their shapes are
// those of real runs.
func documents() map[string]*finding.Document {
	return map[string]*finding.Document{
		"hung": hung(32, 3), "holds": holdsNow(), "armed": armed(), "owner": ownerKnown(), "mixed": mixed(), "none": none(), "check": checkedImage(), "hostile": hostileNames(), "stress": stressedOnce(), "compared": comparedTwo(),
		"trace": tracedForks(), "lint": lintedProject(), "provoke": provokedLocks(),
	}
}

func base() *finding.Document {
	return &finding.Document{
		Schema: finding.SchemaV1, Command: "inspect", Version: "1.2.3", Time: "2026-11-23T03:12:00Z",
		Host: finding.Host{
			Name: "web3", Kernel: "6.1.0-49-amd64", Arch: "amd64",
			Libc:      &finding.Libc{Family: "glibc", Version: "2.36", Package: "2.36-9+deb12u14", Path: "/lib/x86_64-linux-gnu/libc.so.6"},
			LibcMeans: []string{"no library's locks are repaired"},
		},
	}
}

func python(file string, line int, function string, native int) finding.PythonFrame {
	return finding.PythonFrame{Function: function, File: file, Line: line, Native: native}
}

// refresher is a thread of the master that left a Python lock behind.
func refresher() finding.Owner {
	return finding.Owner{
		PID: 100, TID: 101, Name: "refresher", Alive: true, State: "nanosleep",
		Native: []finding.NativeFrame{{IP: 0x7f01, Function: "clock_nanosleep", Object: "libc.so.6", Offset: 0x65}, {IP: 0x5002, Function: "_PyEval_EvalFrameDefault", Object: "python3.11", Offset: 0x8f0}},
		Python: []finding.PythonFrame{python("/srv/app/held.py", 23, "refresh", 1), python("/usr/lib/python3.11/threading.py", 975, "Thread.run", 1)},
	}
}

// hung is a gunicorn of which all workers but some wait for one Python lock.
func hung(workers, healthy int) *finding.Document {
	doc := base()
	libc := &finding.Libc{Family: "glibc", Version: "2.36", Package: "2.36-9+deb12u14"}
	doc.Targets = append(doc.Targets, finding.Target{
		PID: 100, Role: "master", Server: "gunicorn", Name: "gunicorn", Command: "/usr/bin/python3 /usr/bin/gunicorn --preload -w 32 lock_module:app",
		Exe: "/usr/bin/python3.11", Libc: libc, Python: "3.11.2", Verdict: "healthy",
	})
	for i := range workers {
		pid := 200 + i
		t := finding.Target{PID: pid, Role: "worker", Server: "gunicorn", Parent: 100, Name: "gunicorn", Exe: "/usr/bin/python3.11", Verdict: "healthy"}
		if i >= workers-healthy {
			doc.Targets = append(doc.Targets, t)
			continue
		}
		t.Verdict = "deadlocked"
		t.Threads = []finding.Thread{{
			TID: pid, Name: "gunicorn", State: "futex-wait", Wait: &finding.Wait{Address: 0x1c88c690, Private: true}, SinceSeconds: 74 + float64(i),
			Native: []finding.NativeFrame{
				{IP: 0x7f85f16, Object: "libc.so.6", Offset: 0x85f16},
				{IP: 0x51016f, Function: "PyThread_acquire_lock_timed", Object: "python3.11", Offset: 0x16f},
				{IP: 0x52b9e0, Function: "_PyEval_EvalFrameDefault", Object: "python3.11", Offset: 0x8f0},
				{IP: 0x627bd1, Function: "_start", Object: "python3.11", Offset: 0x21},
			},
			Python: []finding.PythonFrame{
				python("/srv/app/lock_module.py", 13, "touch", 2),
				python("/usr/lib/python3/dist-packages/gunicorn/workers/base.py", 138, "Worker.init_process", 2),
			},
		}}
		doc.Targets = append(doc.Targets, t)
		doc.Findings = append(doc.Findings, finding.Finding{
			Rule: finding.DeadlockNobodyLeft, Severity: finding.Critical, Confidence: finding.Proven, PID: pid, TID: pid, Others: []int{100},
			Lock:  &finding.Lock{Kind: "python-lock", Address: 0x1c88c690, Where: "lock_module.LOCK (_thread.lock)", State: "held", Suspects: []finding.Owner{refresher()}},
			Title: "gunicorn worker " + numbers([]int{pid}) + " is deadlocked: it waits for lock_module.LOCK (_thread.lock)",
			Why:   "The process has one thread, which sleeps until another thread of the same process wakes it, and no other process shares its memory. Nobody is left to do that.",
			Evidence: []string{
				"thread " + numbers([]int{pid}) + " (gunicorn) sleeps in a private futex without a time-out at 0x1c88c690; it did not run between two looks",
			},
			Remedy: []string{"now: kill -KILL " + numbers([]int{pid}) + "; the master forks a new one, which may hang likewise", "start threads in the post_fork hook, or run without --preload"},
		})
	}
	return doc
}

// holdsNow is hung, where a thread of the master was seen to hold the lock there.
func holdsNow() *finding.Document {
	doc := hung(3, 1)
	for i := range doc.Findings {
		l := doc.Findings[i].Lock
		o := refresher()
		o.Basis = finding.HoldsNow
		l.Owner, l.Suspects = &o, nil
		doc.Findings[i].Title += ", which thread refresher (101) of process 100 holds there"
	}
	return doc
}

// armed is a server that works, with a lock that fork left locked.
func armed() *finding.Document {
	doc := holdsNow()
	for i := range doc.Targets {
		doc.Targets[i].Threads = nil
		if doc.Targets[i].Verdict == "deadlocked" {
			doc.Targets[i].Verdict = "armed"
		}
	}
	for i := range doc.Findings {
		f := &doc.Findings[i]
		f.Rule, f.Severity, f.Confidence, f.TID = finding.OrphanedLock, finding.Warning, finding.Observed, 0
		f.Title = "gunicorn worker " + numbers([]int{f.PID}) + " was forked with lock_module.LOCK locked by thread refresher (101) of process 100"
		f.Why, f.Evidence = "The first thread that wants the lock here will wait for ever.", []string{"no thread of the worker is inside of a with statement for it"}
	}
	return doc
}

// ownerKnown is one C program whose lock names its owner.
func ownerKnown() *finding.Document {
	doc := base()
	frames := func(names ...string) (out []finding.NativeFrame) {
		for i, n := range names {
			out = append(out, finding.NativeFrame{IP: finding.Addr(0x401000 + i), Function: n, Object: "zoo", Offset: 0x20})
		}
		return out
	}
	doc.Targets = []finding.Target{{
		PID: 11, NSPID: 2, Role: "process", Name: "zoo", Command: "./zoo stuck", Exe: "/srv/zoo", Verdict: "deadlocked",
		Threads: []finding.Thread{
			{TID: 11, NSTID: 2, Name: "zoo", State: "futex-wait", Native: frames("wait_on_lock", "g(int, char const*)", "main")},
			{TID: 12, Name: "idle", State: "poll", SinceSeconds: 3.25, Native: frames("poll")},
		},
	}}
	doc.Findings = []finding.Finding{{
		Rule: finding.DeadlockOwnerGone, Severity: finding.Critical, Confidence: finding.Proven, PID: 11, TID: 11,
		Lock: &finding.Lock{
			Kind: "pthread_mutex", Address: 0x404040, Where: "zoo`g_lock", State: "held, with waiters", OwnerTID: 9,
			Owner: &finding.Owner{PID: 8, TID: 9, Name: "refresher", Alive: false, Basis: finding.Recorded},
		},
		Title: "process 11 is deadlocked: it waits for zoo`g_lock", Why: "The lock records thread 9 as its owner.", Evidence: []string{"the lock's owner field holds 9"},
		Remedy: []string{"kill the process and start it anew"}, Sources: []string{"fork(2)"},
	}}
	return doc
}

// mixed has what goes beside: suspicion, shared things, what could not be read.
func mixed() *finding.Document {
	doc := base()
	doc.Targets = []finding.Target{
		{PID: 50, Role: "master", Server: "uwsgi", Name: "uwsgi", Command: "uwsgi --ini app.ini", Verdict: "busy"},
		{PID: 51, Role: "worker", Server: "uwsgi", Parent: 50, Name: "uwsgi", Verdict: "suspected", Threads: []finding.Thread{{
			TID: 51, Name: "uwsgi", State: "futex-wait", SinceSeconds: 93784, Native: []finding.NativeFrame{{IP: 0x10, Object: "libc.so.6", Offset: 0x10, Guessed: true}, {IP: 0x20}},
		}}},
		{PID: 52, Role: "worker", Server: "uwsgi", Parent: 50, Verdict: "unreadable", Notes: []string{"process 52 ended while it was looked at"}},
		{PID: 53, Role: "worker", Server: "uwsgi", Parent: 50, Verdict: "unreadable", Notes: []string{"process 53 ended while it was looked at"}},
		{PID: 70, Role: "worker", Server: "php-fpm", Parent: 69, Verdict: "stopped", Notes: []string{"its program was replaced"}},
	}
	doc.Findings = []finding.Finding{
		{
			Rule: finding.DeadlockNobodyLeft, Severity: finding.Critical, Confidence: finding.Observed, PID: 51, TID: 51,
			Lock:  &finding.Lock{Kind: "semaphore", Address: 0x7f00},
			Title: "uwsgi worker 51 sleeps and nothing but a signal can wake it", Why: "Only a signal handler could still end the wait.",
		},
		{
			Rule: finding.SharedConnection, Severity: finding.Warning, Confidence: finding.Observed, PID: 51, Others: []int{52},
			Title: "2 processes share a connection to 10.0.0.5:5432", Why: "fork shares an open connection.", Evidence: []string{"socket 77 is open in 51 and 52"},
			Remedy: []string{"connect in each worker"},
		},
		{
			Rule: "rule-of-tomorrow", Severity: finding.Info, Confidence: finding.Inferred, Title: "something about the machine", Why: "It is so.",
			Remedy: []string{"connect in each worker"},
		},
	}
	doc.Notes = []string{"process 99 was not looked at: permission denied"}
	return doc
}

func none() *finding.Document {
	doc := base()
	doc.Notes = []string{"no pre-fork server is running on this machine"}
	return doc
}

// Things that a target can name itself by.
const (
	escape  = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202etxt.exe\x7f\r\n\tend"
	markup  = `</code><script>alert(1)</script><img src=x onerror="alert(2)">&amp;{{.}}`
	invalid = "bad\xff\xfe\xc3("
)

// hostileNames has foreign text in every field that can hold some.
func hostileNames() *finding.Document {
	doc := base()
	evil := escape + markup + invalid
	long := strings.Repeat("long", 4000)
	doc.Host.Name = evil
	o := finding.Owner{PID: 1, TID: 2, Name: evil, Alive: true, State: evil, Native: []finding.NativeFrame{{Function: evil, Object: evil}}, Python: []finding.PythonFrame{python(evil, 1, evil, -1)}}
	doc.Targets = []finding.Target{{
		PID: 7, Role: evil, Server: evil, Name: evil, Command: evil + long, Exe: "/" + evil, Python: evil, Verdict: evil, Notes: []string{evil},
		Libc:    &finding.Libc{Family: evil, Version: evil, Package: evil},
		Threads: []finding.Thread{{TID: 7, Name: evil, State: evil, Native: o.Native, Python: []finding.PythonFrame{python("/"+evil, 3, long, 0)}}},
	}}
	doc.Findings = []finding.Finding{{
		Rule: finding.DeadlockNobodyLeft, Severity: finding.Critical, Confidence: finding.Proven, PID: 7, TID: 7,
		Lock:  &finding.Lock{Kind: evil, Where: evil, State: evil, Owner: &o, Suspects: []finding.Owner{o}},
		Title: evil + long, Why: evil, Evidence: []string{evil}, Remedy: []string{evil, long}, Sources: []string{evil},
	}}
	doc.Notes = []string{evil}
	// No such document is ever made; it has them so that each field is shown.
	doc.Trials = []finding.Trial{{Command: evil + long, Server: evil, Reload: evil, Locks: []finding.TrialLock{{Rule: finding.DeadlockNobodyLeft, Kind: evil, Where: evil, Count: 1}}}}
	return doc
}

// stressedOnce is a server of which some forks hung.
func stressedOnce() *finding.Document {
	doc := ownerKnown()
	doc.Command = "stress"
	doc.Findings[0].Evidence = append(doc.Findings[0].Evidence, "12 of 400 forks hung so")
	doc.Trials = []finding.Trial{{
		Command: "gunicorn --preload -w 4 app:app", Server: "gunicorn", Reload: "SIGHUP", Starts: 1, Seconds: 61.25,
		Forks: 400, Exact: true, Execs: 3, Hung: 13, Low: 0.01741, High: 0.05491, First: 17, Suspected: 1,
		Ended: 396, Killed: 2, FailedAtBoot: 1, Requests: 15321, Failed: 4,
		LatencyMS: &finding.Latencies{P50: 2.1, P90: 3.45, P99: 12.3, Max: 2001.5},
		Locks: []finding.TrialLock{
			{Rule: finding.DeadlockOwnerGone, Kind: "pthread_mutex", Where: "zoo`g_lock", Count: 12},
			{Rule: finding.DeadlockNobodyLeft, Kind: "python-lock", Count: 1},
		},
	}}
	return doc
}

// comparedTwo is a program before and after a mend, on a machine that tells no
// events.
func comparedTwo() *finding.Document {
	doc := base()
	doc.Command = "stress"
	doc.Trials = []finding.Trial{
		{Command: "./before", Starts: 9, Seconds: 12, Forks: 500, Hung: 9, Low: 0.00826, High: 0.03389, First: 40, Failures: 1,
			Locks: []finding.TrialLock{{Rule: finding.DeadlockNobodyLeft, Kind: "libc-internal", Where: "glibc's time zone lock", Count: 9}}},
		{Command: "./after", Starts: 1, Seconds: 10, Forks: 500, High: 0.00735, Below: 0.00597},
	}
	doc.Comparison = &finding.Comparison{P: 0.0037, Difference: -0.018, Low: -0.0337, High: -0.0071, Verdict: "less"}
	doc.Notes = []string{"short-lived children may have been missed"}
	return doc
}

// lintedProject is a project with three findings in its source.
func lintedProject() *finding.Document {
	return &finding.Document{
		Schema: finding.SchemaV1, Command: "lint", Version: "1.2.3", Host: finding.Host{Arch: "amd64"},
		Targets: []finding.Target{{Role: "server", Server: "gunicorn", Name: "gunicorn (Procfile:1)", Command: "app:create_app()", Verdict: "hazards",
			Answers: []finding.Answer{{Question: "Is the application loaded before the fork?", Short: "yes", Says: []string{"Procfile:1"}}}}},
		Findings: []finding.Finding{
			{Rule: finding.ThreadBeforeFork, Severity: finding.Warning, Confidence: finding.Inferred, Title: "a thread is started before the fork", Why: "The thread exists in the master alone.",
				Place: &finding.Place{File: "app/jobs.py", Line: 12, Column: 5, EndLine: 12, EndColumn: 14}, Evidence: []string{"gunicorn calls create_app() of app", "app/__init__.py:9: calls start()"},
				Remedy: []string{"Start it in each worker."}, Sources: []string{"https://docs.python.org/3/library/os.html#os.fork"}},
			{Rule: finding.ThreadBeforeFork, Severity: finding.Warning, Confidence: finding.Inferred, Title: "a thread is started before the fork", Why: "The thread exists in the master alone.",
				Place: &finding.Place{File: "app/a b\x1b[31m.py", Line: 3, Column: 1}, Remedy: []string{"Start it in each worker."}},
			{Rule: finding.ClientBeforeFork, Severity: finding.Info, Confidence: finding.Inferred, Title: "an HTTP session is made before the fork (it is not in use there yet)", Why: "It connects on first use.",
				Place: &finding.Place{File: "app/web.py", Line: 2}, Fact: "boto3"},
		},
		Notes: []string{"looked at 3 files of Python with 40 lines, and 1 configurations"},
	}
}

// provokedLocks is what provoke found of a program, one lock for each outcome.
func provokedLocks() *finding.Document {
	doc := base()
	doc.Command, doc.Host.Libc, doc.Host.LibcMeans = "provoke", nil, nil
	native := []finding.NativeFrame{{IP: 0x7f01, Function: "pthread_mutex_lock", Object: "libc.so.6"}, {IP: 0x5002, Function: "refresh", Object: "libfoo.so", Offset: 0x10}}
	lock := func(name string, o finding.ProvokedOutcome, detail string, forced bool) finding.ProvokedLock {
		l := finding.ProvokedLock{ID: "pthread_mutex:" + name, Name: name, Kind: "pthread_mutex", Threads: []string{"refresher"}, Outcome: o, Detail: detail, Forced: forced, Tries: 1, Seconds: 0.25, Native: native}
		if forced {
			l.Holder, l.HolderAt, l.Worker = "refresher", "lock taken", 207
		}
		return l
	}
	doc.Provoked = &finding.Provoked{
		Forks: "by SIGTTIN to its master (gunicorn)", Seed: 1, Plain: finding.PlainFork{Outcome: finding.ProvokedHealthy, Detail: "the check passed"},
		Locks: []finding.ProvokedLock{
			lock("libfoo.so`g_lock", finding.ProvokedDeadlock, "", true),
			lock("app.LOCK", finding.ProvokedCheckFailed, "the check ended with status 28", true),
			lock("app.CACHE.guard", finding.ProvokedHidden, "the worker hangs on another lock before it comes to this one: app.LOCK", true),
			lock("\x1b[31mapp.<b>RARE", finding.ProvokedNotReached, "no thread took it within 4s", false),
			lock("app.SAFE", finding.ProvokedHealthy, "the check passed", true),
			lock("glibc's main malloc arena (main_arena)", finding.ProvokedReset, "glibc: fork takes it and gives it back in both processes", false),
			lock("app.GUARDED", finding.ProvokedGuarded, "fork itself waits until it is free", false),
		},
		Exercised: 5, Deadlocked: 1,
	}
	doc.Targets = []finding.Target{{PID: 208, Role: "worker", Server: "gunicorn", Parent: 100, Name: "gunicorn", Exe: "/usr/bin/python3.11", Verdict: "healthy"}}
	doc.Findings = []finding.Finding{{
		Rule: finding.CheckFailed, Severity: finding.Critical, Confidence: finding.Observed, PID: 208,
		Lock:     &finding.Lock{Kind: "pthread_mutex", Address: 0x5581, Where: "app.LOCK"},
		Title:    "the check fails for a worker that was forked while another thread held app.LOCK",
		Why:      "The same check passes for a worker that is forked at another moment: the check ended with status 28.",
		Evidence: []string{"process 208 was forked while thread refresher (101) held app.LOCK"},
	}}
	return doc
}
