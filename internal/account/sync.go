package account

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/noise"
)

// takeBatch and takeBytes bound what is stored in one transaction.
const (
	takeBatch = 128
	takeBytes = 8 << 20
)

// Sync sends what is due and takes in what came, with all nodes. It is an error only if
// it failed with every node; the result says about each. With Follow it returns only when
// ctx ends, with its error, or when going on makes no sense: no node is known, or none
// admits this device.
func (a *Account) Sync(ctx context.Context, o SyncOptions) (SyncResult, error) {
	nodes, err := a.Nodes(ctx)
	if err == nil && len(nodes) == 0 {
		err = ErrNoNode
	}
	if err != nil {
		return SyncResult{}, err
	}
	x := newExchange(a, o)
	if o.Follow {
		err = x.follow(ctx)
	} else {
		err = x.once(ctx, nodes)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		return x.res, err
	}
	return x.res, a.db.QueryRowContext(ctx, "SELECT count(*) FROM outgoing WHERE state = ?", Queued).Scan(&x.res.Pending)
}

// noteSync keeps that all that was in the mailbox is taken in, or waits for room.
func (s *session) noteSync(ctx context.Context, w *waiting) error {
	now := millis(s.a.now())
	w.caughtUp = true
	return s.a.write(ctx, func(tx *sql.Tx) error {
		if err := s.a.caughtUp(ctx, tx, s.node.Key, w); err != nil {
			return err
		}
		gen := binary.BigEndian.AppendUint64(nil, s.generation)
		if err := forgetAcks(ctx, tx, s.node.Key, gen, w.acked); err != nil {
			return err
		}
		w.acked = nil
		// A node that was restored does not have those numbers any more.
		if _, err := tx.ExecContext(ctx, "DELETE FROM acks WHERE node = ? AND generation <> ?", s.node.Key[:], gen); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE nodes SET last_sync = ? WHERE key = ?", now, s.node.Key[:]); err != nil {
			return err
		}
		return setMeta(ctx, tx, metaLastSync, binary.BigEndian.AppendUint64(nil, uint64(now)))
	})
}

// send hands over what is due. It returns what the node did not take.
func (s *session) send(ctx context.Context, sel selection) (left []int64, err error) {
	n, left, err := s.submitDue(ctx, sel)
	s.x.count(0, n)
	return left, err
}

// maxPasses bounds how often a mailbox is read again at once, for what was held back.
const maxPasses = 32

// receive takes in the mailbox: what is there and, if follow is set, what comes.
// caughtUp is called when all that was there is taken in.
func (s *session) receive(ctx context.Context, follow bool, caughtUp func()) error {
	if err := s.acknowledge(ctx); err != nil {
		return err
	}
	for n := 1; ; n++ {
		err := s.pass(ctx, follow, n < maxPasses, caughtUp)
		if errors.Is(err, errAgain) {
			continue
		}
		if err != nil {
			return fmt.Errorf("take in mail: %w", err)
		}
		return nil
	}
}

// pass reads the mailbox from its place on. With again it ends with errAgain if there may
// be room now for what it held back.
func (s *session) pass(ctx context.Context, follow, again bool, caughtUp func()) error {
	at, err := s.a.place(ctx, s.node)
	if err != nil {
		return err
	}
	items := make(chan mailboxItem, takeBatch)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(items)
		return s.c.Sync(ctx, at.generation, at.number, follow, func(i clientapi.Item) error {
			item := mailboxItem{delivery{i.Number, i.Handle, i.Envelope}, i.Generation, i.CaughtUp}
			select {
			case items <- item:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	g.Go(func() error {
		return s.takeAll(ctx, items, &waiting{from: at.held, again: again, completed: s.a.completed.Load()}, caughtUp)
	})
	return g.Wait()
}

// mailboxItem is a delivery, or the word that all before it was sent.
type mailboxItem struct {
	delivery
	generation uint64
	caughtUp   bool
}

// takeAll stores what comes, as much in one transaction as is there, and acknowledges it.
func (s *session) takeAll(ctx context.Context, items <-chan mailboxItem, w *waiting, done func()) error {
	o, err := s.a.newOpener(ctx)
	if err != nil {
		return err
	}
	for item := range items {
		batch, caughtUp := []delivery{}, item.caughtUp
		size := 0
		generation := item.generation
		for more := true; more; {
			if item.caughtUp {
				caughtUp = true
			} else {
				batch, size = append(batch, item.delivery), size+len(item.envelope)
			}
			if len(batch) >= takeBatch || size >= takeBytes {
				break
			}
			select {
			case item, more = <-items:
			default:
				more = false
			}
		}
		if len(batch) > 0 {
			if o, err = o.current(ctx); err != nil {
				return err
			}
			if err := s.takeBatch(ctx, o, generation, batch, w); err != nil {
				return err
			}
		}
		if caughtUp {
			if err := s.noteSync(ctx, w); err != nil {
				return err
			}
		}
		if w.worthAgain(s.a) {
			return errAgain
		}
		if caughtUp {
			done()
			s.progress(Progress{Step: "caught up"})
		}
	}
	return nil
}

func (s *session) takeBatch(ctx context.Context, o *opener, generation uint64, batch []delivery, w *waiting) error {
	t, err := s.a.take(ctx, o, s.node.Key, generation, batch, w.acked)
	if err != nil {
		return err
	}
	w.held(t.held)
	s.x.tell(t.mails)
	if w.acked = nil; generation == s.generation { // else the numbers mean other deliveries
		for _, d := range batch {
			if !slices.Contains(t.held, d.number) {
				w.acked = append(w.acked, d.number)
			}
		}
		if err := s.c.Acknowledge(ctx, w.acked); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
	if t.publishChain {
		if err := s.putOwn(ctx); err != nil {
			return err
		}
	}
	if t.fetchChains && !s.x.o.Follow {
		return s.fetchPassports(ctx, false)
	}
	return nil
}

// acknowledge tells the node which deliveries are stored here for good, and was not told.
func (s *session) acknowledge(ctx context.Context) error {
	gen := binary.BigEndian.AppendUint64(nil, s.generation)
	for {
		var numbers []uint64
		err := each(ctx, s.a.db, "SELECT number FROM acks WHERE node = ? AND generation = ? ORDER BY number LIMIT 1000", []any{s.node.Key[:], gen}, func(rows *sql.Rows) error {
			var n int64
			err := rows.Scan(&n)
			numbers = append(numbers, uint64(n))
			return err
		})
		if err != nil || len(numbers) == 0 {
			return err
		}
		if err := s.c.Acknowledge(ctx, numbers); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
		err = s.a.write(ctx, func(tx *sql.Tx) error { return forgetAcks(ctx, tx, s.node.Key, gen, numbers) })
		if err != nil {
			return err
		}
	}
}

// forgetAcks forgets what was acknowledged. It may be done with any later transaction: what
// is acknowledged twice does no harm.
func forgetAcks(ctx context.Context, tx *sql.Tx, node noise.PublicKey, gen []byte, numbers []uint64) error {
	for _, n := range numbers {
		if _, err := tx.ExecContext(ctx, "DELETE FROM acks WHERE node = ? AND generation = ? AND number = ?", node[:], gen, int64(n)); err != nil {
			return err
		}
	}
	return nil
}
