package libc

// glibcL is fork of 2.43. Source: glibc 04e750e75b, posix/fork.c; 5da15b15ad; d9a348d092.
func glibcL() Libc {
	l := glibcK()
	l.Name, l.First, l.Last, l.Group = "glibc-2.43", "2.43", "", "L"
	l.Says = "a thread's end is kept in a field that the child does not set for the threads that it lacks"
	l.Sources = []string{"glibc 04e750e75b, posix/fork.c, nptl/pthread_join_common.c; 5da15b15ad, d9a348d092"}
	l.JoinHangs = true
	return l
}
