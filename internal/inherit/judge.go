package inherit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"forkproof/internal/finding"
	"forkproof/internal/forkserver"
)

// Judge says what of an observation matters: at most one finding about threads
// for each process that workers were forked from, one about each peer that
// several processes are connected to, one about each kind of event queue, and
// one about each file.
func Judge(o Observation) []finding.Finding {
	var all []finding.Finding
	all = append(all, vanished(&o)...)
	all = append(all, connections(&o)...)
	all = append(all, queues(&o)...)
	all = append(all, offsets(&o)...)
	return all
}

// vanished finds the threads of each template that its workers lost.
//
// A thread that is there now was there at the fork if it started before the
// worker did. One that started later cannot have been lost: gunicorn 25.2 stops
// its control thread before each fork and starts it again afterwards.
func vanished(o *Observation) []finding.Finding {
	var all []finding.Finding
	for i := range o.Processes {
		from := &o.Processes[i]
		if len(from.Threads) < 2 {
			continue
		}
		var workers []*Process
		lost := make(map[string]int) // by name, the most that one worker lacks
		var threads []Thread
		for j := range o.Processes {
			w := &o.Processes[j]
			if w.From != from.ID.PID {
				continue
			}
			missing := missingThreads(o.Kind, from, w)
			if len(missing) == 0 {
				continue
			}
			workers = append(workers, w)
			count := make(map[string]int)
			for _, t := range missing {
				count[t.Name]++
				if !slices.ContainsFunc(threads, func(x Thread) bool { return x.TID == t.TID }) {
					threads = append(threads, t)
				}
			}
			for n, c := range count {
				lost[n] = max(lost[n], c)
			}
		}
		if len(workers) == 0 {
			continue
		}
		all = append(all, vanishedFinding(o, from, workers, threads, lost))
	}
	return all
}

// missingThreads lists the threads of from that existed when w was forked and
// have no counterpart in w: a thread which a hook started anew in the worker
// has the same name.
func missingThreads(kind string, from, w *Process) []Thread {
	main := slices.IndexFunc(w.Threads, func(t Thread) bool { return t.TID == w.ID.PID })
	if main < 0 {
		return nil // a first thread that ended: which one survived is unknown
	}
	survivor := from.ID.PID
	if head := w.Threads[main].Robust; head != 0 {
		for _, t := range from.Threads {
			if t.Robust == head {
				survivor = t.TID
			}
		}
	}
	own := make(map[string]int)
	for _, t := range w.Threads {
		if t.TID != w.ID.PID {
			own[t.Name]++
		}
	}
	var missing []Thread
	for _, t := range from.Threads {
		if t.TID == survivor || !before(t, w) {
			continue
		}
		if kind == forkserver.Puma && t.TID == from.ID.PID {
			continue // by design: the forking thread does in the worker what the first one did
		}
		if own[t.Name] > 0 {
			own[t.Name]--
			continue
		}
		missing = append(missing, t)
	}
	return missing
}

// before reports whether t was there when w was forked. Start times count in
// ticks of 10 ms, in which a server starts a thread and forks several workers;
// within one tick the numbers tell, which the kernel gives out in ascending
// order.
func before(t Thread, w *Process) bool {
	return t.Start < w.ID.Start || t.Start == w.ID.Start && t.TID < w.ID.PID
}

