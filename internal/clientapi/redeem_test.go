package clientapi_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/invite"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// host answers the guests of one token until the test ends.
func host(t *testing.T, token mesh.Token, decide func(guest noise.PublicKey, kind invite.Kind) error) (key noise.PublicKey, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := newKey(t)
	p := port.New(ln, port.Options{
		Key: own, Stamps: anyStamp{}, HoldMin: hold, HoldMax: hold,
		Gates: map[port.Version]port.Gate{port.Join: {
			Params: func(hint []byte) (noise.Params, bool) {
				want := token.Hint()
				return port.JoinParams(token), string(hint) == string(want[:])
			},
			Admit: func(noise.PublicKey, []byte) ([]byte, error) {
				return port.PackCertificate(nil, port.ReplyCertificateSpace)
			},
		}},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	wg.Go(func() {
		for {
			c, err := p.Listener(port.Join).Accept()
			if err != nil {
				return
			}
			guest := c.(*port.JoinConn).PeerKey()
			// An error is the guest's to see.
			_ = invite.Answer(ctx, c, func(_ context.Context, kind invite.Kind) (*invite.Reply, error) { return nil, decide(guest, kind) })
			c.Close()
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return own.Public(), ln.Addr().String()
}

// deadAddress is one where nothing listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestUserLineAdmitsThisDevice(t *testing.T) {
	token, err := mesh.NewToken(nil)
	if err != nil {
		t.Fatal(err)
	}
	device := newKey(t)
	node, addr := host(t, token, func(guest noise.PublicKey, kind invite.Kind) error {
		if guest != device.Public() || kind != invite.BeUser {
			t.Errorf("guest %v asks for %v", guest, kind)
		}
		return nil
	})
	line := &mesh.Line{Kind: mesh.LineUser, Node: node, Addresses: []string{deadAddress(t), addr}, Token: token}
	got, err := clientapi.Redeem(t.Context(), line, device, port.NewClockStamps(time.Now))
	if err != nil || got != addr {
		t.Errorf("got %q, %v; want %q", got, err, addr)
	}
}

func TestUserLineThatIsRefusedSaysWhy(t *testing.T) {
	for _, want := range []error{invite.ErrUsed, invite.ErrEnded, invite.ErrNotAllowed, invite.ErrLater} {
		token, err := mesh.NewToken(nil)
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		node, addr := host(t, token, func(noise.PublicKey, invite.Kind) error { calls++; return want })
		line := &mesh.Line{Node: node, Addresses: []string{addr, addr}, Token: token}
		if _, err := clientapi.Redeem(t.Context(), line, newKey(t), port.NewClockStamps(time.Now)); !errors.Is(err, want) || calls != 1 {
			t.Errorf("got %v after %d calls, want %v after one", err, calls, want)
		}
	}
}

func TestUserLineThatNobodyAnswers(t *testing.T) {
	var token, other mesh.Token
	token[0], other[0] = 1, 2
	node, addr := host(t, token, func(noise.PublicKey, invite.Kind) error { return nil })
	stamps := port.NewClockStamps(time.Now)
	line := &mesh.Line{Node: node, Addresses: []string{addr}, Token: other}
	if _, err := clientapi.Redeem(t.Context(), line, newKey(t), stamps); !errors.Is(err, port.ErrNoAnswer) {
		t.Errorf("unknown token: got %v, want %v", err, port.ErrNoAnswer)
	}
	line.Addresses = []string{deadAddress(t)}
	_, err := clientapi.Redeem(t.Context(), line, newKey(t), stamps)
	if e, ok := errors.AsType[*net.OpError](err); !ok || e.Op != "dial" {
		t.Errorf("no node: got %v, want a net.OpError", err)
	}
	line.Addresses = nil
	if _, err := clientapi.Redeem(t.Context(), line, newKey(t), stamps); err == nil {
		t.Error("no address: no error")
	}
}
