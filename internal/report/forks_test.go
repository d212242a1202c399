package report

import (
	"testing"

	"forkproof/internal/finding"
)

// tracedForks is a gunicorn that forked workers while a thread held locks, and
// executed a program twice.
func tracedForks() *finding.Document {
	doc := base()
	doc.Command, doc.Host.Libc, doc.Host.LibcMeans = "trace", nil, nil
	owner := refresher()
	owner.Basis, owner.State = finding.HeldThen, "clock_nanosleep"
	lock := finding.Lock{Kind: "python-lock", Address: 0x1c88c690, Where: "app.LOCK", State: "held, refresh at /srv/app/held.py:23 is inside of a with statement for it", OwnerTID: 101, Owner: &owner}
	zone := finding.Lock{Kind: "libc-internal", Address: 0x7f001d48, Where: "glibc's time zone lock (tzset_lock)", State: "held"}
	stdout := finding.Lock{Kind: "libc-internal", Address: 0x7f001d90, Where: "glibc's lock of stdout (_IO_stdfile_1_lock)", State: "held"}
	mine := finding.Lock{Kind: "python-rlock", Address: 0x1c88d000, Where: "app.forking", State: "held"}
	doc.Targets = []finding.Target{
		{PID: 100, Role: "process", Name: "gunicorn", Command: "gunicorn --preload app:app", Verdict: "traced"},
		{PID: 205, Role: "process", Name: "gunicorn", Parent: 100, Verdict: "traced", Notes: []string{"it ended with status 3"}},
	}
	doc.Forks = []finding.ForkSite{
		{
			PID: 100, Call: "fork", Count: 3, Children: []int{203, 204, 205},
			Native: []finding.NativeFrame{{IP: 0x7f10, Function: "_Fork", Object: "libc.so.6", Offset: 0x23}, {IP: 0x5002, Function: "_PyEval_EvalFrameDefault", Object: "python3.11", Offset: 0x8f0}},
			Python: []finding.PythonFrame{python("/srv/arbiter.py", 589, "spawn_worker", 1)},
			Calls:  []string{"set_robust_list", "gettid", "openat", "openat", "openat", "close"},
			Threads: []finding.ForkThread{
				{Thread: finding.Thread{TID: 101, Name: "refresher", State: "clock_nanosleep", Native: owner.Native, Python: owner.Python}},
				{Thread: finding.Thread{TID: 102, Name: "\x1b[31mred", State: "running", Native: owner.Native[:1]}, Moved: true},
			},
			Locks: []finding.HeldLock{{Lock: lock, Forks: 3}, {Lock: zone, Forks: 1}, {Lock: stdout, Forks: 2, Reset: true}, {Lock: mine, Forks: 3, Survivor: true}},
			Handlers: []finding.ForkHandler{
				{Prepare: "blas_thread_shutdown_", Library: "/usr/lib/x86_64-linux-gnu/libopenblas.so.0"},
				{Prepare: "prefork", Parent: "postfork", Child: "postfork_child", Library: "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"},
			},
			MedianMicros: 210, MaxMicros: 1800, ChildMedianMicros: 6400, ChildMaxMicros: 20100,
			LeftOut: []string{"Python's locks"},
		},
		{
			PID: 100, Call: "vfork", Count: 2, Children: []int{301, 302}, Executed: 2, AtOnce: 2, Programs: []string{"/usr/bin/true"}, Calls: []string{"rt_sigprocmask", "execve"},
			MedianMicros: 30, MaxMicros: 40, ChildMedianMicros: 200, ChildMaxMicros: 300,
		},
	}
	doc.Findings = []finding.Finding{
		{
			Rule: finding.OrphanedLock, Severity: finding.Warning, Confidence: finding.Observed, PID: 203, Others: []int{100}, Lock: &lock,
			Title: "gunicorn (100) forked a child with app.LOCK locked by thread refresher (101)", Why: "Its owner does not exist in the child.",
			Evidence: []string{"the child's memory was read before its first instruction: the lock was held there, at 3 of 3 forks"}, Remedy: []string{"start threads in each worker"},
		},
	}
	return doc
}

func TestTracedVerdict(t *testing.T) {
	for _, tc := range []struct {
		change func(*finding.Document)
		want   string
	}{
		{func(*finding.Document) {}, "LOCKS HELD AT FORKS"},
		{func(d *finding.Document) { d.Findings[0].Rule = finding.ForkWithThreads }, "FORKS WITH OTHER THREADS"},
		{func(d *finding.Document) { d.Findings = nil }, "NO LOCK HELD AT A FORK"},
		{func(d *finding.Document) { d.Findings, d.Forks = nil, nil }, "NO FORK SEEN"},
	} {
		doc := tracedForks()
		tc.change(doc)
		if got := verdict(doc).Word; got != tc.want {
			t.Errorf("verdict %q, want %q", got, tc.want)
		}
	}
}
