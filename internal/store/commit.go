package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/internal/fault"
)

// Bounds of one batch. Bytes count with the bodies of envelopes: a batch of that size
// is written in a fraction of a second even on a memory card, so nobody waits long for
// others. Of Badger's own bounds on a transaction 9/10 are used, since it adds a marker
// and version numbers on its own.
const (
	maxBatchWrites = 512
	maxBatchBytes  = 4 << 20
	entryOverhead  = 12 // what Badger counts for each record beside key and value
)

// Errors of writes.
var (
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("store is closed")
	// ErrFailed is wrapped by every write after a commit that failed.
	ErrFailed = errors.New("store takes no writes until the node is started again, since a write to the disk failed")
	// ErrTooLarge is returned by a write that does not fit into one transaction.
	ErrTooLarge = errors.New("too much for one write")
)

// write is a change that waits for the committer.
type write struct {
	change func(*tx) error
	always bool         // taken also if the disk is full: it makes room, or nothing works without it
	alone  func() error // instead of change: what must have no write beside it
	taken  atomic.Bool  // by the committer, or by the caller that gave up
	err    error        // of change
	before []func()
	after  []func()
	done   chan error // buffered
}

// update has the committer apply change and returns when it is synced. change runs in
// the committer's goroutine, possibly never if ctx ends before; what it leaves in
// variables of its caller may be read if, and only if, update returned nil or the
// error that change returned.
func (s *Store) update(ctx context.Context, change func(*tx) error) error {
	return s.submit(ctx, &write{change: change, done: make(chan error, 1)})
}

// updateAlways is update for what makes room, or is small, leaves nothing more behind than
// was there, and is needed to read: it is refused last when the disk is full.
func (s *Store) updateAlways(ctx context.Context, change func(*tx) error) error {
	return s.submit(ctx, &write{change: change, always: true, done: make(chan error, 1)})
}

func (s *Store) submit(ctx context.Context, w *write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.enter() {
		return ErrClosed
	}
	defer s.leave()
	select {
	case s.writes <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		if w.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-w.done
	}
}

// commitWrites is the committer: the only goroutine that writes. It ends when the
// channel is closed and empty.
//
// A write is applied as soon as it comes, while the callers of others are still at work on
// theirs, so what remains to be done when the batch is complete is to commit it.
func (s *Store) commitWrites() {
	defer close(s.committed)
	g := gatherer{writes: s.writes}
	b := &openBatch{store: s}
	for w := range s.writes {
		g.gather(w, b.take)
		start := time.Now()
		b.commit()
		g.took, g.came = time.Since(start), s.came
	}
}

// gatherer collects what waits for the committer.
//
// Callers that were just answered come back with their next write, but not at once. Were
// the first of them taken alone, they would fall into two groups of which each waits for
// the other's sync: 256 callers made batches of 135. So the callers of the last batch are
// waited for beside those who came while it was written, a quarter of the time that it
// took. A caller that is alone never waits: the last batch was of one, and nobody came.
type gatherer struct {
	writes <-chan *write
	last   int           // writes in the last batch
	took   time.Duration // to commit it
	came   int           // writes that waited already when it was answered
}

const maxGather = 5 * time.Millisecond

// gather gives the batch that begins with w to take, one write after the other.
func (g *gatherer) gather(w *write, take func(*write)) {
	all, n := g.last+g.came, 0
	defer func() { g.last = n }()
	var late <-chan time.Time
	for {
		take(w)
		if n++; n >= maxBatchWrites {
			return
		}
		ok := true
		select {
		case w, ok = <-g.writes:
		default:
			if n >= all {
				return
			}
			if late == nil {
				late = time.After(min(g.took/4, maxGather))
			}
			select {
			case w, ok = <-g.writes:
			case <-late:
				return
			}
		}
		if !ok {
			return
		}
	}
}

// take applies w to the batch, unless its caller has given up.
func (b *openBatch) take(w *write) {
	if !w.taken.CompareAndSwap(false, true) {
		return
	}
	if w.alone == nil {
		b.apply(w)
		return
	}
	b.commit()
	w.done <- w.alone()
}

// openBatch is the transaction that the committer is filling.
type openBatch struct {
	store              *Store
	txn                *badger.Txn
	room               room
	fresh              bool // it has new envelopes
	writes             []*write
	count, size, bytes int64
}

