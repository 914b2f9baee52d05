package invite_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/internal/invite"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func full() *invite.Reply {
	return &invite.Reply{
		Secret:      mesh.Secret{1, 2, 3},
		Certificate: []byte("certificate"),
		Statements:  [][]byte{[]byte("founding"), bytes.Repeat([]byte{7}, mesh.MaxStatement)},
		Peers: []invite.Peer{
			{Key: noise.PublicKey{9}, Addresses: []string{"192.0.2.1:9800", "[2001:db8::1]:9800"}},
			{Key: noise.PublicKey{8}},
		},
	}
}

// The bytes of the package comment, written out by hand.
func TestBytesOfAReply(t *testing.T) {
	r := &invite.Reply{Secret: mesh.Secret{31: 5}, Certificate: []byte("c"), Statements: [][]byte{[]byte("st")},
		Peers: []invite.Peer{{Key: noise.PublicKey{0: 6}, Addresses: []string{"a:1"}}}}
	want := "\x00" + strings.Repeat("\x00", 31) + "\x05" + "\x00\x01c" +
		"\x00\x00\x00\x01" + "\x00\x02st" +
		"\x00\x01" + "\x06" + strings.Repeat("\x00", 31) + "\x01" + "\x03a:1"
	got, err := r.Encode(invite.JoinMesh)
	if err != nil || string(got) != want {
		t.Errorf("got %x, %v\nwant %x", got, err, want)
	}
	if got, err := r.Encode(invite.BeUser); err != nil || string(got) != "\x00" {
		t.Errorf("for a user: got %x, %v", got, err)
	}
}

func TestEveryCutOfAReplyIsRefused(t *testing.T) {
	b, err := full().Encode(invite.JoinMesh)
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if _, err := invite.ParseReply(b[:n], invite.JoinMesh); !errors.Is(err, invite.ErrFormat) {
			t.Fatalf("cut at %d: got %v", n, err)
		}
	}
	if _, err := invite.ParseReply(append(b, 0), invite.JoinMesh); !errors.Is(err, invite.ErrFormat) {
		t.Errorf("one byte more: got %v", err)
	}
	got, err := invite.ParseReply(b, invite.JoinMesh)
	if err != nil || !reflect.DeepEqual(got, full()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRepliesBeyondALimitAreNotSent(t *testing.T) {
	for name, change := range map[string]func(*invite.Reply){
		"no certificate":    func(r *invite.Reply) { r.Certificate = nil },
		"long statement":    func(r *invite.Reply) { r.Statements[0] = make([]byte, mesh.MaxStatement+1) },
		"many peers":        func(r *invite.Reply) { r.Peers = make([]invite.Peer, invite.MaxPeers+1) },
		"many addresses":    func(r *invite.Reply) { r.Peers[0].Addresses = make([]string, invite.MaxAddresses+1) },
		"long address":      func(r *invite.Reply) { r.Peers[0].Addresses[0] = strings.Repeat("a", 256) },
		"too many in total": func(r *invite.Reply) { r.Statements = make2(invite.MaxReply/mesh.MaxStatement + 1) },
	} {
		r := full()
		change(r)
		if _, err := r.Encode(invite.JoinMesh); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func make2(n int) [][]byte {
	s := make([][]byte, n)
	for i := range s {
		s[i] = make([]byte, mesh.MaxStatement)
	}
	return s
}

// exchange runs both halves over a pipe.
func exchange(t *testing.T, kind invite.Kind, decide func(context.Context, invite.Kind) (*invite.Reply, error)) (reply *invite.Reply, asked, answered error) {
	t.Helper()
	guest, host := net.Pipe()
	defer guest.Close()
	done := make(chan error, 1)
	go func() {
		defer host.Close()
		done <- invite.Answer(t.Context(), host, decide)
	}()
	reply, asked = invite.Ask(t.Context(), guest, kind)
	return reply, asked, <-done
}

func TestReplyReachesTheGuest(t *testing.T) {
	for kind, want := range map[invite.Kind]*invite.Reply{invite.JoinMesh: full(), invite.BeUser: {}} {
		got, asked, answered := exchange(t, kind, func(_ context.Context, k invite.Kind) (*invite.Reply, error) {
			if k != kind {
				t.Errorf("asked for %d, want %d", k, kind)
			}
			return full(), nil
		})
		if asked != nil || answered != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, %v", got, asked, answered)
		}
	}
}

func TestRefusalsReachTheGuestAsTheirReason(t *testing.T) {
	secret := errors.New("disk full at /secret/place")
	for _, c := range []struct{ host, guest error }{
		{invite.ErrUsed, invite.ErrUsed}, {invite.ErrEnded, invite.ErrEnded},
		{invite.ErrNotAllowed, invite.ErrNotAllowed}, {secret, invite.ErrLater},
	} {
		_, asked, answered := exchange(t, invite.JoinMesh, func(context.Context, invite.Kind) (*invite.Reply, error) { return nil, c.host })
		if !errors.Is(asked, c.guest) || strings.Contains(asked.Error(), "secret") {
			t.Errorf("the guest got %v, want %v", asked, c.guest)
		}
		if !errors.Is(answered, c.host) {
			t.Errorf("the host got %v, want %v", answered, c.host)
		}
	}
	_, asked, _ := exchange(t, 9, func(context.Context, invite.Kind) (*invite.Reply, error) {
		t.Error("unknown request reached the host")
		return nil, nil
	})
	if !errors.Is(asked, invite.ErrNotAllowed) {
		t.Errorf("unknown request: got %v", asked)
	}
}

func TestAnnouncedLengthIsNotBelieved(t *testing.T) {
	guest, host := net.Pipe()
	defer guest.Close()
	go func() {
		defer host.Close()
		io.ReadFull(host, make([]byte, 1))
		host.Write(binary.BigEndian.AppendUint32(nil, invite.MaxReply+1))
	}()
	if _, err := invite.Ask(t.Context(), guest, invite.JoinMesh); !errors.Is(err, invite.ErrFormat) {
		t.Errorf("got %v", err)
	}
}

func TestBothHalvesEndWithTheirContext(t *testing.T) {
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	reason := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	errs := make(chan error, 2)
	go func() { _, err := invite.Ask(ctx, left, invite.JoinMesh); errs <- err }()
	request := make([]byte, 1)
	if _, err := io.ReadFull(right, request); err != nil {
		t.Fatal(err)
	}
	go func() { errs <- invite.Answer(ctx, right, nil) }()
	cancel(reason)
	for range 2 {
		if err := <-errs; !errors.Is(err, reason) {
			t.Errorf("got %v, want %v", err, reason)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	b, err := full().Encode(invite.JoinMesh)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, byte(invite.JoinMesh))
	f.Add([]byte{0}, byte(invite.BeUser))
	f.Add([]byte{1}, byte(invite.JoinMesh))
	f.Add(b[:40], byte(invite.JoinMesh))
	f.Fuzz(func(t *testing.T, b []byte, k byte) {
		kind := invite.JoinMesh + invite.Kind(k&1)
		r, err := invite.ParseReply(b, kind)
		if err != nil {
			return
		}
		if again, err := r.Encode(kind); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}
