package store

import (
	"encoding/binary"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// ledger is the sums over all envelopes, as they are after the last write of the batch.
// It belongs to the committer, which writes what has changed once per batch rather than
// once per envelope; what is on disk is therefore exact in every committed state.
type ledger struct {
	usage  Usage
	shares map[noise.PublicKey]share

	hour            passport.Time // of hourIn and hourOut, which are as written
	hourIn, hourOut Usage

	in, out Usage                    // not yet written
	dirty   map[noise.PublicKey]bool // shares that are not yet written
	moved   bool                     // whether anything is not yet written
}

// delta is what one write adds to the ledger, kept apart until the write has ended well.
type delta struct {
	usage, in, out Usage
	shares         map[noise.PublicKey]share
	any            bool
}

// count counts n envelopes (1 or -1) with this index, and one in flow if it is not nil.
func (d *delta) count(n int64, x *index, flow *Usage) {
	d.any = true
	d.usage.count(n, x.mine, x.size)
	if flow != nil {
		flow.count(1, x.mine, x.size)
	}
	if x.mine {
		return
	}
	if d.shares == nil {
		d.shares = map[noise.PublicKey]share{}
	}
	s := d.shares[x.from]
	s[class(isLarge(x.size))] += n * int64(x.size)
	d.shares[x.from] = s
}

// enter, leave and own keep the sums of what becomes of an envelope.
func (t *tx) enter(x *index) { t.delta.count(1, x, &t.delta.in) }
func (t *tx) leave(x *index) { t.delta.count(-1, x, &t.delta.out) }

// own moves an envelope to the account of the own users, for good.
func (t *tx) own(x *index) {
	if x.mine {
		return
	}
	t.delta.count(-1, x, nil)
	x.mine = true
	t.delta.count(1, x, &t.delta.in)
}

// used returns the bytes of an account with what this write has counted.
func (t *tx) used(mine, large bool) int64 {
	return t.ledger.usage.amount(mine, large).Bytes + t.delta.usage.amount(mine, large).Bytes
}

// share returns the bytes of a neighbour's share with what this write has counted.
func (t *tx) share(from noise.PublicKey, large bool) int64 {
	return t.ledger.shares[from][class(large)] + t.delta.shares[from][class(large)]
}

// apply takes in what a write has counted.
func (l *ledger) apply(d *delta) {
	if !d.any {
		return
	}
	l.moved = true
	l.usage.add(&d.usage)
	l.in.add(&d.in)
	l.out.add(&d.out)
	for k, s := range d.shares {
		sum := l.shares[k]
		sum[0], sum[1] = sum[0]+s[0], sum[1]+s[1]
		l.shares[k] = sum
		l.dirty[k] = true
		if sum == (share{}) {
			delete(l.shares, k)
		}
	}
}

// ledgerRecords is how many records write sets at most beside the shares: the usage, the
// hour, and the hours that it removes.
const ledgerRecords = 2 + growthHours + 4

// What Badger counts for a record of a share, and at most for another one of the ledger.
const (
	shareRecord  = 1 + noise.KeySize + 16 + entryOverhead
	ledgerRecord = 2*usageSize + 16 + entryOverhead
)

// write adds what has changed to the transaction.
func (l *ledger) write(txn *badger.Txn, now passport.Time) error {
	if !l.moved {
		return nil
	}
	if err := l.turn(txn, now); err != nil {
		return err
	}
	if err := txn.Set(keyUsage, l.usage.append(nil)); err != nil {
		return err
	}
	l.hourIn.add(&l.in)
	l.hourOut.add(&l.out)
	l.in, l.out = Usage{}, Usage{}
	if err := txn.Set(hourKey(l.hour), l.hourOut.append(l.hourIn.append(nil))); err != nil {
		return err
	}
	for k := range l.dirty {
		var v []byte
		if s := l.shares[k]; s != (share{}) {
			v = s.bytes()
		}
		if err := setOrDelete(txn, shareKey(k), v); err != nil {
			return err
		}
	}
	clear(l.dirty)
	l.moved = false
	return nil
}

// growthHours is for how many hours it is kept what came in.
const growthHours = 24

func hourOf(now passport.Time) passport.Time { return now / 3600 * 3600 }

func hourKey(hour passport.Time) []byte { return key(kindHour, be32(uint32(hour))) }

// turn goes over to the hour of now. Hours that nobody asks for are removed, also those of
// a clock that was ahead.
func (l *ledger) turn(txn *badger.Txn, now passport.Time) error {
	hour := hourOf(now)
	if hour == l.hour {
		return nil
	}
	l.hour, l.hourIn, l.hourOut = hour, Usage{}, Usage{}
	b, err := get(txn, hourKey(hour))
	if err == nil {
		err = parseUsage(hourKey(hour), b, &l.hourIn, &l.hourOut)
	}
	if err != nil {
		return err
	}
	var old [][]byte
	err = scan(txn, []byte{kindHour}, nil, false, func(k, _ []byte) (bool, error) {
		h := passport.Time(binary.BigEndian.Uint32(k[1:]))
		if h.Add(growthHours*time.Hour) <= hour || h > hour.Add(time.Hour) {
			old = append(old, append([]byte(nil), k...))
		}
		return len(old) < ledgerRecords-2, nil
	})
	for _, k := range old {
		if err == nil {
			err = txn.Delete(k)
		}
	}
	return err
}

// Growth is what came in and what was removed over the last 24 hours.
type Growth struct{ In, Out Usage }

// Growth returns what came in and went, to the hour: the last 23 to 24 hours count. An
// envelope that moved to the account of the own users came in there.
func (s *Store) Growth() (g Growth, err error) {
	now := s.clock()
	err = s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindHour}, nil, true, func(k, v []byte) (bool, error) {
			h := passport.Time(binary.BigEndian.Uint32(k[1:]))
			if h.Add(growthHours*time.Hour) <= now || h > now {
				return true, nil
			}
			var in, out Usage
			if err := parseUsage(k, v, &in, &out); err != nil {
				return false, err
			}
			g.In.add(&in)
			g.Out.add(&out)
			return true, nil
		})
	})
	return g, err
}

// load reads the ledger of an opened store.
func (l *ledger) load(txn *badger.Txn) error {
	l.shares, l.dirty = map[noise.PublicKey]share{}, map[noise.PublicKey]bool{}
	b, err := get(txn, keyUsage)
	if err == nil {
		err = parseUsage(keyUsage, b, &l.usage)
	}
	if err != nil {
		return err
	}
	return scan(txn, []byte{kindShare}, nil, true, func(k, v []byte) (bool, error) {
		s, err := parseShare(k, v)
		l.shares[noise.PublicKey(k[1:])] = s
		return true, err
	})
}
