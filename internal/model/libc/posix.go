package libc

// posix is the least that POSIX grants: the child of a process with threads has their
// locks as they were, and may call what is async-signal-safe alone. Source: POSIX.1,
// fork() and pthread_atfork().
func posix() Libc {
	l := Libc{
		Name: "posix", Family: "posix",
		Says:    "the rule itself: fork repairs nothing, and every call that is not async-signal-safe takes a lock",
		Sources: []string{"POSIX.1-2024, fork(), pthread_atfork(), System Interfaces 2.4.3"},
		Fork: Fork{
			List:     Numbered,
			Prepare:  steps(handlers()),
			InChild:  steps(handlers()),
			InParent: steps(handlers()),
		},
		Heap:      true,
		JoinHangs: true,
		Calls:     glibcCalls(),
		Traits:    glibcTraits(),
		Unloads:   true,
	}
	for _, verb := range []string{"malloc", "free", "realloc"} {
		l.Calls[verb] = under(muslHeap)
	}
	l.Calls["unregister"] = under(atforkLock, Step{Do: Remove})
	return l
}
