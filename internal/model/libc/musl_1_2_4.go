package libc

// musl124 is fork since 1.2.4. Source: musl 1.2.4, src/process/fork.c; cf76df0e, aebd6a36.
func musl124() Libc {
	single := []string{muslQuick, exitFunctions, messages, localeLock, randomState, semaphoreList, streamList, systemLog, timeZone}
	return Libc{
		Name: "musl-1.2.4", Family: "musl", First: "1.2.4",
		Says:    "thread keys and asynchronous i/o are covered too",
		Sources: []string{"musl 1.2.4 and 1.2.5, src/process/fork.c; cf76df0e, aebd6a36"},
		Fork: Fork{
			List:       Cursor,
			SkipsEmpty: true,
			Prepare:    steps(take(muslHandlers), handlers(), threaded(append(each(take, append([]string{loader, muslInit, muslKeys, muslAIO, muslStart}, single...)...), take(muslHeap), take(muslThreads))...)),
			InChild:    steps(threaded(append(each(renew, single...), renew(muslHeap), renew(muslThreads), renew(muslStart), renew(muslAIO), renew(muslKeys), renew(muslInit), renew(loader))...), handlers(), release(muslHandlers)),
			InParent:   steps(threaded(append(each(release, append([]string{muslThreads, muslHeap}, single...)...), release(muslStart), release(muslAIO), release(muslKeys), release(muslInit), release(loader))...), handlers(), release(muslHandlers)),
			Elision:    Once,
		},
		Heap:      true,
		JoinHangs: true,
		Forgets:   true,
		Calls:     muslCalls(),
		Traits:    muslTraits(),
	}
}
