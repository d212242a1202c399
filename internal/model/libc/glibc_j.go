package libc

// glibcJ is fork from 2.36 to 2.40. Source: glibc 2.36, posix/fork.c, posix/register-atfork.c; 52a103e237.
func glibcJ() Libc {
	return Libc{
		Name: "glibc-2.36", Family: "glibc", First: "2.36", Last: "2.40", Group: "J",
		Says:    "the lock of the handlers is let go around each of them, and the place found again by its number",
		Sources: []string{"glibc 2.36, posix/fork.c, posix/register-atfork.c; 52a103e237; also release/2.34 (ff450cdbde) and release/2.35 (6abb4002df)"},
		Fork: Fork{
			List:     Numbered,
			Prepare:  steps(threaded(take(atforkLock)), handlers(), threaded(take(services), release(services), take(streamList), take(arenaList), take(Arenas))),
			InChild:  steps(threaded(renew(Arenas), renew(arenaList), renew(Streams), renew(streamList), renew(services)), renew(loader), renew(loaderTLS), handlers(), threaded(release(atforkLock))),
			InParent: steps(threaded(release(Arenas), release(arenaList), release(streamList)), handlers(), threaded(release(atforkLock))),
			Before:   steps(threaded(release(atforkLock))),
			After:    steps(threaded(take(atforkLock))),
		},
		Calls:   with(with(glibcCalls(), arrayOfHandlers()), listedExit()),
		Traits:  glibcTraits(),
		Unloads: true,
	}
}
