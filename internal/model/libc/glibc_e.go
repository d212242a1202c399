package libc

// glibcE is fork of 2.28 and 2.29. Source: glibc 2.28, sysdeps/nptl/fork.c, nptl/register-atfork.c; 27761a1042.
func glibcE() Libc {
	return Libc{
		Name: "glibc-2.28", Family: "glibc", First: "2.28", Last: "2.29", Group: "E",
		Says:    "handlers are an array, whose lock is held from before the first handler until after the last",
		Sources: []string{"glibc 2.28, sysdeps/nptl/fork.c, nptl/register-atfork.c; 27761a1042; up to the branches' 60f8062425 and c096b008d2 of 2019-02"},
		Fork: Fork{
			List:     Indexed,
			Prepare:  steps(take(atforkLock), handlers(), threaded(take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList)), renew(loader), handlers(), release(atforkLock)),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList)), handlers(), release(atforkLock)),
		},
		Calls:   with(with(glibcCalls(), arrayOfHandlers()), listedExit()),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
