package atfork_test

import (
	"slices"
	"strings"
	"testing"

	"forkproof/internal/atfork"
	"forkproof/internal/testbed"
)

func leaf(r atfork.Reach, name string) (atfork.Leaf, bool) {
	for _, l := range r.Leaves {
		if l.Name == name {
			return l, true
		}
	}
	return atfork.Leaf{}, false
}

// TestCPP looks at handlers as C++ programs have them: lambdas, a virtual method
// of a static object, a registration in a constructor and in a local static.
func TestCPP(t *testing.T) {
	known := 0
	for _, flags := range [][]string{{}, {"-O0"}, {"-Os", "-fcf-protection"}} {
		r := analyse(t, testbed.Build(t, "libhandlers_cpp.cc", append(flags, "-lstdc++")...))
		var children []string
		for i := range r.Registrations {
			g := &r.Registrations[i]
			c := &g.Child
			if g.Prepare.Unknown == "" {
				known++
			}
			children = append(children, show(c))
			switch show(c) {
			case "cpp_child":
				// Without optimisation the lambda comes out of a function: that is not
				// followed, and said.
				if _, ok := leaf(g.Prepare.Reach, "pthread_mutex_lock"); !ok && g.Prepare.Unknown == "" {
					t.Errorf("%v: the lambda that locks does not reach pthread_mutex_lock: %v %v", flags, g.Prepare.Funcs, g.Prepare.Reach.Leaves)
				}
				found := slices.ContainsFunc(c.Reach.Leaves, func(l atfork.Leaf) bool {
					return strings.Contains(l.Name, "basic_string") || l.Name == "_Znwm"
				})
				if !found {
					t.Errorf("%v: the virtual method is not reached: %+v", flags, c.Reach)
				}
			case "local_child":
				if _, ok := leaf(c.Reach, "rand"); !ok {
					t.Errorf("%v: local_child does not reach rand", flags)
				}
			}
		}
		slices.Sort(children)
		if !slices.Equal(children, []string{"cpp_child", "local_child"}) {
			t.Errorf("%v: child handlers %v", flags, children)
		}
	}
	if known != 5 {
		t.Errorf("%d of 6 prepare handlers are known, want all but that of -O0", known)
	}
}

// TestThreads looks at a library that starts threads and has locks, but no
// handlers.
func TestThreads(t *testing.T) {
	for name, file := range map[string]string{
		"amd64": testbed.Build(t, "libthreads.c"), "amd64 -O0": testbed.Build(t, "libthreads.c", "-O0"),
		"arm64": testbed.BuildARM64(t, "libthreads.c"), "arm64 -O0": testbed.BuildARM64(t, "libthreads.c", "-O0"),
		"musl": testbed.BuildMusl(t, "libthreads.c"),
	} {
		r := analyse(t, file)
		if r.Registers() || len(r.Notes) > 0 {
			t.Errorf("%s: registrations %v, notes %q", name, r.Registrations, r.Notes)
		}
		if len(r.Threads) != 1 || r.Threads[0].Name != "pthread_create" || r.Threads[0].In != "threads_start" {
			t.Errorf("%s: starts of threads %+v", name, r.Threads)
		}
		var locks []string
		for _, l := range r.Locks {
			locks = append(locks, l.Name)
		}
		slices.Sort(locks)
		if !slices.Equal(locks, []string{"pool_lock", "table_lock"}) {
			t.Errorf("%s: static locks %+v", name, r.Locks)
		}
		if len(r.Forks) != 1 || r.Forks[0].In != "threads_fork" {
			t.Errorf("%s: forks without exec %+v", name, r.Forks)
		}
	}
}
