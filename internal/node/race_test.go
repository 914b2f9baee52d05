package node_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/invite"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// inviter answers one invitation; before it does, while the guest waits, it calls meanwhile.
type inviter struct {
	key, founder *noise.PrivateKey
	mesh         mesh.ID
	secret       mesh.Secret
	founding     *mesh.Statement
	token        mesh.Token
	meanwhile    func()
}

// start serves until the test ends and returns the line of the invitation.
func (i *inviter) start(t *testing.T) string {
	t.Helper()
	now := passport.TimeOf(time.Now())
	var err error
	if i.founder, i.founding, i.secret, err = mesh.Found(nil, now); err != nil {
		t.Fatal(err)
	}
	set, err := mesh.NewSet(i.founding)
	if err != nil {
		t.Fatal(err)
	}
	i.mesh, i.key, i.token = set.ID(), key(t), mesh.Token{1, 2, 3}
	stamps, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := port.New(ln, port.Options{Key: i.key, Stamps: stamps, Gates: map[port.Version]port.Gate{port.Join: {
		Params: func([]byte) (noise.Params, bool) { return port.JoinParams(i.token), true },
		Admit: func(noise.PublicKey, []byte) ([]byte, error) {
			return port.PackCertificate(nil, port.ReplyCertificateSpace)
		},
	}}})
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan struct{})
	guests := p.Listener(port.Join)
	go func() {
		defer close(served)
		for {
			c, err := guests.Accept()
			if err != nil {
				return
			}
			if err := i.answer(ctx, c.(*port.JoinConn)); err != nil && ctx.Err() == nil {
				t.Errorf("answer: %v", err)
			}
			c.Close()
		}
	}()
	ran := make(chan error, 1)
	go func() { ran <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		guests.Close()
		<-ran
		<-served
		stamps.Close()
	})
	line := mesh.Line{Kind: mesh.LineMesh, Mesh: i.mesh, Node: i.key.Public(), Addresses: []string{ln.Addr().String()}, Token: i.token, End: now.Add(time.Hour)}
	text, err := line.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i *inviter) answer(ctx context.Context, c *port.JoinConn) error {
	return invite.Answer(ctx, c, func(context.Context, invite.Kind) (*invite.Reply, error) {
		i.meanwhile()
		cert := mesh.Certify(i.founder, i.mesh, c.PeerKey(), passport.TimeOf(time.Now()), mesh.MaxCertificateDays)
		return &invite.Reply{Secret: i.secret, Certificate: cert.Bytes(), Statements: [][]byte{i.founding.Bytes()}}, nil
	})
}

// A guest that is let in while the node waits for its own inviter's answer is not left
// alone: the node stays in the mesh that it now shares, and opens again.
func TestGuestDuringJoinIsNotLeftAlone(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, nil)
	before := n.Await("status", func(*control.Status) bool { return true }).Mesh
	guestLine := n.Invite()
	i := &inviter{meanwhile: func() {
		guest := nodetest.Start(t, func(o *node.Options) { o.Join = guestLine })
		guest.Await("the guest is in", func(s *control.Status) bool { return s.Mesh == before && s.Members == 2 })
	}}
	if err := n.Control.Join(t.Context(), i.start(t)); !errors.Is(err, control.ErrConflict) {
		t.Errorf("join: %v, want ErrConflict", err)
	}
	n.Restart()
	n.Await("it is in its own mesh with the guest", func(s *control.Status) bool { return s.Mesh == before && s.Members == 2 })
}

// The same inviter with nothing between: the test above fails for its reason alone.
func TestJoinOfTheInviterOfThisTest(t *testing.T) {
	t.Parallel()
	n := nodetest.Start(t, nil)
	i := &inviter{meanwhile: func() {}}
	if err := n.Control.Join(t.Context(), i.start(t)); err != nil {
		t.Fatal(err)
	}
	n.Await("it is in the inviter's mesh", func(s *control.Status) bool { return s.Mesh == i.mesh })
}
