// Package doctor finds out what forkproof can do on this machine, by trying it:
// on a process that it starts for the purpose, and by reading one process of
// another user. It stops and changes nobody.
package doctor

import (
	"context"
	"os"
	"runtime"

	"forkproof/internal/proc"
)

// Schema is the value of Report.Schema.
const Schema = "forkproof/doctor/v1"

// State says how one check came out.
type State string

// The states of a check.
const (
	// OK: it works.
	OK State = "ok"
	// Limited: something is left out or slower without it.
	Limited State = "limited"
	// Missing: a command cannot work without it.
	Missing State = "missing"
	// Unknown: it could not be tried here.
	Unknown State = "unknown"
)

// Check is one thing that was tried or read.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Found is what was seen, one line.
	Found string `json:"found"`
	// Without says what is lost without it; empty where the state is OK.
	Without string `json:"without,omitempty"`
	// Do is what to do about it; empty where there is nothing to do.
	Do string `json:"do,omitempty"`
}

// Ability is whether one command can work here.
type Ability struct {
	Command string `json:"command"`
	Works   bool   `json:"works"`
	// On says on which processes it works: "every process", "processes of user 33".
	On string `json:"on,omitempty"`
	// Missing are the names of the checks that stand in its way.
	Missing []string `json:"missing,omitempty"`
	// Run is the line to run instead, or to reach more processes.
	Run string `json:"run,omitempty"`
}

// Report is what doctor found.
type Report struct {
	Schema   string    `json:"schema"`
	Version  string    `json:"version"`
	Kernel   string    `json:"kernel"`
	Arch     string    `json:"arch"`
	User     int       `json:"user"`
	Commands []Ability `json:"commands"`
	Checks   []Check   `json:"checks"`
}

// Works reports whether a command can work here.
func (r *Report) Works(command string) bool {
	for _, c := range r.Commands {
		if c.Command == command {
			return c.Works
		}
	}
	return false
}

// Request says how to look.
type Request struct {
	// Self is the command line that runs StandIn in a new process, without the
	// stage, which is put behind it.
	Self []string
}

// patient is what is known before the trials.
type patient struct {
	fs     proc.FS
	euid   int
	caps   capabilities
	yama   string
	filter int
	// inner: forkproof runs in a PID namespace that is not the machine's.
	inner bool
}

// Run tries everything. The error says that not even a process to try it on
// could be started.
func Run(ctx context.Context, req Request) (*Report, error) {
	p := &patient{fs: proc.New("/proc"), euid: os.Geteuid()}
	r := &Report{Schema: Schema, Arch: runtime.GOARCH, User: p.euid}
	_, r.Kernel = proc.Machine()
	view := p.view()
	r.Checks = append(r.Checks, view...)
	r.Checks = append(r.Checks, p.capabilities(), p.seccomp(), p.yamaScope(), p.hidden(), p.namespace())
	if view[0].State == Missing {
		r.Commands = []Ability{{Command: "inspect", Missing: []string{view[0].Name}, Run: view[0].Do}}
		return r, nil
	}
	in, err := start(ctx, req.Self)
	if err != nil {
		return nil, err
	}
	defer in.end()
	trials := p.try(in.pid)
	r.Checks = append(r.Checks, trials...)
	others := p.others()
	r.Checks = append(r.Checks, others)
	r.Commands = []Ability{p.inspect(r.Checks, others)}
	return r, nil
}

// inspect concludes whether the command of that name can work.
func (p *patient) inspect(checks []Check, others Check) Ability {
	a := Ability{Command: "inspect", Works: true}
	for _, c := range checks {
		if c.State == Missing {
			a.Works = false
			a.Missing = append(a.Missing, c.Name)
		}
	}
	switch {
	case a.Works && others.State == OK:
		a.On = "every process"
	case a.Works:
		a.On = "processes of user " + itoa(p.euid)
		if p.euid == 0 {
			a.On = "processes of root that hold no more capabilities than this one"
		}
		a.Run = p.instead()
	default:
		a.Run = p.instead()
	}
	return a
}

// instead is the line that gets further than this run.
func (p *patient) instead() string {
	switch {
	case p.euid != 0:
		return "sudo forkproof inspect ..."
	case p.inner:
		return "docker run --rm -it --cap-add SYS_PTRACE --pid container:NAME IMAGE forkproof inspect ...  (kubectl debug -it POD --target=CONTAINER --profile=sysadmin --image=IMAGE -- forkproof inspect ...)"
	}
	return "run forkproof as root with the capability SYS_PTRACE (setpriv --list-caps shows what there is; a service needs AmbientCapabilities=CAP_SYS_PTRACE)"
}
