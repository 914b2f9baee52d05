package p2p

import (
	"context"
	"errors"

	"github.com/asmtp/asmtp/envelope"
)

const (
	// fetchAhead is how many requests are on their way at a time.
	fetchAhead = 4
	// maxGone is how many envelopes that a neighbour said to have it may lack, before
	// nothing more is asked of it in this session.
	maxGone = 16
	// maxWaste is how many bytes are fetched and then refused by our own store, in one
	// session: nothing tells before how large an envelope is, and so whether there is room.
	maxWaste = 4 << 20
)

var (
	errGone  = errors.New("neighbour lacks what it said to have")
	errWaste = errors.New("no room for what the neighbour has")
)

// fetching is the transfer of what a reconciliation found missing.
type fetching struct {
	n       *neighbour
	left    []envelope.ID
	later   []envelope.ID // another neighbour is sending them
	claimed []envelope.ID
	fetched int
	gone    int
	waste   int
}

// fetchMissing gets envelopes from n and stores them. What was stored stays when it
// fails, so the next reconciliation finds only the rest.
func (n *neighbour) fetchMissing(ids []envelope.ID) (*fetching, error) {
	f := &fetching{n: n, left: ids}
	defer f.release()
	for range 2 {
		err := n.onStream(custodyProtocol, f.run)
		if err != nil || len(f.later) == 0 {
			return f, err
		}
		// The other neighbour may have failed.
		f.left, f.later = f.later, nil
		if !wait(n.ctx, jitter(2*laterPause)) {
			return f, n.ctx.Err()
		}
	}
	return f, nil
}

func (f *fetching) release() { f.n.h.claims.release(f.n.key, false, f.claimed...) }

// run fetches on one stream, some requests ahead.
func (f *fetching) run(ctx context.Context, t timed) error {
	var ahead [][]envelope.ID
	for {
		for len(ahead) < fetchAhead {
			batch := f.next()
			if len(batch) == 0 {
				break
			}
			if err := t.write(kindGet, encodeIDs(batch)); err != nil {
				return err
			}
			ahead = append(ahead, batch)
		}
		if len(ahead) == 0 {
			return nil
		}
		if err := f.receive(ctx, t, ahead[0]); err != nil {
			return err
		}
		ahead = ahead[1:]
	}
}

// next claims the next ids that are still missing.
func (f *fetching) next() (batch []envelope.ID) {
	h := f.n.h
	for len(f.left) > 0 && len(batch) < maxGet {
		page := f.left[:min(len(f.left), maxGet-len(batch))]
		f.left = f.left[len(page):]
		for _, id := range h.o.Spool.Missing(page) {
			switch {
			case h.declined.has(f.n.key, id):
			case h.claims.claim(f.n.key, id):
				batch = append(batch, id)
				f.claimed = append(f.claimed, id)
			default:
				f.later = append(f.later, id)
			}
		}
	}
	return batch
}

// receive reads the answer to one request and stores what came.
func (f *fetching) receive(ctx context.Context, t timed, batch []envelope.ID) error {
	var got []*envelope.Envelope
	for _, id := range batch {
		e, err := readEnvelope(t, id)
		if err != nil {
			return err
		}
		if e == nil {
			f.gone++
			continue
		}
		got = append(got, e)
	}
	if err := f.keep(ctx, got); err != nil {
		return err
	}
	f.n.h.claims.release(f.n.key, true, f.claimed[:len(batch)]...) // claimed in the order of the requests
	f.claimed = f.claimed[len(batch):]
	switch {
	case f.gone >= maxGone:
		return errGone
	case f.waste >= maxWaste:
		return errWaste
	}
	return nil
}

// keep stores envelopes. The neighbour is then told that we have them: it may be their
// sender's node.
func (f *fetching) keep(ctx context.Context, got []*envelope.Envelope) error {
	if len(got) == 0 {
		return nil
	}
	h := f.n.h
	results, err := h.o.Spool.Put(ctx, f.n.key, got)
	if err != nil {
		return err
	}
	for i, r := range results {
		id := got[i].ID()
		if r.Err != nil {
			f.waste += len(got[i].Sealed)
			h.decline(f.n.key, id, r.Err)
			continue
		}
		f.fetched++
		f.n.moved.Add(1)
		f.n.offers.add(offered{id, got[i].Class()})
	}
	return nil
}
