package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Verify checks one consistent state of the store against all that must hold, and
// calls problem with each violation, in words for an operator. It reads every envelope
// and checks every passport anew; other calls go on meanwhile. It changes nothing.
func (s *Store) Verify(ctx context.Context, problem func(string)) error {
	return s.VerifyProgress(ctx, problem, func(int64) {})
}

// VerifyProgress is Verify and says now and then how many envelopes it has read, which is
// what takes the time.
func (s *Store) VerifyProgress(ctx context.Context, problem func(string), progress func(envelopes int64)) error {
	return s.view(func(txn *badger.Txn) error {
		v := &verifier{ctx: ctx, txn: txn, problem: problem, progress: progress,
			shares: map[noise.PublicKey]share{}, held: map[envelope.ID]uint32{}, pending: map[string]uint64{}, last: map[passport.ID]uint64{}}
		// Mailboxes come first: they say how often each envelope is held.
		for _, check := range []func() error{v.mailboxes, v.envelopes, v.ledger, v.references, v.handles, v.chains, v.indexes} {
			if err := check(); err != nil {
				return fmt.Errorf("verify store: %w", err)
			}
		}
		return nil
	})
}

// progressEvery is how many envelopes are read between two words of progress.
const progressEvery = 1000

type verifier struct {
	ctx     context.Context
	txn     *badger.Txn
	problem func(string)

	progress func(int64)
	read     int64 // envelopes

	shares  map[noise.PublicKey]share
	held    map[envelope.ID]uint32 // entries by envelope
	pending map[string]uint64      // unacknowledged bytes by handleKey
	last    map[passport.ID]uint64 // highest number of an entry
}

func (v *verifier) report(format string, args ...any) { v.problem(fmt.Sprintf(format, args...)) }

// each scans all records of a kind.
func (v *verifier) each(kind byte, values bool, fn func(k, value []byte) error) error {
	return scan(v.txn, []byte{kind}, nil, values, func(k, value []byte) (bool, error) {
		if err := v.ctx.Err(); err != nil {
			return false, err
		}
		return true, fn(k, value)
	})
}

// must reports what if the key is missing.
func (v *verifier) must(k []byte, format string, args ...any) error {
	ok, err := has(v.txn, k)
	if err == nil && !ok {
		v.report(format, args...)
	}
	return err
}

func (v *verifier) mailboxes() error {
	err := v.each(kindEntry, true, func(k, b []byte) error {
		user, n := passport.ID(k[1:17]), binary.BigEndian.Uint64(k[17:])
		e, err := parseEntry(k, b)
		if err != nil {
			v.report("mailbox of %s: entry %d: %v", user, n, err)
			return nil
		}
		v.held[e.id]++
		v.last[user] = max(v.last[user], n)
		if number, err := getUint64(v.txn, numberKey(user, e.id)); err != nil || number != n {
			v.report("mailbox of %s: entry %d: its envelope has number %d (%v)", user, n, number, err)
		}
		if e.acknowledged == 0 {
			v.pending[string(handleKey(user, e.handle))] += uint64(e.size)
			return nil
		}
		return v.must(removeKey(e.removeAt(), user, n), "mailbox of %s: entry %d is acknowledged and would never be removed", user, n)
	})
	if err != nil {
		return err
	}
	for user, n := range v.last {
		if last, err := getUint64(v.txn, lastKey(user)); err != nil || last < n {
			v.report("mailbox of %s: last number is %d, entry %d exists (%v)", user, last, n, err)
		}
	}
	return nil
}

// envelopes checks bodies, indices, ends and usage.
func (v *verifier) envelopes() error {
	var sum Usage
	err := v.each(kindIndex, true, func(k, b []byte) error {
		id := envelope.ID(k[1:])
		x, err := parseIndex(id, b)
		if err != nil {
			v.report("%v", err)
			return nil
		}
		sum.count(1, x.mine, x.size)
		if !x.mine {
			n := v.shares[x.from]
			n[class(isLarge(x.size))] += int64(x.size)
			v.shares[x.from] = n
		}
		if !x.mine && (x.own || x.held > 0) {
			v.report("envelope %s: own, counted as relayed", id)
		}
		if x.from.IsZero() && !x.own {
			v.report("envelope %s: neither a user nor a neighbour brought it", id)
		}
		if x.held != v.held[id] {
			v.report("envelope %s: held by %d mailboxes, index says %d", id, v.held[id], x.held)
		}
		if x.ended && x.held == 0 {
			v.report("envelope %s: ended, held by nobody, not removed", id)
		}
		delete(v.held, id)
		if due, err := has(v.txn, dueKey(x.due(), id)); err != nil {
			return err
		} else if due == x.ended {
			v.report("envelope %s: ended %v, in the index of ends %v", id, x.ended, due)
		}
		if listed, err := has(v.txn, ownKey(x.expires, id)); err != nil {
			return err
		} else if listed != (x.own && !x.ended) {
			v.report("envelope %s: own %v, ended %v, in the list of own envelopes %v", id, x.own, x.ended, listed)
		}
		return v.body(id, x)
	})
	if err != nil {
		return err
	}
	for id := range v.held {
		v.report("envelope %s: in a mailbox, not stored", id)
	}
	b, err := get(v.txn, keyUsage)
	if err != nil {
		return err
	}
	var u Usage
	if err := parseUsage(keyUsage, b, &u); err != nil || u != sum {
		v.report("usage is %+v, stored is %+v (%v)", sum, u, err)
	}
	return nil
}

