package finding

// Provoked is what the command provoke did, lock by lock.
type Provoked struct {
	// Forks says how the process came to fork: by itself, by a signal, by a command.
	Forks string `json:"forks"`
	// Seed is that of the order in which the locks were tried.
	Seed uint64 `json:"seed"`
	// Plain is how the target was without any help: one fork, while no lock was held
	// on purpose.
	Plain PlainFork `json:"plain"`
	// Locks are those that other threads than the forking one were seen to hold.
	Locks []ProvokedLock `json:"locks"`
	// Exercised is for how many of them the outcome is known, Deadlocked how many
	// of these hang a worker.
	Exercised  int `json:"exercised"`
	Deadlocked int `json:"deadlocked"`
}

// PlainFork is the outcome of a fork without help.
type PlainFork struct {
	Outcome ProvokedOutcome `json:"outcome"`
	Detail  string          `json:"detail,omitempty"`
}

// ProvokedLock is one lock, and what became of a worker that was forked while
// another thread held it.
type ProvokedLock struct {
	// ID is the same in each run: schedules name locks by it.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Kind is a term of Lock.Kind.
	Kind string `json:"kind"`
	// Threads are the names of the threads that take it.
	Threads []string        `json:"threads,omitempty"`
	Outcome ProvokedOutcome `json:"outcome"`
	// Detail says more, in a phrase.
	Detail string `json:"detail,omitempty"`
	// Forced: a fork happened while another thread held it.
	Forced bool `json:"forced"`
	// Holder is the thread that held it, HolderAt where it stood in its use of the
	// lock.
	Holder   string `json:"holder,omitempty"`
	HolderAt string `json:"holder_at,omitempty"`
	// Worker is the process that was forked.
	Worker int `json:"worker,omitempty"`
	// Tries is how often the lock was waited for, Seconds how long it all took.
	Tries   int     `json:"tries"`
	Seconds float64 `json:"seconds"`
	// Native and Python are where the lock was taken.
	Native []NativeFrame `json:"native,omitempty"`
	Python []PythonFrame `json:"python,omitempty"`
}

// ProvokedOutcome is what became of a lock.
type ProvokedOutcome string

// The outcomes, worst first.
const (
	// ProvokedDeadlock: the worker is proven to hang on the lock.
	ProvokedDeadlock ProvokedOutcome = "deadlock"
	// ProvokedCheckFailed: the check failed, and no deadlock is proven.
	ProvokedCheckFailed ProvokedOutcome = "check failed"
	// ProvokedHidden: the worker hangs on another lock before it comes to this one.
	ProvokedHidden ProvokedOutcome = "hidden"
	// ProvokedNotReached: no fork happened while another thread held the lock.
	ProvokedNotReached ProvokedOutcome = "not reached"
	// ProvokedHealthy: the worker is well, though the lock was held at the fork.
	ProvokedHealthy ProvokedOutcome = "healthy"
	// ProvokedReset: as ProvokedHealthy, since the lock is made usable in the child.
	ProvokedReset ProvokedOutcome = "reset"
	// ProvokedGuarded: fork waits until the lock is free.
	ProvokedGuarded ProvokedOutcome = "guarded"
)

// Exercised reports whether the outcome says something about the lock.
func (o ProvokedOutcome) Exercised() bool {
	return o != ProvokedHidden && o != ProvokedNotReached && o != ""
}
