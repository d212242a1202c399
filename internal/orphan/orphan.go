// Package orphan searches the memory of a forked process for locks whose owner
// vanished at the fork: held by a thread that fork did not copy, so that nobody
// in the process will ever release them. They hurt only once somebody wants
// them, so most of what is found is still without a waiter: armed.
//
// What is looked for are the locks that record their owner: mutexes and, held
// for writing, read-write locks of glibc, recursive and error-checking mutexes
// of musl, and the stream locks of both. A lock that records no owner (a
// semaphore, a normal mutex of musl, most of what the C libraries use inside)
// cannot be told from a number, and is not found here.
//
// docs/proofs.md says which false matches are ruled out, and how.
package orphan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"forkproof/internal/libc"
	"forkproof/internal/proc"
	"forkproof/internal/procmem"
	"forkproof/internal/target"
)

// Thread is a thread of a process that the target was forked from, which was
// there at the fork and is none of the target's.
type Thread struct {
	// PID and TID are the process and the thread in our own PID namespace.
	PID, TID int
	// Inner is the thread's id in its own namespace, the one locks record.
	Inner int
	// TCB is its thread pointer, 0 where that is not known.
	TCB uint64
}

// Target is a process to be searched, with all that tells its own locks from
// those of others. Gather fills it from /proc.
type Target struct {
	ID       target.ID
	Mappings []proc.Mapping
	// Libc is the C library that the process runs on. Locks of families other
	// than glibc and musl are not known.
	Libc libc.Identity
	// Threads are the ids of the process's threads in its own PID namespace;
	// TCBs are their thread pointers, AllTCBs says that none is missing.
	Threads []int
	TCBs    []uint64
	AllTCBs bool
	// Former are ids that its threads had before a fork, and those of threads of
	// an ancestor of which it is not known that they vanished: what they hold
	// may yet be released.
	Former []int
	// Vanished are the threads that are known to have vanished and are still
	// alive in the process they belong to.
	Vanished []Thread
	// After and Before bound the ids that a thread can have had which vanished
	// and has ended since: those that the kernel gave out after the parent's own
	// and before the target's, which may wrap around. Both 0: not known.
	After, Before int
	// Stacks are places where a held lock is only a trace of the past.
	Stacks []procmem.Range
	// Parent reads the memory of the process that the target was forked from;
	// nil where there is none.
	Parent procmem.Reader
	// OpenMapped opens the file behind a mapping; nil where that is not possible.
	OpenMapped func(proc.Mapping) (*os.File, error)
	// Recheck lists the inner ids of the process's threads anew; nil where
	// threads cannot come into being.
	Recheck func() ([]int, error)
	// Ranges is what to search; nil means all private memory that can be written.
	Ranges []procmem.Range
	// Workers is how many processors to search with; 0 means all.
	Workers int
	// Settle is how long to wait before a lock is looked at again; 0 means 5 ms.
	Settle time.Duration
}

// In the parent, at the same address.
type ParentState string

const (
	// ParentUnknown: there is no parent, or nothing readable there.
	ParentUnknown ParentState = ""
	// ParentSame: the same thread holds the lock there.
	ParentSame ParentState = "held by the same thread"
	// ParentOther: it is a lock that another thread holds there.
	ParentOther ParentState = "held by another thread"
	// ParentFree: all is zero there but for the kind of lock, as of a free one.
	ParentFree ParentState = "free"
	// ParentDifferent: what is there is no lock.
	ParentDifferent ParentState = "something else"
)

