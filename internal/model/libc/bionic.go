package libc

// bionic is fork of Android. Source: platform_bionic 731631f3, libc/bionic/fork.cpp,
// libc/bionic/pthread_atfork.cpp. What the loader locks while it loads and unloads, and
// the rest of libc, was not read: few calls are here, and those of the loader without
// its locks.
func bionic() Libc {
	heap := &Own{First: true, Prepare: steps(take(muslHeap)), Parent: steps(release(muslHeap)), Child: steps(release(muslHeap))}
	return Libc{
		Name: "bionic", Family: "bionic",
		Says:    "the lock of the handlers is held but can be taken again; the allocator has handlers of its own",
		Sources: []string{"platform_bionic 731631f3, libc/bionic/fork.cpp, pthread_atfork.cpp; scudo/standalone/wrappers_c.inc"},
		Fork: Fork{
			List:     Linked,
			Prepare:  steps(take(atforkLock), handlers()),
			InChild:  steps(renew(atforkLock), handlers()),
			InParent: steps(handlers(), release(atforkLock)),
		},
		Malloc: heap,
		Heap:   true,
		Calls: map[string][]Step{
			"malloc": under(muslHeap), "free": under(muslHeap), "realloc": under(muslHeap),
			"printf": under(Stdout), "fflush": under(Stream),
			"flockfile": steps(take(Stream)), "funlockfile": steps(release(Stream)),
			"getline": under(Stream, call("malloc")),
			"write":   steps(pass()), "_exit": steps(end()),
			"dlopen":         steps(Step{Do: Body, What: "dlopen", Steps: steps(call("malloc"))}),
			"dlclose":        steps(Step{Do: Body, What: "dlclose", Steps: steps(call("unregister"))}),
			"unregister":     under(atforkLock, Step{Do: Remove}),
			"pthread_atfork": steps(call("malloc"), take(atforkLock), Step{Do: Append}, release(atforkLock)),
		},
		Traits:  map[string]Traits{atforkLock: {Recursive: true, ByNumber: true}, Stream: {Recursive: true, ByNumber: true}},
		Unloads: true,
	}
}
