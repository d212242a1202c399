package libc

// freebsd is fork of FreeBSD's libthr. Source: freebsd-src 039ea811,
// lib/libthr/thread/thr_fork.c. Its loader, stdio and most of libc were not read.
func freebsd() Libc {
	return Libc{
		Name: "freebsd", Family: "freebsd",
		Says:    "the lock of the handlers is held; malloc and the loader are locked after them, if there are threads",
		Sources: []string{"freebsd-src 039ea811, lib/libthr/thread/thr_fork.c"},
		Fork: Fork{
			List:     Linked,
			Prepare:  steps(take(atforkLock), handlers(), threaded(take(muslHeap), take(loader))),
			InChild:  steps(renew(atforkLock), threaded(release(loader), release(muslHeap)), handlers()),
			InParent: steps(threaded(release(loader), release(muslHeap)), handlers(), release(atforkLock)),
		},
		Heap: true,
		Calls: map[string][]Step{
			"malloc": under(muslHeap), "free": under(muslHeap), "realloc": under(muslHeap),
			"write": steps(pass()), "_exit": steps(end()),
			"pthread_atfork": steps(call("malloc"), take(atforkLock), Step{Do: Append}, release(atforkLock)),
		},
		Traits:    map[string]Traits{loader: {Recursive: true}},
		Renumbers: true,
		Forgets:   true,
		Unloads:   true,
	}
}
