package bench_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	lnoise "github.com/libp2p/go-libp2p/p2p/security/noise"
	ltls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// rounds is how often every transport carries the load, alternating.
const rounds = 10

// loads are what is carried: more for large writes, so that a round takes a few tenths of a second.
var loads = []struct {
	write, total int
	atLeast      float64 // the ratio asked for
}{
	{write: 64 << 10, total: 256 << 20, atLeast: 1},
	{write: 1 << 10, total: 48 << 20, atLeast: 3},
}

// secured makes both ends of a secured connection of both ends of a TCP connection.
type secured struct {
	name           string
	client, server func(context.Context, net.Conn) (net.Conn, error)
}

// BenchmarkTransport carries bytes through the connection of package noise, through
// go-libp2p's Noise and TLS transports, and through bare TCP to show what the kernel
// allows. All go through one loop and one kind of listener, the receiver compares every
// byte, and a round ends when the sender has read the receiver's answer.
func BenchmarkTransport(b *testing.B) {
	transports := []secured{ours(b), libp2pNoise(b), libp2pTLS(b), bare()}
	pattern := make([]byte, 1<<20)
	rand.Read(pattern)
	for range b.N {
		for _, load := range loads {
			speeds, cpu := make([][]float64, len(transports)), make([][]float64, len(transports))
			for round := range rounds {
				for i := range transports {
					i = (i + round) % len(transports)
					before := cpuTime()
					took, err := carry(transports[i], pattern, load.write, load.total)
					if err != nil {
						b.Fatalf("%s: %v", transports[i].name, err)
					}
					speeds[i] = append(speeds[i], float64(load.total)/1e6/took.Seconds())
					cpu[i] = append(cpu[i], float64(cpuTime()-before)/float64(load.total))
				}
			}
			report(transports, speeds, cpu, load.write, load.atLeast)
		}
	}
}

func report(transports []secured, speeds, cpu [][]float64, write int, atLeast float64) {
	fmt.Printf("\nwrites of %d bytes, %d rounds; MB/s, and ours divided by it in the same round\n", write, rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "transport\tmedian\tsmallest\tlargest\tratio median\tsmallest\tlargest\tasked\tcpu ns/B\t")
	for i, s := range transports {
		asked := ""
		if i == 1 || i == 2 {
			asked = fmt.Sprintf(">= %.1f", atLeast)
		}
		ratios := make([]float64, rounds)
		for r := range ratios {
			ratios[r] = speeds[0][r] / speeds[i][r]
		}
		m, lo, hi := spread(speeds[i])
		rm, rlo, rhi := spread(ratios)
		c, _, _ := spread(cpu[i])
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%s\t%.2f\t\n", s.name, m, lo, hi, rm, rlo, rhi, asked, c)
	}
	t.Flush()
}

func spread(v []float64) (median, smallest, largest float64) {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[0], v[len(v)-1]
}

// carry sends total bytes in writes of the given size through a new connection and
// returns how long that took, without the handshake.
func carry(s secured, pattern []byte, write, total int) (time.Duration, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	received := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			err = receive(ctx, c, s, pattern, total)
		}
		received <- err
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	c, err := s.client(ctx, raw)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil { // the receiver is ready
		return 0, errors.Join(err, <-received)
	}
	start := time.Now()
	for done := 0; done < total; done += write {
		at := done % len(pattern)
		if _, err := c.Write(pattern[at : at+write]); err != nil {
			return 0, err
		}
	}
	if _, err := io.ReadFull(c, answer[:]); err != nil { // and has everything
		return 0, errors.Join(err, <-received)
	}
	took := time.Since(start)
	return took, <-received
}

func receive(ctx context.Context, raw net.Conn, s secured, pattern []byte, total int) error {
	defer raw.Close()
	c, err := s.server(ctx, raw)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for done := 0; done < total; {
		n, err := c.Read(buf)
		for got := buf[:n]; len(got) > 0; {
			want := pattern[done%len(pattern):]
			k := min(len(got), len(want))
			if !bytes.Equal(got[:k], want[:k]) {
				return fmt.Errorf("wrong bytes at %d", done)
			}
			done, got = done+k, got[k:]
		}
		if err != nil && done < total {
			return fmt.Errorf("after %d bytes: %w", done, err)
		}
	}
	_, err = c.Write([]byte{2})
	return err
}

func ours(tb testing.TB) secured {
	client, err := noise.GenerateKey(nil)
	server, err2 := noise.GenerateKey(nil)
	if err := errors.Join(err, err2); err != nil {
		tb.Fatal(err)
	}
	p := noise.Params{Prefix: []byte{2}, Prologue: []byte("bench")}
	return secured{
		name: "asmtp noise",
		client: func(ctx context.Context, c net.Conn) (net.Conn, error) {
			conn, _, err := noise.Client(ctx, c, p, client, server.Public(), nil)
			return conn, err
		},
		server: func(ctx context.Context, c net.Conn) (net.Conn, error) {
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				return nil, err
			}
			return noise.Server(ctx, c, p, server, func(noise.PublicKey, []byte) ([]byte, error) { return nil, nil })
		},
	}
}

// identity is a libp2p key and its peer id.
func identity(tb testing.TB) (crypto.PrivKey, peer.ID) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return key, id
}

func libp2pNoise(tb testing.TB) secured {
	clientKey, _ := identity(tb)
	serverKey, serverID := identity(tb)
	client, err := lnoise.New(lnoise.ID, clientKey, nil)
	server, err2 := lnoise.New(lnoise.ID, serverKey, nil)
	if err := errors.Join(err, err2); err != nil {
		tb.Fatal(err)
	}
	return secured{
		name: "libp2p noise",
		client: func(ctx context.Context, c net.Conn) (net.Conn, error) {
			return client.SecureOutbound(ctx, c, serverID)
		},
		server: func(ctx context.Context, c net.Conn) (net.Conn, error) { return server.SecureInbound(ctx, c, "") },
	}
}

func libp2pTLS(tb testing.TB) secured {
	clientKey, _ := identity(tb)
	serverKey, serverID := identity(tb)
	client, err := ltls.New(ltls.ID, clientKey, nil)
	server, err2 := ltls.New(ltls.ID, serverKey, nil)
	if err := errors.Join(err, err2); err != nil {
		tb.Fatal(err)
	}
	return secured{
		name: "libp2p tls",
		client: func(ctx context.Context, c net.Conn) (net.Conn, error) {
			return client.SecureOutbound(ctx, c, serverID)
		},
		server: func(ctx context.Context, c net.Conn) (net.Conn, error) { return server.SecureInbound(ctx, c, "") },
	}
}

func bare() secured {
	same := func(_ context.Context, c net.Conn) (net.Conn, error) { return c, nil }
	return secured{name: "tcp, no crypto", client: same, server: same}
}
