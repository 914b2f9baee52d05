package clientapi_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/clientapi/nodepb"
)

// outbox gives out envelopes and notes which were asked for.
type outbox struct {
	byID    map[envelope.ID][]byte
	ids     []envelope.ID
	fetched []envelope.ID
}

func newOutbox(list ...*envelope.Envelope) *outbox {
	o := &outbox{byID: make(map[envelope.ID][]byte)}
	for _, e := range list {
		o.ids = append(o.ids, e.ID())
		o.byID[e.ID()] = e.Bytes()
	}
	return o
}

func (o *outbox) fetch(id envelope.ID) ([]byte, error) {
	o.fetched = append(o.fetched, id)
	b, ok := o.byID[id]
	if !ok {
		return nil, errGone
	}
	return b, nil
}

var errGone = errors.New("the outbox has no such envelope")

func TestSubmitSendsWhatTheNodeLacksOnce(t *testing.T) {
	n, _, c, _ := start(t)
	a, b, d := seal(0, 1), seal(1, 2), seal(2, 3)
	n.stored[b.ID()] = b.Bytes()
	o := newOutbox(a, b, d, a)
	refused, err := c.Submit(t.Context(), o.ids, o.fetch)
	if err != nil || len(refused) > 0 {
		t.Fatalf("refused %v, error %v", refused, err)
	}
	if want := []envelope.ID{a.ID(), d.ID()}; !slices.Equal(o.fetched, want) {
		t.Errorf("fetched %v, want %v", o.fetched, want)
	}
	for _, e := range []*envelope.Envelope{a, b, d} {
		if !n.has(e.ID(), e.Bytes()) {
			t.Errorf("the node does not have %v", e.ID())
		}
	}
	if _, err := c.Submit(t.Context(), o.ids, o.fetch); err != nil || len(o.fetched) != 2 {
		t.Errorf("again: %d fetched, %v", len(o.fetched), err)
	}
}

