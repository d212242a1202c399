package forkserver

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Traits is what is known of a kind of server and helps a person to act.
type Traits struct {
	// KillsHungAfter is how long after a worker hung the server kills it; 0
	// where it never does by itself.
	KillsHungAfter time.Duration
	// KillSetting names the setting behind KillsHungAfter, or the one that
	// would make the server kill hung workers.
	KillSetting string
	// BootDeadline is how long a new worker may take to report that it is
	// there, where that is another limit; 0 where there is none.
	BootDeadline time.Duration
	// BootSetting names the setting behind BootDeadline.
	BootSetting string
	// RestartWorker is the command that replaces one hung worker, with
	// "WORKER" and "MASTER" for the PIDs; see Commands.
	RestartWorker string
	// RestartAll is the same for the whole server.
	RestartAll string
	// LoadAfterFork says how to load the application in each worker, so that
	// nothing but the server itself is copied by fork. Empty where the server
	// cannot.
	LoadAfterFork string
	// Hooks are the places for code that must run around a fork.
	Hooks []Hook
	// Notes are peculiarities that matter for what fork leaves behind.
	Notes []string
	// Sources are the documents and files behind all this.
	Sources []string
}

// Hook is a place where an application can run code of its own.
type Hook struct {
	Name string
	// In is the process that runs it: "worker", "master", or "mold".
	In string
	// Use says what it is good for.
	Use string
}

// WorkerHook returns the first hook that runs in a worker after the fork.
func (t Traits) WorkerHook() (Hook, bool) {
	for _, h := range t.Hooks {
		if h.In == "worker" {
			return h, true
		}
	}
	return Hook{}, false
}

// RestartCommand returns RestartWorker for given processes.
func (t Traits) RestartCommand(master, worker int) string {
	return fill(t.RestartWorker, master, worker)
}

// RestartAllCommand returns RestartAll for a given master.
func (t Traits) RestartAllCommand(master int) string { return fill(t.RestartAll, master, 0) }

func fill(s string, master, worker int) string {
	return strings.NewReplacer("MASTER", strconv.Itoa(master), "WORKER", strconv.Itoa(worker)).Replace(s)
}

// HungNote says in one sentence how long the evidence of a hung worker lives,
// for a server of the given name.
func (t Traits) HungNote(name string) string {
	switch {
	case t.KillsHungAfter > 0:
		return fmt.Sprintf("%s kills a worker about %s after it hung (%s); what is seen here is gone then",
			name, spell(t.KillsHungAfter), t.KillSetting)
	case t.BootDeadline > 0:
		return fmt.Sprintf("%s kills a new worker that does not report within %s (%s), and never one that hangs later",
			name, spell(t.BootDeadline), t.BootSetting)
	case t.KillSetting != "":
		return fmt.Sprintf("%s does not kill a hung worker by itself (%s would make it)", name, t.KillSetting)
	}
	return fmt.Sprintf("%s does not kill a hung worker by itself", name)
}

func spell(d time.Duration) string {
	if d%time.Minute == 0 && d > time.Minute {
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%v s", d.Seconds())
}
