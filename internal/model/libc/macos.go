package libc

// macos is fork of macOS. Source: darwin-libpthread 3965bd77, src/pthread_atfork.c;
// libSystem_atfork_prepare, _parent and _child. Its stdio and loader were not read.
func macos() Libc {
	return Libc{
		Name: "macos", Family: "macos",
		Says:    "the lock of the handlers is held, in the child until after its handlers; malloc's zones are locked after them",
		Sources: []string{"darwin-libpthread 3965bd77, src/pthread_atfork.c; Libsystem, init.c: libSystem_atfork_prepare"},
		Fork: Fork{
			List:     Linked,
			Prepare:  steps(take(loader), take(atforkLock), handlers(), take(muslHeap)),
			InChild:  steps(renew(loader), renew(muslHeap), handlers(), renew(atforkLock)),
			InParent: steps(release(muslHeap), release(loader), handlers(), release(atforkLock)),
		},
		Heap: true,
		Calls: map[string][]Step{
			"malloc": under(muslHeap), "free": under(muslHeap), "realloc": under(muslHeap),
			"write": steps(pass()), "_exit": steps(end()),
			"pthread_atfork": under(atforkLock, Step{Do: Append}),
		},
		Traits: map[string]Traits{loader: {Recursive: true}},
	}
}
