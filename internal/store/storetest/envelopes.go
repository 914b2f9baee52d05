package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

var ctx = context.Background()

func (f *fixture) put(a ...envelope.Arrival) []bool {
	f.t.Helper()
	outcomes, err := f.PutEnvelopes(ctx, a)
	ok(f.t, err)
	fresh := make([]bool, len(outcomes))
	for i, o := range outcomes {
		if fresh[i] = o.Fresh; o.Full != envelope.NotFull {
			f.t.Errorf("no room for envelope %d of %d: %v", i, len(a), o.Full)
		}
	}
	return fresh
}

func (f *fixture) expire(now passport.Time) int {
	f.t.Helper()
	n, err := f.ExpireEnvelopes(ctx, now, 1000)
	ok(f.t, err)
	return n
}

// numbers returns the numbers in a mailbox and checks that each has its envelope.
func (f *fixture) numbers(u passport.ID, after uint64) (list []uint64) {
	f.t.Helper()
	deliveries, err := f.Deliveries(u, after, 1000)
	ok(f.t, err)
	for _, d := range deliveries {
		if _, err := envelope.Parse(d.Envelope); err != nil {
			f.t.Errorf("number %d: %v", d.Number, err)
		}
		list = append(list, d.Number)
	}
	return list
}

func (f *fixture) wantNumbers(u passport.ID, after uint64, want ...uint64) {
	f.t.Helper()
	if got := f.numbers(u, after); !slices.Equal(got, want) {
		f.t.Errorf("mailbox of %s after %d: numbers %v, want %v", u.Short(), after, got, want)
	}
}

func (f *fixture) listed() (list []envelope.ID) {
	f.t.Helper()
	ok(f.t, f.Envelopes(envelope.ID{}, func(m envelope.Meta) bool {
		list = append(list, m.ID)
		return true
	}))
	return list
}

func testEnvelopes(t *testing.T, f *fixture) {
	r := Random(1)
	a, b := NewEnvelope(r, 0, Hour(5)), NewEnvelope(r, 3, Hour(6))
	if got := f.put(envelope.Arrival{Envelope: a}, envelope.Arrival{Envelope: b}, envelope.Arrival{Envelope: a}); !slices.Equal(got, []bool{true, true, false}) {
		t.Errorf("fresh = %v", got)
	}
	if got := f.put(envelope.Arrival{Envelope: b, From: device(1)}); got[0] {
		t.Error("an envelope is fresh twice")
	}
	f.crash()
	for _, e := range []*envelope.Envelope{a, b} {
		body, err := f.Envelope(e.ID())
		ok(t, err)
		if !bytes.Equal(body, e.Bytes()) {
			t.Error("other bytes came back")
		}
	}
	absent := NewEnvelope(r, 0, Hour(5)).ID()
	if got := f.Missing([]envelope.ID{absent, a.ID(), absent}); !slices.Equal(got, []envelope.ID{absent}) {
		t.Errorf("missing %v", got)
	}
	ends, err := f.Ends([]envelope.ID{absent, a.ID()})
	ok(t, err)
	if len(ends) != 1 || ends[a.ID()] != a.Expires {
		t.Errorf("ends %v, want that of one envelope, %v", ends, a.Expires)
	}
	if _, err := f.Envelope(absent); err == nil || f.HasEnvelope(absent) {
		t.Error("an envelope that was never put is there")
	}
	var metas []envelope.Meta
	ok(t, f.Envelopes(envelope.ID{}, func(m envelope.Meta) bool { metas = append(metas, m); return true }))
	slices.SortFunc(metas, func(x, y envelope.Meta) int { return x.Size - y.Size })
	for i, e := range []*envelope.Envelope{a, b} {
		want := envelope.Meta{ID: e.ID(), Expires: e.Expires, Tag: e.Tag, SealHash: e.SealHash(), Size: len(e.Bytes())}
		if len(metas) != 2 || metas[i] != want {
			t.Errorf("listed %v, want %v", metas, want)
		}
	}
	first := f.listed()[0]
	n := 0
	ok(t, f.Envelopes(first, func(m envelope.Meta) bool { n++; return m.ID != first }))
	if n != 1 {
		t.Errorf("%d listed after the first of two", n)
	}
}

