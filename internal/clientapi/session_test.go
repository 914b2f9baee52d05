package clientapi_test

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/port"
)

// follow runs Sync until it ends; caught is closed when it waits for new mail.
func follow(ctx context.Context, c *clientapi.Client) (caught chan struct{}, ended chan error) {
	caught, ended = make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- c.Sync(ctx, clientapi.Position{}, true, func(i clientapi.Item) error {
			if i.CaughtUp {
				close(caught)
			}
			return nil
		})
	}()
	return caught, ended
}

func result(t *testing.T, ended <-chan error, what string) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
		return nil
	}
}

func TestRevokedDeviceIsPutOutWithTheReason(t *testing.T) {
	n, r, c, device := start(t)
	caught, ended := follow(t.Context(), c)
	within(t, caught, "sync waits")
	n.revoke(device.Public())
	if err := result(t, ended, "the call ends"); !errors.Is(err, clientapi.ErrNotAllowed) {
		t.Errorf("call under way: got %v, want %v", err, clientapi.ErrNotAllowed)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, clientapi.ErrNotAllowed) && !errors.Is(err, clientapi.ErrUnavailable) {
		t.Errorf("next call: got %v", err)
	}
	within(t, c.Done(), "the connection is closed")
	if _, err := clientapi.Dial(t.Context(), r.addr, r.key.Public(), device, port.NewClockStamps(time.Now)); !errors.Is(err, port.ErrNoAnswer) {
		t.Errorf("next connection: got %v, want %v", err, port.ErrNoAnswer)
	}
}

// The check of each call does not rely on the signal.
func TestEveryCallIsAuthorised(t *testing.T) {
	n, _, c, device := start(t)
	n.mu.Lock()
	n.admitted[device.Public()] = false
	n.mu.Unlock()
	if _, err := c.Status(t.Context()); !errors.Is(err, clientapi.ErrNotAllowed) {
		t.Errorf("unary: got %v, want %v", err, clientapi.ErrNotAllowed)
	}
	o := newOutbox(seal(0, 1))
	if _, err := c.Submit(t.Context(), o.ids, o.fetch); !errors.Is(err, clientapi.ErrNotAllowed) || len(n.stored) > 0 {
		t.Errorf("stream: got %v, want %v", err, clientapi.ErrNotAllowed)
	}
}

func TestOtherDevicesStayWhenOneIsRevoked(t *testing.T) {
	n, r, c, _ := start(t)
	other := newKey(t)
	n.mu.Lock()
	n.admitted[other.Public()] = true
	n.mu.Unlock()
	second := r.dial(t, other)
	n.revoke(other.Public())
	within(t, second.Done(), "the revoked one is put out")
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if got := r.api.Sessions(); got != 1 {
		t.Errorf("%d sessions", got)
	}
}

func TestNinthConnectionOfADeviceClosesTheOldest(t *testing.T) {
	_, r, first, device := start(t)
	if _, err := first.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rest []*clientapi.Client
	for range clientapi.MaxSessions {
		rest = append(rest, r.dial(t, device))
	}
	within(t, first.Done(), "the oldest is closed")
	if _, err := first.Status(t.Context()); !errors.Is(err, clientapi.ErrUnavailable) {
		t.Errorf("the oldest: got %v, want %v", err, clientapi.ErrUnavailable)
	}
	for _, c := range rest {
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestNodeThatStopsEndsCallsAsUnavailable(t *testing.T) {
	_, r, c, _ := start(t)
	caught, ended := follow(t.Context(), c)
	within(t, caught, "sync waits")
	r.stop()
	if err := result(t, ended, "the call ends"); !errors.Is(err, clientapi.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, clientapi.ErrUnavailable)
	}
	within(t, c.Done(), "the connection is closed")
	_, err := clientapi.Dial(t.Context(), r.addr, r.key.Public(), newKey(t), port.NewClockStamps(time.Now))
	if e, ok := errors.AsType[*net.OpError](err); !ok || e.Op != "dial" {
		t.Errorf("no node: got %v, want a net.OpError", err)
	}
}

func TestBrokenConnectionIsNotDialledAgain(t *testing.T) {
	_, r, c, _ := start(t)
	r.stop()
	within(t, c.Done(), "the connection is closed")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 3 {
		if _, err := c.Status(ctx); !errors.Is(err, clientapi.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, clientapi.ErrUnavailable)
		}
	}
}

func TestCallersEndIsReturnedAsItIs(t *testing.T) {
	_, _, c, _ := start(t)
	reason := errors.New("ctrl-c")
	ctx, cancel := context.WithCancelCause(t.Context())
	caught, ended := follow(ctx, c)
	within(t, caught, "sync waits")
	cancel(reason)
	if err := result(t, ended, "the call ends"); !errors.Is(err, reason) {
		t.Errorf("got %v, want %v", err, reason)
	}
}

func TestCloseEndsCalls(t *testing.T) {
	_, _, c, _ := start(t)
	caught, ended := follow(t.Context(), c)
	within(t, caught, "sync waits")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := result(t, ended, "the call ends"); !errors.Is(err, clientapi.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, clientapi.ErrUnavailable)
	}
}

func TestStreamsOfOneConnectionAreBounded(t *testing.T) {
	_, _, c, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var ends []chan error
	for range clientapi.MaxStreams {
		caught, ended := follow(ctx, c)
		within(t, caught, "sync waits")
		ends = append(ends, ended)
	}
	short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	if _, err := c.Status(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: got %v, want %v", err, context.DeadlineExceeded)
	}
	cancel()
	for _, ended := range ends {
		result(t, ended, "the calls end")
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("after the others: %v", err)
	}
}

// A client that does not read must not make the node keep its mailbox in memory.
func TestSlowReaderCostsNoMemory(t *testing.T) {
	n, _, c, _ := start(t)
	e := seal(3, 0).Bytes()
	const count = 2000 // 120 MB, all of it one slice here
	for i := range count {
		n.mailbox = append(n.mailbox, envelope.Delivery{Number: uint64(i + 1), Envelope: e})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stuck, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- c.Sync(ctx, clientapi.Position{}, true, func(clientapi.Item) error {
			close(stuck)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	within(t, stuck, "the first comes")
	// Other calls go on while one is not read.
	for range 20 {
		if _, err := c.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	cancel()
	result(t, ended, "the call ends")
}

func TestErrorsOfGRPCAreNamed(t *testing.T) {
	for code, want := range map[codes.Code]error{
		codes.Unavailable: clientapi.ErrUnavailable, codes.Canceled: clientapi.ErrUnavailable,
		codes.PermissionDenied: clientapi.ErrNotAllowed, codes.ResourceExhausted: clientapi.ErrLimit,
		codes.Unimplemented: clientapi.ErrInvalid, codes.Internal: clientapi.ErrNodeFailed, codes.DataLoss: clientapi.ErrNodeFailed,
	} {
		if err := clientapi.FromStatus(t.Context(), status.Error(code, "x")); !errors.Is(err, want) {
			t.Errorf("%v: got %v, want %v", code, err, want)
		}
	}
	if err := clientapi.FromStatus(t.Context(), nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}
