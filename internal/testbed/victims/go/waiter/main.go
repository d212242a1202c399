// Command waiter waits, for a signal ("signal") or for a request that does not
// come ("http"). Shows: nothing wrong, although every thread of the first may
// stand in a futex: the Go runtime wakes one from its signal handler.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := wait(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "waiter:", err)
		os.Exit(1)
	}
}

func wait(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, signal or http")
	}
	switch args[0] {
	case "signal":
		usr1 := make(chan os.Signal, 1)
		signal.Notify(usr1, syscall.SIGUSR1)
		fmt.Println("ready")
		<-usr1
		fmt.Println("woken")
		return nil
	case "http":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println("ready")
		server := &http.Server{ReadHeaderTimeout: time.Minute}
		return server.Serve(listener)
	}
	return fmt.Errorf("no such thing to wait for: %s", args[0])
}
