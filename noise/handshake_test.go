package noise_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/edwards25519"

	"github.com/asmtp/asmtp/noise"
)

// fixedKey returns the same key for the same number.
func fixedKey(n byte) *noise.PrivateKey {
	k, err := noise.GenerateKey(noise.NewStream([32]byte{n}))
	if err != nil {
		panic(err)
	}
	return k
}

var (
	alice = fixedKey(1)
	bob   = fixedKey(2)
)

// params are those of the kinds of connections of design.md section 5.
var params = map[string]noise.Params{
	"IK": {Prefix: []byte{2}, Prologue: []byte("asmtp/2 client"), PayloadA: 12},
	"IKpsk0": {Prefix: []byte{4, 1, 2, 3, 4, 5, 6, 7, 8}, Prologue: []byte("asmtp/2 join"),
		PSK: bytes.Repeat([]byte{7}, 32), PayloadA: 512, PayloadB: 512},
}

func admit(p noise.Params) noise.Gate {
	return func(noise.PublicKey, []byte) ([]byte, error) { return make([]byte, p.PayloadB), nil }
}

// request returns what a client with the given randomness sends.
func request(t testing.TB, p noise.Params, own *noise.PrivateKey, to noise.PublicKey, payload []byte) []byte {
	p.Random = noise.NewStream([32]byte{3})
	w := newWire(nil)
	_, _, err := noise.Client(context.Background(), w, p, own, to, payload)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return w.take()
}

// serve gives the server a whole request, prefix included, one byte per read.
func serve(p noise.Params, own *noise.PrivateKey, request []byte, gate noise.Gate) (*noise.Conn, []byte, error) {
	w := newWire(request[len(p.Prefix):])
	w.Reader = iotest.OneByteReader(w.in)
	c, err := noise.Server(context.Background(), w, p, own, gate)
	return c, w.take(), err
}

