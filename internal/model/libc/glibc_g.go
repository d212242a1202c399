package libc

// glibcG is fork of 2.33. Source: glibc 2.33, sysdeps/nptl/fork.c.
func glibcG() Libc {
	return Libc{
		Name: "glibc-2.33", Family: "glibc", First: "2.33", Last: "2.33", Group: "G",
		Says:    "the configuration of name services is copied before the fork and restored in the child",
		Sources: []string{"glibc 2.33, sysdeps/nptl/fork.c, nss/nss_database.c"},
		Fork: Fork{
			List:     Indexed,
			Prepare:  steps(threaded(take(atforkLock)), handlers(), threaded(take(services), release(services), take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList), renew(services)), renew(loader), handlers(), threaded(release(atforkLock))),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList)), handlers(), threaded(release(atforkLock))),
		},
		Calls:   with(with(glibcCalls(), arrayOfHandlers()), listedExit()),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
