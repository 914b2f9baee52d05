package noise_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	flynn "github.com/flynn/noise"
	"go.uber.org/goleak"
	"golang.org/x/net/nettest"

	"github.com/asmtp/asmtp/noise"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tcpPair returns both ends of a TCP connection on loopback.
func tcpPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

var keyAB, keyBA = [32]byte{1}, [32]byte{2}

// connPair returns two connections with each other over a and b.
func connPair(a, b net.Conn) (*noise.Conn, *noise.Conn) {
	return noise.NewTestConn(a, keyAB, keyBA), noise.NewTestConn(b, keyBA, keyAB)
}

// tcpConns returns two connections with each other that are closed at the end.
func tcpConns(t testing.TB) (*noise.Conn, *noise.Conn) {
	t.Helper()
	a, b := connPair(tcpPair(t))
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func flynnState(key [32]byte) *flynn.CipherState {
	suite := flynn.NewCipherSuite(flynn.DH25519, flynn.CipherChaChaPoly, flynn.HashBLAKE2b)
	return flynn.UnsafeNewCipherState(suite, key, 0)
}

func TestConnIsNetConn(t *testing.T) {
	for name, pair := range map[string]func() (net.Conn, net.Conn){
		"tcp":  func() (net.Conn, net.Conn) { return tcpPair(t) },
		"pipe": net.Pipe,
	} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				a, b := connPair(pair())
				return a, b, func() { a.Close(); b.Close() }, nil
			})
		})
	}
}