func TestHandshakeSizesAndPayloads(t *testing.T) {
	for name, p := range params {
		t.Run(name, func(t *testing.T) {
			sent, want := bytes.Repeat([]byte{5}, p.PayloadA), bytes.Repeat([]byte{6}, p.PayloadB)
			req := request(t, p, alice, bob.Public(), sent)
			if len(req) != p.RequestSize() {
				t.Fatalf("request of %d bytes, want %d", len(req), p.RequestSize())
			}
			c, resp, err := serve(p, bob, req, func(peer noise.PublicKey, payload []byte) ([]byte, error) {
				if peer != alice.Public() || !bytes.Equal(payload, sent) {
					t.Error("the gate sees another peer or payload")
				}
				return want, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(resp) != p.ResponseSize() || resp[0] != p.Prefix[0] {
				t.Fatalf("response of %d bytes, want %d", len(resp), p.ResponseSize())
			}
			p.Random = noise.NewStream([32]byte{3})
			w := newWire(resp)
			w.Reader = iotest.OneByteReader(w.in)
			client, reply, err := noise.Client(context.Background(), w, p, alice, bob.Public(), sent)
			if err != nil || !bytes.Equal(reply, want) {
				t.Fatalf("reply %x, %v", reply, err)
			}
			if !bytes.Equal(client.SessionID(), c.SessionID()) || client.PeerKey() != bob.Public() || c.PeerKey() != alice.Public() {
				t.Error("the sides differ in session or keys")
			}
		})
	}
	if r, s := params["IK"].RequestSize(), params["IK"].ResponseSize(); r != 109 || s != 49 {
		t.Errorf("version 2 has %d and %d bytes, want 109 and 49", r, s)
	}
}

// Every byte of the request but the prefix, in turn: refused, not one byte answered,
// the gate not asked.
func TestServerRefusesEveryTamperedByte(t *testing.T) {
	for name, p := range params {
		t.Run(name, func(t *testing.T) {
			req := request(t, p, alice, bob.Public(), make([]byte, p.PayloadA))
			for i := len(p.Prefix); i < len(req); i++ {
				bad := bytes.Clone(req)
				bad[i] ^= 0x20
				_, resp, err := serve(p, bob, bad, func(noise.PublicKey, []byte) ([]byte, error) {
					t.Errorf("byte %d: the gate is asked", i)
					return make([]byte, p.PayloadB), nil
				})
				if !errors.Is(err, noise.ErrRefused) || len(resp) > 0 {
					t.Errorf("byte %d: %v, %d bytes answered", i, err, len(resp))
				}
			}
		})
	}
}

func TestClientRefusesEveryTamperedByte(t *testing.T) {
	for name, p := range params {
		t.Run(name, func(t *testing.T) {
			payload := make([]byte, p.PayloadA)
			_, resp, err := serve(p, bob, request(t, p, alice, bob.Public(), payload), admit(p))
			if err != nil {
				t.Fatal(err)
			}
			for i := range resp {
				bad := bytes.Clone(resp)
				bad[i] ^= 0x20
				p.Random = noise.NewStream([32]byte{3})
				if _, _, err := noise.Client(context.Background(), newWire(bad), p, alice, bob.Public(), payload); !errors.Is(err, noise.ErrWrongPeer) {
					t.Errorf("byte %d: %v", i, err)
				}
			}
		})
	}
}

func TestServerAnswersNothingToWhomItRefuses(t *testing.T) {
	p := params["IKpsk0"]
	payload := make([]byte, p.PayloadA)
	otherPSK, otherPrologue, noPSK := p, p, p
	otherPSK.PSK = bytes.Repeat([]byte{8}, 32)
	otherPrologue.Prologue = []byte("asmtp/2 mesh")
	noPSK.PSK = nil
	no := errors.New("no")
	good := request(t, p, alice, bob.Public(), payload)
	cases := []struct {
		name    string
		request []byte
		gate    noise.Gate
		want    error
	}{
		{"another psk", request(t, otherPSK, alice, bob.Public(), payload), admit(p), noise.ErrRefused},
		{"no psk", request(t, noPSK, alice, bob.Public(), payload), admit(p), noise.ErrRefused},
		{"another prologue", request(t, otherPrologue, alice, bob.Public(), payload), admit(p), noise.ErrRefused},
		{"another server", request(t, p, alice, alice.Public(), payload), admit(p), noise.ErrRefused},
		{"cut", good[:len(good)-1], admit(p), io.ErrUnexpectedEOF},
		{"gate says no", good, func(noise.PublicKey, []byte) ([]byte, error) { return nil, no }, no},
		{"gate's reply is too short", good, func(noise.PublicKey, []byte) ([]byte, error) { return nil, nil }, noise.ErrParams},
	}
	for _, c := range cases {
		if _, resp, err := serve(p, bob, c.request, c.gate); !errors.Is(err, c.want) || len(resp) > 0 {
			t.Errorf("%s: %v, %d bytes answered", c.name, err, len(resp))
		}
	}
}

// Adding a point of small order to one's public key gives another name with the same
// common secrets, so the handshake itself works: the server has to look.
func TestServerRefusesSecondNameOfKey(t *testing.T) {
	name := alice.Public()
	p, err := new(edwards25519.Point).SetBytes(name[:])
	if err != nil {
		t.Fatal(err)
	}
	orderTwo, err := new(edwards25519.Point).SetBytes(append(append([]byte{0xec}, bytes.Repeat([]byte{0xff}, 30)...), 0x7f))
	if err != nil {
		t.Fatal(err)
	}
	other := noise.WithPublic(alice, noise.PublicKey(p.Add(p, orderTwo).Bytes()))
	for kind, p := range params {
		req := request(t, p, other, bob.Public(), make([]byte, p.PayloadA))
		_, resp, err := serve(p, bob, req, func(noise.PublicKey, []byte) ([]byte, error) {
			t.Error("the gate is asked")
			return make([]byte, p.PayloadB), nil
		})
		if !errors.Is(err, noise.ErrKey) || len(resp) > 0 {
			t.Errorf("%s: %v, %d bytes answered", kind, err, len(resp))
		}
	}
}

func TestClientChecksWhatItIsGiven(t *testing.T) {
	p := params["IK"]
	for name, err := range map[string]error{
		"payload": func() error {
			_, _, err := noise.Client(context.Background(), newWire(nil), p, alice, bob.Public(), nil)
			return err
		}(),
		"psk": func() error {
			p := p
			p.PSK = make([]byte, 31)
			_, _, err := noise.Client(context.Background(), newWire(nil), p, alice, bob.Public(), make([]byte, 12))
			return err
		}(),
	} {
		if !errors.Is(err, noise.ErrParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w := newWire(nil)
	if _, _, err := noise.Client(context.Background(), w, p, alice, noise.PublicKey{1}, make([]byte, 12)); !errors.Is(err, noise.ErrKey) || len(w.take()) > 0 {
		t.Errorf("identity as the peer: %v", err)
	}
}

func TestContextEndsHandshake(t *testing.T) {
	p := params["IK"]
	for side, run := range map[string]func(context.Context, net.Conn) error{
		"client": func(ctx context.Context, c net.Conn) error {
			_, _, err := noise.Client(ctx, c, p, alice, bob.Public(), make([]byte, 12))
			return err
		},
		"server": func(ctx context.Context, c net.Conn) error {
			_, err := noise.Server(ctx, c, p, bob, admit(p))
			return err
		},
	} {
		t.Run(side, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- run(ctx, a) }()
			cancel()
			select {
			case err := <-done:
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on")
			}
		})
	}
}
