package clientapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
)

// session is one connection of a device.
type session struct {
	net.Conn
	device noise.PublicKey
	// ctx ends with the session, when the device is revoked, and when the server
	// stops; its cause is what the calls of this session end with.
	ctx     context.Context
	end     context.CancelCauseFunc
	all     *sessions
	closing sync.Once
	grace   *time.Timer // after a revocation; guarded by all.mu
}

// Close closes the connection and forgets the session. gRPC calls it, sometimes twice.
func (s *session) Close() (err error) {
	s.closing.Do(func() {
		s.all.remove(s)
		s.end(ErrUnavailable)
		err = s.Conn.Close()
	})
	return err
}

// device is what the server knows of a device that is connected.
type device struct {
	sessions []*session // oldest first
	submits  int        // calls of Submit under way
}

// sessions are those that are open, by device.
type sessions struct {
	log *slog.Logger

	mu      sync.Mutex
	devices map[noise.PublicKey]*device
}

// add opens a session on an authenticated connection. If the device has as many as
// it may, its oldest is closed.
func (all *sessions) add(base context.Context, c net.Conn, key noise.PublicKey) *session {
	s := &session{Conn: c, device: key, all: all}
	s.ctx, s.end = context.WithCancelCause(base)
	all.mu.Lock()
	d := all.devices[key]
	if d == nil {
		d = new(device)
		all.devices[key] = d
	}
	var oldest *session
	if len(d.sessions) >= MaxSessions {
		oldest = d.sessions[0]
	}
	d.sessions = append(d.sessions, s)
	all.mu.Unlock()
	if oldest != nil {
		all.log.Info("a device has too many connections, its oldest is closed", "device", key, "addr", oldest.RemoteAddr())
		oldest.Close()
	}
	return s
}

func (all *sessions) remove(s *session) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if s.grace != nil {
		s.grace.Stop()
	}
	d := all.devices[s.device]
	for i, other := range d.sessions {
		if other == s {
			d.sessions = append(d.sessions[:i:i], d.sessions[i+1:]...)
			break
		}
	}
	all.forgetLocked(s.device)
}

// forgetLocked forgets a device of which nothing is left.
func (all *sessions) forgetLocked(key noise.PublicKey) {
	if d := all.devices[key]; len(d.sessions) == 0 && d.submits == 0 {
		delete(all.devices, key)
	}
}

// revoke ends the calls of all devices that admitted does not know, and closes their
// connections a little later, so that the calls can end with the reason.
func (all *sessions) revoke(admitted func(noise.PublicKey) bool) {
	for _, key := range all.keys() {
		if admitted(key) {
			continue
		}
		all.mu.Lock()
		if d := all.devices[key]; d != nil {
			for _, s := range d.sessions {
				if s.grace == nil {
					all.log.Info("device revoked, its connection is closed", "device", key, "addr", s.RemoteAddr())
					s.end(ErrNotAllowed)
					s.grace = time.AfterFunc(revokedGrace, func() { s.Close() })
				}
			}
		}
		all.mu.Unlock()
	}
}

func (all *sessions) keys() []noise.PublicKey {
	all.mu.Lock()
	defer all.mu.Unlock()
	keys := make([]noise.PublicKey, 0, len(all.devices))
	for key := range all.devices {
		keys = append(keys, key)
	}
	return keys
}

// count returns how many sessions are open.
func (all *sessions) count() (n int) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, d := range all.devices {
		n += len(d.sessions)
	}
	return n
}

// beginSubmit counts a call of Submit, which keeps a batch in memory, until done is called.
func (all *sessions) beginSubmit(key noise.PublicKey) (done func(), err error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	d := all.devices[key]
	if d == nil {
		return nil, ErrUnavailable // the connection went away just now
	}
	if d.submits >= maxSubmits {
		return nil, fmt.Errorf("%w: %d submissions of one device at one time", ErrLimit, maxSubmits)
	}
	d.submits++
	return func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		d.submits--
		all.forgetLocked(key)
	}, nil
}

// listener makes sessions of the connections of a port's listener.
type listener struct {
	net.Listener
	base context.Context
	all  *sessions
}

// Accept returns the next session.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	known, ok := c.(interface{ PeerKey() noise.PublicKey })
	if !ok {
		c.Close()
		return nil, errors.New("the listener's connections have no peer key")
	}
	return l.all.add(l.base, c, known.PeerKey()), nil
}
