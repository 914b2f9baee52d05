package port_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asmtp/asmtp/internal/port"
)

// admit lets each of e's callers in once through dial and returns their first flights.
func (e *env) admit(t *testing.T, p *port.Port, dial func() (net.Conn, error)) map[port.Version][]byte {
	t.Helper()
	flights := map[port.Version][]byte{}
	for v, c := range e.calls(t) {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		rec := &recorder{Conn: conn}
		if _, err := e.handshake(rec, c, 50); err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		in, err := p.Listener(v).Accept()
		if err != nil {
			t.Fatal(err)
		}
		flights[v] = rec.wrote[:c.params.RequestSize()]
		in.Close()
		conn.Close()
	}
	return flights
}

type recorder struct {
	net.Conn
	mu    sync.Mutex
	wrote []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.wrote = append(r.wrote, b...)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

func report(t *testing.T, found []violation) {
	t.Helper()
	for _, v := range found {
		t.Errorf("%s: %s", v.probe, v.what)
	}
}

// Nobody who is not admitted gets one byte, or learns anything from when and how the
// connection ends. Here with the times of design.md section 5, on a false clock.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, ln := newEnv(t), newMemory()
		o := e.options(t)
		o.MaxPerSource = 512
		p, stop := run(t, ln, o)
		dial := func() (net.Conn, error) { return ln.dial("192.0.2.1:1000") }
		flights := e.admit(t, p, dial)
		list := e.probes(t, flights)
		for v, c := range e.calls(t) {
			list = append(list, probe{name: "trickled, " + v.String(), bytes: e.message(t, c, 91), pause: 10*time.Second/90 + 1})
		}
		report(t, probePort(dial, list, rules{holdMin: 5 * time.Second, holdMax: 10 * time.Second, slack: time.Second}))
		if got := len(e.refused()); got != len(list) {
			t.Errorf("%d refusals were told, want %d", got, len(list))
		}
		stop()
	})
}

var shortHold = rules{holdMin: 300 * time.Millisecond, holdMax: 900 * time.Millisecond, slack: 3 * time.Second, reset: true}

func dialTCP(ln net.Listener) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.Dial("tcp", ln.Addr().String()) }
}

// The same through the kernel's TCP: every end is a reset.
func TestSilenceOnTCP(t *testing.T) {
	e, ln := newEnv(t), listen(t)
	o := e.options(t)
	o.MaxPerSource, o.HoldMin, o.HoldMax = 512, shortHold.holdMin, shortHold.holdMax
	p, _ := run(t, ln, o)
	report(t, probePort(dialTCP(ln), e.probes(t, e.admit(t, p, dialTCP(ln))), shortHold))
}

// The probes find ports that talk: each of these servers is silent but for one mistake.
func TestProbesFindWhatBetraysAPort(t *testing.T) {
	e := newEnv(t)
	hold := func(c net.Conn, d time.Duration) {
		end := time.NewTimer(d)
		c.SetReadDeadline(time.Now().Add(d))
		io.Copy(io.Discard, c)
		<-end.C
		c.(*net.TCPConn).SetLinger(0)
	}
	r := shortHold
	r.slack = time.Second
	servers := map[string]func(net.Conn){
		"answers a version byte": func(c net.Conn) {
			var b [1]byte
			if _, err := io.ReadFull(c, b[:]); err == nil && b[0] == 2 {
				c.Write(b[:])
			}
			hold(c, r.holdMin+r.holdMin/2)
		},
		"resets at once": func(c net.Conn) {
			io.ReadFull(c, make([]byte, 109))
			c.(*net.TCPConn).SetLinger(0)
		},
		"ends without a reset": func(c net.Conn) {
			hold(c, r.holdMin+r.holdMin/2)
			c.(*net.TCPConn).SetLinger(-1)
		},
		"holds all for one time": func(c net.Conn) { hold(c, r.holdMin+r.holdMin/2) },
		"holds for ever":         func(c net.Conn) { hold(c, r.holdMax+2*r.slack) },
		"speaks first":           func(c net.Conn) { io.WriteString(c, "\x13/multistream/1.0.0\n"); hold(c, r.holdMax) },
	}
	list := e.probes(t, nil)
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					wg.Go(func() { serve(c); c.Close() })
				}
			})
			found := probePort(dialTCP(ln), list, r)
			ln.Close()
			wg.Wait()
			if len(found) == 0 {
				t.Error("the probes found nothing")
			}
			t.Logf("%d findings, such as %v", len(found), found[:min(1, len(found))])
		})
	}
}
