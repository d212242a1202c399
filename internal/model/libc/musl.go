package libc

// Locks inside musl.
const (
	muslHandlers = "fork handlers"
	muslHeap     = "heap"
	muslThreads  = "thread list"
	muslStart    = "thread creation"
	muslInit     = "loader constructors"
	muslKeys     = "thread keys"
	muslAIO      = "asynchronous io"
	muslQuick    = "quick exit functions"
)

// muslTraits: musl's small locks are not taken where there is one thread. Its
// streams are, and know their owner by number; the loader's is a rwlock, which
// knows nobody.
func muslTraits() map[string]Traits {
	t := map[string]Traits{Stream: {Recursive: true, ByNumber: true}}
	for _, l := range []string{muslHandlers, muslHeap, streamList, exitFunctions, muslQuick, timeZone, randomState, systemLog, localeLock, messages, semaphoreList} {
		t[l] = Traits{Elided: true}
	}
	return t
}

// muslCalls are the same in all releases. Source: musl 1.2.3, the file named beside
// each.
func muslCalls() map[string][]Step {
	return map[string][]Step{
		"malloc":  under(muslHeap),
		"free":    under(muslHeap),
		"realloc": under(muslHeap),
		"printf":  under(Stdout),
		"fflush":  under(Stream),
		// src/stdio/fflush.c: stdout and stderr, which are not on the list, come first.
		"fflush all":  append(steps(inTurn(Standard)), under(streamList, inTurn(Opened))...),
		"flockfile":   steps(take(Stream)),
		"funlockfile": steps(release(Stream)),
		"getline":     under(Stream, call("malloc"), Step{Do: Back}, call("malloc")), // src/stdio/getdelim.c
		"write":       steps(pass()),
		"join":        nil,                   // src/thread/pthread_join.c waits for the thread to say that it ended
		"setenv":      steps(call("malloc")), // src/env/setenv.c takes no lock at all
		"localtime":   under(timeZone),       // src/time/__tz.c
		"random":      under(randomState),
		"syslog":      under(systemLog),
		"setlocale":   under(localeLock),
		"gettext":     under(messages),
		"iconv_open":  steps(call("malloc")),
		"atexit":      under(exitFunctions, call("malloc")),
		"getaddrinfo": steps(call("malloc")),
		"getpwnam":    steps(call("malloc")),
		"sem_open":    under(semaphoreList),
		"popen":       steps(call("malloc"), take(streamList), release(streamList)), // src/stdio/popen.c
		// src/stdio/__stdio_exit.c waits for every stream.
		"exit":  steps(take(exitFunctions), release(exitFunctions), take(streamList), take(Opened), take(Standard), end()),
		"_exit": steps(end()),
		// src/ldso: the function is called without the lock that guards each step.
		"dl_iterate_phdr": steps(Step{Do: Back}, take(loader), release(loader)),
		// A library that is there costs no memory; constructors run without a lock.
		"dlopen":         steps(take(loader), Step{Do: Body, What: "dlopen", Steps: steps(call("malloc"), release(loader), take(muslInit), release(muslInit))}, when(loader, release(loader))),
		"dlclose":        steps(pass()), // it only looks whether there is such a library
		"pthread_atfork": steps(call("malloc"), take(muslHandlers), Step{Do: Append}, release(muslHandlers)),
	}
}
