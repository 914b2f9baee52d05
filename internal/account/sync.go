package account

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/noise"
)

// takeBatch and takeBytes bound what is stored in one transaction, takeLarge what waits
// for that of envelopes of the largest class.
const (
	takeBatch = 128
	takeBytes = 1 << 20
	takeLarge = 16
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
func (s *session) noteSync(ctx context.Context, w *waiting, generation, upTo uint64) error {
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
		if err := moveTo(ctx, tx, s.node.Key, generation, upTo, upTo); err != nil {
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
	whole, err := s.a.completeWaiting(ctx)
	s.x.tell(whole)
	if err != nil {
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
	in := &intake{small: make(chan mailboxItem, takeBatch), large: make(chan mailboxItem, takeLarge), completed: make(chan struct{}, 1),
		early: make(map[envelope.ID]earlyEnvelope)}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	in.stop = stop
	var g errgroup.Group
	run := func(fn func() error) {
		g.Go(func() error {
			err := fn()
			if err != nil {
				stop()
			}
			return err
		})
	}
	in.complete = func(fn func() error) {
		in.completing.Add(1)
		run(func() error {
			defer in.completing.Done()
			defer func() {
				select {
				case in.completed <- struct{}{}:
				default:
				}
			}()
			return fn()
		})
	}
	run(func() error {
		defer close(in.small)
		defer close(in.large)
		position := clientapi.Position{Generation: at.generation, Large: at.number, Small: at.small}
		return s.c.Sync(reading, position, follow, func(i clientapi.Item) error {
			item := mailboxItem{delivery{i.Number, i.Handle, i.Envelope, i.ID}, i.Generation, i.CaughtUp}
			to := in.small
			if i.CaughtUp || largestClass(i.Envelope) { // what comes before the word is taken in first
				to = in.large
			} else if !item.again() {
				in.waits.Add(1)
			}
			select {
			case to <- item:
				return nil
			case <-reading.Done():
				return reading.Err()
			}
		})
	})
	// Not with reading: what came before the connection broke is taken in.
	run(func() error {
		return s.takeAll(ctx, in, &waiting{from: at.held, again: again, completed: s.a.completed.Load()}, caughtUp)
	})
	return g.Wait()
}

// largestClass reports whether an envelope is of the class that comes last in every queue.
func largestClass(e []byte) bool {
	return len(e) > envelope.HeaderSize+envelope.Sizes[len(envelope.Sizes)-2]
}

// mailboxItem is a delivery, or the word that all before it was sent.
type mailboxItem struct {
	delivery
	generation uint64
	caughtUp   bool
}

// intake is what came of a mailbox and waits to be stored, small envelopes apart.
type intake struct {
	small, large chan mailboxItem
	complete     func(fn func() error) // runs fn at the same time
	waits        atomic.Int64          // how many of small are not taken in yet
	completing   sync.WaitGroup
	completed    chan struct{} // gets an element when one that ran has ended
	stop         func()        // ends the call that fills the channels
	lost         error         // why nothing can be said to the node any more
	parts        map[int64]partial
	early        map[envelope.ID]earlyEnvelope // of which no number came yet
}

// errCompleted says that nothing came but that a large mail is complete.
var errCompleted = errors.New("a mail is complete")

// next returns what is to be stored next: small envelopes if there are any, else large
// ones, or the word that all was sent, with all that came before it. It is empty at the
// end.
func (in *intake) next(ctx context.Context) (batch []mailboxItem, err error) {
	if batch = gather(nil, in.small); len(batch) > 0 {
		return in.withCompany(ctx, batch), nil
	}
	small, large := in.small, in.large
	for small != nil || large != nil {
		select {
		case item, ok := <-small:
			if ok {
				return in.withCompany(ctx, gather([]mailboxItem{item}, small)), nil
			}
			small = nil
		case item, ok := <-large:
			if !ok {
				large = nil
				continue
			}
			if item.caughtUp {
				return append(in.before(), item), nil
			}
			return in.gatherLarge(item), nil
		case <-in.completed:
			return nil, errCompleted
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, nil
}

// before returns the small envelopes that came before the word that all was sent: they are
// in the channel, which holds no more than one batch.
func (in *intake) before() (batch []mailboxItem) {
	for {
		select {
		case item, ok := <-in.small:
			if !ok {
				return batch
			}
			batch = append(batch, item)
		default:
			return batch
		}
	}
}

// gatherLarge adds to a large envelope those that wait, and the word that all was sent.
func (in *intake) gatherLarge(first mailboxItem) []mailboxItem {
	batch := []mailboxItem{first}
	for size := len(first.envelope); size < takeBytes; {
		select {
		case item, ok := <-in.large:
			if !ok {
				return batch
			}
			if item.caughtUp {
				return append(append(batch, in.before()...), item)
			}
			batch, size = append(batch, item), size+len(item.envelope)
		default:
			return batch
		}
	}
	return batch
}

// gather adds to a batch what is there.
func gather(batch []mailboxItem, from <-chan mailboxItem) []mailboxItem {
	size := 0
	for _, item := range batch {
		size += len(item.envelope)
	}
	for len(batch) < takeBatch && size < takeBytes {
		select {
		case item, ok := <-from:
			if !ok {
				return batch
			}
			batch, size = append(batch, item), size+len(item.envelope)
		default:
			return batch
		}
	}
	return batch
}

// takeAll stores what comes, as much in one transaction as is there, and acknowledges it.
func (s *session) takeAll(ctx context.Context, in *intake, w *waiting, done func()) error {
	o, err := s.a.newOpener(ctx)
	if err != nil {
		return err
	}
	for {
		items, err := in.next(ctx)
		if errors.Is(err, errCompleted) {
			if w.worthAgain(s.a) {
				return errAgain
			}
			continue
		}
		if err != nil {
			return err
		}
		if len(items) == 0 {
			break
		}
		var batch []delivery
		caughtUp, upTo := false, uint64(0)
		for _, item := range items {
			if item.caughtUp {
				caughtUp, upTo = true, item.number
				continue
			}
			batch = append(batch, item.delivery)
			if !item.again() && !largestClass(item.envelope) {
				in.waits.Add(-1)
			}
		}
		if len(batch) > 0 {
			if s.a.knownRoster() != o.roster {
				if o, err = o.current(ctx); err != nil {
					return err
				}
			}
			if err := s.takeBatch(ctx, o, items[0].generation, batch, w, in); err != nil {
				return err
			}
		}
		if caughtUp {
			in.completing.Wait() // else what is complete would not be there, nor its receipt
			if err := s.noteSync(ctx, w, items[0].generation, upTo); err != nil {
				return err
			}
		}
		if in.lost != nil {
			continue // with what is here already
		}
		if w.worthAgain(s.a) {
			return errAgain
		}
		if caughtUp {
			done()
			s.progress(Progress{Step: "caught up"})
		}
		if n := in.waits.Load(); s.x.o.Follow && n > 0 && n < takeBatch/2 {
			if err := pause(ctx, company); err != nil {
				return err
			}
		}
	}
	in.completing.Wait()
	if in.lost == nil && w.worthAgain(s.a) {
		return errAgain
	}
	return in.lost
}

func (s *session) takeBatch(ctx context.Context, o *opener, generation uint64, batch []delivery, w *waiting, in *intake) error {
	batch, err := in.settle(batch)
	if err != nil {
		return err
	}
	t, err := s.a.take(ctx, o, s.node.Key, generation, batch, w.acked)
	if err != nil {
		return err
	}
	in.settled(batch, &t)
	w.held(t.held)
	s.x.tell(t.mails)
	s.received(in, t.parts)
	for _, m := range t.whole {
		in.complete(func() error {
			mail, err := s.a.completeLarge(ctx, o.dir, m)
			if mail != nil {
				s.x.tell([]Summary{*mail})
			}
			return err
		})
	}
	w.acked = nil
	if in.lost == nil {
		if in.lost = s.answer(ctx, generation, batch, t, w); in.lost != nil {
			w.acked = nil
			in.stop()
		}
	}
	return nil
}

// answer tells the node which of a batch is stored here for good, and does what the batch
// asks for.
func (s *session) answer(ctx context.Context, generation uint64, batch []delivery, t taken, w *waiting) error {
	if generation == s.generation { // else the numbers mean other deliveries
		for _, d := range batch {
			if !d.early() && !slices.Contains(t.held, d.number) {
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

// received tells how much is here of the large mails that come.
func (s *session) received(in *intake, parts map[int64]partial) {
	if len(parts) == 0 {
		return
	}
	if in.parts == nil {
		in.parts = make(map[int64]partial)
	}
	for mail, p := range parts {
		in.parts[mail] = p
	}
	var all partial
	for _, p := range in.parts {
		all.done, all.all = all.done+p.done, all.all+p.all
	}
	s.progress(Progress{Step: "receiving", Done: all.done, All: all.all})
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
