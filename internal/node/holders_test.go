package node_test

import (
	"testing"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/node"
	"github.com/asmtp/asmtp/internal/node/nodetest"
	"github.com/asmtp/asmtp/passport"
)

// Only certified members count as holders, each once: not the node itself, nobody who
// never was a member, and not a member any more when its certificate has ended.
func TestOnlyCertifiedMembersCount(t *testing.T) {
	t.Parallel()
	now, setAhead := settable()
	a := nodetest.Start(t, nil)
	line := a.Invite()
	b := nodetest.Start(t, func(o *node.Options) { o.Now = now; o.Join = line })
	b.Await("b is in", func(s *control.Status) bool { return s.Members == 2 })
	e := junk(t)
	stranger := key(t).Public()
	if err := b.NoteCustody(t.Context(), e, a.ID(), a.ID(), b.ID(), stranger); err != nil {
		t.Fatal(err)
	}
	count := func(want int, when string) {
		t.Helper()
		if got, err := b.Holders(e.ID()); err != nil || got != want {
			t.Errorf("%d holders %s, %v; want %d", got, when, err, want)
		}
	}
	count(1, "of a member, the node itself and a stranger")
	setAhead(91 * 24 * time.Hour)
	if passport.TimeOf(now()) < e.Expires {
		t.Fatal("the clock was not set")
	}
	count(0, "after the certificate has ended")
}
