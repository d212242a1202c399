package testbed

// sysFutex is the number of futex(2) as /proc/PID/syscall writes it.
const sysFutex = "98"
