package clientapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/noise"
)

// Client is one connection to a node. It is safe for concurrent use. Errors of its
// calls wrap one of this package's sentinels, or are the context's or the callback's.
type Client struct {
	node noise.PublicKey
	conn *watchedConn
	rpc  *grpc.ClientConn
	call nodepb.NodeClient

	limit time.Duration // answerLimit, less in tests
}

// Dial connects to the node with key node at addr, as the device with key own. The
// errors are those of [port.Dial]: [net.OpError] if nothing listens there,
// [port.ErrNoAnswer] if what listens does not answer this device.
func Dial(ctx context.Context, addr string, node noise.PublicKey, own *noise.PrivateKey, stamps port.StampSource) (*Client, error) {
	conn, _, err := port.Dial(ctx, addr, port.ClientParams(), own, node, stamps, nil)
	if err != nil {
		return nil, err
	}
	c, err := newClient(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	c.node = node
	return c, nil
}

// newClient gives gRPC a connection that is open already, and only that one: without
// it gRPC would dial again and again in the background and hide why.
func newClient(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{conn: &watchedConn{Conn: conn, done: make(chan struct{})}, limit: answerLimit}
	var used atomic.Bool
	rpc, err := grpc.NewClient("passthrough:///node",
		grpc.WithTransportCredentials(authenticated{}),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, ErrUnavailable
			}
			return c.conn, nil
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, Timeout: pingTimeout}),
		grpc.WithUnaryInterceptor(c.limited),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.rpc, c.call = rpc, nodepb.NewNodeClient(rpc)
	if err := c.ready(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// readyLimit is how long a node that has done the handshake may take to speak gRPC.
const readyLimit = 10 * time.Second

// ready waits until gRPC's own greeting is done.
func (c *Client) ready(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	c.rpc.Connect()
	for {
		state := c.rpc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return ErrUnavailable
		}
		if !c.rpc.WaitForStateChange(limited, state) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: no greeting within %v", ErrUnavailable, readyLimit)
		}
	}
}

// Node returns the key of the node.
func (c *Client) Node() noise.PublicKey { return c.node }

// Done is closed when the connection has broken or was closed.
func (c *Client) Done() <-chan struct{} { return c.conn.done }

// Close ends calls under way and closes the connection.
func (c *Client) Close() error {
	err := c.rpc.Close()
	// If gRPC never took the connection, it does not close it.
	c.conn.Close()
	if err != nil {
		return fmt.Errorf("close the connection to the node: %w", err)
	}
	return nil
}

// watchedConn tells when it is closed, which gRPC does as soon as it is of no use.
type watchedConn struct {
	net.Conn
	once sync.Once
	done chan struct{}
}

// Close closes the connection.
func (c *watchedConn) Close() (err error) {
	c.once.Do(func() {
		err = c.Conn.Close()
		close(c.done)
	})
	return err
}
