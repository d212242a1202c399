package libc

// glibcA is fork from 2.17 to 2.20. Source: glibc 2.17, nptl/sysdeps/unix/sysv/linux/fork.c.
func glibcA() Libc {
	return Libc{
		Name: "glibc-2.17", Family: "glibc", First: "2.17", Last: "2.20", Group: "A",
		Says:    "malloc is a fork handler among others; the list of streams is locked after it",
		Sources: []string{"glibc 2.17, nptl/sysdeps/unix/sysv/linux/fork.c, nptl/unregister-atfork.c, malloc/arena.c"},
		Fork: Fork{
			List:    Counted,
			Prepare: steps(handlers(), take(streamList)),
			InChild: steps(renew(Streams), renew(streamList), renew(loader), handlers(), renew(atforkLock)),
			// The thread that waits in dlclose is woken by a value that is taken for an
			// address.
			InParent: steps(release(streamList), handlers()),
		},
		Malloc:  mallocHandlers(),
		Calls:   with(with(glibcCalls(), mallocHooks()), linkedHandlers(Deaf)),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
