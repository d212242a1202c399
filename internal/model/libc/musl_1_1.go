package libc

// musl11 is fork up to 1.2.0. Source: musl 1.1.24, src/process/fork.c, src/thread/__lock.c.
func musl11() Libc {
	return Libc{
		Name: "musl-1.1.22", Family: "musl", First: "1.1.22", Last: "1.2.0",
		Says:    "fork takes and renews no lock; the child skips libc's locks, whatever state they guard",
		Sources: []string{"musl 1.1.24, src/process/fork.c, src/thread/__lock.c, src/thread/pthread_atfork.c"},
		Fork: Fork{
			List:       Cursor,
			SkipsEmpty: true,
			Prepare:    steps(take(muslHandlers), handlers()),
			InChild:    steps(handlers(), release(muslHandlers)),
			InParent:   steps(handlers(), release(muslHandlers)),
			Elision:    Dropped,
		},
		Heap:      true,
		JoinHangs: true,
		Forgets:   true,
		Calls:     muslCalls(),
		Traits:    muslTraits(),
	}
}
