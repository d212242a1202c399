package provoke

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"forkproof/internal/finding"
)

// ScheduleV1 is the value of Schedules.Schema.
const ScheduleV1 = "forkproof/schedule/v1"

// Schedules are the schedules that one run found, as kept in a file.
type Schedules struct {
	Schema string `json:"schema"`
	// Command is the program that they were found with, for people.
	Command []string   `json:"command,omitempty"`
	Seed    uint64     `json:"seed"`
	Found   []Schedule `json:"schedules"`
}

// Schedule is one interleaving: which taking of which lock was held while which
// fork was made.
type Schedule struct {
	// Lock is the lock's id; see finding.ProvokedLock.
	Lock string `json:"lock"`
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Taking is the how-manyth taking of the lock by another thread was held, from 1
	// on, counted from the program's second thread, or of a server from when the
	// attempt began.
	Taking int `json:"taking"`
	// Fork is the how-manyth fork it was, from 1 on, counted in the same way.
	Fork int `json:"fork"`
	// Order says who waited for whom.
	Order string `json:"order"`
	// HolderAt is where the holder stood.
	HolderAt string                  `json:"holder_at"`
	Outcome  finding.ProvokedOutcome `json:"outcome"`
	// Stack is where the lock was taken, for people.
	Stack []string `json:"stack,omitempty"`
}

// maxSchedule bounds a file of schedules, in bytes.
const maxSchedule = 16 << 20

// ReadSchedules reads a file that --save wrote.
func ReadSchedules(path string) (*Schedules, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := parseSchedules(io.LimitReader(f, maxSchedule))
	if err != nil {
		return nil, fmt.Errorf("read schedules from %s: %w", path, err)
	}
	return s, nil
}

func parseSchedules(r io.Reader) (*Schedules, error) {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	var s Schedules
	if err := d.Decode(&s); err != nil {
		return nil, err
	}
	if s.Schema != ScheduleV1 {
		return nil, fmt.Errorf("its schema is %q, not %q", s.Schema, ScheduleV1)
	}
	if len(s.Found) == 0 {
		return nil, errors.New("it has no schedule")
	}
	seen := make(map[string]bool)
	for i, f := range s.Found {
		switch {
		case f.Lock == "" || f.Kind == "":
			return nil, fmt.Errorf("schedule %d names no lock, or no kind of one", i+1)
		case f.Taking < 1 || f.Fork < 1 || f.Taking > 1<<30 || f.Fork > 1<<30:
			return nil, fmt.Errorf("schedule %d: a taking and a fork are counted from 1 on", i+1)
		case seen[f.Lock]:
			return nil, fmt.Errorf("schedule %d: there is one for %q already", i+1, f.Lock)
		}
		seen[f.Lock] = true
	}
	return &s, nil
}

// JSON writes the schedules as ReadSchedules reads them.
func (s *Schedules) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}
