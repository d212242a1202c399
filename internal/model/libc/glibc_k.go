package libc

// glibcK is fork of 2.41 and 2.42. Source: glibc 2.42, posix/fork.c, sysdeps/nptl/_Fork.c; 9f0d2c0ee6, d40ac01cbb, f6ba993e0c.
func glibcK() Libc {
	return Libc{
		Name: "glibc-2.41", Family: "glibc", First: "2.41", Last: "2.42", Group: "K",
		Says:    "popen's list is locked and renewed; exit has a lock of its own, which is not",
		Sources: []string{"glibc 2.42, posix/fork.c, sysdeps/nptl/_Fork.c, stdlib/exit.c; 9f0d2c0ee6 (also branches of 2.39 and 2.40), d40ac01cbb, f6ba993e0c"},
		Fork: Fork{
			List:     Numbered,
			Prepare:  steps(threaded(take(atforkLock)), handlers(), threaded(take(services), release(services), take(processChain), take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList), renew(processChain), renew(services)), renew(loader), renew(loaderTLS), handlers(), threaded(release(atforkLock))),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList), release(processChain)), handlers(), threaded(release(atforkLock))),
			Before:   steps(threaded(release(atforkLock))),
			After:    steps(threaded(take(atforkLock))),
		},
		Calls:   with(with(glibcCalls(), arrayOfHandlers()), lockedExit()),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