func TestStreamArrives(t *testing.T) {
	data := stream(keyAB[:], 5<<20)
	for name, slow := range map[string]bool{"whole reads": false, "one byte at a time": true} {
		t.Run(name, func(t *testing.T) {
			a, b := tcpConns(t)
			send, r := data, io.Reader(b)
			if slow {
				send, r = data[:300_000], iotest.OneByteReader(b)
			}
			sent := make(chan error, 1)
			go func() {
				var err error
				for i := 0; i < len(send) && err == nil; {
					n := min(len(send)-i, []int{1, 1000, 16 << 10, 65536, 0, 300_000, 17}[i%7])
					_, err = a.Write(send[i : i+n])
					if i += n; n == 0 {
						_, err = a.Write(send[i : i+1])
						i++
					}
				}
				sent <- errors.Join(err, a.Close())
			}()
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, send) {
				t.Errorf("%d bytes of %d, %v", len(got), len(send), err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		})
	}
}

// A peer made of a stock library's CipherState reads what we write.
func TestStockLibraryReadsUs(t *testing.T) {
	w := newWire(nil)
	c := noise.NewTestConn(w, keyAB, keyBA)
	sizes := []int{0, 1, 16, 1000, 32768, noise.MaxMessage, 0, 5}
	peer := flynnState(keyAB)
	for _, n := range sizes {
		want := stream(keyBA[:], n)
		if err := c.WriteMessage(want); err != nil {
			t.Fatal(err)
		}
		b := w.take()
		if int(binary.BigEndian.Uint16(b)) != len(b)-2 || len(b) != n+18 {
			t.Fatalf("frame of %d bytes", len(b))
		}
		got, err := peer.Decrypt(nil, nil, b[2:])
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		peer.Rekey()
	}
	if err := c.WriteMessage(make([]byte, noise.MaxMessage+1)); !errors.Is(err, noise.ErrTooLong) || len(w.take()) > 0 {
		t.Errorf("a message that is too long: %v", err)
	}
	data := stream(keyBA[:], 200_000)
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for b := w.take(); len(b) > 0; peer.Rekey() {
		n := int(binary.BigEndian.Uint16(b))
		p, err := peer.Decrypt(nil, nil, b[2:2+n])
		if err != nil {
			t.Fatal(err)
		}
		got, b = append(got, p...), b[2+n:]
	}
	if !bytes.Equal(got, data) {
		t.Error("a stream arrives as another one")
	}
}

// stockFrames is what a peer made of a stock library sends.
func stockFrames(key [32]byte, messages ...[]byte) (wire []byte) {
	s := flynnState(key)
	for _, m := range messages {
		c, err := s.Encrypt(nil, nil, m)
		if err != nil {
			panic(err)
		}
		wire = append(binary.BigEndian.AppendUint16(wire, uint16(len(c))), c...)
		s.Rekey()
	}
	return wire
}

func TestWeReadStockLibrary(t *testing.T) {
	messages := [][]byte{{}, []byte("a"), stream(keyAB[:], noise.MaxMessage), {}, []byte("bc")}
	b := stockFrames(keyBA, messages...)
	c := noise.NewTestConn(newWire(bytes.Clone(b)), keyAB, keyBA)
	for i, want := range messages {
		got, err := c.ReadMessage()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("message %d: %d bytes, %v", i, len(got), err)
		}
	}
	if _, err := c.ReadMessage(); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	w := newWire(bytes.Clone(b))
	w.Reader = iotest.OneByteReader(w.in)
	got, err := io.ReadAll(noise.NewTestConn(w, keyAB, keyBA))
	if err != nil || !bytes.Equal(got, bytes.Join(messages, nil)) {
		t.Errorf("as a stream: %d bytes, %v", len(got), err)
	}
	for cut := 1; cut < 20; cut++ {
		c := noise.NewTestConn(newWire(bytes.Clone(b[:cut])), keyAB, keyBA)
		if _, err := io.ReadAll(c); (cut != 18) != errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

func TestDamagedFrameEndsConnection(t *testing.T) {
	good := stockFrames(keyBA, []byte("first"), []byte("second"), []byte("third"))
	second := 18 + 5
	for i := second; i < second+18+6; i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		w := newWire(bad)
		c := noise.NewTestConn(w, keyAB, keyBA)
		got, err := io.ReadAll(c)
		damaged := errors.Is(err, noise.ErrFrame) && w.isClosed()
		if string(got) != "first" || !damaged && !(i < second+2 && errors.Is(err, io.ErrUnexpectedEOF)) { // a length that never comes
			t.Errorf("byte %d: %q, %v, closed: %v", i, got, err, w.isClosed())
		}
		if damaged {
			if _, err := c.Write([]byte("x")); !errors.Is(err, noise.ErrFrame) {
				t.Errorf("byte %d: a write gives %v", i, err)
			}
		}
	}
}

// A write reaches the peer without another write or a close.
func TestWriteNeedsNoFlush(t *testing.T) {
	a, b := tcpConns(t)
	b.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 100_000)
	for _, n := range []int{1, 100, 1024, 100_000, 3} {
		if _, err := a.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
}

// gated is a connection whose writes wait until they are let through.
type gated struct {
	net.Conn
	begun, goOn chan struct{}
	sizes       chan int
}

func (g gated) Write(p []byte) (int, error) {
	g.begun <- struct{}{}
	<-g.goOn
	g.sizes <- len(p)
	return g.Conn.Write(p)
}

func TestSmallWritesShareFrames(t *testing.T) {
	g := gated{newWire(nil), make(chan struct{}, 9), make(chan struct{}, 9), make(chan int, 9)}
	c := noise.NewTestConn(g, keyAB, keyBA)
	c.Write([]byte("x"))
	<-g.begun
	for range 1000 {
		c.Write(make([]byte, 100)) // while the first is under way
	}
	close(g.goOn)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := <-g.sizes; n != 19 {
		t.Errorf("first: %d bytes", n)
	}
	if n := <-g.sizes; n != 100_000+4*18 { // of 32 KiB
		t.Errorf("then: %d bytes, want a thousand writes in four frames and one system call", n)
	}
}

func TestCloseSendsWhatIsBuffered(t *testing.T) {
	a, b := tcpConns(t)
	if _, err := a.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err != nil || string(got) != "last words" {
		t.Errorf("%q, %v", got, err)
	}
	for name, err := range map[string]error{
		"read":     func() error { _, err := a.Read(make([]byte, 1)); return err }(),
		"write":    func() error { _, err := a.Write(nil); return err }(),
		"message":  a.WriteMessage(nil),
		"close":    a.Close(),
		"deadline": a.SetDeadline(time.Now()),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
}

// A peer that reads nothing holds Close up for a bounded time, and is told of.
func TestCloseIsBounded(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := noise.NewTestConn(a, keyAB, keyBA)
	if _, err := c.Write([]byte("never read")); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := c.Close(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("lost bytes give %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("Close took %v", d)
	}
}

func TestCloseWakesReadersAndWriters(t *testing.T) {
	a, _ := tcpConns(t)
	errs := make(chan error, 2)
	go func() { _, err := a.Read(make([]byte, 1)); errs <- err }()
	go func() {
		var err error
		for err == nil { // until the peer's buffers are full
			_, err = a.Write(make([]byte, 1<<20))
		}
		errs <- err
	}()
	if err := a.Close(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// An error of the network is told by a later write, and by Close when bytes are lost.
func TestWriteErrorSurfaces(t *testing.T) {
	w := newWire(nil)
	c := noise.NewTestConn(w, keyAB, keyBA)
	w.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := c.Write([]byte("x")); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no error shows up")
		}
	}
	if err := c.Close(); err == nil {
		t.Error("Close hides that bytes are lost")
	}
}

// What Write has accepted arrives, also when a deadline has passed meanwhile.
func TestDeadlineDoesNotBreakStream(t *testing.T) {
	for _, size := range []int{1000, 100_000} {
		a, b := tcpConns(t)
		data := stream(keyAB[:], size)
		sent := 0
		a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			n, err := a.Write(data)
			sent += n
			if err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal(err)
				}
				break
			}
		}
		if n, err := a.Write(data); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write after the deadline: %d, %v", n, err)
		}
		got := make(chan []byte, 1)
		go func() {
			all, err := io.ReadAll(b)
			if err != nil {
				t.Error(err)
			}
			got <- all
		}()
		a.SetWriteDeadline(time.Time{})
		if rest := sent % size; rest > 0 {
			n, err := a.Write(data[rest:])
			if err != nil {
				t.Fatal(err)
			}
			sent += n
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if want := bytes.Repeat(data, sent/size); !bytes.Equal(<-got, want) {
			t.Error("the stream is broken")
		}
	}
}

