package node_test

import (
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
)

// A node whose clock is off against most others says so; those whose is right do not,
// though one of them is wrong, and each knows by how much.
func TestWrongClockIsSeenByItsNodeAlone(t *testing.T) {
	t.Parallel()
	const ahead = 20 * time.Minute
	a := nodetest.Start(t, nil)
	join := func(change func(*node.Options)) *nodetest.Node {
		line := a.Invite()
		return nodetest.Start(t, func(o *node.Options) { o.Join = line; change(o) })
	}
	b := join(func(*node.Options) {})
	wrong := join(func(o *node.Options) { o.Now = func() time.Time { return time.Now().Add(ahead) } })
	compared := func(s *control.Status) bool {
		known := 0
		for _, p := range s.Peers {
			if p.Connected && p.Clock != nil {
				known++
			}
		}
		return known == 2
	}
	s := wrong.Await("it has compared clocks with both", compared)
	if !s.Clock.Known || !s.Clock.Wrong || s.Clock.Offset > -ahead.Seconds()+60 || s.Clock.Offset < -ahead.Seconds()-60 {
		t.Errorf("the wrong one says %+v, want about -%v", s.Clock, ahead)
	}
	for name, n := range map[string]*nodetest.Node{"a": a, "b": b} {
		s := n.Await("it has compared clocks with both", compared)
		if !s.Clock.Known || s.Clock.Wrong {
			t.Errorf("%s says %+v, want that its clock is right", name, s.Clock)
		}
		for _, p := range s.Peers {
			if p.ID == wrong.ID() && (*p.Clock < ahead.Seconds()-60 || *p.Clock > ahead.Seconds()+60) {
				t.Errorf("%s sees the wrong one off by %v s", name, *p.Clock)
			}
		}
		n.Await("it has compared its store", func(s *control.Status) bool {
			return !s.Reconciled.Last.IsZero() && s.Reconciled.Sessions > 0
		})
	}
}
