package node_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/invite"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leaks...)
}

// leaks are goroutines that a library leaves behind, each with the reason.
var leaks = []goleak.Option{
	// Badger's and ristretto's dependency starts its flusher when it is imported.
	goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
	goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
}

func key(t *testing.T) *noise.PrivateKey {
	t.Helper()
	k, err := noise.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func dial(t *testing.T, n *nodetest.Node, own *noise.PrivateKey) (*clientapi.Client, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	c, err := clientapi.Dial(ctx, n.Addr(), n.ID(), own, port.NewClockStamps(nil))
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func admit(t *testing.T, n *nodetest.Node, k noise.PublicKey) {
	t.Helper()
	if _, err := n.Control.UserAdd(t.Context(), control.KeyName(k)); err != nil {
		t.Fatal(err)
	}
}

// enter makes a device a user of a node that has published its passport there.
func enter(t *testing.T, n *nodetest.Node, device *noise.PrivateKey) (*clientapi.Client, *passport.Passport) {
	t.Helper()
	admit(t, n, device.Public())
	c, err := dial(t, n, device)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := passport.Create(rand.Reader, device, passport.TimeOf(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutPassport(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return c, p
}

// Whoever is in a mesh is there after a restart, with the same key and the same mesh.
func TestMeshSurvivesRestart(t *testing.T) {
	t.Parallel()
	nodes := nodetest.Mesh(t, 3)
	before := nodes[2].Await("status", func(*control.Status) bool { return true })
	nodes[2].Restart()
	after := nodes[2].Await("it is connected again", func(s *control.Status) bool {
		return len(s.Peers) == 2 && s.Peers[0].Connected && s.Peers[1].Connected
	})
	if before.Mesh != after.Mesh || before.ID != after.ID || after.Members != 3 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// An envelope that a user gives to one node is stored on all, and the user's node counts them.
func TestEnvelopeReachesAllNodes(t *testing.T) {
	t.Parallel()
	nodes := nodetest.Mesh(t, 3)
	device := key(t)
	c, _ := enter(t, nodes[0], device)
	e := junk(t)
	refused, err := c.Submit(t.Context(), []envelope.ID{e.ID()}, func(envelope.ID) ([]byte, error) { return e.Bytes(), nil })
	if err != nil || len(refused) != 0 {
		t.Fatalf("refused %v, error %v", refused, err)
	}
	for i, n := range nodes {
		n.Await("the envelope is there", func(s *control.Status) bool { return s.Envelopes == 1 })
		_ = i
	}
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	err = c.WatchCustody(ctx, []envelope.ID{e.ID()}, true, func(_ envelope.ID, count int) error {
		if count == 2 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Errorf("custody: %v", err)
	}
}

var errEnough = errors.New("enough")

// junk is a well-formed envelope for nobody.
func junk(t *testing.T) *envelope.Envelope {
	t.Helper()
	sealed := make([]byte, envelope.Sizes[0])
	if _, err := rand.Read(sealed); err != nil {
		t.Fatal(err)
	}
	end := passport.TimeOf(time.Now().Add(24 * time.Hour))
	return &envelope.Envelope{Expires: end - end%3600, Sealed: sealed}
}

// A stranger's device gets no answer, and its operator sees that it knocked.
func TestStrangerKnocks(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, nil)
	stranger := key(t)
	if _, err := dial(t, n, stranger); !errors.Is(err, port.ErrNoAnswer) {
		t.Fatalf("dial: %v, want ErrNoAnswer", err)
	}
	users, err := n.Control.UserList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(users.Knocked) != 1 || users.Knocked[0].Key != stranger.Public() {
		t.Errorf("knocked: %+v, want the stranger's key", users.Knocked)
	}
	admit(t, n, stranger.Public())
	if _, err := dial(t, n, stranger); err != nil {
		t.Errorf("after user add: %v", err)
	}
}

// A device that brings in its passport opens the door for the passport's other devices,
// and one that the passport removed is out, even if the file lists it.
func TestPassportDecidesAboutDevices(t *testing.T) {
	t.Parallel()
	first, second := key(t), key(t)
	n := nodetest.Start(t, func(o *node.Options) { o.Users = []string{first.Public().String()} })
	now := passport.TimeOf(time.Now())
	p, _, err := passport.Create(rand.Reader, first, now)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(t, n, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutPassport(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, n, second); err == nil {
		t.Fatal("a device that is in no passport was admitted")
	}
	request, err := passport.RequestRegistration(p.ID(), second, "second", now)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err = p.Change(rand.Reader, first, now, passport.Change{Register: []passport.Register{request}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutPassport(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	c2, err := dial(t, n, second)
	if err != nil {
		t.Fatalf("the passport's second device: %v", err)
	}
	p, _, err = p.Change(rand.Reader, second, now, passport.Change{Deregister: []noise.PublicKey{first.Public()}, Rotate: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c2.PutPassport(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, n, first); !errors.Is(err, port.ErrNoAnswer) {
		t.Errorf("the removed device: %v, want no answer", err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, clientapi.ErrNotAllowed) && !errors.Is(err, clientapi.ErrUnavailable) {
		t.Errorf("the removed device's old session: %v, want it refused", err)
	}
}

// A node alone in the mesh it made joins another; one that has company does not.
func TestJoin(t *testing.T) {
	t.Parallel()
	a, b := nodetest.Start(t, nil), nodetest.Start(t, nil)
	line := a.Invite()
	if err := b.Control.Join(t.Context(), line); err != nil {
		t.Fatal(err)
	}
	mesh := a.Await("b is connected", func(s *control.Status) bool { return len(s.Peers) == 1 && s.Peers[0].Connected }).Mesh
	b.Await("b is in a's mesh", func(s *control.Status) bool { return s.Mesh == mesh && s.Members == 2 })
	if err := b.Control.Join(t.Context(), line); err != nil {
		t.Errorf("again: %v, want nothing to happen", err)
	}
	c := nodetest.Start(t, nil)
	if err := b.Control.Join(t.Context(), c.Invite()); !errors.Is(err, control.ErrConflict) {
		t.Errorf("to a third mesh: %v, want ErrConflict", err)
	}
	if _, err := b.Control.MeshInvite(t.Context(), control.Invite{}); !errors.Is(err, control.ErrDenied) {
		t.Errorf("invite by who is no admin: %v, want ErrDenied", err)
	}
}

// A line that is used up is named as such, and asking again after a lost answer uses up nothing.
func TestJoinByUsedLine(t *testing.T) {
	t.Parallel()
	a := nodetest.Start(t, nil)
	line := a.Invite()
	b := nodetest.Start(t, func(o *node.Options) { o.Join = line })
	b.Await("b is in", func(s *control.Status) bool { return s.Members == 2 })
	c := nodetest.Start(t, func(o *node.Options) { o.Join = line })
	if err := c.Failed(); !errors.Is(err, invite.ErrUsed) {
		t.Errorf("third node: %v, want ErrUsed", err)
	}
	if _, err := os.Stat(filepath.Join(c.Data, "join")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the line is kept: %v", err)
	}
}

// An inviter that is away is tried again, also after a restart without the line.
func TestJoinWaitsForTheInviter(t *testing.T) {
	t.Parallel()
	a := nodetest.Start(t, nil)
	line := a.Invite()
	a.Options.Listen = a.Addr()
	a.Stop()
	b := nodetest.Start(t, func(o *node.Options) { o.Join = line })
	b.Options.Join = ""
	b.Restart()
	a.Restart()
	b.Await("b is in a's mesh", func(s *control.Status) bool { return s.Members == 2 })
}

func TestTwoNodesOnOneFolder(t *testing.T) {
	n := nodetest.Start(t, nil)
	_, err := node.Open(t.Context(), node.Options{Key: key(t), Data: n.Data, Listen: "127.0.0.1:0"})
	if !errors.Is(err, control.ErrRunning) || !strings.Contains(err.Error(), "another asmtpd") {
		t.Errorf("error %v, want ErrRunning", err)
	}
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = node.Open(t.Context(), node.Options{Key: key(t), Data: t.TempDir(), Listen: ln.Addr().String()})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v, want EADDRINUSE", err)
	}
}

// settable is a clock that can be set ahead.
func settable() (now func() time.Time, setAhead func(time.Duration)) {
	var ahead atomic.Int64
	return func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }, func(d time.Duration) { ahead.Store(int64(d)) }
}

// Certificates that end soon are renewed by the founder's node, for all members.
func TestCertificatesAreRenewed(t *testing.T) {
	t.Parallel()
	now, setAhead := settable()
	a := nodetest.Start(t, func(o *node.Options) { o.Now = now })
	line := a.Invite()
	b := nodetest.Start(t, func(o *node.Options) { o.Now = now; o.Join = line })
	b.Await("b is in", func(s *control.Status) bool { return s.Members == 2 })
	setAhead(70 * 24 * time.Hour)
	a.Restart() // renews at start, and every hour
	b.Restart()
	deadline := time.After(nodetest.Patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		members, err := b.Control.MeshMembers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		renewed := 0
		for _, m := range members {
			if m.Until.Sub(now()) > 80*24*time.Hour {
				renewed++
			}
		}
		if renewed == 2 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("members as b sees them: %+v", members)
		}
	}
}

// Who removes a user is told what else still lets it in; after that it is out.
func TestRemovedUserIsOut(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, nil)
	device := key(t)
	_, p := enter(t, n, device)
	err := n.Control.UserRemove(t.Context(), control.KeyName(device.Public()))
	if !errors.Is(err, control.ErrConflict) || !strings.Contains(err.Error(), p.ID().String()) {
		t.Errorf("remove the key: %v, want ErrConflict that names the passport", err)
	}
	if err := n.Control.UserRemove(t.Context(), control.PassportName(p.ID())); err != nil {
		t.Errorf("remove the passport: %v", err)
	}
	if _, err := dial(t, n, device); !errors.Is(err, port.ErrNoAnswer) {
		t.Errorf("dial after both: %v, want no answer", err)
	}
}

// A device publishes one passport, not as many as it likes.
func TestDeviceHasOnePassport(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, nil)
	device := key(t)
	admit(t, n, device.Public())
	c, err := dial(t, n, device)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{nil, clientapi.ErrInvalid} {
		p, _, err := passport.Create(rand.Reader, device, passport.TimeOf(time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.PutPassport(t.Context(), p); !errors.Is(err, want) {
			t.Errorf("passport %d: %v, want %v", i, err, want)
		}
	}
}

// Peers of a configuration that was read again are kept over a change of the mesh.
func TestReloadedPeersAreKept(t *testing.T) {
	t.Parallel()
	a, b := nodetest.Start(t, nil), nodetest.Start(t, nil)
	peer := key(t).Public()
	b.Reload(nil, []node.Peer{{ID: peer.String(), Address: "127.0.0.1:1"}})
	if err := b.Control.Join(t.Context(), a.Invite()); err != nil {
		t.Fatal(err)
	}
	b.Await("the peer is known in the new mesh", func(s *control.Status) bool {
		known := false
		for _, p := range s.Peers {
			known = known || p.ID == peer
		}
		return known && s.Members == 2
	})
}

// An invitation of an earlier start that can never be used does not stop the node.
func TestUselessKeptInvitationIsGivenUp(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, nil)
	n.Options.Listen = n.Addr()
	n.Stop()
	kept := filepath.Join(n.Data, "join")
	if err := os.WriteFile(kept, []byte("asmtp-mesh1aaaa"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	n.Await("the line is gone", func(*control.Status) bool {
		_, err := os.Stat(kept)
		return errors.Is(err, os.ErrNotExist)
	})
}
