package store

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// tx is one write: it reads what is committed, what earlier writes of the same batch
// set, and what it set itself. Its changes stay apart until it has ended well, so that
// a write that fails leaves nothing behind and disturbs no other of its batch.
type tx struct {
	txn     *badger.Txn
	changes *changes
	before  []func()
	after   []func()
	ledger  *ledger // with what earlier writes of the batch counted
	delta   delta
	room    room // on the disk
}

// get returns the value of key, nil if there is none. The caller must not change it.
func (t *tx) get(key []byte) ([]byte, error) {
	if i, ok := t.changes.find(key); ok {
		return t.changes.list[i].value, nil
	}
	return get(t.txn, key)
}

func (t *tx) has(key []byte) (bool, error) {
	if i, ok := t.changes.find(key); ok {
		return t.changes.list[i].value != nil, nil
	}
	return has(t.txn, key)
}

// set keeps key and value; the caller must not change them any more. A value of nil is
// an empty one.
func (t *tx) set(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	t.changes.put(key, value)
}

func (t *tx) delete(key []byte) { t.changes.put(key, nil) }

// beforeCommit has f called when nothing but the sync can fail any more.
func (t *tx) beforeCommit(f func()) { t.before = append(t.before, f) }

// onCommit has f called after the sync and before the caller of this write is
// answered, in the order of the writes.
func (t *tx) onCommit(f func()) { t.after = append(t.after, f) }

// scan is the package's scan over what was there before this write: it does not see
// the write's own changes.
func (t *tx) scan(prefix, from []byte, values bool, fn func(key, value []byte) (bool, error)) error {
	return scan(t.txn, prefix, from, values, fn)
}

func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	v, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if v == nil {
		v = []byte{}
	}
	return v, nil
}

func has(txn *badger.Txn, key []byte) (bool, error) {
	_, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	return true, nil
}

// scan calls fn in order for the keys that begin with prefix, starting at from (nil:
// the first), until it returns false or an error. The slices are fn's only during the
// call; value is nil unless values are asked for.
func scan(txn *badger.Txn, prefix, from []byte, values bool, fn func(key, value []byte) (bool, error)) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix, PrefetchValues: values, PrefetchSize: 64})
	defer it.Close()
	if from == nil {
		from = prefix
	}
	for it.Seek(from); it.Valid(); it.Next() {
		item := it.Item()
		more := false
		call := func(value []byte) (err error) {
			more, err = fn(item.Key(), value)
			return err
		}
		err := error(nil)
		if values {
			err = item.Value(call)
		} else {
			err = call(nil)
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}
