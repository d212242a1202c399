package proc

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
)

// TimerSignals returns the signals that timers of timer_create(2) of the process
// send, from /proc/PID/timers. The error wraps ErrGone also where the kernel was
// built without CONFIG_CHECKPOINT_RESTORE and has no such file.
func (f FS) TimerSignals(pid int) ([]int, error) {
	b, err := read(f.Path(pid, "timers"))
	if err != nil {
		return nil, err
	}
	return parseTimers(b), nil
}

// parseTimers parses lines like "signal: 10/0000000000000000", each behind the
// number of its timer and before "notify: signal/pid.4242" (proc_pid_timers(5)).
func parseTimers(b []byte) []int {
	var out []int
	signal := 0
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "signal":
			n, _, _ := strings.Cut(value, "/")
			signal, _ = strconv.Atoi(n)
		case "notify":
			if !strings.HasPrefix(value, "none/") && signal > 0 {
				out = append(out, signal)
			}
		}
	}
	return out
}

// AlarmPossible reports whether some process of the machine may have a timer of
// alarm(2) or setitimer(2) that counts real time: the kernel does not tell whose.
// It is true where /proc/timer_list may not be read, which needs root.
func (f FS) AlarmPossible() bool {
	b, err := read(filepath.Join(f.root, "timer_list"))
	return err != nil || alarmIn(b)
}

// alarmIn looks for the function of such timers (kernel/time/itimer.c), where the
// kernel names functions at all: that of all sleeps is always there.
func alarmIn(b []byte) bool {
	return !bytes.Contains(b, []byte(", hrtimer_wakeup,")) || bytes.Contains(b, []byte(", it_real_fn,"))
}
