package port_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testKey(t testing.TB, n byte) *noise.PrivateKey {
	t.Helper()
	k, err := noise.GenerateKey(noise.NewStream([32]byte{n, 1}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// stamps keeps the 64 highest stamps of each key in memory, as design.md section 5 says.
type stamps struct {
	mu    sync.Mutex
	seen  map[string][]uint64
	calls int
}

func (s *stamps) FreshStamp(_ context.Context, kind byte, peer noise.PublicKey, stamp uint64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.seen == nil {
		s.seen = map[string][]uint64{}
	}
	name := string(append(peer[:], kind))
	list := s.seen[name]
	if slices.Contains(list, stamp) || len(list) == 64 && stamp < list[0] {
		return false, nil
	}
	list = append(list, stamp)
	slices.Sort(list)
	s.seen[name] = list[max(0, len(list)-64):]
	return true, nil
}

// asked returns how many stamps were looked at.
func (s *stamps) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// env is a node that serves versions 2, 3 and 4, and those who may call it.
type env struct {
	node, user, member, guest, stranger *noise.PrivateKey

	set    *mesh.Set
	secret mesh.Secret
	token  mesh.Token
	stamps *stamps

	mu       sync.Mutex
	refusals []port.Refusal
}

func newEnv(t testing.TB) *env {
	t.Helper()
	e := &env{
		node: testKey(t, 1), user: testKey(t, 2), member: testKey(t, 3), guest: testKey(t, 4), stranger: testKey(t, 5),
		stamps: &stamps{},
	}
	founder, founding, secret, err := mesh.Found(noise.NewStream([32]byte{9}), 100)
	if err != nil {
		t.Fatal(err)
	}
	e.secret = secret
	if e.set, err = mesh.NewSet(founding); err != nil {
		t.Fatal(err)
	}
	for _, k := range []*noise.PrivateKey{e.node, e.member} {
		if _, err := e.set.Add(mesh.Certify(founder, e.set.ID(), k.Public(), 100, 90)); err != nil {
			t.Fatal(err)
		}
	}
	if e.token, err = mesh.NewToken(noise.NewStream([32]byte{8})); err != nil {
		t.Fatal(err)
	}
	return e
}

const certTime passport.Time = 100 // when the certificates of an env are valid

func (e *env) certificate(t testing.TB, k *noise.PrivateKey, size int) []byte {
	t.Helper()
	var b []byte
	if c, ok := e.set.Certificate(k.Public(), certTime); ok {
		b = c.Bytes()
	}
	p, err := port.PackCertificate(b, size)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (e *env) gates(t testing.TB) map[port.Version]port.Gate {
	reply := e.certificate(t, e.node, port.ReplyCertificateSpace)
	return map[port.Version]port.Gate{
		port.Client: {
			Params: func([]byte) (noise.Params, bool) { return port.ClientParams(), true },
			Admit: func(peer noise.PublicKey, _ []byte) ([]byte, error) {
				if peer != e.user.Public() {
					return nil, errors.New("not listed")
				}
				return nil, nil
			},
		},
		port.Mesh: {
			Params: func([]byte) (noise.Params, bool) { return port.MeshParams(e.set.ID(), e.secret.PSK()), true },
			Admit: func(peer noise.PublicKey, payload []byte) ([]byte, error) {
				b, err := port.UnpackCertificate(payload)
				if err != nil {
					return nil, err
				}
				cert, err := mesh.ParseStatement(b)
				if err != nil {
					return nil, err
				}
				return reply, e.set.CheckCertificate(cert, peer, certTime)
			},
		},
		port.Join: {
			Params: func(hint []byte) (noise.Params, bool) {
				if want := e.token.Hint(); string(hint) != string(want[:]) {
					return noise.Params{}, false
				}
				return port.JoinParams(e.token), true
			},
			Admit: func(noise.PublicKey, []byte) ([]byte, error) { return reply, nil },
		},
	}
}

// refused returns the refusals that were told so far.
func (e *env) refused() []port.Refusal {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.refusals)
}

// options are those of e's node; the test may change them before it starts the node.
func (e *env) options(t testing.TB) port.Options {
	return port.Options{Key: e.node, Gates: e.gates(t), Stamps: e.stamps, OnRefuse: func(r port.Refusal) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.refusals = append(e.refusals, r)
	}}
}

// run serves ln until the test ends, or stop is called.
func run(t testing.TB, ln net.Listener, o port.Options) (p *port.Port, stop func()) {
	t.Helper()
	p = port.New(ln, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}

// call is one kind of connection as its initiator sees it.
type call struct {
	params  noise.Params
	own     *noise.PrivateKey
	payload []byte // behind the stamp
}

func (e *env) calls(t testing.TB) map[port.Version]call {
	return map[port.Version]call{
		port.Client: {port.ClientParams(), e.user, nil},
		port.Mesh:   {port.MeshParams(e.set.ID(), e.secret.PSK()), e.member, e.certificate(t, e.member, port.CertificateSpace)},
		port.Join:   {port.JoinParams(e.token), e.guest, e.certificate(t, e.guest, port.CertificateSpace)},
	}
}

// stamped writes the stamp by hand, so that the test does not follow a mistake of the package.
func stamped(stamp uint64, payload []byte) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 4), stamp)
	return append(b, payload...)
}

// message records the first flight of c with a stamp, without a network.
func (e *env) message(t testing.TB, c call, stamp uint64) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	got := make(chan []byte, 1)
	go func() {
		buf := make([]byte, c.params.RequestSize())
		n := 0
		for n < len(buf) {
			m, err := b.Read(buf[n:])
			if n += m; err != nil {
				break
			}
		}
		b.Close()
		got <- buf[:n]
	}()
	noise.Client(context.Background(), a, c.params, c.own, e.node.Public(), stamped(stamp, c.payload))
	a.Close()
	m := <-got
	if len(m) != c.params.RequestSize() {
		t.Fatalf("recorded %d bytes, want %d", len(m), c.params.RequestSize())
	}
	return m
}

// handshake runs c to its end on conn, first frame included.
func (e *env) handshake(conn net.Conn, c call, stamp uint64) (*noise.Conn, error) {
	n, _, err := noise.Client(context.Background(), conn, c.params, c.own, e.node.Public(), stamped(stamp, c.payload))
	if err != nil {
		return nil, err
	}
	return n, n.WriteMessage(nil)
}

// memory is a listener without a network: dial makes a pipe whose server side says it
// comes from any address.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), closed: make(chan struct{})} }

type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

func (m *memory) dial(addr string) (net.Conn, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	here, there := net.Pipe()
	select {
	case m.conns <- from{there, a}:
		return here, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }
func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9800} }

// listen opens a real TCP port on loopback.
func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// within5 is a context for what a test waits for and must come.
func within5(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}