func testMailbox(t *testing.T, f *fixture) {
	r := Random(2)
	a, b, c := NewEnvelope(r, 0, Hour(5)), NewEnvelope(r, 1, Hour(5)), NewEnvelope(r, 2, Hour(5))
	generation := f.Generation()
	if generation == 0 {
		t.Error("generation is 0")
	}
	// Two handles of one user, and two users, on one envelope.
	f.put(envelope.Arrival{Envelope: a, Matches: []envelope.Match{match(1, 1), match(1, 2), match(2, 3)}},
		envelope.Arrival{Envelope: b, Matches: []envelope.Match{match(1, 1)}})
	f.put(envelope.Arrival{Envelope: a, Matches: []envelope.Match{match(1, 2)}}) // again
	f.put(envelope.Arrival{Envelope: c})
	f.wantNumbers(user(1), 0, 1, 2)
	f.wantNumbers(user(2), 0, 1)

	matches := [][]envelope.Match{{match(1, 1), match(3, 1)}, {match(1, 9)}, {match(1, 1)}}
	gone := NewEnvelope(r, 0, Hour(5))
	ok(t, f.AddMatches(ctx, ids(c, a, gone), matches))
	ok(t, f.AddMatches(ctx, ids(c, a, gone), matches))
	f.crash()
	f.wantNumbers(user(1), 0, 1, 2, 3)
	f.wantNumbers(user(1), 2, 3)
	f.wantNumbers(user(3), 0, 1)
	f.wantNumbers(user(4), 0)
	if d, err := f.Deliveries(user(1), 0, 2); err != nil || len(d) != 2 || d[0].Handle != handle(1) || !bytes.Equal(d[1].Envelope, b.Bytes()) {
		t.Errorf("deliveries: %v, %v", d, err)
	}
	f.reopen()
	if f.Generation() != generation {
		t.Error("generation changed when the store was opened again")
	}
	if n, err := f.LastNumber(user(1)); n != 3 || err != nil {
		t.Errorf("last number %d, %v", n, err)
	}

	pending := func(want int) {
		t.Helper()
		if n, err := f.Unacknowledged(user(1), handle(1)); err != nil || n != uint64(want) {
			t.Errorf("%d bytes unacknowledged (%v), want %d", n, err, want)
		}
	}
	sizeB, sizeC := len(b.Bytes()), len(c.Bytes())
	pending(len(a.Bytes()) + sizeB + sizeC)
	ok(t, f.Acknowledge(ctx, user(1), device(1), []uint64{1, 7, 0}))
	ok(t, f.Acknowledge(ctx, user(1), device(1), []uint64{1}))
	ok(t, f.Acknowledge(ctx, user(1), device(2), []uint64{1}))
	pending(sizeB + sizeC)
	f.wantNumbers(user(1), 0, 1, 2, 3) // for the other devices
	if d, err := f.AcknowledgedBy(user(1), 1); err != nil || !slices.Equal(d, []noise.PublicKey{device(1), device(2)}) {
		t.Errorf("acknowledged by %v, %v", d, err)
	}
}

const day = 24

