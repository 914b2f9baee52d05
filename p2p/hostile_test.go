package p2p_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/p2p"
	"github.com/asmtp/asmtp/passport"
)

// opening is a well formed opening of a session over envelopes.
func opening(set byte) []byte {
	b := []byte{1, set}
	b = binary.BigEndian.AppendUint32(b, uint32(passport.TimeOf(time.Now())))
	b = binary.BigEndian.AppendUint32(b, 0xffffffff)
	return binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixMilli()))
}

// goOn is a reply that goes on.
func goOn() []byte {
	return binary.BigEndian.AppendUint64([]byte{0}, uint64(time.Now().UnixMilli()))
}

// answering has an evil node answer openings, and each frame with what lie returns for it.
func answering(lie func(set byte, frame []byte) []byte) func(network.Stream) {
	return func(s network.Stream) {
		_, open, err := p2p.ReadMessage(s)
		if err != nil || p2p.WriteMessage(s, 2, goOn()) != nil {
			return
		}
		for {
			_, frame, err := p2p.ReadMessage(s)
			if err != nil || p2p.WriteMessage(s, 3, lie(open[1], frame)) != nil {
				return
			}
		}
	}
}

// firstBound returns a frame up to the mode of the first range that it asks for.
func firstBound(frame []byte) []byte {
	at := 0
	for {
		for frame[at] >= 0x80 {
			at++
		}
		at += 2 + int(frame[at+1])
		if frame[at] != 0 {
			return append([]byte{}, frame[:at]...)
		}
		at++ // a gap
	}
}

// lists answers the first range of a frame with ids; of passports it says to have none.
func lists(ids []byte) func(set byte, frame []byte) []byte {
	return func(set byte, frame []byte) []byte {
		if set != 1 {
			return append(firstBound(frame), 2, 0)
		}
		n := len(ids) / 32
		head := append(firstBound(frame), 2)
		if n >= 0x80 {
			head = append(head, 0x80|byte(n>>7))
		}
		return append(append(head, byte(n&0x7f)), ids...)
	}
}

// Nothing that a lying neighbour says in a reconciliation makes it count as a holder,
// makes a node keep anything, or keeps others from being served.
func TestLyingAnswerers(t *testing.T) {
	cases := map[string]struct {
		lie     func(set byte, frame []byte) []byte
		dropped bool
	}{
		"it agrees by the opener's own words": {func(set byte, frame []byte) []byte {
			bound := firstBound(frame)
			if set != 1 || frame[len(bound)] != 1 {
				return append(bound, 2, 0)
			}
			return append(append(bound, 3), frame[len(bound)+1:][:16]...)
		}, true},
		"it says that all is alike":       {func(byte, []byte) []byte { return []byte{0, 0, 0} }, true},
		"it says nothing":                 {func(byte, []byte) []byte { return nil }, true},
		"it sends garbage":                {func(byte, []byte) []byte { return random(1, 300) }, true},
		"it says to have nothing":         {func(_ byte, frame []byte) []byte { return append(firstBound(frame), 2, 0) }, false},
		"it says to have what nobody has": {lists(random(7, 1000*32)), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			a, b := m.node("a", false), m.node("b", true)
			evil := m.node("evil", true)
			evil.Handle(p2p.ReconcileProtocol, answering(c.lie))
			own := spread(t, 400)
			a.keep(own[:200])
			a.submit(own[200:])
			// It takes no offers and gives nothing either.
			evil.Handle(p2p.CustodyProtocol, func(s network.Stream) {
				for {
					kind, body, err := p2p.ReadMessage(s)
					if err != nil {
						return
					}
					for n := 0; kind == 5 && n < (len(body)-2)/32; n++ {
						if p2p.WriteMessage(s, 4, body[2+32*n:][:32]) != nil {
							return
						}
					}
				}
			})
			m.connect(a, evil)
			began := a.since(evil)
			if c.dropped {
				m.bell.until(t, "evil is dropped", func() bool { return !a.since(evil).Equal(began) })
			} else {
				m.bell.until(t, "the round is over", func() bool {
					r := a.with(evil)
					return r.Err != "" || !r.Last.IsZero()
				})
				if r := a.with(evil); r.Lacking != 400 || !a.since(evil).Equal(began) {
					t.Errorf("the lie did not work: %+v", r)
				}
			}
			for _, e := range own {
				if a.store.Custody(e.ID()) != 0 {
					t.Fatal("a liar counts as holder")
				}
			}
			if r := a.with(evil); r.Gone > 0 {
				if r.Gone < 16 || r.Gone > 16*16 || a.Idle(evil.key.Public()) == 0 {
					t.Errorf("asked for %d that it does not have", r.Gone)
				}
			} else if name == "it says to have what nobody has" {
				t.Errorf("not asked for what it said to have: %+v", r)
			}
			m.connect(a, b)
			b.has(own)
		})
	}
}

