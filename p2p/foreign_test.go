package p2p_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

// knock dials n by hand as the owner of key, with a certificate or none.
func knock(n *node, key *noise.PrivateKey, secret mesh.Secret, certificate []byte) (*noise.Conn, error) {
	ctx, cancel := context.WithTimeout(n.m.t.Context(), patience)
	defer cancel()
	payload, err := port.PackCertificate(certificate, port.CertificateSpace)
	if err != nil {
		n.m.t.Fatal(err)
	}
	conn, _, err := port.Dial(ctx, n.addr, port.MeshParams(n.set.ID(), secret.PSK()), key, n.key.Public(), port.NewClockStamps(nil), payload)
	return conn, err
}

// Who is no member gets no answer, whatever it knows.
func TestStrangerGetsNoAnswer(t *testing.T) {
	m := newMesh(t)
	a := m.node("a", true)
	key, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := mesh.NewSecret(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := passport.TimeOf(time.Now())
	cases := map[string]struct {
		secret      mesh.Secret
		certificate []byte
	}{
		"no certificate":                  {m.secret, nil},
		"wrong secret":                    {wrong, m.certify(key.Public()).Bytes()},
		"certificate of another node":     {m.secret, m.certify(other.Public()).Bytes()},
		"certificate by itself":           {m.secret, mesh.Certify(key, m.start.Mesh(), key.Public(), now, 90).Bytes()},
		"certificate that has ended":      {m.secret, mesh.Certify(m.founder, m.start.Mesh(), key.Public(), now-100*86400, 90).Bytes()},
		"statement that is no such thing": {m.secret, m.start.Bytes()},
		"garbage":                         {m.secret, []byte("garbage")},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			conn, err := knock(a, key, c.secret, c.certificate)
			if !errors.Is(err, port.ErrNoAnswer) {
				t.Errorf("got %v, %v", conn, err)
			}
		})
	}
	conn, err := knock(a, key, m.secret, m.certify(key.Public()).Bytes())
	if err != nil {
		t.Fatalf("a member is refused too: %v", err)
	}
	conn.Close()
}

// A member that talks nonsense where the exchange of statements is due is closed.
func TestGarbageInsteadOfTheExchange(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	m.connect(a, b)
	key, err := noise.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := knock(a, key, m.secret, m.certify(key.Public()).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	conn.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	_, err = io.Copy(io.Discard, conn)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Error("the connection stays open")
	}
	if len(a.Peers()) != 1 || !a.connected(b) {
		t.Errorf("peers of a: %v", a.Peers())
	}
}

func (n *node) since(o *node) time.Time {
	for _, p := range n.Peers() {
		if p.ID == o.key.Public() {
			return p.Since
		}
	}
	return time.Time{}
}

// random returns n bytes, of which the first is given: gossip passes nothing on twice.
func random(first byte, n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	b[0] = first
	return b
}

func u16(n int, rest ...[]byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(n))
	for _, r := range rest {
		b = append(b, r...)
	}
	return b
}