// What no node can have yet goes over without a question, and if a node has it, or refuses
// it, that is told all the same.
func TestNewEnvelopesAreNotAskedFor(t *testing.T) {
	n, _, c, _ := start(t)
	a, known, full := seal(0, 1), seal(1, 2), seal(2, 3)
	n.stored[known.ID()] = known.Bytes()
	n.refuse[full.ID()] = clientapi.Refusal{ID: full.ID(), Reason: clientapi.ReasonFull, Text: "quota"}
	o := newOutbox(a, known, full, a)
	refused, err := c.SubmitNew(t.Context(), o.ids, o.fetch)
	if err != nil || len(refused) != 1 || refused[0].ID != full.ID() || refused[0].Reason != clientapi.ReasonFull {
		t.Fatalf("refused %v, error %v", refused, err)
	}
	if want := []envelope.ID{a.ID(), known.ID(), full.ID()}; !slices.Equal(o.fetched, want) {
		t.Errorf("fetched %v, want %v", o.fetched, want)
	}
	if !n.has(a.ID(), a.Bytes()) || !n.has(known.ID(), known.Bytes()) {
		t.Error("the node does not have all")
	}

	stream, err := c.Raw().Submit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := seal(0, 4)
	id := e.ID()
	for _, r := range []*nodepb.SubmitRequest{all(id[:]), bytesOf(e.Bytes())} {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := stream.Recv(); err != nil || r.GetAccepted() == nil {
		t.Errorf("the first answer is %v, %v", r, err)
	}
}

// A mail of 18 MiB goes over in several batches, and the node never gets more than
// putBytes and one envelope at once.
func TestLargeMailsAreSubmittedInSmallSteps(t *testing.T) {
	n, _, c, _ := start(t)
	var list []*envelope.Envelope
	for i := range clientapi.OfferSize + 50 {
		list = append(list, seal(3, i))
	}
	o := newOutbox(list...)
	if _, err := c.Submit(t.Context(), o.ids, o.fetch); err != nil {
		t.Fatal(err)
	}
	if len(n.stored) != len(list) {
		t.Errorf("%d of %d are stored", len(n.stored), len(list))
	}
	if n.largest > clientapi.PutBytes+envelope.MaxSize {
		t.Errorf("the node got %d bytes at once", n.largest)
	}
}

func TestRefusalsNameEnvelopeAndReason(t *testing.T) {
	n, _, c, _ := start(t)
	a, full, later := seal(0, 1), seal(0, 2), seal(0, 3)
	n.refuse[full.ID()] = clientapi.Refusal{ID: full.ID(), Reason: clientapi.ReasonFull, Text: "quota"}
	n.refuse[later.ID()] = clientapi.Refusal{ID: later.ID(), Reason: clientapi.ReasonEnded}
	o := newOutbox(a, full, later)
	odd := envelope.ID{1}
	o.ids = append(o.ids, odd)
	o.byID[odd] = []byte{9, 9} // of a version that the node does not know
	refused, err := c.Submit(t.Context(), o.ids, o.fetch)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[envelope.ID]clientapi.Reason{}
	for _, r := range refused {
		reasons[r.ID] = r.Reason
		if isFull := errors.Is(r.Err(), clientapi.ErrNodeFull); isFull != (r.ID == full.ID()) {
			t.Errorf("%v is full: %v", r.Err(), isFull)
		}
	}
	if len(refused) != 3 || reasons[full.ID()] != clientapi.ReasonFull || reasons[later.ID()] != clientapi.ReasonEnded || reasons[odd] != clientapi.ReasonInvalid {
		t.Errorf("refused %+v", refused)
	}
	if !n.has(a.ID(), a.Bytes()) {
		t.Error("the good one is not stored")
	}
}

func TestBytesOfAnotherEnvelopeEndTheCall(t *testing.T) {
	_, _, c, _ := start(t)
	a, b := seal(0, 1), seal(0, 2)
	_, err := c.Submit(t.Context(), []envelope.ID{a.ID()}, func(envelope.ID) ([]byte, error) { return b.Bytes(), nil })
	if !errors.Is(err, clientapi.ErrInvalid) {
		t.Errorf("got %v, want %v", err, clientapi.ErrInvalid)
	}
}

func TestErrorOfFetchEndsTheCall(t *testing.T) {
	n, _, c, _ := start(t)
	o := newOutbox(seal(0, 1))
	o.ids = append(o.ids, envelope.ID{5})
	if _, err := c.Submit(t.Context(), o.ids, o.fetch); !errors.Is(err, errGone) {
		t.Errorf("got %v, want %v", err, errGone)
	}
	// The connection goes on, and nothing is in the way of the next.
	if _, err := c.Submit(t.Context(), o.ids[:1], o.fetch); err != nil || len(n.stored) != 1 {
		t.Errorf("next: %d stored, %v", len(n.stored), err)
	}
}

func TestFailureOfTheStoreIsNoAcceptance(t *testing.T) {
	n, _, c, _ := start(t)
	n.fail = errors.New("secret: no space left on /srv/data")
	o := newOutbox(seal(0, 1))
	_, err := c.Submit(t.Context(), o.ids, o.fetch)
	if !errors.Is(err, clientapi.ErrNodeFailed) {
		t.Fatalf("got %v, want %v", err, clientapi.ErrNodeFailed)
	}
	if text := err.Error(); len(text) > 200 || slices.Contains([]byte(text), '/') {
		t.Errorf("the client is told %q", text)
	}
}

func TestTooManySubmissionsAreRefused(t *testing.T) {
	n, r, c, device := start(t)
	n.busy = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := make(chan struct{})
	ended := make(chan error)
	for i := range clientapi.MaxSubmits {
		o := newOutbox(seal(0, i))
		go func() {
			_, err := c.Submit(ctx, o.ids, func(id envelope.ID) ([]byte, error) {
				began <- struct{}{}
				return o.fetch(id)
			})
			ended <- err
		}()
		within(t, began, "a submission begins")
	}
	o := newOutbox(seal(0, 100))
	other := r.dial(t, device)
	if _, err := other.Submit(t.Context(), o.ids, o.fetch); !errors.Is(err, clientapi.ErrLimit) {
		t.Errorf("one more: got %v, want %v", err, clientapi.ErrLimit)
	}
	close(n.busy)
	for range clientapi.MaxSubmits {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := other.Submit(t.Context(), o.ids, o.fetch); err != nil {
		t.Errorf("after the others: %v", err)
	}
}