// A neighbour that never answers, or never ends, a reconciliation costs its time and
// holds up nobody else.
func TestStallingAnswerers(t *testing.T) {
	m := newMesh(t)
	a, b := m.node("a", false), m.node("b", true)
	all := spread(t, 200)
	a.keep(all)
	a.stop()
	a.limit = 500 * time.Millisecond
	a.start(false)
	for i := range 3 {
		evil := m.node("evil"+string(rune('0'+i)), true)
		evil.Handle(p2p.ReconcileProtocol, func(s network.Stream) {
			io.Copy(io.Discard, s)
		})
		m.connect(a, evil)
		defer func() {
			m.bell.until(t, "the round with it ends with an error", func() bool { return a.with(evil).Err != "" })
		}()
	}
	m.connect(a, b)
	b.has(all)
}

// What a neighbour that opens reconciliations without end gets is "busy"; an opener that
// does not go on loses its stream after the time of a session.
func TestFloodOfOpenings(t *testing.T) {
	m := newMesh(t)
	b := m.node("b", true)
	b.stop()
	b.limit = time.Second
	b.start(true)
	b.keep(spread(t, 1000))
	evil, a := m.node("evil", false), m.node("a", false)
	m.connect(evil, b)
	answers := map[byte]int{}
	for range 60 {
		s, err := evil.OpenStream(t.Context(), b.key.Public(), p2p.ReconcileProtocol)
		if err != nil {
			t.Fatal(err)
		}
		s.SetDeadline(time.Now().Add(patience))
		if err := p2p.WriteMessage(s, 1, opening(1)); err != nil {
			t.Fatal(err)
		}
		kind, body, err := p2p.ReadMessage(s)
		if err == nil && kind == 2 {
			answers[body[0]]++
		}
		s.Close()
	}
	if answers[0] > 20 || answers[1] < 30 {
		t.Errorf("answers by code: %v", answers)
	}
	stalled, err := evil.OpenStream(t.Context(), b.key.Public(), p2p.ReconcileProtocol)
	if err != nil {
		t.Fatal(err)
	}
	if err := p2p.WriteMessage(stalled, 1, opening(1)); err != nil {
		t.Fatal(err)
	}
	stalled.SetReadDeadline(time.Now().Add(patience))
	_, err = io.Copy(io.Discard, stalled)
	if late, ok := err.(net.Error); ok && late.Timeout() {
		t.Error("a stream on which nothing comes stays open")
	}
	if !b.connected(evil) {
		t.Error("evil was dropped for it")
	}
	m.connect(a, b)
	a.settled(b, time.Time{})
}

// A reconciliation that goes on and on ends with the time that a session has.
func TestSessionEnds(t *testing.T) {
	m := newMesh(t)
	b, evil := m.node("b", true), m.node("evil", false)
	b.SetSessionTime(400 * time.Millisecond)
	m.connect(evil, b)
	s, err := evil.OpenStream(t.Context(), b.key.Public(), p2p.ReconcileProtocol)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	if err := p2p.WriteMessage(s, 1, opening(1)); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	rounds := 0
	for ; ; rounds++ {
		if err := p2p.WriteMessage(s, 3, []byte{0, 0, 0}); err != nil {
			break
		}
		if _, _, err := p2p.ReadMessage(s); err != nil {
			break
		}
		<-tick.C
	}
	if rounds > 100 {
		t.Errorf("it ended after %d rounds", rounds)
	}
}

// A neighbour that sends envelopes and offers as fast as it can makes no goroutines and
// no memory grow without bound, and does not stop others.
func TestFloodIsBounded(t *testing.T) {
	m := newMesh(t)
	b := m.node("b", true)
	evil, a := m.node("evil", false), m.node("a", false)
	m.connect(evil, b)
	m.connect(a, b)
	before := runtime.NumGoroutine()
	stop := make(chan struct{})
	done := make(chan int, 5)
	for range 4 {
		go func() { // offers of ids that do not exist, which it never sends
			n := 0
			for {
				s, err := evil.OpenStream(t.Context(), b.key.Public(), p2p.CustodyProtocol)
				if err != nil {
					break
				}
				n++
				p2p.WriteMessage(s, 1, u16(256, random(1, 256*32)))
				select {
				case <-stop:
					s.Reset()
					done <- n
					return
				default:
				}
			}
			done <- n
		}()
	}
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			evil.Publish(t.Context(), p2p.EncodeGossip(mail(t, 0, 1)[0]))
		}
	}()
	all := mail(t, 0, 50)
	a.submit(all)
	b.has(all)
	during := runtime.NumGoroutine()
	close(stop)
	total := 0
	for range 5 {
		total += <-done
	}
	t.Logf("%d streams and messages; %d goroutines before, %d during", total, before, during)
	if during > before+1500 { // gossip may store 1,024 messages at a time
		t.Errorf("%d goroutines, %d before", during, before)
	}
}

