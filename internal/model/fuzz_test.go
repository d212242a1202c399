package model

import (
	"errors"
	"testing"

	"forkproof/internal/model/libc"
	"forkproof/internal/model/machine"
	"forkproof/internal/model/scenario"
)

// FuzzRun: whatever Read takes can be run on every libc, or is refused by name; and
// every finding can be told step by step.
func FuzzRun(f *testing.F) {
	all, err := scenario.Shipped()
	if err != nil {
		f.Fatal(err)
	}
	libcs := libc.All()
	for i, s := range all {
		text, _ := scenario.Text(s.Name)
		f.Add(text, uint8(i))
	}
	f.Add([]byte("handlers: {h: {prepare: [pthread_atfork h, fork], child: [fork]}}\natfork: [h]\nthreads: {a: [fork, fork], b: [fork]}"), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		s, err := scenario.Read("f", text)
		if err != nil {
			return
		}
		l := &libcs[int(n)%len(libcs)]
		r, err := Run(t.Context(), s, l, Options{Memory: 1 << 19})
		switch {
		case errors.Is(err, ErrSize):
			return
		case errors.Is(err, machine.ErrMemory), errors.Is(err, ErrRoom):
			if r.Complete {
				t.Errorf("%v, but it is complete", err)
			}
		case err != nil:
			t.Fatal(err)
		}
		for _, found := range r.Findings {
			if found.Says == "" || found.Ends < 1 {
				t.Errorf("a finding without words: %+v", found)
			}
			for i, e := range found.Events {
				if e.Thread >= len(r.Threads) || e.Call == "" || i > 0 && e.Child < found.Events[i-1].Child {
					t.Errorf("event %d of %+v", i, found)
				}
			}
		}
	})
}
