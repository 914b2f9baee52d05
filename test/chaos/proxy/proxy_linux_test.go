package proxy_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/test/chaos/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo listens and sends back what it gets.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// open connects as "me" with "you", through a proxy.
func open(t *testing.T) (*proxy.Net, net.Conn) {
	n := proxy.New(func(local, remote *net.TCPAddr) string {
		return proxy.Owner(local, remote, map[int]string{os.Getpid(): "me"})
	})
	t.Cleanup(n.Close)
	address, err := n.Listen("you", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return n, c
}

// exchange sends a byte and waits for it to come back.
func exchange(c net.Conn, patience time.Duration) error {
	if _, err := c.Write([]byte{7}); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// Who dials is told by the kernel.
func TestTheDiallerIsKnown(t *testing.T) {
	n, c := open(t)
	if err := exchange(c, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := n.Accepted("me", "you"); got != 1 {
		t.Fatalf("%d connections from me to you", got)
	}
}

// A cut link holds bytes of open connections back in its direction, and loses none.
func TestCutHoldsBack(t *testing.T) {
	for _, direction := range [][2]string{{"me", "you"}, {"you", "me"}} {
		n, c := open(t)
		if err := exchange(c, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		n.Set(direction[0], direction[1], proxy.Link{Cut: true})
		if err := exchange(c, 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v is cut: %v", direction, err)
		}
		n.Set(direction[0], direction[1], proxy.Link{})
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("%v is healed: %v", direction, err)
		}
	}
}

// The link back is not the link there.
func TestLinksHaveADirection(t *testing.T) {
	n, c := open(t)
	n.Set("you", "somebody", proxy.Link{Cut: true})
	n.Set("somebody", "me", proxy.Link{Cut: true})
	if err := exchange(c, 5*time.Second); err != nil {
		t.Fatal(err)
	}
}

// A delay is at least as long as it says.
func TestDelay(t *testing.T) {
	n, c := open(t)
	n.Set("me", "you", proxy.Link{Delay: 80 * time.Millisecond})
	start := time.Now()
	if err := exchange(c, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Fatalf("took %v", took)
	}
}

// Reset ends open connections, and says how many.
func TestReset(t *testing.T) {
	n, c := open(t)
	if err := exchange(c, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if k := n.Reset(func(from, to string) bool { return from == "me" && to == "you" }); k != 1 {
		t.Fatalf("%d reset", k)
	}
	if err := exchange(c, 5*time.Second); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("after a reset: %v", err)
	}
}

// A first flight is kept once it was answered.
func TestFirstFlight(t *testing.T) {
	n, c := open(t)
	r := rand.New(rand.NewPCG(1, 1))
	if _, ok := n.Flight(r); ok {
		t.Fatal("a flight before there was one")
	}
	if err := exchange(c, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := exchange(c, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	f, ok := n.Flight(r)
	if !ok || f.From != "me" || f.To != "you" || !bytes.Equal(f.Bytes, []byte{7}) {
		t.Fatalf("flight %+v, %v", f, ok)
	}
	n.ForgetFlights(func(from, to string) bool { return from == "you" })
	if _, ok := n.Flight(r); !ok {
		t.Fatal("a flight of another one is forgotten")
	}
	n.ForgetFlights(func(from, to string) bool { return from == "me" && to == "you" })
	if _, ok := n.Flight(r); ok {
		t.Fatal("a flight was not forgotten")
	}
}
