package port_test

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asmtp/asmtp/internal/port"
)

// openAfter dials from all addresses one after the other and reports which of the
// connections are still held a second later.
func openAfter(t *testing.T, ln *memory, addrs []string) (open []bool, total int) {
	t.Helper()
	var conns []net.Conn
	for _, a := range addrs {
		c, err := ln.dial(a)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		synctest.Wait()
	}
	end := time.Now().Add(time.Second)
	open = make([]bool, len(conns))
	for i, c := range conns {
		c.SetReadDeadline(end)
		_, err := c.Read(make([]byte, 1))
		if open[i] = isTimeout(err); open[i] {
			total++
		}
	}
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	return open, total
}

func addresses(n int, format string) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return list
}

// At most 16 connections without authentication from one source, 512 in all.
func TestCaps(t *testing.T) {
	var many []string
	for i := range 600 {
		many = append(many, fmt.Sprintf("198.51.%d.%d:5", i/200, i%200))
	}
	for _, tt := range []struct {
		name  string
		addrs []string
		want  int
	}{
		{"one IPv4 address", addresses(40, "192.0.2.1:%d"), 16},
		{"one IPv4 address written as IPv6", addresses(40, "[::ffff:192.0.2.1]:%d"), 16},
		{"neighbours in IPv4", addresses(40, "192.0.2.%d:5"), 40},
		{"one IPv6 /56", addresses(40, "[2001:db8:0:ab%02x::1]:5"), 16},
		{"one IPv6 address", addresses(40, "[2001:db8::1]:%d"), 16},
		{"two IPv6 /56", append(addresses(40, "[2001:db8:0:a0%02x::1]:5"), addresses(40, "[2001:db8:0:a1%02x::1]:5")...), 32},
		{"many IPv4 addresses", many, 512},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, ln := newEnv(t), newMemory()
				_, stop := run(t, ln, e.options(t))
				open, got := openAfter(t, ln, tt.addrs)
				if got != tt.want {
					t.Errorf("%d of %d are held, want %d", got, len(tt.addrs), tt.want)
				}
				if half := len(open) / 2; tt.want < len(open) && (allOpen(open[:half]) || allOpen(open[half:])) {
					t.Error("those thrown out are all old ones or all new ones, not random ones")
				}
				time.Sleep(10 * time.Second) // of the false clock: all holds end
				if _, again := openAfter(t, ln, tt.addrs[:10]); again != 10 {
					t.Errorf("later %d of 10 are held", again)
				}
				stop()
			})
		})
	}
}

func allOpen(open []bool) bool {
	for _, o := range open {
		if !o {
			return false
		}
	}
	return true
}

// Who was let in does not count, and can be thrown out by no flood.
func TestFloodDoesNotTouchWhoWasLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, ln := newEnv(t), newMemory()
		p, stop := run(t, ln, e.options(t))
		var friends []net.Conn
		for i := range 20 {
			conn, err := ln.dial("192.0.2.1:1")
			if err != nil {
				t.Fatal(err)
			}
			out, err := e.handshake(conn, e.calls(t)[port.Client], uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			accept(t, p, port.Client) // kept open: stop must not need it
			friends = append(friends, out)
		}
		if _, got := openAfter(t, ln, addresses(40, "192.0.2.1:%d")); got != 16 {
			t.Errorf("%d of 40 strangers are held beside friends, want 16", got)
		}
		for i, f := range friends {
			f.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := f.Read(make([]byte, 1)); !isTimeout(err) {
				t.Errorf("friend %d: %v", i, err)
			}
			f.Close()
		}
		stop()
	})
}

// A stranger can make the node read 64 KiB, and no more.
func TestNoMoreThan64KiBAreRead(t *testing.T) {
	for name, begin := range map[string][]byte{"garbage": nil, "a version byte": {2}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, ln := newEnv(t), newMemory()
				_, stop := run(t, ln, e.options(t))
				c, err := ln.dial("192.0.2.1:1")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				n, err := c.Write(append(begin, make([]byte, 1<<20)...))
				if err == nil || n < 60<<10 || n > 65<<10 {
					t.Errorf("%d bytes were read, %v; want about 64 KiB", n, err)
				}
				stop()
			})
		})
	}
}
