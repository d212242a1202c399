package libc

// glibcB is fork from 2.21 to 2.23. Source: glibc 2.23, sysdeps/nptl/fork.c.
func glibcB() Libc {
	return Libc{
		Name: "glibc-2.21", Family: "glibc", First: "2.21", Last: "2.23", Group: "B",
		Says:    "a dlclose that waits for a running fork is woken",
		Sources: []string{"glibc 2.23, sysdeps/nptl/fork.c, malloc/arena.c; c60ec0e016, 217a74a85c"},
		Fork: Fork{
			List:     Counted,
			Prepare:  steps(handlers(), take(streamList)),
			InChild:  steps(renew(Streams), renew(streamList), renew(loader), handlers(), renew(atforkLock)),
			InParent: steps(release(streamList), handlers()),
		},
		Malloc:  mallocHandlers(),
		Calls:   with(with(glibcCalls(), mallocHooks()), linkedHandlers(Unused)),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
