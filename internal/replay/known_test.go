package replay

import (
	"strings"
	"testing"

	"forkproof/internal/model/scenario"
)

// What is known of the libcs shows in runs of them, whatever a model says.
func TestKnown(t *testing.T) {
	const (
		glibc231 = "glibc-2.31"
		glibc    = "glibc-2.31 glibc-2.36 glibc-2.41 glibc-2.43"
		musl     = "musl-1.2.5"
		all      = glibc + " " + musl
	)
	const fine = "master done, child exited"
	cases := []struct {
		name, text string
		turns      []int
		within     scenario.Verb // calls of this verb in other threads than the first stop within
		// want has what comes of it by the libcs where it does; "" for all others.
		want map[string]string
	}{
		{name: "in-turn", text: `
threads:
  a: [malloc, fork: [malloc, printf, fflush], wait]
  b: [malloc, printf]
`, want: map[string]string{all: fine}},
		{name: "lock-of-another", text: `
locks: {x: normal}
threads:
  a: [fork: [lock x]]
  b: [lock x, malloc, unlock x]
`, turns: []int{1, 0}, want: map[string]string{all: "master done, child stuck in lock x"}},
		// fork waits until the other is out of malloc: it takes the lock itself.
		{name: "malloc-of-another", within: scenario.MallocVerb, turns: []int{1, 0}, text: `
threads:
  a: [fork: [malloc, free]]
  b: [malloc]
`, want: map[string]string{all: fine}},
		{name: "list-of-streams-of-another", within: scenario.FflushVerb, turns: []int{1, 0}, text: `
threads:
  a: [fork: [fflush]]
  b: [fflush]
`, want: map[string]string{all: fine}},
		// Only glibc makes the locks of streams anew; musl's knows its owner by number.
		{name: "stream-of-another", within: scenario.GetlineVerb, turns: []int{1, 0}, text: `
streams: [s]
threads:
  a: [fork: [fflush s]]
  b: [getline s]
`, want: map[string]string{glibc: fine, musl: "master done, child stuck in fflush s"}},
		{name: "time-zone-of-another", within: scenario.LocaltimeVerb, turns: []int{1, 0}, text: `
threads:
  a: [fork: [localtime]]
  b: [localtime]
`, want: map[string]string{glibc: "master done, child stuck in localtime", musl: fine}},
		{name: "walk-of-another", within: scenario.IterateVerb, turns: []int{1, 0}, text: `
threads:
  a: [fork: [dl_iterate_phdr]]
  b: [dl_iterate_phdr]
`, want: map[string]string{glibc: "master done, child stuck in dl_iterate_phdr", musl: fine}},
		{name: "loader-of-another", within: scenario.DlopenVerb, turns: []int{1, 0}, text: `
libraries: {l: {}}
threads:
  a: [fork: [dlopen l]]
  b: [dlopen l]
`, want: map[string]string{all: fine}},
		// BZ 24595, BZ 27054 and a fork in a handler.
		{name: "dlclose-in-child", text: `
libraries: {l: {loaded: true}}
handlers:
  h: {child: [dlclose l]}
atfork: [h]
threads:
  a: [fork: [write]]
  b: [write]
`, want: map[string]string{glibc231: "master done, child stuck in dlclose l", all: fine}},
		{name: "dlclose-in-prepare", text: `
libraries: {l: {loaded: true}}
handlers:
  h: {prepare: [dlclose l]}
atfork: [h]
threads:
  a: [fork: [write]]
  b: [write]
`, want: map[string]string{glibc231: "master stuck in dlclose l", all: fine}},
		{name: "dlclose-in-parent-of-one-thread", text: `
libraries: {l: {loaded: true}}
handlers:
  h: {parent: [dlclose l]}
atfork: [h]
threads:
  a: [fork: [write]]
`, want: map[string]string{all: fine}},
		{name: "register-in-prepare", text: `
handlers:
  h: {prepare: [pthread_atfork i]}
  i: {child: [write]}
atfork: [h]
threads:
  a: [fork: [write]]
  b: [write]
`, want: map[string]string{glibc231 + " " + musl: "master stuck in pthread_atfork i", all: fine}},
		{name: "register-in-child", text: `
handlers:
  h: {child: [pthread_atfork i]}
  i: {child: [write]}
atfork: [h]
threads:
  a: [fork: [write]]
  b: [write]
`, want: map[string]string{glibc231: "master done, child stuck in pthread_atfork i", all: fine}},
		// musl links what a handler registers in where its walk is: the last handler
		// locks, and is never come to.
		{name: "register-cuts-off", text: `
locks: {x: normal}
handlers:
  h: {child: [pthread_atfork i]}
  i: {child: [write]}
  last: {child: [lock x]}
atfork: [h, last]
threads:
  a: [lock x, fork: [write]]
  b: [write]
`, want: map[string]string{glibc231: "master done, child stuck in pthread_atfork i", glibc: "master done, child stuck in lock x", musl: fine}},
		// dlclose waits for the handlers' lock with that of the exit functions.
		{name: "exit-beside-dlclose", turns: []int{0, 1}, text: `
libraries: {l: {loaded: true}}
handlers:
  h: {prepare: [write]}
atfork: [h]
threads:
  a: [fork: [exit]]
  b: [dlclose l]
`, want: map[string]string{glibc231: "master done, child stuck in exit", all: fine}},
		// Since 2.36 the list may shrink under a prepare handler; by two, and the next
		// place lies beyond its end.
		{name: "two-handlers-gone", turns: []int{0, 1}, text: `
libraries: {l: {loaded: true}}
handlers:
  first: {library: l, prepare: [write]}
  second: {library: l, prepare: [write]}
  last: {prepare: [write]}
atfork: [first, second, last]
threads:
  a: [fork: [write]]
  b: [dlclose l]
`, want: map[string]string{glibc231 + " " + musl: fine, all: "master crashed"}},
		// The time zone's file is a stream while it is read.
		{name: "zone-and-flush", turns: []int{0, 1, 0}, text: `
streams: [s]
threads:
  a: [flockfile s, localtime, funlockfile s, fork: [write]]
  b: [fflush]
`, want: map[string]string{glibc: "master stuck in localtime and fflush", musl: fine}},
		// A lock that knows its owner by number cannot be let go in the child.
		{name: "recursive", text: `
locks: {x: recursive}
handlers:
  h: {prepare: [lock x], parent: [unlock x], child: [unlock x]}
atfork: [h]
threads:
  a: [fork: [lock x]]
  b: [write]
`, want: map[string]string{all: "master done, child stuck in lock x"}},
		{name: "cycle-in-prepare", turns: []int{1, 0}, text: `
locks: {x: normal, y: normal}
handlers:
  h: {prepare: [lock y, lock x], parent: [unlock x, unlock y], child: [unlock x, unlock y]}
atfork: [h]
threads:
  a: [fork: [write]]
  b: [lock x, lock y, unlock y, unlock x]
`, want: map[string]string{all: "master stuck in lock x and lock y"}},
	}
	var runs []Run
	for _, c := range cases {
		s, err := scenario.Read(c.name, []byte("name: "+c.name+"\ntitle: known\n"+c.text))
		if err != nil {
			t.Fatal(err)
		}
		r := Run{Name: c.name, Scenario: s, Turns: c.turns, Within: make(map[scenario.Pos]bool)}
		for _, other := range s.Threads[1:] {
			for _, call := range other.Body {
				r.Within[call.Pos] = call.Verb == c.within
			}
		}
		runs = append(runs, r)
	}
	for _, libc := range reals {
		t.Run(libc.model, func(t *testing.T) {
			for i, result := range libc.play(t, runs) {
				want := ""
				// The shortest list that has the libc is the one that is meant.
				shortest := len(all) + 1
				for list, says := range cases[i].want {
					if strings.Contains(list, libc.model) && len(list) < shortest {
						shortest, want = len(list), says
					}
				}
				if got := result.Says(runs[i].Scenario); got != want || len(result.Missed) > 0 {
					t.Errorf("%s: %s, want %s (missed %v)", cases[i].name, got, want, result.Missed)
				}
			}
		})
	}
}
