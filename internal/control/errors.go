package control

import (
	"errors"
	"fmt"
	"net/http"
)

var (
	// ErrNotRunning is wrapped by the errors for a folder in which no node runs.
	// See [NotRunningError].
	ErrNotRunning = errors.New("no node is running")
	// ErrRunning is wrapped by the error of [Listen] for a folder that another
	// process has.
	ErrRunning = errors.New("another asmtpd runs")
	// ErrDenied is for what the caller or the node may not do.
	ErrDenied = errors.New("not allowed")
	// ErrInvalid is for a request that makes no sense.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound is for a user or peer that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict is for a request that does not fit what the node is now.
	ErrConflict = errors.New("not possible now")
	// ErrUnreachable is for another node that does not answer this one.
	ErrUnreachable = errors.New("the other node does not answer")
)

// NotRunningError tells where no node was found and why.
type NotRunningError struct {
	Dir   string // the data folder
	Cause error  // of the attempt to connect
}

// Error names the folder and the cause.
func (e *NotRunningError) Error() string {
	return fmt.Sprintf("%v on %s: %v", ErrNotRunning, e.Dir, e.Cause)
}

// Unwrap returns [ErrNotRunning] and the cause.
func (e *NotRunningError) Unwrap() []error { return []error{ErrNotRunning, e.Cause} }

// Error is what a node answered instead of a result.
type Error struct {
	Code    string // a word for programs
	Message string // what the node said, for people
}

// Error returns the node's words.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the sentinel of the code, nil if this program knows none.
func (e *Error) Unwrap() error {
	for _, k := range kinds {
		if k.code == e.Code {
			return k.err
		}
	}
	return nil
}

// kinds joins sentinels, their words on the wire and HTTP's statuses.
var kinds = []struct {
	err    error
	code   string
	status int
}{
	{ErrDenied, "denied", http.StatusForbidden},
	{ErrInvalid, "invalid", http.StatusBadRequest},
	{ErrNotFound, "not_found", http.StatusNotFound},
	{ErrConflict, "conflict", http.StatusConflict},
	{ErrUnreachable, "unreachable", http.StatusBadGateway},
}

// codeOf returns the word and the status for an error of the backend.
func codeOf(err error) (string, int) {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code, k.status
		}
	}
	return "internal", http.StatusInternalServerError
}
