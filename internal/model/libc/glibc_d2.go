package libc

// glibcD2 is fork of 2.27. Source: glibc 2.27, sysdeps/nptl/fork.c, stdlib/exit.c; 26e70aec70.
func glibcD2() Libc {
	return Libc{
		Name: "glibc-2.27", Family: "glibc", First: "2.27", Last: "2.27", Group: "D'",
		Says:    "exit takes the lock of the exit functions",
		Sources: []string{"glibc 2.27, sysdeps/nptl/fork.c, nptl/unregister-atfork.c, stdlib/exit.c; 26e70aec70"},
		Fork: Fork{
			List:     Counted,
			Prepare:  steps(handlers(), threaded(take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList)), renew(loader), handlers(), renew(atforkLock)),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList)), handlers()),
		},
		Calls:   with(with(glibcCalls(), linkedHandlers(Unused)), listedExit()),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
