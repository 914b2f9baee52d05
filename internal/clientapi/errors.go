package clientapi

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/passport"
)

var (
	// ErrNotAllowed is for a device that may not, or no longer, use the node.
	ErrNotAllowed = errors.New("the node does not admit this device")
	// ErrNoPassport is for a call on behalf of a user before the node knows a passport
	// in which the device is active.
	ErrNoPassport = errors.New("the node knows no passport of this device")
	// ErrFork is for a passport of which the node holds a chain that does not go
	// together with the one sent.
	ErrFork = errors.New("the node holds another chain of this passport")
	// ErrLimit is for more than a node allows; the text names the limit.
	ErrLimit = errors.New("beyond a limit of the node")
	// ErrNodeFull is for a node without room.
	ErrNodeFull = errors.New("the node is full")
	// ErrInvalid is for a request that breaks the protocol or holds what the node
	// cannot read: one of the two programs is wrong, or much newer.
	ErrInvalid = errors.New("the node cannot read the request")
	// ErrNodeFailed is for a failure inside the node, which its log names.
	ErrNodeFailed = errors.New("the node failed")
	// ErrUnavailable is for a connection that broke, or a node that is being stopped:
	// dial again. Whether the call had an effect is unknown.
	ErrUnavailable = errors.New("the connection to the node is lost")
)

// RefusedError is a [Refusal] as an error.
type RefusedError struct{ Refusal }

// Error names the envelope and the reason.
func (e *RefusedError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("envelope %s refused: %v", e.ID.Short(), e.Reason)
	}
	return fmt.Sprintf("envelope %s refused: %v: %s", e.ID.Short(), e.Reason, e.Text)
}

// Is reports whether target is [ErrNodeFull] and that is the reason.
func (e *RefusedError) Is(target error) bool { return target == ErrNodeFull && e.Reason == ReasonFull }

// failures joins sentinels, their words on the wire and gRPC's codes.
var failures = []struct {
	err    error
	reason nodepb.FailureReason
	code   codes.Code
}{
	{ErrNotAllowed, nodepb.FailureReason_FAILURE_REASON_NOT_ALLOWED, codes.PermissionDenied},
	{ErrNoPassport, nodepb.FailureReason_FAILURE_REASON_NO_PASSPORT, codes.FailedPrecondition},
	{ErrFork, nodepb.FailureReason_FAILURE_REASON_FORK, codes.Aborted},
	{ErrLimit, nodepb.FailureReason_FAILURE_REASON_LIMIT, codes.ResourceExhausted},
	{ErrNodeFull, nodepb.FailureReason_FAILURE_REASON_FULL, codes.ResourceExhausted},
	{ErrInvalid, nodepb.FailureReason_FAILURE_REASON_INVALID, codes.InvalidArgument},
	{ErrUnavailable, nodepb.FailureReason_FAILURE_REASON_STOPPING, codes.Unavailable},
}

// toStatus makes of an error of a call on the node what the client gets. known is
// false if the client is not told the text.
func toStatus(err error) (s *status.Status, known bool) {
	if _, ok := errors.AsType[*passport.ForkError](err); ok {
		err = fmt.Errorf("%w: %w", ErrFork, err)
	}
	for _, f := range failures {
		if errors.Is(err, f.err) {
			s := status.New(f.code, err.Error())
			if with, err := s.WithDetails(&nodepb.Failure{Reason: f.reason}); err == nil {
				s = with
			}
			return s, true
		}
	}
	if s, ok := status.FromError(err); ok {
		return s, true // of gRPC itself: the client went away, a message was too large
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err), true
	}
	return status.New(codes.Internal, "the node failed; its log says why"), false
}

// fromStatus makes of a failed call's error what the client's caller gets.
func fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	// The caller's own end comes first: gRPC says the same in many ways.
	if ctx.Err() != nil && (s.Code() == codes.Canceled || s.Code() == codes.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	for _, detail := range s.Details() {
		failure, ok := detail.(*nodepb.Failure)
		if !ok {
			continue
		}
		for _, f := range failures {
			if f.reason == failure.Reason {
				return &CallError{Kind: f.err, Text: s.Message()}
			}
		}
	}
	switch s.Code() {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return &CallError{Kind: ErrUnavailable, Text: s.Message()}
	case codes.PermissionDenied, codes.Unauthenticated:
		return &CallError{Kind: ErrNotAllowed, Text: s.Message()}
	case codes.ResourceExhausted:
		return &CallError{Kind: ErrLimit, Text: s.Message()}
	case codes.InvalidArgument, codes.Unimplemented:
		return &CallError{Kind: ErrInvalid, Text: s.Message()}
	}
	return &CallError{Kind: ErrNodeFailed, Text: s.Message()}
}

// CallError is a call that failed, with what the node, or the connection, said.
type CallError struct {
	Kind error // one of this package's sentinels
	Text string
}

// Error returns the text, which names the kind.
func (e *CallError) Error() string {
	if kind := e.Kind.Error(); len(e.Text) < len(kind) || e.Text[:len(kind)] != kind {
		return kind + ": " + e.Text
	}
	return e.Text
}

// Unwrap returns the kind.
func (e *CallError) Unwrap() error { return e.Kind }