func vanishedFinding(o *Observation, from *Process, workers []*Process, threads []Thread, lost map[string]int) finding.Finding {
	total := 0
	names := make([]string, 0, len(lost))
	for n := range lost {
		names = append(names, n)
	}
	slices.Sort(names)
	var counted []string
	for _, n := range names {
		total += lost[n]
		if lost[n] > 1 {
			counted = append(counted, fmt.Sprintf("%d called %q", lost[n], n))
		} else {
			counted = append(counted, fmt.Sprintf("%q", n))
		}
	}
	who := "its workers"
	if len(workers) == 1 {
		who = "its worker " + strconv.Itoa(workers[0].ID.PID)
	}
	f := finding.Finding{
		Rule: finding.VanishedThread, Severity: finding.Info, Confidence: finding.Observed,
		PID:   from.ID.PID,
		Title: fmt.Sprintf("%s of %s %s missing in %s", plural(total, "thread"), o.name(from.ID.PID), isAre(total), who),
		Why: "fork copies only the thread that calls it. What the other threads do (refresh, send, write a heartbeat) nobody does in the workers, " +
			"and a lock that one of them held at that moment stays locked there for ever.",
		Remedy: threadRemedy(o.Traits),
	}
	f.Evidence = append(f.Evidence, "missing: "+enumerate(counted, 8))
	slices.SortFunc(threads, func(a, b Thread) int { return a.TID - b.TID })
	for i, t := range threads {
		if i == 8 && len(threads) > 9 {
			f.Evidence = append(f.Evidence, fmt.Sprintf("and %d more", len(threads)-i))
			break
		}
		w := forkedAfter(t, workers)
		f.Evidence = append(f.Evidence, fmt.Sprintf("thread %d %q of process %d started %s before %s was forked",
			t.TID, t.Name, from.ID.PID, ticks(w.ID.Start-t.Start), o.name(w.ID.PID)))
	}
	for _, w := range workers {
		f.Others = append(f.Others, w.ID.PID)
	}
	f.Sources = append(f.Sources, "https://pubs.opengroup.org/onlinepubs/9799919799/functions/fork.html")
	return f
}

// forkedAfter returns the first worker that was forked after t started.
func forkedAfter(t Thread, workers []*Process) *Process {
	var first *Process
	for _, w := range workers {
		if before(t, w) && (first == nil || w.ID.Start < first.ID.Start) {
			first = w
		}
	}
	return first
}

func threadRemedy(t forkserver.Traits) []string {
	var r []string
	if h, ok := t.WorkerHook(); ok {
		r = append(r, "start these threads in each worker: "+h.Name)
	}
	for _, h := range t.Hooks {
		if h.In != "worker" && strings.Contains(h.Use, "stop threads") {
			r = append(r, "stop them in the "+h.In+" before it forks: "+h.Name)
			break
		}
	}
	if t.LoadAfterFork != "" {
		r = append(r, "or load the application in each worker: "+t.LoadAfterFork)
	}
	return r
}

func queues(o *Observation) []finding.Finding {
	type key struct {
		kind string
		both bool
	}
	found := make(map[key][]Shared)
	var order []key
	for _, sh := range o.Shared {
		if sh.Type == "file" || !worker(o, sh.Users) {
			// A queue that a worker holds and never touches is harmless; all
			// of these servers have one: Celery's hub, Ruby's timer thread.
			continue
		}
		k := key{sh.Type, len(sh.Users) > 1}
		if len(found[k]) == 0 {
			order = append(order, k)
		}
		found[k] = append(found[k], sh)
	}
	var all []finding.Finding
	for _, k := range order {
		all = append(all, queueFinding(o, found[k]))
	}
	return all
}

// worker reports whether one of pids is a worker.
func worker(o *Observation, pids []int) bool {
	return slices.ContainsFunc(pids, func(pid int) bool {
		p := o.process(pid)
		return p != nil && p.Role == forkserver.Worker
	})
}

func queueFinding(o *Observation, shared []Shared) finding.Finding {
	sh := shared[0]
	name := queueNames[sh.Type]
	f := finding.Finding{
		Rule: finding.SharedEventQueue, Severity: finding.Info, Confidence: finding.Observed,
		PID:   sh.Users[0],
		Title: fmt.Sprintf("%s uses %s that it inherited and that %s still open", o.name(sh.Users[0]), name, othersHave(o, sh)),
		Why: "fork shares such a queue, it does not copy it: an event that one process takes never reaches the other, " +
			"and what one of them adds or removes changes it for both.",
		Remedy: remake(o.Traits, "make the event loop anew in each worker"),
	}
	if len(sh.Users) > 1 {
		f.Severity = finding.Warning
		f.Title = fmt.Sprintf("%s share and use %s", capital(plural(len(sh.Users), "process")), name)
	}
	for _, s := range shared {
		var users []string
		for _, pid := range s.Users {
			users = append(users, o.name(pid))
		}
		f.Evidence = append(f.Evidence,
			"one open "+s.Type+": "+o.describeHolders(s.Holders),
			"seen waiting on it: "+enumerate(users, 6))
		for _, h := range s.Holders {
			if h.PID != f.PID && !slices.Contains(f.Others, h.PID) {
				f.Others = append(f.Others, h.PID)
			}
		}
	}
	f.Sources = []string{"epoll(7), questions and answers, on fork"}
	if sh.Type != "eventpoll" {
		f.Sources = []string{"fork(2), on open file descriptions"}
	}
	return f
}

