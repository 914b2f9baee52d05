// Command asmtp-cli is the mail client of ASMTP: it writes, seals, opens and reads mail on
// this device, and talks to the user's own node.
//
//	asmtp-cli init --name alice            make an account
//	asmtp-cli connect --local              use the node on this machine
//	asmtp-cli contact add bob ID           know somebody
//	asmtp-cli send --to bob letter.txt     write
//	asmtp-cli sync, inbox, read, reply     take mail in, and go on
//
// Results go to stdout, for scripts as JSON with --json; everything else to stderr.
// Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the node cannot be reached or does not
// answer, 4 not allowed, 5 not found, 6 waited in vain.
//
// There is a file for each command; errors.go maps errors to exit codes and hints. What
// an account does is in internal/account.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/asmtp/asmtp/internal/cli"
	"github.com/asmtp/asmtp/internal/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal has its default effect
	app := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if fault.Any {
		app.note("built with a fault, for tests only")
	}
	ran, err := cli.Execute(ctx, app.root())
	if err != nil && !ran {
		err = usageError{err}
	}
	if err != nil {
		app.report(err)
	}
	os.Exit(exitCode(err))
}
