package store

import (
	"context"
	"io"
	"log/slog"

	"github.com/dgraph-io/badger/v4"
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

// Fail has the next commit behave as if its sync had failed.
func (s *Store) Fail() { s.badgerLog.Errorf("Error while curlf sync: %v\n", io.ErrShortWrite) }
