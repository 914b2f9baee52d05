package account

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"database/sql"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
)

const (
	// takeBatch and takeBytes bound what is stored in one transaction.
	takeBatch = 128
	takeBytes = 8 << 20
	// firstReconnect and lastReconnect bound the wait before a broken connection is
	// made again; it doubles from one to the other.
	firstReconnect = time.Second
	lastReconnect  = time.Minute
	// otherProcesses is how often a session that follows looks whether another process
	// changed the database.
	otherProcesses = 200 * time.Millisecond
)

// session is one connection with the node.
type session struct {
	a          *Account
	c          *clientapi.Client
	node       Node
	status     clientapi.Status
	generation uint64
	o          SyncOptions

	mu  sync.Mutex
	res SyncResult
}

func (s *session) progress(p Progress) {
	if s.o.OnProgress != nil {
		s.o.OnProgress(p)
	}
}

// Sync sends what is due and takes in what came. With Follow it returns only when ctx
// ends, with its error, or when going on makes no sense: no node is known, or the node
// does not admit this device.
func (a *Account) Sync(ctx context.Context, o SyncOptions) (SyncResult, error) {
	if !o.Follow {
		res, err := a.exchange(ctx, o)
		if err != nil {
			return res, err
		}
		return res, a.finishSync(ctx, &res)
	}
	var total SyncResult
	for wait := firstReconnect; ; wait = min(2*wait, lastReconnect) {
		began := a.now()
		res, err := a.exchange(ctx, o)
		total.Received, total.Sent = total.Received+res.Received, total.Sent+res.Sent
		if ctx.Err() != nil {
			return total, ctx.Err()
		}
		if errors.Is(err, ErrNoNode) || errors.Is(err, clientapi.ErrNotAllowed) || errors.Is(err, ErrTampered) {
			return total, err
		}
		if o.OnProgress != nil {
			o.OnProgress(Progress{Step: "disconnected", Err: err})
		}
		a.log.Info("connection to the node ended", "error", err)
		if a.now().Sub(began) > lastReconnect {
			wait = firstReconnect
		}
		select {
		case <-ctx.Done():
			return total, ctx.Err()
		case <-time.After(jitter(wait)):
		}
	}
}

// finishSync counts what is left and notes when mail was last taken in.
func (a *Account) finishSync(ctx context.Context, res *SyncResult) error {
	return a.db.QueryRowContext(ctx, "SELECT count(*) FROM outgoing WHERE state = ?", Queued).Scan(&res.Pending)
}

func (a *Account) noteSync(ctx context.Context) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		return setMeta(ctx, tx, metaLastSync, binary.BigEndian.AppendUint64(nil, uint64(millis(a.now()))))
	})
}

// exchange does all there is to do over one connection.
func (a *Account) exchange(ctx context.Context, o SyncOptions) (SyncResult, error) {
	n, err := a.node(ctx)
	if err != nil {
		return SyncResult{}, err
	}
	s, err := a.dial(ctx, n, o)
	if err != nil {
		return SyncResult{}, err
	}
	defer s.c.Close()
	if o.Follow {
		err = s.follow(ctx)
	} else {
		err = s.once(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.res, err
}

// prepare makes the node know this user: passport and tag keys, and takes the
// passports that changed.
func (s *session) prepare(ctx context.Context) error {
	if err := s.publish(ctx); err != nil {
		return err
	}
	if err := s.fetchPassports(ctx, false); err != nil {
		return err
	}
	return s.registerTagKeys(ctx)
}

// once is a Sync without Follow.
func (s *session) once(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.send(ctx, true); err != nil {
		return err
	}
	if err := s.receive(ctx, false); err != nil {
		return err
	}
	if waiting, err := s.a.receiptsWaiting(ctx); err != nil {
		return err
	} else if waiting {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(s.a.receiptWait()):
		}
		if err := s.sendReceipts(ctx); err != nil {
			return err
		}
	}
	if err := s.send(ctx, false); err != nil { // what waited for a passport that came
		return err
	}
	w, ids, err := s.a.watchList(ctx)
	if err != nil {
		return err
	}
	if err := s.watchCustody(ctx, w, ids, false); err != nil {
		return err
	}
	return s.a.forgetOld(ctx)
}

func (s *session) send(ctx context.Context, first bool) error {
	n, err := s.submitDue(ctx, first)
	s.mu.Lock()
	s.res.Sent += n
	s.mu.Unlock()
	return err
}

// follow is a Sync with Follow: all at the same time, until something fails.
func (s *session) follow(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.receive(ctx, true) })
	g.Go(func() error { return s.fetchPassports(ctx, true) })
	g.Go(func() error { return s.keepSending(ctx) })
	g.Go(func() error { return s.keepAnswering(ctx) })
	g.Go(func() error { return s.keepWatching(ctx) })
	g.Go(func() error { return s.keepRegistered(ctx) })
	g.Go(func() error { return s.a.watchOthers(ctx) })
	return g.Wait()
}

