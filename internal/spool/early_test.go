package spool_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/spool"
	"github.com/asmtp/asmtp/internal/store/storetest"
	"github.com/asmtp/asmtp/noise"
)

// insistentStore says that an envelope is admitted until somebody has received it, and
// only then stores it.
type insistentStore struct {
	spool.Store
	early    <-chan envelope.Early
	received *envelope.Early // nil: nobody wanted to know
}

func (s *insistentStore) PutEnvelopes(ctx context.Context, list []envelope.Arrival) ([]envelope.Outcome, error) {
	s.received = nil
	if admitted := list[0].Admitted; admitted != nil {
		got := make(chan envelope.Early)
		go func() {
			select {
			case e := <-s.early:
				got <- e
			case <-time.After(200 * time.Millisecond):
				close(got)
			}
		}()
		for done := false; !done; {
			admitted()
			select {
			case e, ok := <-got:
				if done = true; ok {
					s.received = &e
				}
			default:
			}
		}
	}
	list[0].Admitted = nil
	return s.Store.PutEnvelopes(ctx, list)
}

// A small envelope comes to who expects it before it is stored, whoever brought it; one of
// the largest class or of another user does not, and nothing does after the end.
func TestExpectedComeBeforeTheyAreStored(t *testing.T) {
	r := storetest.Random(5)
	end := storetest.Hour(20)
	st := &insistentStore{Store: openStore(t)}
	s := newSpool(t, st, spool.Options{})
	k, others := newKey(r, end), newKey(r, end)
	ok(t, s.RegisterTagKeys(ctx, alice, []envelope.TagKey{k}))
	ok(t, s.RegisterTagKeys(ctx, bob, []envelope.TagKey{others}))
	early, stop := s.Expect(alice)
	_, idle := s.Expect(alice) // who does not receive holds nobody up
	defer idle()
	st.early = early

	large := storetest.NewEnvelope(r, len(envelope.Sizes)-1, end)
	large.Tag = k.Key.Tag(large.SealHash())
	for _, c := range []struct {
		what string
		from noise.PublicKey
		e    *envelope.Envelope
		want bool
	}{
		{"from a neighbour", someone, tagged(r, k, end), true},
		{"from a user of this node", nobody, tagged(r, k, end), true},
		{"for another user", someone, tagged(r, others, end), false},
		{"for nobody here", someone, storetest.NewEnvelope(r, 0, end), false},
		{"of the largest class", someone, large, false},
	} {
		_, err := s.Put(ctx, c.from, []*envelope.Envelope{c.e})
		ok(t, err)
		got := st.received
		if (got != nil) != c.want {
			t.Errorf("%s: came early: %t", c.what, got != nil)
		}
		if got != nil && (got.ID != c.e.ID() || got.Handle != k.Handle || !bytes.Equal(got.Envelope, c.e.Bytes())) {
			t.Errorf("%s: came as %+v", c.what, got)
		}
	}
	stop()
	_, err := s.Put(ctx, someone, []*envelope.Envelope{tagged(r, k, end)})
	ok(t, err)
	if st.received != nil {
		t.Error("came after the end")
	}
}
