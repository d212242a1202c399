package model

import (
	"testing"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/scenario"
)

// expected is what is known to become of a scenario on the libcs from one to
// another, and how it is known. Runs were on x86-64: Ubuntu's 2.23, 2.27, 2.31, 2.35,
// 2.39, 2.42 and 2.43, Debian's 2.31, 2.36, 2.41 and 2.43, and musl 1.2.3.
type expected struct {
	from, to string
	kind     Kind
	where    Where
	source   string
}

const (
	glibcFirst, glibcLast = "glibc-2.17", "glibc-2.43"
	muslFirst, muslLast   = "musl-1.1.22", "musl-1.2.4"
)

const (
	bz24595  = "sourceware BZ 24595, 27054; 27761a1042 to 52a103e237; run: hangs on 2.31 and 2.35, not on 2.36"
	heapTorn = "musl 1.1.24, src/process/fork.c: no lock is taken, and none in the child"
	heapHeld = "musl 167390f0 tells of it: 8ed2bd8b made it a deadlock"
	theRule  = "POSIX.1-2024, fork(): the child may call what is async-signal-safe"
	ownLock  = "no libc repairs a lock of the program; POSIX.1-2024, pthread_atfork(), rationale"
	noReset  = "run: hangs on nine builds of 2.23 to 2.43"
	byNumber = "run: unlock fails with EPERM on nine builds of glibc and on musl 1.2.3"
)

