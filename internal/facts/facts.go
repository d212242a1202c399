// Package facts holds what is known of C libraries with regard to fork, as data
// with sources.
package facts

import "fmt"

// defect is a known defect of a range of glibc releases.
type defect struct {
	// from and until bound the releases 2.N that have it: from <= N < until.
	from, until int
	id, what    string
}

// never is the bound of a defect that no release has fixed.
const never = 1 << 10

// defects of glibc, by the commits that made and fixed them.
var defects = []defect{
	// glibc 29d794863c (2.24); also on the 2.23 branch and in RHEL 7.4.
	{0, 24, "BZ 19431", "fork, fflush(NULL) and a thread that reads a line can deadlock the master"},
	// glibc 27761a1042 (2.28) and 52a103e237 (2.36); fixed packages of 2.28
	// (RHEL 8.7), 2.34 (RHEL 9.1) and the 2.34 and 2.35 branches.
	{28, 36, "BZ 24595, BZ 27054", "dlclose, pthread_atfork or fork called in a fork handler deadlocks"},
	// glibc 14d0e87d9b (2.29) and 9f0d2c0ee6 (2.41); also on the 2.39 and 2.40 branches.
	{29, 41, "popen", "popen in a worker hangs if another thread of the master was in popen at the fork"},
	// glibc f6ba993e0c (2.41).
	{41, never, "exit lock", "exit in a worker hangs if another thread of the master was in exit at the fork"},
	// glibc 5da15b15ad (2.43).
	{43, never, "joinstate", "pthread_join in a worker of a thread that the master had hangs"},
}

// Meaning says in a few lines what a C library implies for a pre-fork server.
// A distribution may have backported a fix; the version alone does not tell.
func Meaning(family string, major, minor int) []string {
	switch {
	case family == "musl":
		return []string{
			"musl protects malloc and its own locks over fork from 1.2.2 on; a FILE or mutex that another thread held stays locked in the worker",
		}
	case family != "glibc" || major != 2:
		return nil
	}
	out := []string{
		"malloc, stdio and the loader's main lock are repaired in a worker by fork itself",
		"the locks of getaddrinfo, time zones, setenv, syslog, random, setlocale, getpwnam, gettext, iconv, atexit and dl_iterate_phdr are not: what another thread held at the fork stays locked in the worker",
		"no library's locks and no pthread mutex are repaired unless their owner registered fork handlers",
	}
	for _, d := range defects {
		if minor >= d.from && minor < d.until {
			out = append(out, fmt.Sprintf("known defect of 2.%d (%s; a distribution may have fixed it): %s", minor, d.id, d.what))
		}
	}
	return out
}
