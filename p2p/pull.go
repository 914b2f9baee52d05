package p2p

import (
	"context"
	"slices"

	"github.com/asmtp/asmtp/envelope"
)

// pull asks for an envelope that a neighbour announced.
type pull struct {
	id   envelope.ID
	done chan bool // capacity 1: whether it is new in the spool now
}

// pull fetches an announced envelope from n and reports whether it came new to the spool.
func (n *neighbour) pull(ctx context.Context, id envelope.ID) bool {
	p := pull{id: id, done: make(chan bool, 1)}
	select {
	case n.pulls <- p:
	case <-ctx.Done():
		return false
	case <-n.ctx.Done():
		return false
	}
	select {
	case fresh := <-p.done:
		return fresh
	case <-ctx.Done():
		return false
	case <-n.ctx.Done():
		return false
	}
}

// pullAll fetches from n what is asked of pulls, on a stream of its own so that a
// long offer does not hold it up. The stream is opened when it is needed first.
func (n *neighbour) pullAll() {
	for {
		var first pull
		select {
		case first = <-n.pulls:
		case <-n.ctx.Done():
			return
		}
		pending := &first
		n.keepStream(custodyProtocol, func(ctx context.Context, t timed) error {
			return n.pullOn(ctx, t, &pending)
		})
	}
}

// pullOn serves pulls on one stream. What fails with the stream is given up: the
// neighbour, or another one, will offer it.
func (n *neighbour) pullOn(ctx context.Context, t timed, first **pull) error {
	for {
		var batch []pull
		if *first != nil {
			batch, *first = append(batch, **first), nil
		} else {
			select {
			case p := <-n.pulls:
				batch = append(batch, p)
			case <-ctx.Done():
				return nil
			}
		}
		batch = n.gatherPulls(batch)
		fresh, err := n.fetch(ctx, t, batch)
		for _, p := range batch {
			p.done <- fresh[p.id]
		}
		if err != nil {
			return err
		}
	}
}

// gatherPulls adds what waits already.
func (n *neighbour) gatherPulls(batch []pull) []pull {
	for len(batch) < maxGet {
		select {
		case p := <-n.pulls:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// fetch gets envelopes from n and stores them.
func (n *neighbour) fetch(ctx context.Context, t timed, batch []pull) (fresh map[envelope.ID]bool, err error) {
	var ids []envelope.ID // one may be asked for twice, after a wait that was given up
	for _, p := range batch {
		if !slices.Contains(ids, p.id) {
			ids = append(ids, p.id)
		}
	}
	if err := t.write(kindGet, encodeIDs(ids)); err != nil {
		return nil, err
	}
	var got []*envelope.Envelope
	for _, id := range ids {
		e, err := readEnvelope(t, id)
		if err != nil {
			return nil, err
		}
		if e != nil {
			got = append(got, e)
		}
	}
	if len(got) == 0 {
		return nil, nil
	}
	results, err := n.h.o.Spool.Put(ctx, n.key, got)
	if err != nil {
		return nil, err
	}
	fresh = make(map[envelope.ID]bool, len(got))
	for i, r := range results {
		fresh[got[i].ID()] = r.Fresh
	}
	return fresh, nil
}
