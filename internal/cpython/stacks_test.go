package cpython_test

import (
	"bufio"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"forkproof/internal/cpython"
	"forkproof/internal/proc"
)

// told is what faulthandler says of one thread.
type told struct {
	ident  uint64
	frames []toldFrame
	cut    bool // it stops after 100 frames
}

type toldFrame struct {
	file, function string
	line           int
}

var (
	threadLine = regexp.MustCompile(`^(?:Current thread|Thread) 0x([0-9a-f]+)`)
	frameLine  = regexp.MustCompile(`^  File "(.*)", line ([0-9]+|\?\?\?) in (.*)$`)
	escape     = regexp.MustCompile(`\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))`)
)

// unescape undoes how faulthandler writes characters beyond ASCII.
func unescape(s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		n, _ := strconv.ParseUint(e[2:], 16, 32)
		return string(rune(n))
	})
}

// dump makes the victim write the stacks of all its threads and reads them.
func (v *victim) dump(t *testing.T) []told {
	t.Helper()
	if err := syscall.Kill(v.pid, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	var all []told
	in := bufio.NewScanner(v.report)
	// The main thread comes last, and <module> of the -c program last in it.
	for in.Scan() {
		s := in.Text()
		switch m, f := threadLine.FindStringSubmatch(s), frameLine.FindStringSubmatch(s); {
		case m != nil:
			id, err := strconv.ParseUint(m[1], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, told{ident: id})
		case f != nil:
			line, _ := strconv.Atoi(f[2])
			if f[1] == "__init__" && f[3] == "__init__" && f[2] == "???" {
				continue // that trampoline, which tracebacks leave out
			}
			last := &all[len(all)-1]
			last.frames = append(last.frames, toldFrame{unescape(f[1]), unescape(f[3]), line})
			if f[1] == "<string>" && f[3] == "<module>" {
				return all
			}
		case s == "  ..." || v.minor == 14 && s == "  <invalid frame>":
			// After 100 frames, and in 3.14 after the trampoline of an inlined
			// __init__, which it takes for a frame that was freed.
			all[len(all)-1].cut = true
		case s != "":
			t.Fatalf("faulthandler says %q", s)
		}
	}
	t.Fatalf("faulthandler's report ended early: %v", in.Err())
	return nil
}

// plain is the name that faulthandler prints: co_name, where we give co_qualname.
func plain(p python, function string) string {
	if p.minor < 11 {
		return function
	}
	return function[strings.LastIndex(function, ".")+1:]
}

// TestStacksAgainstFaulthandler compares every frame of every blocked thread
// with what the interpreter itself says.
func TestStacksAgainstFaulthandler(t *testing.T) {
	const name = "/srv/vïctim-日本-\U0001f40d.py"
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "stacks.py", name)
		if s := v.line(t); s != "ready" {
			t.Fatalf("victim says %q", s)
		}
		settle(t, v.pid)
		r := v.find(t)
		if r.Version.Major != 3 || r.Version.Minor != p.minor || r.Version.Micro < 0 || r.Version.FreeThreaded {
			t.Errorf("version %v of a Python 3.%d", r.Version, p.minor)
		}
		begin := time.Now()
		threads, err := r.Threads()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("Python %v: %d threads in %v", r.Version, len(threads), time.Since(begin))
		byIdent := make(map[uint64]cpython.Thread)
		tids, err := proc.New("/proc").Threads(v.pid)
		if err != nil {
			t.Fatal(err)
		}
		isThread := make(map[uint64]bool)
		for _, tid := range tids {
			isThread[uint64(tid)] = true
		}
		for _, th := range threads {
			byIdent[th.Ident] = th
			if th.Err != nil || th.Torn || th.Truncated {
				t.Errorf("thread 0x%x: torn %v, truncated %v, error %v", th.Ident, th.Torn, th.Truncated, th.Err)
			}
			if p.minor >= 11 && !isThread[th.NativeID] || p.minor < 11 && th.NativeID != 0 {
				t.Errorf("thread 0x%x has the native ID %d", th.Ident, th.NativeID)
			}
		}
		all := v.dump(t)
		if len(all) < 30 || len(all) != len(threads) {
			t.Errorf("%d threads, faulthandler has %d", len(threads), len(all))
		}
		files := make(map[string]bool)
		for _, want := range all {
			th, ok := byIdent[want.ident]
			if !ok {
				t.Errorf("no thread 0x%x", want.ident)
				continue
			}
			var got []toldFrame
			for _, f := range th.Frames {
				got = append(got, toldFrame{f.File, plain(p, f.Function), f.Line})
				files[f.File] = true
			}
			for i := range want.frames {
				want.frames[i].function = plain(p, want.frames[i].function)
			}
			if want.cut && len(got) > len(want.frames) {
				got = got[:len(want.frames)]
			}
			if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want.frames); g != w {
				t.Errorf("thread 0x%x:\n got %s\nwant %s", want.ident, g, w)
			}
		}
		for _, f := range []string{name, "naïve-日本.py", "\U0001f40d.py", "<made up>", "wide", "names"} {
			if !files[f] {
				t.Errorf("no frame in %s", f)
			}
		}
	})
}