func testExpiry(t *testing.T, f *fixture) {
	r := Random(3)
	free, unread, read := NewEnvelope(r, 0, Hour(1)), NewEnvelope(r, 0, Hour(1)), NewEnvelope(r, 0, Hour(1))
	f.put(envelope.Arrival{Envelope: free},
		envelope.Arrival{Envelope: unread, Matches: []envelope.Match{match(1, 1)}},
		envelope.Arrival{Envelope: read, Matches: []envelope.Match{match(1, 1), match(2, 1)}})
	ok(t, f.Acknowledge(ctx, user(1), device(1), []uint64{2}))
	ok(t, f.PutCustody(ctx, device(9), ids(free, read)))

	if n := f.expire(Hour(5) - 1); n != 0 {
		t.Errorf("%d removed before the end and four hours", n)
	}
	f.expire(Hour(5))
	if f.HasEnvelope(free.ID()) || f.Custody(free.ID()) != 0 {
		t.Error("an envelope outlives its end by more than four hours")
	}
	f.verify()
	f.crash()
	f.wantNumbers(user(1), 0, 1, 2)
	f.expire(Hour(29 * day))
	f.wantNumbers(user(1), 0, 1, 2)
	f.expire(Hour(30*day + 1))
	f.wantNumbers(user(1), 0, 1)
	if !f.HasEnvelope(read.ID()) {
		t.Error("an envelope is gone while another user has not read it")
	}
	ok(t, f.Acknowledge(ctx, user(2), device(2), []uint64{1}))
	f.expire(Hour(31 * day))
	if f.HasEnvelope(read.ID()) || !f.HasEnvelope(unread.ID()) || f.Custody(read.ID()) != 0 {
		t.Error("an envelope must stay for those who have not read it, and go with the last reader")
	}
	f.verify()
	f.put(envelope.Arrival{Envelope: NewEnvelope(r, 0, Hour(1)), Matches: []envelope.Match{match(1, 1), match(2, 1)}})
	f.wantNumbers(user(1), 0, 1, 3)
	f.wantNumbers(user(2), 0, 2) // 1 is not given out again
	for range 5 {
		f.put(envelope.Arrival{Envelope: NewEnvelope(r, 0, Hour(1))})
	}
	if n, err := f.ExpireEnvelopes(ctx, Hour(6), 3); n != 3 || err != nil {
		t.Errorf("removed %d (%v), want the limit of 3", n, err)
	}
}

func testCustody(t *testing.T, f *fixture) {
	r := Random(4)
	own, relayed := NewEnvelope(r, 0, Hour(5)), NewEnvelope(r, 0, Hour(5))
	f.put(envelope.Arrival{Envelope: own}, envelope.Arrival{Envelope: relayed, From: device(5)})
	for _, member := range []byte{1, 2, 1} {
		ok(t, f.PutCustody(ctx, device(member), ids(own, relayed, NewEnvelope(r, 0, Hour(5)))))
	}
	f.crash()
	if n := f.Custody(own.ID()); n != 2 {
		t.Errorf("%d members hold the own envelope, want 2", n)
	}
	if n := f.Custody(relayed.ID()); n != 0 {
		t.Errorf("custody of a relayed envelope is counted: %d", n)
	}
	f.put(envelope.Arrival{Envelope: relayed}) // a user of this node brings it too
	ok(t, f.PutCustody(ctx, device(1), ids(relayed)))
	if n := f.Custody(relayed.ID()); n != 1 {
		t.Errorf("%d members hold the envelope that became an own one, want 1", n)
	}
	holders := func(e *envelope.Envelope, want ...noise.PublicKey) {
		t.Helper()
		if got, err := f.Holders(e.ID()); err != nil || !slices.Equal(got, want) || f.Custody(e.ID()) != len(want) {
			t.Errorf("held by %v (%v), want %v", got, err, want)
		}
	}
	holders(own, device(1), device(2))
	ok(t, f.DropCustody(ctx, device(1), ids(NewEnvelope(r, 0, Hour(5)), own, own)))
	ok(t, f.DropCustody(ctx, device(3), ids(own)))
	f.crash()
	holders(own, device(2))
	holders(relayed, device(1))
	ok(t, f.PutCustody(ctx, device(1), ids(own))) // it may come to hold it again
	holders(own, device(1), device(2))
}

