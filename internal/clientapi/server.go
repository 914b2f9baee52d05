package clientapi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/noise"
)

// Options of a server.
type Options struct {
	Backend Backend
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil: time.Now
}

// Server is the node's half. Make it with [NewServer].
type Server struct {
	nodepb.UnimplementedNodeServer
	b        Backend
	log      *slog.Logger
	now      func() time.Time
	sessions *sessions
}

// NewServer returns a server that answers from a backend once [Server.Serve] is called.
func NewServer(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{
		b: o.Backend, log: o.Log, now: o.Now,
		sessions: &sessions{log: o.Log, devices: make(map[noise.PublicKey]*device)},
	}
}

// Sessions returns how many connections of devices are open.
func (s *Server) Sessions() int { return s.sessions.count() }

// stopGrace is how long Serve waits at its end for calls to end by themselves.
const stopGrace = 2 * time.Second

// Serve answers the devices whose connections ln gives, which must be authenticated
// (a [noise.Conn]), until ctx is done; then calls under way end with
// [ErrUnavailable], and Serve closes ln and returns nil. It returns early only if ln
// fails. Nothing runs any more when it returns.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(ErrUnavailable)
	rpc := grpc.NewServer(s.serverOptions()...)
	nodepb.RegisterNodeServer(rpc, s)

	served := make(chan error, 1)
	go func() { served <- rpc.Serve(&listener{ln, base, s.sessions}) }()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watchUsers(base)
	}()

	var failed error
	select {
	case err := <-served:
		failed = fmt.Errorf("serve clients: %w", err)
		served <- nil
	case <-ctx.Done():
	}
	end(fmt.Errorf("%w: the node is being stopped", ErrUnavailable))
	stop(rpc)
	<-served
	<-watched
	return failed
}

// stop gives calls a moment to end, and clients to hear of it.
func stop(rpc *grpc.Server) {
	hard := time.AfterFunc(stopGrace, rpc.Stop)
	defer hard.Stop()
	rpc.GracefulStop()
}

func (s *Server) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(authenticated{}),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connectionWindow),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: serverPing, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
	}
}

// watchUsers ends the sessions of devices that are no longer admitted.
func (s *Server) watchUsers(ctx context.Context) {
	for {
		changed := s.b.WaitUsers()
		s.sessions.revoke(s.b.Admitted)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