// bad makes envelopes that no node may keep: of the past, and of too far a future.
func bad(t *testing.T) []*envelope.Envelope {
	return []*envelope.Envelope{ending(t, -5*time.Hour), ending(t, -time.Hour), ending(t, 17*24*time.Hour), ending(t, 400*24*time.Hour)}
}

// giving has an evil node say that it has some envelopes, and give their bytes as it is told.
func (n *node) giving(bytes map[envelope.ID][]byte, asked *atomic.Int64) {
	var list []byte
	for id := range bytes {
		list = append(list, id[:]...)
	}
	n.Handle(p2p.ReconcileProtocol, answering(lists(list)))
	n.Handle(p2p.CustodyProtocol, func(s network.Stream) {
		for {
			kind, body, err := p2p.ReadMessage(s)
			if err != nil {
				return
			}
			for n := 0; kind == 5 && n < (len(body)-2)/32; n++ {
				asked.Add(1)
				if p2p.WriteMessage(s, 3, bytes[envelope.ID(body[2+32*n:])]) != nil {
					return
				}
			}
		}
	})
}

// What no store may keep is not kept, whether it is offered or fetched. Its neighbour is
// told so and stays connected, and it is not fetched again within an hour.
func TestEnvelopesThatNobodyKeeps(t *testing.T) {
	m := newMesh(t)
	b, evil := m.node("b", false), m.node("evil", true)
	all := bad(t)
	bytes, asked := map[envelope.ID][]byte{}, new(atomic.Int64)
	for _, e := range all {
		bytes[e.ID()] = e.Bytes()
	}
	evil.giving(bytes, asked)
	m.connect(b, evil)
	began := b.since(evil)
	b.settled(evil, time.Time{})
	if n := asked.Load(); n != 4 {
		t.Errorf("asked for %d", n)
	}
	last := b.with(evil).Last
	b.Reconcile(evil.key.Public())
	b.settled(evil, last)
	if n := asked.Load(); n != 4 {
		t.Errorf("asked for %d, after they were refused", n-4)
	}
	s, err := evil.OpenStream(t.Context(), b.key.Public(), p2p.CustodyProtocol)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	more := bad(t)
	for i, want := range []byte{1, 2} { // wanted, for nothing tells before when it ends; then refused
		var err error
		if i == 0 {
			err = p2p.WriteMessage(s, 1, u16(4, slices.Concat(bytesOf(ids(more))...)))
		} else {
			for _, e := range more {
				err = errors.Join(err, p2p.WriteMessage(s, 3, e.Bytes()))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind, answer, err := p2p.ReadMessage(s); err != nil || kind != 2 || slices.ContainsFunc(answer[2:], func(c byte) bool { return c != want }) {
			t.Fatalf("message %d, %x, %v; want %d for all", kind, answer, err, want)
		}
	}
	if missing := b.store.Missing(ids(append(all, more...))); len(missing) != 8 {
		t.Errorf("%d of 8 are kept", 8-len(missing))
	}
	if !b.since(evil).Equal(began) {
		t.Error("evil was dropped")
	}
}

func bytesOf(ids []envelope.ID) (all [][]byte) {
	for _, id := range ids {
		all = append(all, id[:])
	}
	return all
}

// An envelope of no size class, or another one than was asked for, costs its sender the
// connection, and others nothing.
func TestEnvelopesThatAreNone(t *testing.T) {
	good := mail(t, 0, 1)[0]
	for name, b := range map[string][]byte{
		"one byte less":       good.Bytes()[:len(good.Bytes())-1],
		"one byte more":       append(good.Bytes(), 0),
		"nothing":             {},
		"beyond the largest":  make([]byte, envelope.MaxSize+1),
		"another one":         mail(t, 0, 1)[0].Bytes(),
		"an end of no hour":   append([]byte{2, 0x20, 0, 0, 1}, good.Bytes()[5:]...),
		"a version of no use": append([]byte{3}, good.Bytes()[1:]...),
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t)
			a, evil, c := m.node("a", false), m.node("evil", true), m.node("c", true)
			m.connect(a, c)
			began := a.since(c)
			evil.giving(map[envelope.ID][]byte{good.ID(): b}, new(atomic.Int64))
			a.knows(evil)
			m.bell.until(t, "evil is dropped", func() bool { return a.dropped(evil) })
			all := mail(t, 0, 2)
			c.submit(all)
			a.has(all)
			if !a.since(c).Equal(began) || len(a.store.Missing([]envelope.ID{good.ID()})) != 1 {
				t.Error("another one paid for it, or it is kept")
			}
		})
	}
}

// dropped reports whether n was connected to o, and has ended that.
func (n *node) dropped(o *node) bool {
	for _, p := range n.Peers() {
		if p.ID == o.key.Public() {
			return !p.Since.IsZero() && !p.Connected
		}
	}
	return false
}
