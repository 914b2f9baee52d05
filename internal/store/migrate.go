package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

// migrationPiece bounds one write of a migration.
const migrationPiece = 1000

// migrateFrom1 brings a store of schema 1 to schema 2, which tells own from relayed
// envelopes: it marks the own ones, lists them, and sums up accounts and shares. All that
// is derived from the index of envelopes, and the number of the schema is written last:
// a migration that was broken off begins anew and comes to the same end.
func (s *Store) migrateFrom1() error {
	s.log.Info("store: bringing it to a new format", "from", 1, "to", schema)
	m := &migration{store: s, shares: map[noise.PublicKey]share{}}
	err := s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindIndex}, nil, true, func(k, v []byte) (bool, error) {
			return true, m.envelope(envelope.ID(k[1:]), v)
		})
	})
	for neighbour, sum := range m.shares {
		if err == nil {
			err = m.set(shareKey(neighbour), sum.bytes())
		}
	}
	if err == nil {
		err = m.set(keyUsage, m.usage.append(nil))
	}
	if err == nil {
		err = m.flush()
	}
	if err == nil {
		err = m.set(keySchema, be32(schema))
	}
	if err == nil {
		err = m.flush()
	}
	if err != nil {
		return fmt.Errorf("bring the store from format 1 to %d: %w", schema, err)
	}
	return nil
}

type migration struct {
	store  *Store
	usage  Usage
	shares map[noise.PublicKey]share
	keys   [][]byte
	values [][]byte
}

func (m *migration) envelope(id envelope.ID, b []byte) error {
	x, err := parseIndex(id, b)
	if err != nil {
		return err
	}
	x.mine = x.own || x.held > 0
	m.usage.count(1, x.mine, x.size)
	if !x.mine {
		sum := m.shares[x.from]
		sum[class(isLarge(x.size))] += int64(x.size)
		m.shares[x.from] = sum
	}
	if x.own && !x.ended {
		if err := m.set(ownKey(x.expires, id), nil); err != nil {
			return err
		}
	}
	if new := x.bytes(); !bytes.Equal(new, b) {
		return m.set(indexKey(id), new)
	}
	return nil
}

func (m *migration) set(k, v []byte) error {
	m.keys, m.values = append(m.keys, k), append(m.values, v)
	if len(m.keys) < migrationPiece {
		return nil
	}
	return m.flush()
}

func (m *migration) flush() error {
	err := m.store.update(context.Background(), func(t *tx) error {
		for i, k := range m.keys {
			t.set(k, m.values[i])
		}
		return nil
	})
	m.keys, m.values = nil, nil
	return err
}
