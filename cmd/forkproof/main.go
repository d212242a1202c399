// Forkproof says whether pre-fork servers are fork-safe, and proves it.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"forkproof/internal/cli"
)

// memoryLimit is from how many bytes on the garbage collector works at all: a run
// lasts some ten milliseconds, of which it would take a fifth.
const memoryLimit = 192 << 20

func main() {
	cli.Reenter()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the work in order; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
