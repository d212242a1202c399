package libc

// glibcH is fork of 2.34. Source: glibc 2.34, posix/fork.c, sysdeps/nptl/_Fork.c; 9a75654037, c32c868ab8.
func glibcH() Libc {
	return Libc{
		Name: "glibc-2.34", Family: "glibc", First: "2.34", Last: "2.34", Group: "H",
		Says:    "threads are part of libc, and fork itself takes the stacks of vanished threads back",
		Sources: []string{"glibc 2.34, posix/fork.c, sysdeps/nptl/_Fork.c; 9a75654037, c32c868ab8; up to the branch's ff450cdbde of 2022-05-30"},
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
