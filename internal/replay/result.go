package replay

import (
	"fmt"
	"strconv"
	"strings"

	"forkproof/internal/model/scenario"
)

// Result is what became of a run.
type Result struct {
	Name string
	// Processes: the first is the scenario's own, the others are children, each
	// after its parent.
	Processes []Process
	// Silent is how many children hang that have not come to a call of their own.
	Silent int
	// Missed are calls that were to stop within and did not: libc took another way.
	Missed []scenario.Pos
}

// End of a process.
type End string

// The ends.
const (
	Stuck   End = "stuck"  // a thread waits for what nobody can give it any more
	Exited  End = "exited" // by itself or by exit, with status 0
	Crashed End = "crashed"
	// Done: all threads of the scenario's own process came to their end.
	Done End = "done"
)

// Process of a run.
type Process struct {
	// Parent is the index of its parent, -1 for the first, and Fork which of its
	// forks this one was: see forkNumber.
	Parent, Fork int
	End          End
	// Signal or status it ended with.
	Code    int
	Threads map[int]*Thread // by number; in a child there is one
}

// Thread of a process and what it did.
type Thread struct {
	// Began are the calls that it began, in order. The first of a child is the one
	// that its handlers made, or else the child's own.
	Began []scenario.Pos
	// In are the calls that it has not come back from, outermost first.
	In []scenario.Pos
	// Stops are the calls that it stopped within.
	Stops []scenario.Pos
	// Failed are calls that returned an error.
	Failed []scenario.Pos
	Ended  bool
}

// decode reads what the program wrote of a run.
func decode(line string, places [][]scenario.Pos) (*Result, error) {
	words := strings.Fields(line)
	bad := func(why any) (*Result, error) {
		return nil, fmt.Errorf("the program that runs scenarios wrote a line that makes no sense (%v): %.200q", why, line)
	}
	if len(words) < 2 {
		return bad("too short")
	}
	r := &Result{Name: words[0]}
	threads := ""
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		var err error
		switch {
		case !ok:
			return bad(w)
		case key == "bad":
			_, reason, _ := strings.Cut(line, "bad=")
			return nil, fmt.Errorf("the program that runs scenarios could not run %s: %s", r.Name, reason)
		case key == "threads":
			threads = value
		case key == "silent":
			r.Silent, err = strconv.Atoi(value)
		case key == "process":
			err = r.process(value, places)
		}
		if err != nil {
			return bad(err)
		}
	}
	if len(r.Processes) == 0 {
		return bad("no process")
	}
	first := &r.Processes[0]
	if first.End == Stuck && strings.Trim(threads, "e") == "" {
		first.End = Done
	}
	for i, t := range first.Threads {
		t.Ended = i < len(threads) && threads[i] == 'e'
	}
	return r, nil
}

// process reads PARENT:FORK:END:EVENT,...
func (r *Result) process(text string, places [][]scenario.Pos) error {
	f := strings.SplitN(text, ":", 4)
	if len(f) != 4 {
		return fmt.Errorf("%d parts", len(f))
	}
	p := Process{Threads: make(map[int]*Thread)}
	var err error
	if p.Parent, err = strconv.Atoi(f[0]); err != nil {
		return err
	}
	if p.Fork, err = strconv.Atoi(f[1]); err != nil {
		return err
	}
	end, code, _ := strings.Cut(f[2], "-")
	if code != "" {
		if p.Code, err = strconv.Atoi(code); err != nil {
			return err
		}
	}
	switch {
	case end == "stuck":
		p.End = Stuck
	case end == "exit" && p.Code == 0:
		p.End = Exited
	case end == "exit" && p.Code >= 120:
		return fmt.Errorf("exit status %d", p.Code) // the program's own
	default:
		p.End = Crashed
	}
	for _, e := range strings.Split(f[3], ",") {
		if e == "" {
			continue
		}
		if err := r.event(&p, e, places); err != nil {
			return err
		}
	}
	r.Processes = append(r.Processes, p)
	return nil
}

// event reads WHAT THREAD.FUNCTION.CALL: see record in src/replay.h.
func (r *Result) event(p *Process, text string, places [][]scenario.Pos) error {
	f := strings.Split(text[1:], ".")
	if len(f) != 3 {
		return fmt.Errorf("%d numbers", len(f))
	}
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(f[i]); err != nil {
			return err
		}
	}
	t := p.Threads[n[0]]
	if t == nil {
		t = &Thread{}
		p.Threads[n[0]] = t
	}
	if n[1] >= len(places) {
		return fmt.Errorf("function %d", n[1])
	}
	what := text[0]
	if what == 'f' || what == 'l' {
		return nil
	}
	if n[2] >= len(places[n[1]]) {
		return fmt.Errorf("call %d", n[2])
	}
	pos := places[n[1]][n[2]]
	switch what {
	case 'b':
		t.Began = append(t.Began, pos)
		t.In = append(t.In, pos)
	case 'e':
		// In a child the first return is that of the fork, which its parent began.
		if k := len(t.In); k > 0 {
			t.In = t.In[:k-1]
		}
	case 'i':
		t.Stops = append(t.Stops, pos)
	case 'm':
		r.Missed = append(r.Missed, pos)
	case 'x':
		t.Failed = append(t.Failed, pos)
	default:
		return fmt.Errorf("event %c", what)
	}
	return nil
}
