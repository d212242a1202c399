// Forkproof says whether pre-fork servers are fork-safe, and proves it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"forkproof/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