// outcomes has every shipped scenario. Where it says nothing of a libc, none but
// LeftLocked is found there, or the libc was not read.
var outcomes = map[string][]expected{
	"BZ-19431": {
		{"glibc-2.17", "glibc-2.21", Deadlock, Master, "sourceware BZ 19431; 29d794863c; run: deadlock on 2.23-0ubuntu3, none on six later builds"},
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"BZ-24161": {
		{"glibc-2.28", "glibc-2.28", SelfDeadlock, Child, "sourceware BZ 24161; 27761a1042 to 669ff911e2"},
		{"macos", "macos", SelfDeadlock, Child, "darwin-libpthread 3965bd77: the lock is held until after the child's handlers"},
	},
	"BZ-24595": {{"glibc-2.28", "glibc-2.35", SelfDeadlock, Child, bz24595}},
	"BZ-27054": {
		{"glibc-2.28", "glibc-2.35", SelfDeadlock, Child, bz24595},
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"macos", "macos", SelfDeadlock, Child, "darwin-libpthread 3965bd77: the lock is held until after the child's handlers"},
	},
	"database-client": {
		{glibcFirst, glibcLast, Orphaned, Child, ownLock}, {muslFirst, muslLast, Orphaned, Child, ownLock},
		{"bionic", "posix", Orphaned, Child, ownLock},
	},
	"dl-iterate": {
		{glibcFirst, glibcLast, Orphaned, Child, noReset},
		{"musl-1.1.22", "musl-1.2.1", Orphaned, Child, "musl 1.1.24: the loader's rwlock is an ordinary one, and is not renewed"},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"dlclose-during-fork": {{"glibc-2.17", "glibc-2.17", Deadlock, Master, "c60ec0e016: it woke a value instead of an address"}},
	"dlclose-handler-runs": {
		{"glibc-2.17", "glibc-2.17", Deadlock, Master, "c60ec0e016"},
		{"glibc-2.36", glibcLast, Crashed, Master, "52a103e237: no lock is held while a handler runs; run: segmentation fault on 2.36, 2.41 and 2.43"},
		{"posix", "posix", Crashed, Master, "POSIX says nothing of dlclose"},
	},
	"dlclose-in-prepare": {
		{"glibc-2.28", "glibc-2.28", SelfDeadlock, Master, "27761a1042: the lock is taken without threads too"},
		{"glibc-2.30", "glibc-2.35", HandlerTwice, Master, "2.31, __run_fork_handlers: it walks down by index, over an array that moved up"},
	},
	"dlclose-registered": {
		{"glibc-2.17", "glibc-2.27", SelfDeadlock, Child, "2.17, unregister-atfork.c; run: hangs on 2.23 and 2.27"},
		{"glibc-2.28", "glibc-2.28", SelfDeadlock, Child, "27761a1042: the lock is taken without threads too"},
		{"glibc-2.30", "glibc-2.35", Crashed, Child, "run: aborts on 2.31 and 2.35"},
	},
	"dlclose-self": {
		{"glibc-2.17", "glibc-2.27", SelfDeadlock, Child, "2.17, unregister-atfork.c"},
		{"glibc-2.28", "glibc-2.28", SelfDeadlock, Child, "27761a1042"},
		{"glibc-2.30", glibcLast, Crashed, Child, "elf/dl-close.c unmaps the code that it returns to"},
		{"bionic", "bionic", Crashed, Child, "platform_bionic 731631f3: the entry is freed"},
		{"posix", "posix", Crashed, Child, "POSIX says nothing of dlclose"},
	},
	"exit-list": {
		{"glibc-2.27", glibcLast, Orphaned, Child, "26e70aec70; run: hangs on eight builds of 2.27 to 2.43, not on 2.23"},
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
	},
	"fork-in-handler": {
		{"glibc-2.28", "glibc-2.35", SelfDeadlock, Child, bz24595},
		{"musl-1.2.1", muslLast, SelfDeadlock, Child, "run: hangs on musl 1.2.3; 8ed2bd8b: the child takes its first lock"},
		{"macos", "macos", SelfDeadlock, Child, "darwin-libpthread 3965bd77"},
	},
	"getaddrinfo": {
		{glibcFirst, glibcLast, Orphaned, Child, noReset},
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"gunicorn-preload": {
		{glibcFirst, glibcLast, Orphaned, Child, ownLock}, {muslFirst, muslLast, Orphaned, Child, ownLock},
		{"bionic", "bionic", Orphaned, Child, ownLock}, {"posix", "posix", Orphaned, Child, ownLock},
	},
	"handler-malloc": {
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"handler-realloc":      {{"glibc-2.17", "glibc-2.21", SelfDeadlock, Master, "2.17, malloc/arena.c; run: hangs on 2.23-0ubuntu3, works on 2.23-0ubuntu11.3"}},
	"handlers-right-order": nil,
	"handlers-wrong-order": {
		{glibcFirst, glibcLast, Deadlock, Master, ownLock}, {muslFirst, muslLast, Deadlock, Master, ownLock},
		{"bionic", "posix", Deadlock, Master, ownLock},
	},
	"join-vanished": {
		{"glibc-2.43", "glibc-2.43", Orphaned, Child, "5da15b15ad; run: hangs on 2.43, returns on the older builds; ovis-hpc/ldms 2367"},
		{muslFirst, muslLast, Orphaned, Child, "src/thread/pthread_join.c; run on musl 1.2.5: hangs"},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"openblas-pool": {
		{glibcFirst, glibcLast, Deadlock, Child, "GCC PR 60035; run: libgomp of GCC 12.2 hangs"}, {muslFirst, muslLast, Deadlock, Child, "GCC PR 60035"},
		{"bionic", "posix", Deadlock, Child, "GCC PR 60035"},
	},
	"openssl-lock": {
		{glibcFirst, glibcLast, Orphaned, Child, "openssl 19066"}, {muslFirst, muslLast, Orphaned, Child, "openssl 19066"},
		{"bionic", "posix", Orphaned, Child, "openssl 19066"},
	},
	"openssl-lock-handled": nil,
	"openvpn-smartcard":    {{"glibc-2.28", "glibc-2.35", SelfDeadlock, Child, bz24595 + "; pkcs11-helper 18 has the stack"}},
	"popen": {
		{"glibc-2.17", "glibc-2.36", Orphaned, Child, "9f0d2c0ee6 (2.41); run: hangs on 2.31, 2.35, 2.36 and 2.39, not on 2.41 to 2.43"},
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"posix-rule": {
		{glibcFirst, glibcLast, Orphaned, Child, noReset},
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"posix-rule-kept": nil,
	"recursive-lock": {
		{glibcFirst, glibcLast, Orphaned, Child, byNumber}, {muslFirst, muslLast, Orphaned, Child, byNumber},
		{"bionic", "bionic", Orphaned, Child, "platform_bionic 731631f3, pthread_mutex.cpp: the owner is a thread id"},
		{"macos", "macos", Orphaned, Child, "not told otherwise in darwin-libpthread 3965bd77"},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"register-in-prepare": {
		{"glibc-2.28", "glibc-2.35", SelfDeadlock, Master, bz24595},
		{muslFirst, muslLast, SelfDeadlock, Master, "src/thread/pthread_atfork.c; run: hangs on musl 1.2.3"},
		{"freebsd", "freebsd", SelfDeadlock, Master, "freebsd-src 039ea811, thr_fork.c"},
		{"macos", "macos", SelfDeadlock, Master, "darwin-libpthread 3965bd77"},
	},
	"register-races-fork": {
		{"glibc-2.17", "glibc-2.27", Orphaned, Child, "2.17, fork.c renews the lock after the handlers; run: hangs on 2.23 and 2.27"},
		{"glibc-2.28", "glibc-2.35", SelfDeadlock, Child, bz24595},
		{"musl-1.1.22", "musl-1.1.22", HandlerSkipped, Child, "src/process/pthread_atfork.c: what registers in a child handler cuts off those that are still to come"},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"musl-1.2.2", muslLast, HandlerSkipped, Child, "src/process/pthread_atfork.c; run: 1.2.5"},
		{"macos", "macos", SelfDeadlock, Child, "darwin-libpthread 3965bd77"},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"setenv": {
		{glibcFirst, glibcLast, Orphaned, Child, noReset},
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"stream-held": {
		{muslFirst, muslLast, Orphaned, Child, "src/stdio/__lockfile.c; run: hangs on musl 1.2.3"},
		{"bionic", "bionic", Orphaned, Child, "platform_bionic 731631f3: fork renews no lock of a stream"},
		{"posix", "posix", Orphaned, Child, theRule},
	},
	"strongswan": {
		{"musl-1.1.22", "musl-1.1.22", Torn, Child, heapTorn},
		{"musl-1.2.1", "musl-1.2.1", Orphaned, Child, heapHeld},
		{"posix", "posix", Orphaned, Child, theRule + "; strongSwan 990"},
	},
}

// TestOutcomes: what the model derives is what is known.
func TestOutcomes(t *testing.T) {
	all := libc.All()
	index := func(name string) int {
		for i, l := range all {
			if l.Name == name {
				return i
			}
		}
		t.Fatalf("there is no libc %s", name)
		return 0
	}
	shipped, err := scenario.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if len(shipped) != len(outcomes) {
		t.Errorf("%d scenarios are shipped, of %d it is said what becomes of them", len(shipped), len(outcomes))
	}
	for _, s := range shipped {
		t.Run(s.Name, func(t *testing.T) {
			want, ok := outcomes[s.Name]
			if !ok {
				t.Fatal("nobody says what becomes of it, and how that is known")
			}
			if len(s.Sources) == 0 || s.Title == "" || s.About == "" {
				t.Error("it has no title, no words about it or no source")
			}
			used := make([]bool, len(want))
			for i := range all {
				r, err := Run(t.Context(), s, &all[i], Options{})
				if err != nil {
					t.Fatalf("%s: %v", all[i].Name, err)
				}
				if r.Unread != nil {
					continue
				}
				got := "fine"
				if w := r.Worst(); w != nil && w.Kind != LeftLocked {
					got = string(w.Kind) + " in the " + string(w.Where)
				}
				expect, source := "fine", "nothing is known against it"
				for n, e := range want {
					if index(e.from) <= i && i <= index(e.to) {
						expect, source = string(e.kind)+" in the "+string(e.where), e.source
						used[n] = true
					}
				}
				if got != expect {
					t.Errorf("%s: the model says %s, known is %s (%s)", all[i].Name, got, expect, source)
				}
			}
			for n, e := range want {
				if !used[n] || e.source == "" {
					t.Errorf("what is expected from %s to %s was not compared, or has no source", e.from, e.to)
				}
			}
		})
	}
}
