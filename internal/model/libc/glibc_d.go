package libc

// glibcD is fork of 2.25 and 2.26. Source: glibc 2.25, sysdeps/nptl/fork.c; c579f48edb,
// 8e31cafb26. What changed is not about locks that this model has.
func glibcD() Libc {
	return Libc{
		Name: "glibc-2.25", Family: "glibc", First: "2.25", Last: "2.26", Group: "D",
		Says:    "no cached process id, and the child has an empty list of robust mutexes",
		Sources: []string{"glibc 2.25, sysdeps/nptl/fork.c; c579f48edb, 8e31cafb26, 1d2bc2eae9 (2.26)"},
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
