package report

import "forkproof/internal/finding"

// nativeRules are those of lint in machine code.
func nativeRules() []Rule {
	return []Rule{
		{
			Name: finding.AtforkUnsafeCall, Severity: finding.Warning, Confidence: "inferred",
			Short: "a child handler of pthread_atfork reaches functions that are not async-signal-safe",
			Means: "The handler runs inside fork, in a child that has one thread only. A function that wants a lock which another thread of the parent had then waits for ever, and fork does not return. Where the C library is known to repair what the function needs, as glibc does with malloc, the finding is information and says so; with --strict POSIX's list alone counts.",
			How:   "The registration was found in the machine code, and the calls followed from the handler: direct ones, through the linkage table, through tables of pointers that the loader fills. Code that never runs counts too; calls through pointers that are set at run time are not followed, and named.",
			Do:    []string{"Let the child handler release what the prepare handler took and set flags, and do the rest at the next use.", "Where the library cannot be changed, load it in the workers after the fork."},
		},
		{
			Name: finding.AtforkReentry, Severity: finding.Warning, Confidence: "inferred",
			Short: "a fork handler loads or unloads a library, registers a handler, or forks",
			Means: "glibc 2.28 to 2.35 (BZ-24595, BZ-27054) holds the list of handlers locked while they run, and these functions want it: they hang, in the master or in the child. With a C library that does not, the finding is information.",
			How:   "As atfork-unsafe-call, from all three handlers.",
			Do:    []string{"Do it outside of the handler: note in it that a fork happened, and act at the next use.", "Install a C library with the fix: forkproof explain BZ-24595."},
		},
		{
			Name: finding.AtforkLockLeft, Severity: finding.Warning, Confidence: "inferred",
			Short: "a prepare handler takes a lock that no child handler gives back",
			Means: "The lock is held by the thread that forks, in each child, from its first instruction on. The first that wants it there waits for ever.",
			How:   "The prepare handler locks an object in static memory; the child handler, all of whose calls are known, neither unlocks nor initialises it.",
			Do:    []string{"Unlock it in the child handler, as in the parent handler, or make it anew there."},
		},
		{
			Name: finding.LibraryNoAtfork, Severity: finding.Info, Confidence: "inferred",
			Short: "a library starts threads or has static locks, and registers no fork handler",
			Means: "After a fork its threads are missing, and a lock that one of the program's threads had stays locked. This is so with most libraries: it matters where the library is used in a master before the fork.",
			How:   "The file calls pthread_create or its like, or takes a lock at a constant address, and no call that registers a handler was found.",
			Do:    []string{afterFork},
		},
	}
}
