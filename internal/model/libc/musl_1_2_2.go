package libc

// musl122 is fork of 1.2.2 and 1.2.3. Source: musl 1.2.2 (85e0e351), src/process/fork.c; 167390f0.
func musl122() Libc {
	single := []string{muslQuick, exitFunctions, messages, localeLock, randomState, semaphoreList, streamList, systemLog, timeZone}
	return Libc{
		Name: "musl-1.2.2", Family: "musl", First: "1.2.2", Last: "1.2.3",
		Says:    "fork takes the loader's lock, all single locks and the heap's, and renews them in the child",
		Sources: []string{"musl 1.2.2 (85e0e351) and 1.2.3, src/process/fork.c; 167390f0"},
		Fork: Fork{
			List:       Cursor,
			SkipsEmpty: true,
			Prepare:    steps(take(muslHandlers), handlers(), threaded(append(each(take, append([]string{loader, muslInit, muslStart}, single...)...), take(muslHeap), take(muslThreads))...)),
			InChild:    steps(threaded(append(each(renew, single...), renew(muslHeap), renew(muslThreads), renew(muslStart), renew(muslInit), renew(loader))...), handlers(), release(muslHandlers)),
			InParent:   steps(threaded(append(each(release, append([]string{muslThreads, muslHeap}, single...)...), release(muslStart), release(muslInit), release(loader))...), handlers(), release(muslHandlers)),
			Elision:    Once,
		},
		Heap:      true,
		JoinHangs: true,
		Forgets:   true,
		Calls:     muslCalls(),
		Traits:    muslTraits(),
	}
}
