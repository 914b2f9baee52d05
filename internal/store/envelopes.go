package store

import (
	"context"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/passport"
)

// grace is how long an envelope is kept after its end, for neighbours whose clock is
// late and for those who have not got it yet.
const grace = 4 * time.Hour

// PutEnvelopes stores what is not there yet, each envelope with its mailbox entries in
// one transaction; fresh says for each whether it was new. Matches of an envelope that
// is there already are added too. Nobody gets an envelope twice: an entry is made once
// for a user and an envelope, whatever the handles. If it fails, some may be stored.
func (s *Store) PutEnvelopes(ctx context.Context, arrivals []envelope.Arrival) (fresh []bool, err error) {
	fresh = make([]bool, len(arrivals))
	for start := 0; start < len(arrivals); {
		end := start + pieceOf(arrivals[start:])
		err = s.update(ctx, func(t *tx) error {
			for i := start; i < end; i++ {
				f, err := s.putEnvelope(t, arrivals[i])
				if err != nil {
					return err
				}
				fresh[i] = f
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("store envelopes: %w", err)
		}
		start = end
	}
	return fresh, nil
}

// pieceOf returns how many of the first arrivals go into one write: at least one, and
// no more than what surely fits into a transaction.
func pieceOf(arrivals []envelope.Arrival) int {
	const maxCount, maxMatches = 400, 400
	bytes, matches := 0, 0
	for i, a := range arrivals {
		bytes += len(a.Envelope.Sealed)
		matches += len(a.Matches)
		if i > 0 && (i >= maxCount || matches > maxMatches || bytes > maxBatchBytes/2) {
			return i
		}
	}
	return len(arrivals)
}

func (s *Store) putEnvelope(t *tx, a envelope.Arrival) (fresh bool, err error) {
	id := a.Envelope.ID()
	x, err := t.index(id)
	if err != nil {
		return false, err
	}
	fresh = x == nil
	before := index{}
	if fresh {
		body := a.Envelope.Bytes()
		x = &index{
			expires: a.Envelope.Expires, received: s.clock(), size: uint32(len(body)),
			tag: a.Envelope.Tag, sealHash: a.Envelope.SealHash(), from: a.From,
		}
		t.set(bodyKey(id), body)
		t.set(dueKey(x.due(), id), nil)
		if err := t.addUsage(1, x.size); err != nil {
			return false, err
		}
	} else {
		before = *x
	}
	x.own = x.own || a.From.IsZero()
	for _, m := range a.Matches {
		if err := s.deliver(t, id, x, m); err != nil {
			return false, err
		}
	}
	if fresh || *x != before {
		t.setIndex(id, x)
	}
	return fresh, nil
}

func (x *index) due() passport.Time { return x.expires.Add(grace) }

// AddMatches makes the mailbox entries of newly registered tag keys: matches[i] are
// those of ids[i]. Envelopes that are gone and entries that exist are passed over.
func (s *Store) AddMatches(ctx context.Context, ids []envelope.ID, matches [][]envelope.Match) error {
	if len(ids) != len(matches) {
		return fmt.Errorf("add matches: %d ids, %d lists", len(ids), len(matches))
	}
	const piece = 400
	for len(ids) > 0 {
		n := min(piece, len(ids))
		err := s.update(ctx, func(t *tx) error { return s.addMatches(t, ids[:n], matches[:n]) })
		if err != nil {
			return fmt.Errorf("add matches: %w", err)
		}
		ids, matches = ids[n:], matches[n:]
	}
	return nil
}

func (s *Store) addMatches(t *tx, ids []envelope.ID, matches [][]envelope.Match) error {
	for i, id := range ids {
		x, err := t.index(id)
		if err != nil {
			return err
		}
		if x == nil {
			continue
		}
		held := x.held
		for _, m := range matches[i] {
			if err := s.deliver(t, id, x, m); err != nil {
				return err
			}
		}
		if x.held != held {
			t.setIndex(id, x)
		}
	}
	return nil
}

// Envelope returns the encoded envelope, ErrNotFound if it is not stored.
func (s *Store) Envelope(id envelope.ID) (body []byte, err error) {
	err = s.view(func(txn *badger.Txn) error {
		body, err = get(txn, bodyKey(id))
		return err
	})
	if err == nil && body == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("envelope %s: %w", id.Short(), err)
	}
	return body, nil
}

// HasEnvelope reports whether the envelope is stored.
func (s *Store) HasEnvelope(id envelope.ID) bool { return len(s.Missing([]envelope.ID{id})) == 0 }

// Missing returns those of ids that are not stored, in their order, each once. What
// cannot be read counts as missing: then it is fetched, which does no harm.
func (s *Store) Missing(ids []envelope.ID) (missing []envelope.ID) {
	seen := make(map[envelope.ID]bool, len(ids))
	add := func(txn *badger.Txn) error {
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			if ok, err := has(txn, indexKey(id)); !ok || err != nil {
				missing = append(missing, id)
			}
		}
		return nil
	}
	if s.view(add) != nil {
		return ids
	}
	return missing
}

// Envelopes calls fn with all stored envelopes whose id is greater than after, in the
// order of their ids, until it returns false. Only the index is read, in one
// consistent state; fn must not take long, since it holds that state in place.
func (s *Store) Envelopes(after envelope.ID, fn func(envelope.Meta) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindIndex}, indexKey(after), true, func(k, v []byte) (bool, error) {
			id := envelope.ID(k[1:])
			if id == after {
				return true, nil
			}
			x, err := parseIndex(id, v)
			if err != nil {
				return false, err
			}
			return fn(x.meta(id)), nil
		})
	})
}