// apply runs w on top of what the batch holds. An answer, even a refusal, may rest on
// an earlier write of the batch: it is given after the commit, like the others'.
func (b *openBatch) apply(w *write) {
	if b.txn == nil {
		b.begin()
	}
	b.store.changes.reset()
	t := &tx{txn: b.txn, changes: &b.store.changes, ledger: &b.store.ledger, room: b.room}
	if w.err = w.change(t); w.err == nil && len(t.changes.list) > 0 {
		if b.room == roomToEnd && !(w.always && b.store.roomToEnd()) {
			w.err = ErrDiskFull
		} else {
			w.err = b.add(t)
		}
	}
	if w.err == nil {
		w.before, w.after = t.before, t.after
	}
	b.writes = append(b.writes, w)
}

func (b *openBatch) begin() {
	b.room = b.store.room()
	b.txn = b.store.db.NewTransaction(true)
}

// add moves the changes of t into the transaction. If they do not fit, what is there
// is committed first; t has seen all of that, so its changes are still right.
func (b *openBatch) add(t *tx) error {
	count, size, bytes := measure(t.changes.list)
	count, size = count+int64(len(t.delta.shares)), size+int64(len(t.delta.shares))*shareRecord
	db := b.store.db
	maxCount, maxSize := db.MaxBatchCount()*9/10-ledgerRecords, db.MaxBatchSize()*9/10-ledgerRecords*ledgerRecord
	if b.count > 0 && (b.count+count > maxCount || b.size+size > maxSize || b.bytes+bytes > maxBatchBytes) {
		b.commit()
		b.begin()
	}
	if count > maxCount || size > maxSize {
		return fmt.Errorf("%w: %d records of %d bytes", ErrTooLarge, count, size)
	}
	for _, c := range t.changes.list {
		if err := setOrDelete(b.txn, c.key, c.value); err != nil {
			b.store.fail(err) // half of the write is in the transaction: it must not be committed
			return b.store.failure()
		}
	}
	b.store.ledger.apply(&t.delta)
	b.fresh = b.fresh || t.delta.in != Usage{}
	b.count, b.size, b.bytes = b.count+count, b.size+size, b.bytes+bytes
	return nil
}

// measure counts as Badger does (Entry.estimateSizeAndSetThreshold, Txn.checkSize);
// bytes is the true sum.
func measure(list []change) (count, size, bytes int64) {
	for _, c := range list {
		count++
		bytes += int64(len(c.key) + len(c.value))
		if len(c.value) >= valueThreshold {
			size += int64(len(c.key) + 12 + entryOverhead)
		} else {
			size += int64(len(c.key) + len(c.value) + entryOverhead)
		}
	}
	return count, size, bytes
}

func setOrDelete(txn *badger.Txn, key, value []byte) error {
	if value == nil {
		return txn.Delete(key)
	}
	return txn.Set(key, value)
}

// commit syncs the transaction and answers its writes.
func (b *openBatch) commit() {
	s := b.store
	if fault.AckBeforeFsync && b.fresh && s.failure() == nil {
		b.answer(nil)
		b.writes = nil
		time.Sleep(100*time.Millisecond + rand.N(200*time.Millisecond))
	}
	s.batchSize += b.size
	err := s.failure()
	if err == nil && b.count > 0 {
		if err = s.ledger.write(b.txn, s.clock()); err == nil {
			b.announce()
			err = b.txn.Commit()
		}
		if err == nil && s.badgerLog.syncFailed.Load() {
			err = errors.New("sync of the value log failed")
		}
		if err != nil {
			s.fail(err)
			err = s.failure()
		}
	}
	if b.txn != nil {
		b.txn.Discard()
	}
	s.came = len(s.writes)
	b.answer(err)
	clear(b.writes)
	*b = openBatch{store: s, writes: b.writes[:0]}
}

// announce calls what is to be called before the sync.
func (b *openBatch) announce() {
	for _, w := range b.writes {
		for _, f := range w.before {
			f()
		}
	}
}

// answer tells all writes of the batch how they ended; err is that of the commit.
func (b *openBatch) answer(err error) {
	for _, w := range b.writes {
		if err != nil {
			w.done <- err
			continue
		}
		for _, f := range w.after {
			f()
		}
		w.done <- w.err
	}
}

// fail makes every further write end with ErrFailed. After a failed sync the kernel may
// report the next one as good although the pages are lost, so trying again would lie.
func (s *Store) fail(err error) {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	if s.failed.CompareAndSwap(nil, &err) {
		s.log.Error("store failed", "err", err)
	}
}

func (s *Store) failure() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}