func (s *session) keepSending(ctx context.Context) error {
	for first := true; ; first = false {
		changed := s.a.change()
		if err := s.send(ctx, first); err != nil {
			return err
		}
		wait, ok, err := s.a.nextDue(ctx)
		if err != nil {
			return err
		}
		if !ok {
			wait = time.Hour
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (s *session) keepAnswering(ctx context.Context) error {
	for {
		changed := s.a.change()
		waiting, err := s.a.receiptsWaiting(ctx)
		if err != nil {
			return err
		}
		if waiting {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(s.a.receiptWait()):
			}
			if err := s.sendReceipts(ctx); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// keepWatching watches custody and begins anew when other mail is on its way.
func (s *session) keepWatching(ctx context.Context) error {
	for {
		w, ids, err := s.a.watchList(ctx)
		if err != nil {
			return err
		}
		if err := s.watchUntilChanged(ctx, w, ids); err != nil {
			return err
		}
	}
}

func (s *session) watchUntilChanged(ctx context.Context, w *watched, ids []envelope.ID) error {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(watching)
	g.Go(func() error {
		if len(ids) == 0 {
			<-gctx.Done()
			return nil
		}
		err := s.watchCustody(gctx, w, ids, true)
		if watching.Err() != nil {
			return nil
		}
		return err
	})
	g.Go(func() error {
		defer cancel()
		for {
			changed := s.a.change()
			_, now, err := s.a.watchList(gctx)
			if gctx.Err() != nil {
				return nil
			}
			if err != nil || !sameIDs(ids, now) {
				return err
			}
			select {
			case <-gctx.Done():
				return nil
			case <-changed:
			}
		}
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func sameIDs(a, b []envelope.ID) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// keepRegistered registers tag keys again when contacts or passports changed, and once
// an hour for the next epoch.
func (s *session) keepRegistered(ctx context.Context) error {
	var known string
	for {
		changed := s.a.change()
		version, err := getMeta(ctx, s.a.db, metaPeers)
		if err != nil {
			return err
		}
		if string(version) != known {
			if err := s.publish(ctx); err != nil {
				return err
			}
			if err := s.registerTagKeys(ctx); err != nil {
				return err
			}
			if version, err = getMeta(ctx, s.a.db, metaPeers); err != nil {
				return err
			}
			known = string(version)
		}
		timer := time.NewTimer(time.Hour)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
			known = ""
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// watchOthers wakes the session when another process changed the database.
func (a *Account) watchOthers(ctx context.Context) error {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer conn.Close()
	ticker := time.NewTicker(otherProcesses)
	defer ticker.Stop()
	for known := int64(-1); ; {
		var version int64
		if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
			return fmt.Errorf("database: %w", err)
		}
		if version != known {
			known = version
			a.notify()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// receive takes in the mailbox: what is there and, if follow is set, what comes.
func (s *session) receive(ctx context.Context, follow bool) error {
	if err := s.acknowledge(ctx); err != nil {
		return err
	}
	generation, after, err := s.a.place(ctx, s.node)
	if err != nil {
		return err
	}
	items := make(chan mailboxItem, takeBatch)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(items)
		return s.c.Sync(ctx, generation, after, follow, func(i clientapi.Item) error {
			item := mailboxItem{delivery{i.Number, i.Handle, i.Envelope}, i.Generation, i.CaughtUp}
			select {
			case items <- item:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	g.Go(func() error { return s.takeAll(ctx, items) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("take in mail: %w", err)
	}
	return nil
}

// mailboxItem is a delivery, or the word that all before it was sent.
type mailboxItem struct {
	delivery
	generation uint64
	caughtUp   bool
}

// takeAll stores what comes, as much in one transaction as is there, and acknowledges it.
func (s *session) takeAll(ctx context.Context, items <-chan mailboxItem) error {
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
			if err := s.takeBatch(ctx, o, generation, batch); err != nil {
				return err
			}
		}
		if caughtUp {
			if err := s.a.noteSync(ctx); err != nil {
				return err
			}
			s.progress(Progress{Step: "caught up"})
		}
	}
	return nil
}

func (s *session) takeBatch(ctx context.Context, o *opener, generation uint64, batch []delivery) error {
	t, err := s.a.take(ctx, o, s.node.Key, generation, batch)
	if err != nil {
		return err
	}
	for _, m := range t.mails {
		s.mu.Lock()
		s.res.Received++
		s.mu.Unlock()
		if s.o.OnMail != nil {
			s.o.OnMail(m)
		}
	}
	if err := s.acknowledge(ctx); err != nil {
		return err
	}
	if t.publishChain {
		if err := s.putOwn(ctx); err != nil {
			return err
		}
	}
	if t.fetchChains && !s.o.Follow {
		return s.fetchPassports(ctx, false)
	}
	return nil
}

// acknowledge tells the node which deliveries are stored here for good.
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
		err = s.a.write(ctx, func(tx *sql.Tx) error {
			for _, n := range numbers {
				if _, err := tx.ExecContext(ctx, "DELETE FROM acks WHERE node = ? AND generation = ? AND number = ?", s.node.Key[:], gen, int64(n)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// place returns up to where this device took in the mailbox of a node.
func (a *Account) place(ctx context.Context, n Node) (generation, number uint64, err error) {
	var gen []byte
	var at int64
	err = a.db.QueryRowContext(ctx, "SELECT generation, number FROM nodes WHERE key = ?", n.Key[:]).Scan(&gen, &at)
	if errors.Is(err, sql.ErrNoRows) || err == nil && len(gen) != 8 {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	return binary.BigEndian.Uint64(gen), uint64(at), nil
}
