package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// SetSchema writes the number of the format of a closed store.
func SetSchema(dir string, n uint32) error {
	db, err := badger.Open(badgerOptions(dir, &badgerLog{log: slog.New(slog.NewTextHandler(io.Discard, nil))}))
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Update(func(txn *badger.Txn) error { return txn.Set(keySchema, be32(n)) })
}

// Drop deletes all records of a kind.
func (s *Store) Drop(kind byte) error {
	return s.update(context.Background(), func(t *tx) error { return t.deletePrefix([]byte{kind}) })
}

// TooLarge tries to admit more users in one write than fit into one.
func (s *Store) TooLarge(name string) error {
	return s.update(context.Background(), func(t *tx) error {
		for i := range 20_000 {
			t.set(key(kindUser, fmt.Append(nil, name, i)), be32(1))
		}
		return nil
	})
}

// Refused is a write that changes something and then ends with ErrNotFound.
func (s *Store) Refused(name string) error {
	return s.update(context.Background(), func(t *tx) error {
		t.set(key(kindUser, []byte(name)), be32(1))
		return ErrNotFound
	})
}

// PretendRemoved makes the next Compact do something.
func (s *Store) PretendRemoved(bytes int64) { s.removed.Store(bytes) }

// Fail has the next commit behave as if its sync had failed.
func (s *Store) Fail() { s.badgerLog.Errorf("Error while curlf sync: %v\n", io.ErrShortWrite) }

// Bare is Badger with our options and without the committer.
type Bare struct{ db *badger.DB }

// OpenBare opens one for a benchmark.
func OpenBare(b *testing.B, dir string) Bare {
	db, err := badger.Open(badgerOptions(dir, &badgerLog{log: slog.New(slog.DiscardHandler)}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return Bare{db}
}

// Put writes what PutEnvelopes writes for a new envelope, in a transaction of its own.
func (b Bare) Put(e *envelope.Envelope) error {
	id := e.ID()
	return b.db.Update(func(txn *badger.Txn) error {
		for _, r := range []struct{ k, v []byte }{
			{bodyKey(id), e.Bytes()},
			{indexKey(id), (&index{expires: e.Expires}).bytes()},
			{dueKey(e.Expires, id), nil},
		} {
			if err := txn.Set(r.k, r.v); err != nil {
				return err
			}
		}
		return nil
	})
}

// Reread reads a backup and writes the records that were read.
func Reread(b []byte) ([]byte, error) {
	in, err := newBackupReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	out := newBackupWriter(&buf)
	for {
		k, v, err := in.next()
		if err == io.EOF {
			err = out.end()
			return buf.Bytes(), err
		}
		if err != nil {
			return nil, err
		}
		if err := out.record(k, v); err != nil {
			return nil, err
		}
	}
}

// Gatherer is what collects batches, by itself.
type Gatherer struct {
	g      gatherer
	writes chan *write
}

// NewGatherer returns one behind which each commit takes this long.
func NewGatherer(took time.Duration) *Gatherer {
	writes := make(chan *write, maxBatchWrites)
	return &Gatherer{gatherer{writes: writes, took: took}, writes}
}

// Queue has n writes arrive after a delay.
func (g *Gatherer) Queue(n int, delay time.Duration) {
	send := func() {
		for range n {
			g.writes <- &write{}
		}
	}
	if delay == 0 {
		send()
	} else {
		time.AfterFunc(delay, send)
	}
}

// Next returns the size of the batch that begins with one more write, and how long it was
// waited for.
func (g *Gatherer) Next() (n int, after time.Duration) {
	start := time.Now()
	g.g.gather(&write{}, func(*write) { n++ })
	return n, time.Since(start)
}

// CountKind returns how many records of a kind there are.
func (s *Store) CountKind(kind byte) (n int) {
	s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kind}, nil, false, func(_, _ []byte) (bool, error) {
			n++
			return true, nil
		})
	})
	return n
}

// OldEnvelope is an envelope in a store of schema 1.
type OldEnvelope struct {
	E       *envelope.Envelope
	Own     bool // brought by an own user
	From    noise.PublicKey
	Ended   bool
	Mailbox passport.ID // that holds it; zero: none
}

// WriteSchema1 makes a store as version 0.1 did, from its own list of records.
func WriteSchema1(dir string, list []OldEnvelope) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	db, err := badger.Open(badgerOptions(dir, &badgerLog{log: slog.New(slog.DiscardHandler)}))
	if err != nil {
		return err
	}
	records := map[string][]byte{"!schema": {0, 0, 0, 1}, "!generation": {1, 2, 3, 4, 5, 6, 7, 8}}
	var usage [4]uint64 // small count, small bytes, large count, large bytes
	numbers, pending := map[passport.ID]uint64{}, map[passport.ID]uint64{}
	for _, o := range list {
		id, body, seal := o.E.ID(), o.E.Bytes(), o.E.SealHash()
		flags, held := byte(0), uint32(0)
		if o.Own {
			flags |= 1
			records["c"+string(id[:])+string(bytes.Repeat([]byte{9}, 32))] = nil
		}
		if o.Ended {
			flags |= 2
		} else {
			records["x"+string(be32(uint32(o.E.Expires)+4*3600))+string(id[:])] = nil
		}
		if u := o.Mailbox; !u.IsZero() {
			held = 1
			numbers[u]++
			pending[u] += uint64(len(body))
			n := string(be64(numbers[u]))
			records["m"+string(u[:])+n] = slices.Concat(id[:], make([]byte, 16), be32(uint32(len(body))), be32(0))
			records["M"+string(u[:])+string(id[:])] = []byte(n)
			records["n"+string(u[:])] = []byte(n)
			records["h"+string(u[:])+string(make([]byte, 16))] = be64(pending[u])
		}
		records["b"+string(id[:])] = body
		records["e"+string(id[:])] = slices.Concat([]byte{flags}, be32(uint32(o.E.Expires)), be32(1), be32(uint32(len(body))),
			be32(held), o.E.Tag[:], seal[:], o.From[:])
		i := 0
		if o.E.Class() == 3 {
			i = 2
		}
		usage[i]++
		usage[i+1] += uint64(len(body))
	}
	records["!usage"] = slices.Concat(be64(usage[0]), be64(usage[1]), be64(usage[2]), be64(usage[3]))
	d := &disk{}
	if err := d.init(dir, Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	b := &bulk{db: db, disk: d}
	for k, v := range records {
		if err := b.set([]byte(k), v); err != nil {
			return err
		}
	}
	return errors.Join(b.flush(), db.Close())
}
