package libc

// musl121 is fork of 1.2.1. Source: musl 1.2.1 (73cc775b), src/process/fork.c; 8ed2bd8b.
func musl121() Libc {
	return Libc{
		Name: "musl-1.2.1", Family: "musl", First: "1.2.1", Last: "1.2.1",
		Says:    "the child takes the first lock that it comes to, as it was copied",
		Sources: []string{"musl 1.2.1 (73cc775b), src/process/fork.c, src/thread/__lock.c; 8ed2bd8b, told of in 167390f0"},
		Fork: Fork{
			List:       Cursor,
			SkipsEmpty: true,
			Prepare:    steps(take(muslHandlers), handlers()),
			InChild:    steps(handlers(), release(muslHandlers)),
			InParent:   steps(handlers(), release(muslHandlers)),
			Elision:    Once,
		},
		Heap:      true,
		JoinHangs: true,
		Forgets:   true,
		Calls:     muslCalls(),
		Traits:    muslTraits(),
	}
}