// ledger checks the shares of the neighbours and the records of the last hours.
func (v *verifier) ledger() error {
	err := v.each(kindShare, true, func(k, b []byte) error {
		from := noise.PublicKey(k[1:])
		if s, err := parseShare(k, b); err != nil || s != v.shares[from] || s == (share{}) {
			v.report("share of %s is %v, stored is %v (%v)", from.Short(), v.shares[from], s, err)
		}
		delete(v.shares, from)
		return nil
	})
	for from, s := range v.shares {
		v.report("share of %s is %v, none stored", from.Short(), s)
	}
	if err != nil {
		return err
	}
	return v.each(kindHour, true, func(k, b []byte) error {
		var in, out Usage
		if err := parseUsage(k, b, &in, &out); err != nil {
			v.report("hour %x: %v", k[1:], err)
		}
		return nil
	})
}

func (v *verifier) body(id envelope.ID, x *index) error {
	if v.read++; v.read%progressEvery == 0 {
		v.progress(v.read)
	}
	b, err := get(v.txn, bodyKey(id))
	if err != nil {
		v.report("envelope %s: %v", id, err)
		return nil
	}
	e, err := envelope.Parse(b)
	switch {
	case b == nil:
		v.report("envelope %s: in the index, body missing", id)
	case err != nil:
		v.report("envelope %s: body: %v", id, err)
	case e.ID() != id:
		v.report("envelope %s: body is of envelope %s", id, e.ID())
	case e.Expires != x.expires || e.Tag != x.tag || e.SealHash() != x.sealHash || len(b) != int(x.size):
		v.report("envelope %s: index does not fit the body", id)
	}
	return nil
}

// references checks that what names an envelope or an entry names one that is there.
func (v *verifier) references() error {
	checks := []struct {
		kind   byte
		target func(k []byte) []byte
		what   string
	}{
		{kindBody, func(k []byte) []byte { return key(kindIndex, k[1:]) }, "body without index"},
		{kindDue, func(k []byte) []byte { return key(kindIndex, k[5:]) }, "end without envelope"},
		{kindOwn, func(k []byte) []byte { return key(kindIndex, k[5:]) }, "own envelope that is not stored"},
		{kindCustody, func(k []byte) []byte { return key(kindIndex, k[1:33]) }, "custody without envelope"},
		{kindRemove, func(k []byte) []byte { return key(kindEntry, k[5:]) }, "removal without mailbox entry"},
		{kindDevice, func(k []byte) []byte { return key(kindEntry, k[1:25]) }, "acknowledgement without mailbox entry"},
	}
	for _, c := range checks {
		err := v.each(c.kind, false, func(k, _ []byte) error {
			return v.must(c.target(k), "%s: %x", c.what, k)
		})
		if err != nil {
			return err
		}
	}
	return v.each(kindNumber, true, func(k, b []byte) error {
		return v.must(key(kindEntry, k[1:17], b), "number without mailbox entry: %x", k)
	})
}

func (v *verifier) handles() error {
	err := v.each(kindHandle, true, func(k, b []byte) error {
		n, err := parseUint64(k, b, nil)
		if want := v.pending[string(k)]; err != nil || n != want {
			v.report("handle %x: %d bytes unacknowledged, stored is %d (%v)", k[17:], want, n, err)
		}
		delete(v.pending, string(k))
		return nil
	})
	for k, n := range v.pending {
		v.report("handle %x: %d bytes unacknowledged, none stored", k[17:], n)
	}
	return err
}

func (v *verifier) chains() error {
	return v.each(kindTip, true, func(k, b []byte) error {
		id := passport.ID(k[1:])
		t, err := parseTip(k, b)
		if err != nil {
			v.report("passport %s: %v", id, err)
			return nil
		}
		p, err := parseChain(v.txn, id, t)
		if err != nil {
			v.report("passport %s: %v", id, err)
			return nil
		}
		for _, active := range p.Active() {
			if err := v.must(activeKey(active, id), "passport %s: active key %s is not in the index", id, active); err != nil {
				return err
			}
		}
		if c, err := get(v.txn, changeKey(t.change)); err != nil || string(c) != string(id[:]) {
			v.report("passport %s: change %d is not its own (%v)", id, t.change, err)
		}
		return nil
	})
}

// indexes checks that the indices of passports hold nothing too much.
func (v *verifier) indexes() error {
	err := v.each(kindActive, false, func(k, _ []byte) error {
		id := passport.ID(k[33:])
		b, err := get(v.txn, tipKey(id))
		if err != nil {
			return err
		}
		t, err := parseTip(tipKey(id), b)
		if err != nil {
			v.report("active key %x: passport %s is not stored", k[1:33], id)
			return nil
		}
		if p, err := parseChain(v.txn, id, t); err == nil && !p.IsActive([32]byte(k[1:33])) {
			v.report("active key %x: not active in passport %s", k[1:33], id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return v.each(kindChange, true, func(k, b []byte) error {
		t, err := get(v.txn, key(kindTip, b))
		if err != nil {
			return err
		}
		if p, err := parseTip(k, t); err != nil || p.change != binary.BigEndian.Uint64(k[1:]) {
			v.report("change %x: not the last one of passport %x", k[1:], b)
		}
		return nil
	})
}
