package port_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/noise"
)

// counter gives the stamps first, first+1, …
type counter struct{ next uint64 }

func (c *counter) NextStamp() (uint64, error) { c.next++; return c.next - 1, nil }

// accept returns the next connection of version v as a noise.Conn.
func accept(t *testing.T, p *port.Port, v port.Version) *noise.Conn {
	t.Helper()
	c, err := p.Listener(v).Accept()
	if err != nil {
		t.Fatal(err)
	}
	if j, ok := c.(*port.JoinConn); ok {
		return j.Conn
	}
	return c.(*noise.Conn)
}

// Dial and a port agree in all versions; both ends know each other, the answer's
// payload arrives, and so does what is said afterwards.
func TestDialReachesAPort(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	p, _ := run(t, ln, e.options(t))
	for v, c := range e.calls(t) {
		out, reply, err := port.Dial(within5(t), ln.Addr().String(), c.params, c.own, e.node.Public(), port.NewClockStamps(nil), c.payload)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		in := accept(t, p, v)
		if in.PeerKey() != c.own.Public() || out.PeerKey() != e.node.Public() {
			t.Errorf("%v: the ends take each other for somebody else", v)
		}
		if v != port.Client && !bytes.Equal(reply, e.certificate(t, e.node, port.ReplyCertificateSpace)) {
			t.Errorf("%v: another payload of the answer", v)
		}
		go io.WriteString(out, "hello")
		got := make([]byte, 5)
		if _, err := io.ReadFull(in, got); err != nil || string(got) != "hello" {
			t.Errorf("%v: read %q, %v", v, got, err)
		}
		in.Close()
		out.Close()
	}
}

func TestJoinConnNamesItsHint(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	p, _ := run(t, ln, e.options(t))
	c := e.calls(t)[port.Join]
	out, _, err := port.Dial(within5(t), ln.Addr().String(), c.params, c.own, e.node.Public(), port.NewClockStamps(nil), c.payload)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := p.Listener(port.Join).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if j, ok := in.(*port.JoinConn); !ok || j.Hint != e.token.Hint() {
		t.Errorf("accepted a %T, want a JoinConn with the hint of the token", in)
	}
}