var queueNames = map[string]string{
	"eventpoll": "an epoll queue", "eventfd": "an eventfd", "timerfd": "a timerfd",
	"inotify": "an inotify queue", "signalfd": "a signalfd", "io_uring": "an io_uring",
}

func othersHave(o *Observation, sh Shared) string {
	var pids []int
	for _, h := range sh.Holders {
		if h.PID != sh.Users[0] {
			pids = append(pids, h.PID)
		}
	}
	if len(pids) == 1 {
		return o.name(pids[0]) + " has"
	}
	return fmt.Sprintf("%d other processes have", len(pids))
}

func offsets(o *Observation) []finding.Finding {
	var all []finding.Finding
	for _, sh := range o.Shared {
		if sh.Type != "file" || housekeeping(sh.Path) {
			continue
		}
		f := finding.Finding{
			Rule: finding.SharedFileOffset, Severity: finding.Warning, Confidence: finding.Observed,
			PID:   sh.Holders[0].PID,
			Title: fmt.Sprintf("%s share the position in %s", capital(plural(len(sh.Holders), "process")), sh.Path),
			Why: "fork shares the position of an open file: a seek in one process moves it in all of them, " +
				"so that the next read or write of another one hits the wrong place.",
			Evidence: []string{
				fmt.Sprintf("%s, opened for %s, not for appending, stands at byte %d", sh.Path, access(sh.Flags), sh.Pos),
				"one open file: " + o.describeHolders(sh.Holders),
			},
			Remedy:  append(remake(o.Traits, "open the file anew in each worker"), "or use pread and pwrite, which have a position of their own"),
			Sources: []string{"fork(2), on open file descriptions"},
		}
		if sh.Flags&unix.O_ACCMODE == unix.O_WRONLY {
			// Writers one after the other do not hurt each other.
			f.Severity = finding.Info
			f.Why = "fork shares the position of an open file. Processes that only write one after the other do not overwrite each other; " +
				"a seek or truncation in one of them moves it for all."
		}
		for _, h := range sh.Holders[1:] {
			f.Others = append(f.Others, h.PID)
		}
		all = append(all, f)
	}
	return all
}

func access(flags int) string {
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		return "writing"
	}
	return "reading and writing"
}

// housekeeping reports whether a file only carries a lock or a PID.
func housekeeping(path string) bool {
	path = strings.TrimSuffix(path, " (deleted)")
	for _, s := range []string{".pid", ".lock", ".lck"} {
		if strings.HasSuffix(path, s) {
			return true
		}
	}
	return false
}

// remake says where to do something in each worker.
func remake(t forkserver.Traits, what string) []string {
	var r []string
	if h, ok := t.WorkerHook(); ok {
		r = append(r, what+": "+h.Name)
	} else {
		r = append(r, what)
	}
	if t.LoadAfterFork != "" {
		r = append(r, "or load the application in each worker: "+t.LoadAfterFork)
	}
	return r
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if strings.HasSuffix(word, "s") {
		return fmt.Sprintf("%d %ses", n, word)
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// ticks writes a difference of start times.
func ticks(n uint64) string {
	if n < 2 {
		return "less than 20 ms"
	}
	return strconv.FormatFloat(float64(n)/100, 'f', 2, 64) + " s"
}
