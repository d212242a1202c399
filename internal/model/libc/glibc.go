package libc

// Locks inside glibc.
const (
	atforkLock    = "fork handlers" // __fork_lock, from 2.28 on atfork_lock
	arenaList     = "arena list"    // list_lock of malloc/arena.c
	streamList    = "stream list"   // list_all_lock of libio/genops.c
	loader        = "loader"        // _dl_load_lock
	loaderWrite   = "loader list"   // _dl_load_write_lock
	loaderTLS     = "loader tls"    // _dl_load_tls_lock
	services      = "name services" // nss_database_data's lock
	processChain  = "popen list"    // proc_file_chain_lock
	exitFunctions = "exit functions"
	exitLock      = "exit"
	environment   = "environment"
	timeZone      = "time zone"
	randomState   = "random"
	systemLog     = "syslog"
	localeLock    = "locale"
	messages      = "messages"
	conversions   = "conversions"
	resolver      = "resolver"
	users         = "passwd"
	semaphoreList = "semaphores"
)

// glibcTraits are the same in every release: the list of streams, streams and the
// loader's locks can be taken again by their owner, whom stdio knows by the address
// of the thread and the loader's mutexes by its number.
func glibcTraits() map[string]Traits {
	return map[string]Traits{
		streamList:   {Recursive: true},
		Stream:       {Recursive: true},
		processChain: {Recursive: true},
		loader:       {Recursive: true, ByNumber: true},
		loaderWrite:  {Recursive: true, ByNumber: true},
		loaderTLS:    {Recursive: true, ByNumber: true},
		exitLock:     {Recursive: true},
	}
}

// glibcCalls are the calls whose locks fork does not come near, and those that are
// the same since 2.17. Source: glibc 2.17 to 2.42, the file named beside each.
func glibcCalls() map[string][]Step {
	return map[string][]Step{
		"malloc":      under(Arena), // malloc/malloc.c; with tcache (2.26) often without the lock
		"free":        under(Arena),
		"realloc":     under(Arena),
		"printf":      under(Stdout), // libio
		"fflush":      under(Stream),
		"fflush all":  under(streamList, inTurn(Streams)), // libio/genops.c, one stream after the other
		"flockfile":   steps(take(Stream)),
		"funlockfile": steps(release(Stream)),
		"getline":     under(Stream, call("malloc")), // libio/iogetdelim.c
		"write":       steps(pass()),
		"join":        nil,                                // nptl/pthread_join_common.c: see JoinHangs
		"setenv":      under(environment, call("malloc")), // stdlib/setenv.c, envlock
		// time/tzset.c, tzset_lock; the zone's file is a stream while it is read: time/tzfile.c
		"localtime":       under(timeZone, call("malloc"), take(streamList), release(streamList), Step{Do: Back}, take(streamList), release(streamList)),
		"random":          under(randomState),                 // stdlib/random.c
		"syslog":          under(systemLog, call("malloc")),   // misc/syslog.c
		"setlocale":       under(localeLock, call("malloc")),  // locale/setlocale.c
		"gettext":         under(messages, call("malloc")),    // intl/dcigettext.c
		"iconv_open":      under(conversions, call("malloc")), // iconv/gconv_db.c
		"atexit":          under(exitFunctions),               // stdlib/cxa_atexit.c
		"getaddrinfo":     under(resolver, call("malloc")),    // resolv/resolv_conf.c; up to 2.25 nss/nsswitch.c
		"getpwnam":        under(users, call("malloc")),       // nss/getXXbyYY.c
		"sem_open":        under(semaphoreList, call("malloc")),
		"popen":           under(processChain),
		"exit":            steps(take(streamList), release(streamList), end()), // libio: it does not wait for streams
		"_exit":           steps(end()),
		"dl_iterate_phdr": under(loaderWrite),
		// The constructor runs with the loader's lock held: elf/dl-open.c.
		"dlopen": under(loader, Step{Do: Body, What: "dlopen", Steps: steps(call("malloc"), take(loaderWrite), release(loaderWrite))}),
		// The destructor takes the library's handlers off the list: elf/dl-close.c.
		"dlclose": under(loader, Step{Do: Body, What: "dlclose", Steps: steps(call("unregister"), take(loaderWrite), release(loaderWrite))}),
		// register-atfork.c
		"pthread_atfork": under(atforkLock, Step{Do: Append}),
	}
}

// with adds calls to others, or replaces them.
func with(calls map[string][]Step, more map[string][]Step) map[string][]Step {
	for verb, s := range more {
		calls[verb] = s
	}
	return calls
}

// linkedHandlers are calls around the linked list of handlers that 2.17 to 2.27 have:
// dlclose waits until no fork uses those that it takes off. Source: glibc 2.17 to
// 2.27, nptl/unregister-atfork.c.
func linkedHandlers(wait Do) map[string][]Step {
	return map[string][]Step{
		"unregister": steps(Step{Do: Retire, Steps: steps(take(atforkLock), release(atforkLock), Step{Do: wait})}),
	}
}

// arrayOfHandlers are calls around the array that there is since 2.28: dlclose takes
// its lock for any library, with the lock of the exit functions held. Source: glibc
// 2.28, nptl/register-atfork.c (27761a1042), stdlib/cxa_finalize.c.
func arrayOfHandlers() map[string][]Step {
	return map[string][]Step{
		"unregister": under(exitFunctions, under(atforkLock, Step{Do: Remove})...),
	}
}

// mallocHooks are calls up to 2.23, where the forking thread has all arenas while
// handlers run: stand-ins serve its malloc and free, and nothing else. Source: glibc
// 2.17 to 2.23, malloc/arena.c, malloc_atfork.
func mallocHooks() map[string][]Step {
	tls := when(arenaList, fails("thread-local storage is allocated while malloc is locked"))
	return map[string][]Step{
		"malloc": steps(unless(arenaList, take(Arena), release(Arena))),
		"free":   steps(unless(arenaList, take(Arena), release(Arena))),
		"dlopen": under(loader, Step{Do: Body, What: "dlopen", Steps: steps(tls, call("malloc"), take(loaderWrite), release(loaderWrite))}),
	}
}

// mallocHandlers are what malloc registers on its first use, up to 2.23. Source:
// glibc 2.17 to 2.23, malloc/arena.c: ptmalloc_lock_all, ptmalloc_unlock_all,
// ptmalloc_unlock_all2.
func mallocHandlers() *Own {
	return &Own{
		Prepare: steps(unless(arenaList, take(arenaList), take(Arenas))),
		Parent:  steps(when(arenaList, release(Arenas), release(arenaList))),
		Child:   steps(renew(Arenas), renew(arenaList)),
	}
}

// listedExit is exit since 2.27, which takes the lock of the exit functions: glibc
// 26e70aec70, stdlib/exit.c.
func listedExit() map[string][]Step {
	return map[string][]Step{
		"exit": steps(take(exitFunctions), release(exitFunctions), take(streamList), release(streamList), end()),
	}
}

// lockedExit is exit since 2.41, which lets no second thread in for as long as the
// process lives: glibc f6ba993e0c, stdlib/exit.c. Streams are flushed under their
// locks by then.
func lockedExit() map[string][]Step {
	return map[string][]Step{
		"exit": steps(take(exitLock), take(exitFunctions), release(exitFunctions), take(streamList), inTurn(Streams), release(streamList), end()),
	}
}
