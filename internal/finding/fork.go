package finding

// ForkSite is one place that makes processes, with what was seen at its forks;
// of the command trace alone.
type ForkSite struct {
	// PID is the process that forked, the first one where several did.
	PID int `json:"pid"`
	// Call is fork, or vfork for a call after which the child runs in the
	// parent's memory until it executes a program.
	Call string `json:"call"`
	// Native and Python are the stacks of the thread that forked.
	Native []NativeFrame `json:"native,omitempty"`
	Python []PythonFrame `json:"python,omitempty"`
	// Count is how many forks were seen; Children are the first 64 of the processes made.
	Count    int   `json:"count"`
	Children []int `json:"children"`
	// Executed is how many of the children executed a program, AtOnce those that
	// did so within their first system calls; Programs are what they executed, Calls
	// the system calls that one of them made before.
	Executed int      `json:"executed"`
	AtOnce   int      `json:"at_once"`
	Programs []string `json:"programs,omitempty"`
	Calls    []string `json:"calls,omitempty"`
	// Threads are the threads that the parent had besides the one that forked, at
	// the last fork at which there were most.
	Threads []ForkThread `json:"threads,omitempty"`
	// Locks are those that were held in a child's memory.
	Locks []HeldLock `json:"locks,omitempty"`
	// Handlers are the fork handlers that were registered.
	Handlers []ForkHandler `json:"handlers,omitempty"`
	// MedianMicros and MaxMicros are how long the parent's forking thread stood
	// still, ChildMedianMicros and ChildMaxMicros the same of the child.
	MedianMicros      int64 `json:"median_us"`
	MaxMicros         int64 `json:"max_us"`
	ChildMedianMicros int64 `json:"child_median_us"`
	ChildMaxMicros    int64 `json:"child_max_us"`
	// LeftOut says what could not be done within the time that a stop may take.
	LeftOut []string `json:"left_out,omitempty"`
}

// ForkThread is a thread of the parent that the child does not have.
type ForkThread struct {
	Thread
	// Moved: it has run between the fork and the look at it, so that its native
	// stack is of an instant later. Its Python stack never is: that is the child's copy.
	Moved bool `json:"moved"`
}

// HeldLock is a lock that was held in a child's memory before its first instruction.
type HeldLock struct {
	Lock
	// Forks is at how many of the forks it was held.
	Forks int `json:"forks"`
	// Survivor: the thread that forked holds it, and may release it in the child.
	Survivor bool `json:"survivor,omitempty"`
	// Reset: the C library makes it anew in the child.
	Reset bool `json:"reset,omitempty"`
}

// ForkHandler is one registration by pthread_atfork; functions that are not there are empty.
type ForkHandler struct {
	Prepare string `json:"prepare,omitempty"`
	Parent  string `json:"parent,omitempty"`
	Child   string `json:"child,omitempty"`
	Library string `json:"library,omitempty"`
	// ChildCalls are the functions that Child called, where it was followed.
	ChildCalls []string `json:"child_calls,omitempty"`
}