// TestQualifiedNamesAndLoops checks what faulthandler does not say: qualified
// names, and where C evaluation loops begin.
func TestQualifiedNamesAndLoops(t *testing.T) {
	// The innermost frames of a thread; "|" after a name ends a loop (from 3.11).
	wants := []string{
		"block; sort_key.<locals>.<lambda>|; sort_key; reducing.<locals>.step.<locals>.<lambda>|; reducing.<locals>.step|; reducing?; Thread.run?",
		"block; multi_line?; Thread.run?",
		"block; chained.<locals>.Chain.two; chained?; Thread.run?",
		"block; Point.__init__?; hot_init?; Thread.run?",
		"block; Descriptor.__set_name__|; set_name?; Thread.run?",
		"block; executed.<made>; <module>|; executed?; Thread.run?",
		"block; class_body.<locals>.Inner|; class_body?; Thread.run?",
		"block; in_with.<locals>.Ctx.__exit__?; in_with?; Thread.run?",
		"block; numbers?; outer_numbers?; generator_in_c.<locals>.<genexpr>|; generator_in_c?; Thread.run?",
	}
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "stacks.py", "/srv/victim.py")
		v.line(t)
		settle(t, v.pid)
		threads, err := v.find(t).Threads()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			steps := strings.Split(strings.ReplaceAll(want, "executed.<made>", "made"), "; ")
			found, close := false, ""
			for _, th := range threads {
				if len(th.Frames) < len(steps) {
					continue
				}
				names, entries := true, true
				said := ""
				for i, s := range steps {
					entry := strings.HasSuffix(s, "|")
					maybe := strings.HasSuffix(s, "?") // differs between releases
					s = strings.TrimRight(s, "|?")
					f := th.Frames[i]
					fn := s
					if p.minor < 11 {
						fn = s[strings.LastIndex(s, ".")+1:]
						entry = true
					}
					names = names && f.Function == fn
					entries = entries && (maybe || f.Entry == entry)
					said += fmt.Sprintf("%s %v; ", f.Function, f.Entry)
				}
				found = found || names && entries
				if names {
					close = said
				}
			}
			if !found {
				t.Errorf("no thread with %s\nbut %s", want, close)
			}
		}
		for _, th := range threads {
			if n := len(th.Frames); n > 0 && !th.Frames[n-1].Entry {
				t.Errorf("the outermost frame %s (%s) is not the first of a loop", th.Frames[n-1].Function, path.Base(th.Frames[n-1].File))
			}
		}
	})
}

// TestDeepRecursion reads 900 frames, all of them, quickly.
func TestDeepRecursion(t *testing.T) {
	each(t, func(t *testing.T, p python) {
		v := start(t, p, "deep.py", "/srv/deep.py")
		v.line(t)
		settle(t, v.pid)
		r := v.find(t)
		best := time.Hour
		for range 5 {
			begin := time.Now()
			threads, err := r.Threads()
			if err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(begin))
			count := 0
			for _, th := range threads {
				if th.Err != nil || th.Torn || th.Truncated {
					t.Errorf("thread 0x%x: %+v %v", th.Ident, th.Torn, th.Err)
				}
				for _, f := range th.Frames {
					if f.Function == "down" {
						count++
					}
				}
			}
			if count != 900 {
				t.Fatalf("%d frames of the recursion, want 900", count)
			}
		}
		// Reading is some hundred microseconds; the bound only catches a system
		// call per frame or worse on a busy machine.
		if best > 50*time.Millisecond {
			t.Errorf("took %v", best)
		}
		t.Logf("%v: 900 frames in %v", r.Version, best)
	})
}