// testWindows: the two lists of what has not ended.
func testWindows(t *testing.T, f *fixture) {
	r := Random(9)
	var envs []*envelope.Envelope
	for i := range 12 {
		e := NewEnvelope(r, 0, Hour(1+i%4))
		envs = append(envs, e)
		a := envelope.Arrival{Envelope: e, From: device(byte(i % 3))}
		if i%3 == 0 {
			a.From = noise.PublicKey{}
		}
		if i%4 == 0 {
			a.Matches = []envelope.Match{match(1, 1)}
		}
		f.put(a)
	}
	window := func(from, to passport.Time, limit, want int) {
		t.Helper()
		n, last := 0, []byte(nil)
		ok(t, f.Window(from, to, func(end passport.Time, id envelope.ID) bool {
			at := append(binary.BigEndian.AppendUint32(nil, uint32(end)), id[:]...)
			if bytes.Compare(at, last) <= 0 || end < from || end >= to {
				t.Errorf("window from %s to %s: end %s, id %s out of order", from, to, end, id.Short())
			}
			last = at
			n++
			return n < limit
		}))
		if n != want {
			t.Errorf("window from %s to %s: %d, want %d", from, to, n, want)
		}
	}
	own := func(want int) {
		t.Helper()
		n := 0
		ok(t, f.OwnEnvelopes(func(id envelope.ID, end passport.Time) bool {
			i := slices.IndexFunc(envs, func(e *envelope.Envelope) bool { return e.ID() == id && e.Expires == end })
			if i%3 != 0 {
				t.Errorf("envelope %d is none of an own user", i)
			}
			n++
			return true
		}))
		if n != want {
			t.Errorf("%d own envelopes, want %d", n, want)
		}
	}
	for range 2 {
		window(0, ^passport.Time(0), 100, 12)
		window(Hour(1), Hour(1), 100, 0)
		window(Hour(1), Hour(1)+1, 100, 3)
		window(Hour(2), Hour(4), 100, 6)
		window(Hour(2), Hour(4), 2, 2)
		window(Hour(5), ^passport.Time(0), 100, 0)
		own(4)
		f.crash()
	}
	f.expire(Hour(5)) // the first three, of which a mailbox holds all
	window(0, ^passport.Time(0), 100, 9)
	own(3)
	f.expire(Hour(9))
	window(0, ^passport.Time(0), 100, 0)
	own(0)
	f.wantNumbers(user(1), 0, 1, 2, 3)
}

func testTagKeys(t *testing.T, f *fixture) {
	k := func(epoch uint32, h, secret byte) envelope.TagKey {
		return envelope.TagKey{Epoch: epoch, Handle: handle(h), Key: [32]byte{secret}}
	}
	ok(t, f.PutTagKeys(ctx, user(1), []envelope.TagKey{k(7, 1, 1), k(8, 2, 2), k(8, 3, 3)}))
	ok(t, f.PutTagKeys(ctx, user(2), []envelope.TagKey{k(8, 2, 9)}))
	ok(t, f.PutTagKeys(ctx, user(1), []envelope.TagKey{k(8, 3, 4)}))
	want := func(n int, more ...envelope.TagKey) {
		t.Helper()
		f.crash()
		var got []envelope.TagKey
		count := 0
		ok(t, f.TagKeys(func(u passport.ID, k envelope.TagKey) bool {
			if count++; u == user(1) {
				got = append(got, k)
			}
			return true
		}))
		if count != n || !slices.Equal(got, more) {
			t.Errorf("%d keys, of user 1 %v", count, got)
		}
	}
	want(4, k(7, 1, 1), k(8, 2, 2), k(8, 3, 4))
	ok(t, f.DeleteTagKeys(ctx, user(1), []envelope.Handle{handle(2), handle(77)}))
	want(3, k(7, 1, 1), k(8, 3, 4))
	ok(t, f.ExpireTagKeys(ctx, 8))
	want(2, k(8, 3, 4))
}

// testContext: a context that has ended keeps a write from being taken up.
func testContext(t *testing.T, f *fixture) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	e := NewEnvelope(Random(5), 0, Hour(5))
	if _, err := f.PutEnvelopes(ended, []envelope.Arrival{{Envelope: e}}); !errors.Is(err, context.Canceled) {
		t.Errorf("put with an ended context: %v", err)
	}
	if f.HasEnvelope(e.ID()) {
		t.Error("it was stored")
	}
}
