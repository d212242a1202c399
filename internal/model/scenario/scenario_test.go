package scenario

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestShippedScenariosAreRead(t *testing.T) {
	all, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"BZ-19431", "BZ-24595", "BZ-27054", "openvpn-smartcard", "strongswan", "openssl-lock", "openblas-pool", "database-client", "handler-malloc", "handlers-wrong-order", "gunicorn-preload", "posix-rule"} {
		if !slices.ContainsFunc(all, func(s *Scenario) bool { return s.Name == name }) {
			t.Errorf("%s is not shipped", name)
		}
	}
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{"BZ-24595": "BZ-24595", "bz-24595": "BZ-24595", "glibc-envlock": "setenv"} {
		s, ok, err := Find(name)
		if err != nil || !ok || s.Name != want {
			t.Errorf("%s: %+v %v %v", name, s, ok, err)
		}
	}
	if _, ok, _ := Find("nonsense"); ok {
		t.Error("nonsense was found")
	}
}

func TestReadTakesTheWholeLanguage(t *testing.T) {
	s, err := Read("x.yaml", []byte(`
name: everything
title: all that there is
arenas: 3
streams: [log]
locks: {a: normal, b: recursive, c: errorcheck}
semaphores: [go]
functions:
  f: [lock a, unlock a]
  g: {library: lib, do: [call f]}
libraries:
  lib: {loaded: true, load: [malloc], unload: [free]}
  other:
handlers:
  h: {prepare: [lock b], parent: [unlock b], child: [init b]}
atfork: [h, malloc]
threads:
  main:
    - repeat: 3
      do: [malloc, free]
    - fork: [fflush, fflush log, exit]
    - fork
    - wait
  second: [await go, join main]
`))
	if err != nil {
		t.Fatal(err)
	}
	main := s.Threads[0].Body
	switch {
	case len(s.Locks) != 3 || s.Locks[1] != Lock{"b", Recursive}:
		t.Errorf("locks: %+v", s.Locks)
	case len(s.Libraries) != 2 || !s.Libraries[0].Loaded || s.Libraries[1].Loaded:
		t.Errorf("libraries: %+v", s.Libraries)
	case !slices.Equal(s.Atfork, []string{"h", "malloc"}) || s.Arenas != 3:
		t.Errorf("atfork: %v, arenas: %d", s.Atfork, s.Arenas)
	case len(main) != 4 || main[0].Times != 3 || len(main[0].Body) != 2 || main[1].Verb != ForkVerb || main[1].Body[1].Arg != "log" || main[2].Verb != ForkVerb || main[2].Body != nil:
		t.Errorf("main: %+v", main)
	case main[1].Pos != Pos{21, 7}:
		t.Errorf("the fork is at %v", main[1].Pos)
	}
}

// many writes n lines.
func many(n int, line string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line, i)
	}
	return b.String()
}