// Lock is a lock that was left behind.
type Lock struct {
	// Addr is where the lock begins, for a stream's the structure of the lock
	// itself; Word is the futex word on which its waiters sleep.
	Addr, Word uint64
	// Stream is the FILE that a stream's lock belongs to, else 0.
	Stream uint64
	// Kind is a term of finding.Lock.Kind: pthread_mutex, pthread_rwlock or
	// stdio.
	Kind string
	// State is the lock in words.
	State string
	// Shared: it was made for use by several processes.
	Shared bool
	// OwnerTID is the id that it records, OwnerTCB the thread pointer; one of
	// them is 0.
	OwnerTID int
	OwnerTCB uint64
	// Owner is the thread that vanished, where OwnerAlive; else the owner has
	// ended since and is known by nothing but what the lock records.
	Owner      Thread
	OwnerAlive bool
	// Static: it lies in the data of a mapped program or library.
	Static bool
	// Parent is what lies at its address in the parent.
	Parent ParentState
	// Mapping is where it lies.
	Mapping proc.Mapping
}

// Result is what a search found.
type Result struct {
	// Locks are in ascending order of address.
	Locks []Lock
	// Coverage says what was read.
	Coverage procmem.Coverage
	// Lookalikes are places that look like a held lock whose owner can be no
	// thread of this process or its ancestors: bytes, not locks.
	Lookalikes int
	// Dropped are candidates that were ruled out afterwards, by reason.
	Dropped map[string]int
	// Truncated: there were more candidates than anybody leaves locks behind.
	Truncated bool

	noise [classes]noise
}

const defaultSettle = 5 * time.Millisecond

// ErrFamily is the error for a C library whose locks are not known.
var ErrFamily = errors.New("the locks of this C library are not known")

// Scan searches all writable private memory of the target. It reads about as
// fast as the kernel copies, stops and changes nobody, and holds less than 16
// MiB however large the target is.
//
// Together with an error, proc.ErrGone for a target that ended meanwhile or
// ctx's own, the result holds nothing: what was not looked at twice is not told.
func Scan(ctx context.Context, t Target) (Result, error) {
	if t.Libc.Family != "glibc" && t.Libc.Family != "musl" {
		return Result{}, fmt.Errorf("search process %d for orphaned locks: %q: %w", t.ID.PID, t.Libc.Family, ErrFamily)
	}
	s := newSearch(&t)
	workers := make([]*matcher, cmp.Or(t.Workers, procmem.ScanWorkers()))
	for i := range workers {
		workers[i] = newMatcher(s)
	}
	ranges := t.Ranges
	if ranges == nil {
		ranges = procmem.Private(t.Mappings)
	}
	cover, err := procmem.Scan(ctx, t.ID.PID, procmem.Resident(t.ID.PID, ranges),
		procmem.ScanOptions{Overlap: lockSize, Workers: len(workers)},
		func(w int, c procmem.Chunk) { workers[w].look(c) })
	if err != nil {
		return Result{}, fmt.Errorf("search process %d for orphaned locks: %w", t.ID.PID, err)
	}
	res := Result{Coverage: cover, Dropped: make(map[string]int)}
	var found []candidate
	for _, w := range workers {
		found = append(found, w.found...)
		for c := range w.noise {
			s.noise[c].merge(w.noise[c])
			res.Lookalikes += w.noise[c].total
		}
		res.Truncated = res.Truncated || w.truncated
	}
	if len(found) > 0 {
		settle := t.Settle
		if settle == 0 {
			settle = defaultSettle
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(settle):
		}
		if err := s.relist(); err != nil {
			return Result{}, fmt.Errorf("search process %d for orphaned locks: %w", t.ID.PID, err)
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		if a.addr < b.addr {
			return -1
		}
		return 1
	})
	for i := range s.noise {
		s.noise[i].done()
	}
	res.noise = s.noise
	s.crowds(found)
	for _, c := range found {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		if l, why := s.confirm(c); why == "" {
			res.Locks = append(res.Locks, l)
		} else {
			res.Dropped[why]++
		}
	}
	if !proc.New("/proc").Same(t.ID) {
		return Result{}, fmt.Errorf("search process %d for orphaned locks: %w", t.ID.PID, proc.ErrGone)
	}
	return res, nil
}