// extending writes with a deadline that passes, and sets a new one before the
// connection above can know.
type extending struct {
	net.Conn
	once   *sync.Once
	extend func()
}

func (e extending) Write(p []byte) (n int, err error) {
	e.once.Do(func() {
		n, _ = e.Conn.Write(p[:1])
		e.extend()
		err = os.ErrDeadlineExceeded
	})
	if err != nil {
		return n, err
	}
	return e.Conn.Write(p)
}

func TestDeadlineReplacedInTime(t *testing.T) {
	for _, message := range []bool{false, true} {
		w := newWire(nil)
		var c *noise.Conn
		c = noise.NewTestConn(extending{w, new(sync.Once), func() { c.SetWriteDeadline(time.Time{}) }}, keyAB, keyBA)
		if message {
			if err := c.WriteMessage([]byte("x")); err != nil {
				t.Error(err)
			}
		} else if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if err := c.WriteMessage([]byte("y")); err != nil { // hangs if sending has stopped
			t.Error(err)
		}
		if got := w.take(); !bytes.Equal(got, stockFrames(keyAB, []byte("x"), []byte("y"))) {
			t.Errorf("on the wire: %x", got)
		}
		c.Close()
	}
}

func TestReadDeadline(t *testing.T) {
	a, b := tcpConns(t)
	b.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	b.SetReadDeadline(time.Time{})
	a.Write([]byte("x"))
	if n, err := b.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("after a deadline that passed: %d, %v", n, err)
	}
}

