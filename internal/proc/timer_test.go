package proc

import (
	"slices"
	"testing"
)

func TestParseTimers(t *testing.T) {
	const timers = "ID: 0\nsignal: 10/0000000000000000\nnotify: signal/pid.4242\nClockID: 1\n" +
		"ID: 1\nsignal: 0/0000000000000000\nnotify: none/pid.4242\nClockID: 0\n" +
		"ID: 2\nsignal: 34/00007f0012345678\nnotify: thread/tid.4243\nClockID: 0\n"
	if got := parseTimers([]byte(timers)); !slices.Equal(got, []int{10, 34}) {
		t.Errorf("got %v, want the signals 10 and 34", got)
	}
	if got := parseTimers(nil); got != nil {
		t.Errorf("got %v of no timers", got)
	}
}

func TestAlarms(t *testing.T) {
	const sleep = " #0: <00000000c5d0a6b8>, hrtimer_wakeup, S:01\n"
	for text, want := range map[string]bool{
		sleep: false,
		sleep + " #1: <00000000a1f7c1f7>, it_real_fn, S:01\n": true,
		"": true, // hidden, as containers have it
		" #0: <00000000c5d0a6b8>, 0xffffffff81000000, S:01\n": true,
	} {
		if got := alarmIn([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
