package libc

// glibcI is fork of 2.35. Source: glibc 2.35, posix/fork.c; 83b5323261.
func glibcI() Libc {
	return Libc{
		Name: "glibc-2.35", Family: "glibc", First: "2.35", Last: "2.35", Group: "I",
		Says:    "the loader's lock of thread-local storage is renewed too",
		Sources: []string{"glibc 2.35, posix/fork.c; 83b5323261; also release/2.34 (e9f81c261a); up to the branch's 6abb4002df of 2022-05-30"},
		Fork: Fork{
			List:     Indexed,
			Prepare:  steps(threaded(take(atforkLock)), handlers(), threaded(take(services), release(services), take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList), renew(services)), renew(loader), renew(loaderTLS), handlers(), threaded(release(atforkLock))),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList)), handlers(), threaded(release(atforkLock))),
		},
		Calls:   with(with(glibcCalls(), arrayOfHandlers()), listedExit()),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
