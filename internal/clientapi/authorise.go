package clientapi

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// caller is who makes a call.
type caller struct {
	device noise.PublicKey
	user   passport.ID // if known
	known  bool
}

type callerKey struct{}

// authorise finds out who calls and whether that device may, now.
func (s *Server) authorise(ctx context.Context) (caller, *session, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return caller{}, nil, errors.New("a call without a peer")
	}
	info, ok := p.AuthInfo.(authInfo)
	if !ok || info.session == nil {
		return caller{}, nil, errors.New("a call without a session")
	}
	c := caller{device: info.session.device}
	if !s.b.Admitted(c.device) {
		return c, nil, ErrNotAllowed
	}
	c.user, c.known = s.b.User(c.device)
	return c, info.session, nil
}

// callerOf returns who makes the call of ctx.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// userOf returns who makes the call of ctx, which must be a device of a known passport.
func userOf(ctx context.Context) (caller, error) {
	c := callerOf(ctx)
	if !c.known {
		return c, ErrNoPassport
	}
	return c, nil
}

// begin authorises a call and gives it a context that ends with the session as well.
func (s *Server) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	c, session, err := s.authorise(ctx)
	if err != nil {
		return ctx, func() {}, err
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, callerKey{}, c))
	stop := context.AfterFunc(session.ctx, func() { cancel(context.Cause(session.ctx)) })
	return ctx, func() { stop(); cancel(nil) }, nil
}

// finish makes of a call's error what the client gets, and logs what it does not get.
func (s *Server) finish(ctx context.Context, method string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	status, known := toStatus(err)
	if !known {
		s.log.Error("call failed", "method", method, "device", callerOf(ctx).device, "err", err)
	} else {
		s.log.Debug("call refused", "method", method, "device", callerOf(ctx).device, "err", err)
	}
	return status.Err()
}

func (s *Server) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, done, err := s.begin(ctx)
	defer done()
	if err != nil {
		return nil, s.finish(ctx, info.FullMethod, err)
	}
	reply, err := handle(ctx, request)
	return reply, s.finish(ctx, info.FullMethod, err)
}

func (s *Server) stream(_ any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, done, err := s.begin(ss.Context())
	defer done()
	if err == nil {
		err = handle(s, &callStream{ss, ctx})
	}
	return s.finish(ctx, info.FullMethod, err)
}

// callStream is a stream with the context of begin.
type callStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context returns that context.
func (s *callStream) Context() context.Context { return s.ctx }

// invalid is an error for what the client sent.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}