// A client whose stamps lag behind (a clock set back, a state restored) is let in by
// its second try.
func TestDialTriesAgainWithANewStamp(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	o := e.options(t)
	o.HoldMin, o.HoldMax = 20*time.Millisecond, 40*time.Millisecond
	p, _ := run(t, ln, o)
	c := e.calls(t)[port.Client]
	if _, err := e.stamps.FreshStamp(t.Context(), byte(port.Client), c.own.Public(), 500); err != nil {
		t.Fatal(err)
	}
	out, _, err := port.Dial(within5(t), ln.Addr().String(), c.params, c.own, e.node.Public(), &counter{500}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	accept(t, p, port.Client).Close()
	if len(e.refused()) != 1 {
		t.Errorf("%d refusals, want the one of the first try", len(e.refused()))
	}
}

// Whoever gets no answer hears that, and no more; a closed port is another error.
func TestDialWithoutAnswer(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	o := e.options(t)
	o.HoldMin, o.HoldMax = 20*time.Millisecond, 40*time.Millisecond
	_, stop := run(t, ln, o)
	addr := ln.Addr().String()
	dial := func(ctx context.Context, own *noise.PrivateKey, node noise.PublicKey) error {
		_, _, err := port.Dial(ctx, addr, port.ClientParams(), own, node, port.NewClockStamps(nil), nil)
		return err
	}
	for name, err := range map[string]error{
		"not admitted": dial(within5(t), e.stranger, e.node.Public()),
		"another node": dial(within5(t), e.user, e.stranger.Public()),
	} {
		if !errors.Is(err, port.ErrNoAnswer) {
			t.Errorf("%s: %v, want ErrNoAnswer", name, err)
		}
	}
	if len(e.refused()) != 4 {
		t.Errorf("%d refusals, want two tries each", len(e.refused()))
	}
	stop()
	if err := dial(within5(t), e.user, e.node.Public()); err == nil || errors.Is(err, port.ErrNoAnswer) {
		t.Errorf("closed port: %v, want the error of connecting", err)
	}
}

// A port that holds a connection does not hold a caller longer than its context.
func TestDialEndsWithItsContext(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	run(t, ln, e.options(t))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, _, err := port.Dial(ctx, ln.Addr().String(), port.ClientParams(), e.stranger, e.node.Public(), port.NewClockStamps(nil), nil)
	if !errors.Is(err, port.ErrNoAnswer) {
		t.Errorf("%v, want ErrNoAnswer", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

// The payload of the first message is what was agreed, or nothing is sent.
func TestDialRefusesAPayloadOfAnotherLength(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	run(t, ln, e.options(t))
	_, _, err := port.Dial(within5(t), ln.Addr().String(), port.ClientParams(), e.user, e.node.Public(), port.NewClockStamps(nil), []byte{1})
	if !errors.Is(err, noise.ErrParams) {
		t.Errorf("%v, want ErrParams", err)
	}
}

// A first message alone may be a replay of one that never arrived: without a first
// frame, which must be empty, nobody hears of the connection.
func TestNoConnectionBeforeItsFirstFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, ln := newEnv(t), newMemory()
		p, stop := run(t, ln, e.options(t))
		accepted := make(chan struct{})
		go func() {
			if c, err := p.Listener(port.Client).Accept(); err == nil {
				c.Close()
				close(accepted)
			}
		}()
		c := e.calls(t)[port.Client]
		for i, say := range []func(*noise.Conn){
			func(*noise.Conn) {},
			func(n *noise.Conn) { n.WriteMessage([]byte("x")) },
		} {
			conn, err := ln.dial("192.0.2.1:1")
			if err != nil {
				t.Fatal(err)
			}
			n, _, err := noise.Client(t.Context(), conn, c.params, c.own, e.node.Public(), stamped(uint64(i+1), nil))
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			say(n)
			if _, err := n.ReadMessage(); err == nil {
				t.Error("the node said something")
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("kept for %v", took)
			}
			n.Close()
		}
		select {
		case <-accepted:
			t.Error("a connection was handed out without its first frame")
		default:
		}
		stop()
	})
}

// Strangers and garbage leave no trace in the store of stamps.
func TestStampsOfStrangersAreNotKept(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	o := e.options(t)
	o.MaxPerSource, o.HoldMin, o.HoldMax = 512, time.Millisecond, 2*time.Millisecond
	run(t, ln, o)
	probePort(dialTCP(ln), e.probes(t, nil), rules{holdMax: time.Second})
	if n := e.stamps.asked(); n != 0 {
		t.Errorf("%d stamps of strangers were looked at", n)
	}
}

// A stamp counts for one key and one version alone, and any order of the newest 64 is good.
func TestStampsInAnyOrder(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	p, _ := run(t, ln, e.options(t))
	c := e.calls(t)[port.Client]
	for _, stamp := range []uint64{9, 3, 7, 1 << 63, 8} {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.handshake(conn, c, stamp); err != nil {
			t.Fatalf("stamp %d: %v", stamp, err)
		}
		accept(t, p, port.Client).Close()
		conn.Close()
	}
}

// The operator hears why, once a minute and source; the rest is at debug.
func TestRefusalsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, ln := newEnv(t), newMemory()
		var log bytes.Buffer
		o := e.options(t)
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		_, stop := run(t, ln, o)
		knock := func(addr string) {
			conn, err := ln.dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := call{port.ClientParams(), e.stranger, nil}
			conn.Write(e.message(t, c, 1))
			io.Copy(io.Discard, conn)
		}
		knock("192.0.2.1:1")
		knock("192.0.2.1:2")
		knock("192.0.2.2:1")
		synctest.Wait()
		first := log.String()
		time.Sleep(time.Minute) // of the false clock
		knock("192.0.2.1:3")
		stop()
		if info, debug := strings.Count(first, "level=INFO"), strings.Count(first, "level=DEBUG"); info != 2 || debug != 1 {
			t.Errorf("%d lines at info and %d at debug, want 2 and 1:\n%s", info, debug, first)
		}
		if got := strings.Count(log.String(), "level=INFO"); got != 3 {
			t.Errorf("%d lines at info a minute later, want 3", got)
		}
		if !strings.Contains(first, "not listed") || !strings.Contains(first, e.stranger.Public().String()) {
			t.Errorf("neither the reason nor the key is named:\n%s", first)
		}
		for _, r := range e.refused() {
			if r.Key == nil || *r.Key != e.stranger.Public() || r.Version != port.Client || r.Err == nil {
				t.Errorf("refusal %+v", r)
			}
		}
	})
}

// A stopped port has closed what it held and what nobody accepted; Accept fails.
func TestRunEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, ln := newEnv(t), newMemory()
		p, stop := run(t, ln, e.options(t))
		silent, err := ln.dial("192.0.2.1:1")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := ln.dial("192.0.2.1:2")
		if err != nil {
			t.Fatal(err)
		}
		waiting, err := e.handshake(conn, e.calls(t)[port.Client], 1)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != 0 {
			t.Errorf("stopping took %v", took)
		}
		if _, err := silent.Read(make([]byte, 1)); err == nil {
			t.Error("a held connection is still open")
		}
		if _, err := waiting.ReadMessage(); err == nil {
			t.Error("a connection that nobody accepted is still open")
		}
		waiting.Close()
		if _, err := p.Listener(port.Client).Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v, want net.ErrClosed", err)
		}
		if _, err := ln.dial("192.0.2.1:3"); err == nil {
			t.Error("the listener is still open")
		}
	})
}
