package store

import (
	"context"
	"encoding/binary"
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
// one transaction; the outcomes say for each whether it was new. One for which there is
// no room, in its quota or on the disk, is left out, and its outcome says why; the others
// go in. Matches of an envelope that is there already are added too, unless the disk is so
// full that its outcome says that. Nobody gets an
// envelope twice: an entry is made once for a user and an envelope, whatever the handles.
// If it fails, some may be stored.
func (s *Store) PutEnvelopes(ctx context.Context, arrivals []envelope.Arrival) ([]envelope.Outcome, error) {
	outcomes := make([]envelope.Outcome, len(arrivals))
	members := s.membersFor(arrivals)
	for start := 0; start < len(arrivals); {
		end := start + pieceOf(arrivals[start:])
		piece := s.prepare(arrivals[start:end])
		err := s.update(ctx, func(t *tx) error {
			for i := range piece {
				outcome, err := s.putEnvelope(t, &piece[i], members)
				if err != nil {
					return err
				}
				outcomes[start+i] = outcome
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("store envelopes: %w", err)
		}
		start = end
	}
	return outcomes, nil
}

// membersFor asks how many members the mesh has if any share depends on it.
func (s *Store) membersFor(arrivals []envelope.Arrival) int {
	for _, a := range arrivals {
		if !a.From.IsZero() {
			return s.members()
		}
	}
	return 1
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

// incoming is an arrival with all that can be computed outside of the committer.
type incoming struct {
	id      envelope.ID
	body    []byte
	index   index // of a new envelope; mine is not decided yet
	matches []envelope.Match
	admit   func() // nil: nobody wants to know

	bodyKey, indexKey, dueKey, ownKey []byte
}

func (s *Store) prepare(arrivals []envelope.Arrival) []incoming {
	now := s.clock()
	list := make([]incoming, len(arrivals))
	for i, a := range arrivals {
		body := a.Envelope.Bytes()
		list[i] = incoming{id: a.Envelope.ID(), body: body, matches: a.Matches, admit: a.Admitted, index: index{
			own: a.From.IsZero(), expires: a.Envelope.Expires, received: now, size: uint32(len(body)),
			tag: a.Envelope.Tag, sealHash: a.Envelope.SealHash(), from: a.From,
		}}
		in := &list[i]
		in.bodyKey, in.indexKey = bodyKey(in.id), indexKey(in.id)
		in.dueKey, in.ownKey = dueKey(in.index.due(), in.id), ownKey(in.index.expires, in.id)
	}
	return list
}

func (s *Store) putEnvelope(t *tx, in *incoming, members int) (o envelope.Outcome, err error) {
	old, err := t.indexAt(in.indexKey, in.id)
	if err != nil {
		return o, err
	}
	if old != nil {
		if t.room == roomToEnd {
			if changes, err := s.wouldChange(t, in, old); changes || err != nil {
				return envelope.Outcome{Full: envelope.FullDisk}, err
			}
		}
		return o, s.putAgain(t, in, old)
	}
	x := in.index
	if x.mine, err = s.isMine(t, in); err != nil {
		return o, err
	}
	if o.Full = s.full(t, &x, members); o.Full != envelope.NotFull {
		return o, nil
	}
	o.Fresh = true
	t.set(in.bodyKey, in.body)
	t.set(in.dueKey, nil)
	if x.own {
		t.set(in.ownKey, nil)
	}
	for _, m := range in.matches {
		if err := s.deliver(t, in.id, &x, m); err != nil {
			return o, err
		}
	}
	t.enter(&x)
	t.set(in.indexKey, x.bytes())
	if in.admit != nil {
		t.beforeCommit(in.admit)
	}
	return o, nil
}

// isMine says to whom a new envelope is counted: what a handle over its limit brings is
// like a stranger's.
func (s *Store) isMine(t *tx, in *incoming) (bool, error) {
	if in.index.own {
		return true, nil
	}
	for _, m := range in.matches {
		if _, ok, err := s.fits(t, &in.index, m); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// wouldChange says whether an arrival adds anything to an envelope that is there.
func (s *Store) wouldChange(t *tx, in *incoming, x *index) (bool, error) {
	if in.index.own && !x.own {
		return true, nil
	}
	for _, m := range in.matches {
		known, err := t.has(numberKey(m.User, in.id))
		if err != nil {
			return false, err
		}
		if _, ok, err := s.fits(t, x, m); !known && ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// putAgain deals with an envelope that is there already.
func (s *Store) putAgain(t *tx, in *incoming, x *index) error {
	before := *x
	if in.index.own && !x.own {
		x.own = true
		if !x.ended {
			t.set(ownKey(x.expires, in.id), nil)
		}
	}
	return s.addTo(t, in.id, x, before, in.matches)
}

// addTo makes the mailbox entries of an envelope that is there, and writes its index if
// it has changed.
func (s *Store) addTo(t *tx, id envelope.ID, x *index, before index, matches []envelope.Match) error {
	for _, m := range matches {
		if err := s.deliver(t, id, x, m); err != nil {
			return err
		}
	}
	if *x == before {
		return nil
	}
	if x.own || x.held > 0 {
		t.own(x)
	}
	t.setIndex(id, x)
	return nil
}

func (x *index) due() passport.Time { return x.expires.Add(grace) }

// Window calls fn with the envelopes that have not ended and whose end is in from <= end
// < to, in the order of end and id, until it returns false. Only keys are read, in one
// consistent state; fn must not take long, since it holds that state in place.
func (s *Store) Window(from, to passport.Time, fn func(expires passport.Time, id envelope.ID) bool) error {
	return s.view(func(txn *badger.Txn) error {
		// The index of ends is four hours late, and has no envelope whose end was dealt with.
		first := key(kindDue, be32(uint32(from.Add(grace))))
		return scan(txn, []byte{kindDue}, first, false, func(k, _ []byte) (bool, error) {
			end := passport.Time(binary.BigEndian.Uint32(k[1:])).Add(-grace)
			return end < to && fn(end, envelope.ID(k[5:])), nil
		})
	})
}

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
		if err := s.addTo(t, id, x, *x, matches[i]); err != nil {
			return err
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

// Ends returns when those of ids end that are stored.
func (s *Store) Ends(ids []envelope.ID) (map[envelope.ID]passport.Time, error) {
	ends := make(map[envelope.ID]passport.Time, len(ids))
	return ends, s.view(func(txn *badger.Txn) error {
		for _, id := range ids {
			v, err := get(txn, indexKey(id))
			if err != nil {
				return fmt.Errorf("end of envelope %s: %w", id.Short(), err)
			}
			if v == nil {
				continue
			}
			x, err := parseIndex(id, v)
			if err != nil {
				return err
			}
			ends[id] = x.expires
		}
		return nil
	})
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
