// Command callbackd receives ThingSpace callbacks; package cli has its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"callbackd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := cli.Process{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Hangups: hangups}.Main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// hangups takes SIGHUP, even if it was ignored: a program that is to outlive its terminal is to read its configuration again all the same.
func hangups() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}