// Whatever a member sends on any protocol costs at most its own connection: the
// others stay connected, and mail flows on.
func TestGarbageCostsItsSenderAlone(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	m.connect(a, b)
	whole := a.since(b)
	large := mail(t, 3, 1)[0]
	cases := []struct {
		name, protocol string
		send           func(w io.Writer, evil *node) error
	}{
		{"length beyond the limit", p2p.MeshProtocol, func(w io.Writer, evil *node) error {
			_, err := w.Write([]byte{0xff, 0xff, 0xff, 0xff, 1})
			return err
		}},
		{"hello with a wrong count", p2p.MeshProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 1, []byte{0, 0xff, 0, 0, 0})
		}},
		{"statements before hello", p2p.MeshProtocol, func(w io.Writer, evil *node) error { return p2p.WriteMessage(w, 2, u16(0)) }},
		{"empty message", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			_, err := w.Write(make([]byte, 4))
			return err
		}},
		{"offer of too many ids", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 1, u16(257, make([]byte, 255*32)))
		}},
		{"an id twice", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 1, u16(2, make([]byte, 64)))
		}},
		{"envelope nobody asked for", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 3, large.Bytes())
		}},
		{"another envelope than the one wanted", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			id := [32]byte{1}
			if err := p2p.WriteMessage(w, 1, u16(1, id[:])); err != nil {
				return err
			}
			return p2p.WriteMessage(w, 3, mail(t, 0, 1)[0].Bytes())
		}},
		{"no envelope where one is wanted", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			id := [32]byte{2}
			if err := p2p.WriteMessage(w, 1, u16(1, id[:])); err != nil {
				return err
			}
			return p2p.WriteMessage(w, 3, []byte("garbage"))
		}},
		{"get of too many", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 5, u16(17, make([]byte, 17*32)))
		}},
		{"challenge of too many", p2p.CustodyProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 6, u16(17, make([]byte, 17*48)))
		}},
		{"proofs that nobody asked for", p2p.CustodyProtocol, func(w io.Writer, evil *node) error { return p2p.WriteMessage(w, 7, u16(0)) }},
		{"ask for too many passports", p2p.PassportProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 5, u16(257, make([]byte, 257*32)))
		}},
		{"frame before an opening", p2p.ReconcileProtocol, func(w io.Writer, evil *node) error { return p2p.WriteMessage(w, 3, nil) }},
		{"opening with a crooked window", p2p.ReconcileProtocol, func(w io.Writer, evil *node) error {
			return p2p.WriteMessage(w, 1, append([]byte{1, 1, 0, 0, 0, 2, 0, 0, 0, 1}, make([]byte, 8)...))
		}},
		{"garbage as frame", p2p.ReconcileProtocol, func(w io.Writer, evil *node) error {
			if err := p2p.WriteMessage(w, 1, opening(1)); err != nil {
				return err
			}
			return p2p.WriteMessage(w, 3, random(9, 200))
		}},
		{"frame beyond the limit", p2p.ReconcileProtocol, func(w io.Writer, evil *node) error {
			if err := p2p.WriteMessage(w, 1, opening(2)); err != nil {
				return err
			}
			_, err := w.Write([]byte{0, 0x10, 0, 0, 3})
			return err
		}},
		{"blocks before tips", p2p.PassportProtocol, func(w io.Writer, evil *node) error { return p2p.WriteMessage(w, 3, nil) }},
		{"garbage as block", p2p.PassportProtocol, func(w io.Writer, evil *node) error {
			if err := p2p.WriteMessage(w, 1, u16(1, make([]byte, 32))); err != nil {
				return err
			}
			return p2p.WriteMessage(w, 3, []byte("garbage"))
		}},
		{"a passport under another id", p2p.PassportProtocol, func(w io.Writer, evil *node) error {
			if err := p2p.WriteMessage(w, 1, u16(1, make([]byte, 32))); err != nil {
				return err
			}
			if err := p2p.WriteMessage(w, 3, person(t).p.Blocks()[0].Bytes()); err != nil {
				return err
			}
			return p2p.WriteMessage(w, 4, nil)
		}},
		{"gossip of an unknown type", "", func(_ io.Writer, evil *node) error {
			return evil.Publish(t.Context(), random(9, 100))
		}},
		{"whole envelope of the largest class", "", func(_ io.Writer, evil *node) error {
			return evil.Publish(t.Context(), append([]byte{0}, mail(t, 3, 1)[0].Bytes()...))
		}},
		{"announcement with a crooked end", "", func(_ io.Writer, evil *node) error {
			b := random(1, 53)
			copy(b[1:5], []byte{0x20, 0, 0, 1})
			return evil.Publish(t.Context(), b)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			evil := m.node("evil", false)
			defer evil.stop()
			m.connect(evil, b)
			before := b.since(evil)
			dropped := func() bool { return !b.since(evil).Equal(before) }
			if c.protocol == "" {
				gossipUntil(t, m, func() { c.send(nil, evil) }, dropped)
			} else {
				s, err := evil.OpenStream(t.Context(), b.key.Public(), c.protocol)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.send(s, evil); err != nil {
					t.Fatal(err)
				}
				m.bell.until(t, "b drops evil", dropped)
			}
		})
	}
	if !a.since(b).Equal(whole) {
		t.Error("a lost its connection too")
	}
	all := mail(t, 0, 1)
	b.submit(all)
	a.has(all)
	if _, err := b.spool.Envelope(large.ID()); err == nil {
		t.Error("b stores what it did not ask for")
	}
}

