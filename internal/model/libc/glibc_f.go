package libc

// glibcF is fork from 2.30 to 2.32. Source: glibc 2.31, sysdeps/nptl/fork.c, nptl/register-atfork.c; 669ff911e2.
func glibcF() Libc {
	return Libc{
		Name: "glibc-2.30", Family: "glibc", First: "2.30", Last: "2.32", Group: "F",
		Says:    "the lock of the handlers is taken only if there are threads",
		Sources: []string{"glibc 2.31, sysdeps/nptl/fork.c, nptl/register-atfork.c; 669ff911e2; also branches of 2.28 and 2.29 since 2019-02"},
		Fork: Fork{
			List:     Indexed,
			Prepare:  steps(threaded(take(atforkLock)), handlers(), threaded(take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList)), renew(loader), handlers(), threaded(release(atforkLock))),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList)), handlers(), threaded(release(atforkLock))),
		},
		Calls:   with(with(glibcCalls(), arrayOfHandlers()), listedExit()),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
