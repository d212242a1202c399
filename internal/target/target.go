// Package target names the processes that forkproof looks at, so that a
// recycled PID is an error and never a wrong answer.
package target

import "fmt"

// ID identifies one process for as long as the machine runs: the kernel never
// gives the same PID the same start time twice.
type ID struct {
	PID int
	// Start is field 22 of /proc/PID/stat: clock ticks (USER_HZ, 100 per
	// second on Linux) from boot to the start of the process.
	Start uint64
}

func (id ID) String() string { return fmt.Sprintf("process %d", id.PID) }

// Valid reports whether id names a process at all.
func (id ID) Valid() bool { return id.PID > 0 }