// gossipUntil publishes again and again, since gossip goes to grafted peers only.
func gossipUntil(t *testing.T, m *testMesh, send func(), done func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			send()
			select {
			case <-tick.C:
				m.bell.ring()
			case <-ctx.Done():
			}
		}
	}()
	m.bell.until(t, "the sender of bad gossip is dropped", done)
}

// impatient makes a mesh of a and evil, both connected with b, which waits half a second for
// an answer.
func impatient(t *testing.T) (m *testMesh, a, b, evil *node) {
	m = newMesh(t)
	a, b, evil = m.node("a", false), m.node("b", true), m.node("evil", false)
	b.stop()
	b.limit = 500 * time.Millisecond
	b.start(true)
	m.connect(a, b)
	m.connect(evil, b)
	return m, a, b, evil
}

// A neighbour that offers what it then does not send holds nobody up for longer than
// the timeout: the envelope comes from another one.
func TestOfferThatIsNotKept(t *testing.T) {
	m, a, b, evil := impatient(t)
	all := mail(t, 3, 1)
	s, err := evil.OpenStream(t.Context(), b.key.Public(), p2p.CustodyProtocol)
	if err != nil {
		t.Fatal(err)
	}
	id := all[0].ID()
	if err := p2p.WriteMessage(s, 1, u16(1, id[:])); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4+1+2+1)
	if _, err := io.ReadFull(s, answer); err != nil || answer[7] != 1 {
		t.Fatalf("answer %x, %v; want 1", answer, err)
	}
	a.submit(all) // b answers "later" as long as evil has its chance
	b.has(all)
	m.bell.until(t, "a knows that b stores it", func() bool { return a.store.Custody(id) == 1 })
}

// Envelopes that no node may keep are refused without harm to who has them.
func TestRefusedEnvelopeCostsNothing(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	m.connect(a, b)
	e := mail(t, 0, 1)[0]
	e.Expires = passport.TimeOf(time.Now().Add(40*24*time.Hour)) / 3600 * 3600
	far, err := envelope.Parse(e.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.OpenStream(t.Context(), b.key.Public(), p2p.CustodyProtocol)
	if err != nil {
		t.Fatal(err)
	}
	id := far.ID()
	if err := p2p.WriteMessage(s, 1, u16(1, id[:])); err != nil {
		t.Fatal(err)
	}
	if err := p2p.WriteMessage(s, 3, far.Bytes()); err != nil {
		t.Fatal(err)
	}
	answers := make([]byte, 2*(4+1+2+1))
	s.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(s, answers); err != nil || answers[7] != 1 || answers[15] != 2 {
		t.Fatalf("answers %x, %v; want 1 and 2", answers, err)
	}
	if !b.connected(a) {
		t.Error("b dropped a")
	}
}

// A neighbour that offers an envelope again and again, on all streams that it may have,
// and never sends it, does not keep it away from others.
func TestStallerKeepsNothingAway(t *testing.T) {
	_, a, b, evil := impatient(t)
	all := mail(t, 3, 1)
	id := all[0].ID()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wanted := make(chan struct{}, 1)
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				s, err := evil.OpenStream(ctx, b.key.Public(), p2p.CustodyProtocol)
				if err != nil {
					continue
				}
				for ctx.Err() == nil {
					s.SetDeadline(time.Now().Add(time.Second))
					if p2p.WriteMessage(s, 1, u16(1, id[:])) != nil {
						break
					}
					_, answer, err := p2p.ReadMessage(s)
					if err != nil {
						break
					}
					if answer[2] == 1 {
						select {
						case wanted <- struct{}{}:
						default:
						}
					}
				}
				s.Reset()
			}
		})
	}
	<-wanted
	a.submit(all)
	b.has(all)
}
