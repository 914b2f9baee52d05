package port_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/mesh"
)

// probe is what somebody sends who must not learn what runs behind a port.
type probe struct {
	name  string
	bytes []byte
	pause time.Duration // between single bytes; 0 sends all at once
	shut  bool          // shuts its sending side behind them
}

// probes are those of the table in feasibility.md section 1, and more. admitted are
// first flights that the node has answered once: their replay is a probe too.
func (e *env) probes(t testing.TB, admitted map[port.Version][]byte) []probe {
	t.Helper()
	calls := e.calls(t)
	random := func(n int) []byte {
		b := make([]byte, n)
		r := rand.NewChaCha8([32]byte{7})
		r.Read(b)
		return b
	}
	as := func(v port.Version, change func(*call)) []byte {
		c := calls[v]
		change(&c)
		return e.message(t, c, 77)
	}
	list := []probe{
		{name: "says nothing"},
		{name: "shuts its side at once", shut: true},
		{name: "multistream", bytes: []byte("\x13/multistream/1.0.0\n")},
		{name: "300 random bytes", bytes: random(300)},
		{name: "100 KiB of random bytes", bytes: random(100 << 10)},
		{name: "100 KiB behind a version byte", bytes: append([]byte{2}, random(100<<10)...)},
		{name: "HTTP", bytes: []byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")},
		{name: "TLS record", bytes: append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, random(506)...)},
		{name: "unknown hint", bytes: append([]byte{4}, random(8+32+48+512+16)...)},
		{name: "hint alone", bytes: calls[port.Join].params.Prefix},
	}
	for _, v := range []byte{0, 1, 2, 3, 4, 5, 255} {
		list = append(list, probe{name: fmt.Sprintf("version byte %d alone", v), bytes: []byte{v}})
		list = append(list, probe{name: fmt.Sprintf("version byte %d and garbage", v), bytes: append([]byte{v}, random(900)...)})
	}
	stranger := func(c *call) { c.own = e.stranger }
	for _, v := range []port.Version{port.Client, port.Mesh} {
		list = append(list, probe{name: fmt.Sprintf("stranger who knows the node's key, %v", v), bytes: as(v, stranger)})
	}
	list = append(list,
		probe{name: "wrong psk, mesh", bytes: as(port.Mesh, func(c *call) { c.params.PSK = bytes.Repeat([]byte{1}, 32) })},
		probe{name: "other mesh", bytes: as(port.Mesh, func(c *call) { c.params = port.MeshParams(mesh.ID{1}, e.secret.PSK()) })},
		probe{name: "member without certificate", bytes: as(port.Mesh, func(c *call) { c.payload = make([]byte, len(c.payload)) })},
		probe{name: "right hint, wrong psk", bytes: as(port.Join, func(c *call) { c.params.PSK = bytes.Repeat([]byte{1}, 32) })},
		probe{name: "version of another message", bytes: append([]byte{3}, e.message(t, calls[port.Client], 78)[1:]...)},
	)
	for v, m := range admitted {
		list = append(list,
			probe{name: fmt.Sprintf("replay, %v", v), bytes: m},
			probe{name: fmt.Sprintf("replay and more, %v", v), bytes: append(slices.Clone(m), random(200)...)},
			probe{name: fmt.Sprintf("replay that shuts its side, %v", v), bytes: m, shut: true},
		)
	}
	for v, c := range calls {
		m := e.message(t, c, 90)
		list = append(list, probe{name: fmt.Sprintf("half a message, %v", v), bytes: m[:len(m)/2]})
		m[len(m)-1] ^= 1
		list = append(list, probe{name: fmt.Sprintf("last byte changed, %v", v), bytes: m})
	}
	return list
}

// rules say what a silent port does with every probe.
type rules struct {
	holdMin, holdMax time.Duration
	slack            time.Duration // for a busy machine
	reset            bool          // ends must be RST; a pipe cannot tell
}

type violation struct{ probe, what string }

// probePort runs all probes at once and says what betrays the port: a byte, an end too
// early or too late or of another kind, or a deadline that is not drawn anew.
func probePort(dial func() (net.Conn, error), list []probe, r rules) (found []violation) {
	ends := make([]time.Duration, len(list))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, p := range list {
		wg.Go(func() {
			took, wrong := p.run(dial, r)
			mu.Lock()
			defer mu.Unlock()
			ends[i] = took
			for _, w := range wrong {
				found = append(found, violation{p.name, w})
			}
		})
	}
	wg.Wait()
	if spread := slices.Max(ends) - slices.Min(ends); spread < (r.holdMax-r.holdMin)/3 {
		found = append(found, violation{"all", fmt.Sprintf("deadlines are alike: %v apart", spread)})
	}
	return found
}

func (p probe) run(dial func() (net.Conn, error), r rules) (took time.Duration, wrong []string) {
	begin := time.Now()
	c, err := dial()
	if err != nil {
		return 0, []string{err.Error()}
	}
	sent := make(chan struct{})
	go func() { p.send(c); close(sent) }()
	defer func() { c.Close(); <-sent }()
	c.SetReadDeadline(begin.Add(r.holdMax + r.slack))
	answer, err := io.ReadAll(c)
	took = time.Since(begin)
	if len(answer) > 0 {
		wrong = append(wrong, fmt.Sprintf("%d bytes of answer", len(answer)))
	}
	switch {
	case isTimeout(err):
		wrong = append(wrong, "still open after the longest hold")
	case took < r.holdMin:
		wrong = append(wrong, fmt.Sprintf("ended after %v", took))
	case r.reset && !errors.Is(err, syscall.ECONNRESET):
		wrong = append(wrong, fmt.Sprintf("ended without a reset: %v", err))
	}
	return took, wrong
}

// send writes the probe; the port may end the connection under it.
func (p probe) send(c net.Conn) {
	step := len(p.bytes)
	if p.pause > 0 {
		step = 1
	}
	tick := time.NewTicker(max(p.pause, 1))
	defer tick.Stop()
	for b := p.bytes; len(b) > 0; b = b[step:] {
		if _, err := c.Write(b[:step]); err != nil {
			return
		}
		if p.pause > 0 {
			<-tick.C
		}
	}
	if tc, ok := c.(*net.TCPConn); ok && p.shut {
		tc.CloseWrite()
	}
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}