func TestManyWriters(t *testing.T) {
	for _, size := range []int{1000, 90_000} { // shorter and longer than what can be waited for
		a, b := tcpConns(t)
		const writers, each = 8, 50
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for range each {
					if _, err := a.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		go func() { wg.Wait(); a.Close() }()
		got, err := io.ReadAll(b)
		if err != nil || len(got) != writers*each*size {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		for i := 0; i < len(got); i += size { // no write is torn by another
			if bytes.Count(got[i:i+size], got[i:i+1]) != size {
				t.Fatal("writes are mixed")
			}
		}
	}
}

// A damaged frame changes no key, so the frame meant in its place would still open.
// It must not be looked at any more.
func TestNothingIsReadAfterDamage(t *testing.T) {
	garbage := append([]byte{0, 16}, make([]byte, 16)...)
	c := noise.NewTestConn(newWire(append(garbage, stockFrames(keyBA, []byte("good"))...)), keyAB, keyBA)
	for range 3 {
		if m, err := c.ReadMessage(); !errors.Is(err, noise.ErrFrame) {
			t.Errorf("%q, %v", m, err)
		}
		if n, err := c.Read(make([]byte, 9)); n > 0 || !errors.Is(err, noise.ErrFrame) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
}

// Nothing is allocated per frame, in either direction.
func TestFramesAllocateNothing(t *testing.T) {
	if !noise.CanRekey {
		t.Fatal("x/crypto has changed its AEAD; each rekey allocates a new one (aead.go)")
	}
	a, b := tcpConns(t)
	for _, size := range []int{100, 1024, 64 << 10} {
		data, buf := make([]byte, size), make([]byte, size)
		n := testing.AllocsPerRun(500, func() {
			if _, err := a.Write(data); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(b, buf); err != nil {
				t.Fatal(err)
			}
		})
		if n >= 1 {
			t.Errorf("%d bytes: %.0f allocations", size, n)
		}
	}
}

// A node holds many connections; at rest, after traffic, each is small.
func TestConnAtRestIsSmall(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // empties the pools of buffers
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const n = 200
	buf := make([]byte, 100_000)
	sent := stockFrames(keyBA, buf[:50_000], buf[:50_000])
	conns := make([]*noise.Conn, 0, n)
	before := heap()
	for range n {
		w := newWire(nil)
		c := noise.NewTestConn(w, keyAB, keyBA)
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
		if err := c.WriteMessage(nil); err != nil { // which waits for what is under way
			t.Fatal(err)
		}
		w.in = bytes.NewBuffer(sent)
		w.Reader = w.in
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != io.EOF { // the read in which it would wait
			t.Fatal(err)
		}
		w.out = bytes.Buffer{}
		conns = append(conns, c)
	}
	each := (heap() - before) / n
	t.Logf("%d bytes each", each)
	if each > 3<<10 {
		t.Errorf("a connection at rest holds %d bytes", each)
	}
	runtime.KeepAlive(conns)
}

// Two handshakes with the same keys have nothing in common.
func TestSessionsDiffer(t *testing.T) {
	p := params["IK"]
	session := func() []byte {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		got := make(chan *noise.Conn, 1)
		go func() {
			io.ReadFull(b, make([]byte, len(p.Prefix)))
			c, err := noise.Server(context.Background(), b, p, bob, admit(p))
			if err != nil {
				t.Error(err)
			}
			got <- c
		}()
		c, _, err := noise.Client(context.Background(), a, p, alice, bob.Public(), make([]byte, 12))
		if err != nil {
			t.Fatal(err)
		}
		<-got
		return c.SessionID()
	}
	if bytes.Equal(session(), session()) {
		t.Error("one session id twice")
	}
}
