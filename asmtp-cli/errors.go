package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/asmtp/asmtp/internal/account"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// usageError is a command line that cannot be meant.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// hintError is an error with what the user can do about it, most likely first.
type hintError struct {
	error
	hints []string
}

func (e hintError) Unwrap() error { return e.error }

func usage(what string, hints ...string) error {
	return usageError{hintError{errors.New(what), hints}}
}

// noAnswerError is an error of talking to the node, with this device's key, which the
// node's operator may have to admit.
type noAnswerError struct {
	error
	key noise.PublicKey
}

func (e noAnswerError) Unwrap() error { return e.error }

// isNoAnswer reports whether err means that the node cannot be reached or stays silent.
func isNoAnswer(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return errors.Is(err, port.ErrNoAnswer) || errors.Is(err, noise.ErrWrongPeer)
}

// withKey adds the device's key to an error of the network.
func withKey(acc *account.Account, err error) error {
	if err != nil && isNoAnswer(err) {
		return noAnswerError{err, acc.Key()}
	}
	return err
}

// exitCode is the promise of the package comment.
func exitCode(err error) int {
	_, isUsage := errors.AsType[usageError](err)
	isUsage = isUsage || errors.Is(err, account.ErrNoRecipient)
	_, noContact := errors.AsType[*account.NoContactError](err)
	_, waited := errors.AsType[*account.WaitError](err)
	switch {
	case err == nil:
		return 0
	case isUsage:
		return 2
	case waited:
		return 6
	case errors.Is(err, clientapi.ErrNotAllowed), errors.Is(err, control.ErrDenied):
		return 4
	case errors.Is(err, control.ErrNotRunning), errors.Is(err, account.ErrNoNode), isNoAnswer(err):
		return 3
	case noContact, errors.Is(err, account.ErrNotFound):
		return 5
	}
	return 1
}

// report prints err in one line, then a line for each thing to try.
func (a *app) report(err error) {
	fmt.Fprintln(a.err, "asmtp-cli: error:", strings.ReplaceAll(err.Error(), "\n", "; "))
	for _, h := range hints(err) {
		fmt.Fprintln(a.err, "asmtp-cli: hint:", h)
	}
}

// hints returns what the user can do about err, one line each, most likely first.
func hints(err error) []string {
	if h, ok := errors.AsType[hintError](err); ok {
		return h.hints
	}
	if e, ok := errors.AsType[*account.NoContactError](err); ok {
		return []string{fmt.Sprintf(`ask %s for the passport id, then run "asmtp-cli contact add %[1]s ID"`, e.Name), `"asmtp-cli contact list" lists those you have`}
	}
	if e, ok := errors.AsType[*mesh.WrongKindError](err); ok {
		return []string{"this line belongs to another command: " + e.Command}
	}
	if e, ok := errors.AsType[*account.AmbiguousError](err); ok {
		return []string{fmt.Sprintf("give more digits: %s or %s …", e.IDs[0], e.IDs[1])}
	}
	if e, ok := errors.AsType[noAnswerError](err); ok {
		return noAnswerHints(e.key.String())
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return []string{`"asmtp-cli help" lists the commands, "asmtp-cli help COMMAND" explains one`}
	}
	switch {
	case errors.Is(err, account.ErrLifetime):
		return []string{"give hours or days, such as --lifetime 36h or --lifetime 10d"}
	case errors.Is(err, account.ErrNoRecipient):
		return []string{`name a contact with --to; "asmtp-cli contact list" lists them`}
	case errors.Is(err, account.ErrNotFound):
		return []string{`"asmtp-cli inbox" and "asmtp-cli queue" print the ids of mails`}
	case errors.Is(err, account.ErrNoAccount):
		return []string{`make one with "asmtp-cli init --name NAME"`, "is it elsewhere? give --home DIR or set ASMTP_HOME"}
	case errors.Is(err, account.ErrExists):
		return []string{`it is ready to use: "asmtp-cli id"`, "for another one give --home DIR"}
	case errors.Is(err, account.ErrNeedPassphrase):
		return []string{"give --passphrase-file FILE or set ASMTP_PASSPHRASE"}
	case errors.Is(err, account.ErrPassphrase):
		return []string{"try again; nobody can restore a forgotten passphrase"}
	case errors.Is(err, account.ErrNoNode):
		return []string{`name one with "asmtp-cli connect --local" or "asmtp-cli connect --remote-address HOST:PORT --remote-id ID"`}
	case errors.Is(err, control.ErrNotRunning):
		return []string{`start the node with "asmtpd up"`, `another data folder? "asmtp-cli connect --local --data DIR"`}
	case errors.Is(err, clientapi.ErrNotAllowed):
		return []string{`ask the node's operator to admit this device: "asmtp-cli id" prints its key, "asmtpd user add KEY" admits it`}
	case errors.Is(err, mesh.ErrMistyped):
		return []string{"copy the line again, from its first to its last character"}
	case errors.Is(err, mesh.ErrCut):
		return []string{"the end of the line is missing: copy it again, in quotes"}
	case errors.Is(err, mesh.ErrEnded):
		return []string{`ask for a new one: "asmtpd user invite" at the node`}
	case errors.Is(err, context.DeadlineExceeded):
		return []string{"give more time with --timeout"}
	}
	return nil
}

// noAnswerHints are in the order of likelihood. A client cannot know which it is,
// since a node gives strangers no answer.
func noAnswerHints(key string) []string {
	return []string{
		`does the node run there? start it with "asmtpd up", and compare the address with "asmtpd status"`,
		`another node may answer there, or yours has a new key: compare --remote-id with the id of "asmtpd status"`,
		"this device may not be admitted: on the node run: asmtpd user add " + key,
	}
}
