package libc

// glibcC is fork of 2.24. Source: glibc 2.24, sysdeps/nptl/fork.c; 29d794863c, 56290d6e76.
func glibcC() Libc {
	return Libc{
		Name: "glibc-2.24", Family: "glibc", First: "2.24", Last: "2.24", Group: "C",
		Says:    "fork itself locks malloc, after the handlers and the list of streams, if there are threads",
		Sources: []string{"glibc 2.24, sysdeps/nptl/fork.c, malloc/arena.c; 29d794863c, 56290d6e76; also release/2.23 since 2016-05 (2a71cf4096)"},
		Fork: Fork{
			List:     Counted,
			Prepare:  steps(handlers(), threaded(take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList)), renew(loader), handlers(), renew(atforkLock)),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList)), handlers()),
		},
		Calls:   with(glibcCalls(), linkedHandlers(Unused)),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
