package model

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// larger are scenarios of the seed with more threads and rounds.
var larger = []struct{ name, libc, text string }{
	{"BZ-19431", "glibc-2.24", `
streams: [input, output]
threads:
  master:
    - fork: [malloc, free]
    - fork: [malloc, free]
  reader: [{repeat: 3, do: [getline input]}]
  writer: [{repeat: 3, do: [getline output]}]
  flusher: [{repeat: 2, do: [fflush]}]
  other: [{repeat: 8, do: [malloc, free]}]
  more: [{repeat: 6, do: [malloc, free]}]
`},
	{"gunicorn-preload", "glibc-2.36", `
locks: {log: recursive, pool: normal}
functions:
  log: [lock log, malloc, printf, free, unlock log]
  ask: [lock pool, malloc, unlock pool]
threads:
  arbiter:
    - {repeat: 3, do: [{fork: [call log, call ask]}]}
  logger: [{repeat: 3, do: [call log]}]
  reaper: [{repeat: 4, do: [call ask]}]
  metrics: [{repeat: 6, do: [call ask, printf]}]
  health: [{repeat: 4, do: [call log]}]
`},
}

// BenchmarkExplore measures states per second, on one core.
func BenchmarkExplore(b *testing.B) {
	for _, tt := range larger {
		s, err := scenario.Read(tt.name, []byte(tt.text))
		if err != nil {
			b.Fatal(err)
		}
		l, err := libc.Find(tt.libc)
		if err != nil {
			b.Fatal(err)
		}
		p, err := Compile(s, &l)
		if err != nil {
			b.Fatal(err)
		}
		for _, full := range []bool{true, false} {
			name := tt.name + "/reduced"
			if full {
				name = tt.name + "/full"
			}
			b.Run(name, func(b *testing.B) {
				states, bytes := 0, 0
				begun := processor(b)
				for b.Loop() {
					x, err := machine.Explore(context.Background(), p, machine.Options{Full: full, Memory: 4 << 30})
					if err != nil {
						b.Fatal(err)
					}
					states += x.States
					bytes = x.Bytes
				}
				// Of processor time, so that a busy machine does not count against it.
				b.ReportMetric(float64(states)/(processor(b)-begun).Seconds(), "states/core-s")
				b.ReportMetric(float64(states)/float64(b.N), "states")
				b.ReportMetric(float64(bytes)/float64(states/b.N), "B/state")
			})
		}
	}
}

// processor is how much processor time the process has had.
func processor(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