// TestErrors say where something is, and what is allowed there.
func TestErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "x.yaml:1:1: the file is empty"},
		{"no YAML", "threads:\n\ta: [malloc]\n", "x.yaml:2:1: this is not YAML: found character that cannot start any token"},
		{"a list", "- a\n", "x.yaml:1:1: a scenario is a mapping of about, arenas, atfork"},
		{"no threads", "name: a\n", "x.yaml:1:1: a scenario has at least one thread"},
		{"an unknown key", "thread:\n  a: [malloc]\n", `x.yaml:1:1: "thread" is not a key of a scenario; it has about, arenas`},
		{"a key twice", "threads: {a: [malloc]}\nname: a\nname: b\n", `x.yaml:3:1`},
		{"an unknown call", "threads:\n  a: [malloc, mallok]\n", `x.yaml:2:15: "mallok" is not a call; calls are lock, unlock`},
		{"an undefined lock", "threads:\n  a:\n    - lock b\n", `x.yaml:3:7: there is no lock "b"; the scenario has no locks: name them under locks:`},
		{"another lock", "locks: [a]\nthreads:\n  a: [lock b]\n", `x.yaml:3:7: there is no lock "b"; locks are a`},
		{"an undefined library", "threads:\n  a: [dlclose b]\n", `there is no library "b"; the scenario has no libraries`},
		{"a missing name", "locks: [a]\nthreads:\n  a: [lock]\n", "x.yaml:3:7: lock is followed by the name of a lock"},
		{"too many names", "locks: [a]\nthreads:\n  a: [lock a a]\n", "lock is followed by the name of one lock, and nothing else"},
		{"a name for nothing", "threads:\n  a: [malloc 3]\n", "malloc stands alone"},
		{"a call that is no text", "threads:\n  a: [[malloc]]\n", "x.yaml:2:7: a call is a text such as lock a"},
		{"a fork with more", "threads:\n  a:\n    - {fork: [write], do: [write]}\n", "x.yaml:3:7: a call with calls of its own is fork"},
		{"a repeat without calls", "threads:\n  a:\n    - repeat: 3\n", "a call with calls of its own is fork"},
		{"a repeat as a text", "threads:\n  a: [repeat]\n", "repeat is written as a mapping"},
		{"a repeat too often", "threads:\n  a:\n    - {repeat: 101, do: [malloc]}\n", "x.yaml:3:16: repeat is a whole number from 1 to 100"},
		{"a kind of lock", "locks: {a: spin}\nthreads: {a: [malloc]}\n", `x.yaml:1:12: "spin" is not a kind of lock; they are normal, recursive, errorcheck`},
		{"a name", "locks: [a b]\nthreads: {a: [malloc]}\n", `"a b" cannot be the name of a lock`},
		{"a name twice", "locks: [a]\nsemaphores: [s, s]\nthreads: {a: [malloc]}\n", `x.yaml:2:17: there is a semaphore of the name "s" already, in line 2`},
		{"a handler named malloc", "handlers: {malloc: {child: [write]}}\nthreads: {a: [malloc]}\n", "a handler cannot be named malloc"},
		{"a handler registered twice", "handlers: {h: {child: [write]}}\natfork: [h, h]\nthreads: {a: [malloc]}\n", `x.yaml:2:13: "h" is registered twice`},
		{"a handler of what is not loaded", "libraries: {l: }\nhandlers: {h: {library: l, child: [write]}}\natfork: [h]\nthreads: {a: [malloc]}\n", `x.yaml:2:12: handler "h" is registered when the threads start, but its library "l" is not loaded`},
		{"recursion", "functions:\n  f: [call g]\n  g: [call f]\nthreads:\n  a: [call f]\n", "x.yaml:3:7: this never ends: f calls g calls f"},
		{"recursion that nothing calls", "functions:\n  f: [call f]\nthreads:\n  a: [malloc]\n", "x.yaml:2:7: this never ends: f calls f"},
		{"recursion through a library", "libraries:\n  l: {load: [dlopen l]}\nthreads:\n  a: [malloc]\n", "x.yaml:2:14: this never ends: the constructor of l calls the constructor of l"},
		{"a thousand threads", "threads:\n" + many(1000, "  t%d: [malloc]\n"), "x.yaml:2:3: there are 1000 threads; the model takes at most 12"},
		{"too many calls", "functions:\n  f: [malloc, malloc]\nthreads:\n  a:\n    - repeat: 100\n      do:\n        - {repeat: 100, do: [call f]}\n", "the scenario has more than 4000 calls when its repeats and functions are written out"},
		{"too deep", "threads:\n  a:\n    - " + strings.Repeat("{fork: [", 20) + "write" + strings.Repeat("]}", 20) + "\n", "at most 16"},
		{"an alias", "threads:\n  a: &x [malloc]\n  b: *x\n", "x.yaml:2:6: anchors and aliases"},
		{"a type", "threads:\n  a: !!set {malloc}\n", "x.yaml:2:6: types (!!set) are not part of the language"},
		{"a colour", "title: \"\\e[31mred\"\nthreads: {a: [malloc]}\n", "x.yaml:1:8: title has a character that cannot be printed"},
		{"too much", strings.Repeat("#", MaxSize+1), "x.yaml:1:1: the file has 1048577 bytes; a scenario has at most 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Read("x.yaml", []byte(tt.text))
			if err == nil {
				t.Fatalf("it was taken: %+v", s)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestErrorsAreTold together, up to ten.
func TestErrorsAreTold(t *testing.T) {
	_, err := Read("x.yaml", []byte("threads:\n  a:\n"+many(50, "    - nonsense%d\n")))
	if err == nil {
		t.Fatal("it was taken")
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != most {
		t.Errorf("%d errors", n)
	}
}

// FuzzRead: whatever is taken keeps to the limits and names only what it has.
func FuzzRead(f *testing.F) {
	entries, err := files.ReadDir("shipped")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		text, err := files.ReadFile("shipped/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("threads: {a: [{repeat: 100, do: [{repeat: 100, do: []}]}]}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("? [a]\n: b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Read("f", text)
		if err != nil {
			for _, l := range strings.Split(err.Error(), "\n") {
				if !strings.HasPrefix(l, "f:") {
					t.Errorf("an error without a place: %q", l)
				}
			}
			return
		}
		switch {
		case len(s.Threads) == 0 || len(s.Threads) > MaxThreads, len(s.Locks) > MaxLocks, len(s.Handlers) > MaxHandlers, len(s.Functions) > MaxFunctions,
			len(s.Libraries) > MaxLibraries, len(s.Streams) > MaxStreams, len(s.Semaphores) > MaxSemaphores, s.Arenas < 1 || s.Arenas > MaxArenas:
			t.Errorf("beyond the limits: %+v", s)
		}
		d := s.declared()
		for _, th := range s.Threads {
			for _, c := range th.Body {
				if w := wordOf[c.Verb]; c.Arg != "" && !slices.Contains(d[w.Takes], c.Arg) {
					t.Errorf("%s %s was taken, which is not there", c.Verb, c.Arg)
				}
			}
		}
	})
}
