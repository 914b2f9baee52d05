package account

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/internal/retry"
	"github.com/asmtp/asmtp/noise"
)

const (
	// firstReconnect and lastReconnect bound the wait before a broken connection is
	// made again, see package retry.
	firstReconnect = time.Second
	lastReconnect  = time.Minute
	// otherProcesses is how often a Sync that follows looks whether another process
	// changed the database.
	otherProcesses = 200 * time.Millisecond
	// ownChanges is after how many looks all are woken for what this process changed.
	ownChanges = 15
	// company is how long mail waits for more, when there was more while the last was
	// handled: each group costs as much as many mails in it. Mail that comes alone never
	// waits.
	company = 50 * time.Millisecond
	// freshFor is for how long what was just handed over is surely not due again.
	freshFor = 30 * time.Second
	// longestWait bounds every wait for a clock that may be set.
	longestWait = time.Hour
	// watchPause is the shortest time between two looks at which envelopes are to be
	// watched; it is longer by watchPauseEach for each of them, since all are named anew, and
	// busyWatchPause while mail is sent all the time: most of it has arrived by then, and who
	// else has it need not be asked and written down.
	watchPause        = 100 * time.Millisecond
	watchPauseEach    = 500 * time.Microsecond
	busyWatchPause    = time.Second
	longestWatchPause = 3 * time.Second
)

// follower is a Sync with Follow: a connection with each node, made again by itself, and
// over all of them one goroutine that sends small mail, one for large, and one that answers.
type follower struct {
	*exchange

	mu      sync.Mutex // guards what follows
	order   []Node     // the account's nodes, in the order of connecting
	live    map[noise.PublicKey]*session
	changed chan struct{}             // closed when live changes
	refused map[noise.PublicKey]error // nodes that do not admit this device
	heard   chan struct{}             // closed once a node was taken in or was not reached
}

func (x *exchange) follow(ctx context.Context) error {
	mails, err := x.a.openKept(ctx)
	if err != nil {
		return err
	}
	x.tell(mails)
	f := &follower{exchange: x, live: make(map[noise.PublicKey]*session), changed: make(chan struct{}),
		refused: make(map[noise.PublicKey]error), heard: make(chan struct{})}
	ended := ctx
	g, ctx := errgroup.WithContext(ctx)
	x.later = g.Go
	g.Go(func() error { return f.keepNodes(ctx) })
	g.Go(func() error { return f.keepSending(ctx, false) })
	g.Go(func() error { return f.keepSending(ctx, true) })
	g.Go(func() error { return f.keepAnswering(ctx) })
	g.Go(func() error { return f.keepAging(ctx) })
	g.Go(func() error { return x.a.watchOthers(ctx) })
	g.Go(func() error { return x.a.keepIndexing(ctx) })
	err = g.Wait()
	if ended.Err() != nil { // a statement that was interrupted has an error of its own
		return ended.Err()
	}
	return err
}

// keepNodes has a goroutine for each of the account's nodes, also for those that come
// later. It ends when no node admits this device.
func (f *follower) keepNodes(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	running := make(map[Node]context.CancelFunc)
	g.Go(func() error {
		for {
			changed := f.a.change(changedNodes)
			nodes, err := f.a.nodes(ctx)
			if err != nil {
				return err
			}
			f.setOrder(nodes)
			for n, stop := range running {
				if !slices.Contains(nodes, n) {
					stop()
					delete(running, n)
				}
			}
			for _, n := range nodes {
				if running[n] == nil {
					nctx, stop := context.WithCancel(ctx)
					running[n] = stop
					g.Go(func() error {
						defer stop()
						err := f.keepNode(nctx, n)
						if nctx.Err() != nil && ctx.Err() == nil {
							return nil // the node was removed
						}
						return err
					})
				}
			}
			if err := f.refusedByAll(nodes); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			}
		}
	})
	return g.Wait()
}

// refusedByAll returns why, if none of the nodes admits this device.
func (f *follower) refusedByAll(nodes []Node) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range nodes {
		if err = f.refused[n.Key]; err == nil {
			return nil
		}
	}
	return err
}

// keepNode connects with a node again and again.
func (f *follower) keepNode(ctx context.Context, n Node) error {
	var away time.Time // since when it is not reached, or not for long
	for said := ""; ; {
		began := time.Now()
		err := f.followNode(ctx, n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrTampered) {
			return err
		}
		if f.o.OnProgress != nil {
			f.o.OnProgress(Progress{Step: "disconnected", Err: err, Node: n})
		}
		if away.IsZero() || time.Since(began) > lastReconnect {
			away, said = time.Now(), ""
		}
		if text := fmt.Sprint(err); text != said {
			said = text
			f.a.log.Info("connection to the node ended", "node", n.Key.Short(), "error", err)
		}
		f.a.noteNode(ctx, n.Key, err)
		f.setRefused(n, err)
		f.noteHeard()
		wait := retry.Wait(time.Since(away), firstReconnect, lastReconnect)
		if n.isLocal() && !errors.Is(err, clientapi.ErrNotAllowed) {
			wait = firstReconnect // to be refused by this machine costs next to nothing
		}
		if err := pause(ctx, jitter(wait)); err != nil {
			return err
		}
	}
}

func (f *follower) setRefused(n Node, err error) {
	f.mu.Lock()
	if errors.Is(err, clientapi.ErrNotAllowed) {
		f.refused[n.Key] = err
		defer f.a.notify(changedNodes) // for keepNodes
	} else {
		delete(f.refused, n.Key)
	}
	f.mu.Unlock()
}

func (f *follower) noteHeard() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.heard:
	default:
		close(f.heard)
	}
}

// followNode does all there is to do over one connection, until something fails.
func (f *follower) followNode(ctx context.Context, n Node) error {
	s, err := f.dial(ctx, n)
	if err != nil {
		return err
	}
	defer s.c.Close()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	f.a.noteNode(ctx, n.Key, nil)
	f.setRefused(n, nil)
	ctx, s.stop = context.WithCancelCause(ctx)
	defer s.stop(nil)
	g, gctx := errgroup.WithContext(ctx)
	f.setLive(s, true)
	defer f.setLive(s, false)
	f.a.links.Add(1)
	defer f.a.links.Add(-1)
	g.Go(func() error { return s.receive(gctx, true, f.noteHeard) })
	g.Go(func() error { return s.fetchPassports(gctx, true) })
	g.Go(func() error { return s.keepWatching(gctx) })
	g.Go(func() error { return s.keepRegistered(gctx) })
	err = g.Wait()
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause // sending failed
	}
	return err
}

func (f *follower) setOrder(nodes []Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.order, nodes) {
		f.order = nodes
		f.tellOthers()
	}
}

// tellOthers wakes those who wait for other links; f.mu is held.
func (f *follower) tellOthers() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) setLive(s *session, live bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if live {
		f.live[s.node.Key] = s
	} else if f.live[s.node.Key] == s { // no newer one took its place
		delete(f.live, s.node.Key)
	}
	f.tellOthers()
}

// links returns the sessions there are, in the order of connecting, and a channel that
// is closed when there are others.
func (f *follower) links() ([]*link, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ready := make(chan struct{})
	close(ready)
	var list []*link
	for _, n := range f.order {
		if s := f.live[n.Key]; s != nil {
			list = append(list, &link{node: n, up: ready, s: s})
		}
	}
	return list, f.changed
}

// through is throughFirst; a session over which f failed is made anew.
func (f *follower) through(links []*link, sel selection, do func(*session, selection) ([]int64, error)) error {
	f.throughFirst(links, sel, do)
	for _, l := range links {
		if err := l.failed(); errors.Is(err, ErrTampered) {
			return err
		} else if err != nil {
			l.s.stop(err)
		}
	}
	return nil
}

// keepSending hands over what is due of the small mail, or of the large, through the first
// node that is connected.
func (f *follower) keepSending(ctx context.Context, large bool) error {
	var last *session
	wanted := changedDue
	if large { // it is seldom sent, and to look for it takes longer
		wanted = changedLarge
	}
	for {
		changed := f.a.change(wanted)
		links, others := f.links()
		if len(links) > 0 {
			if !large {
				f.a.fresh.take() // the database has it all
			}
			first := links[0].s != last
			last = links[0].s
			err := f.through(links, selection{large: large, first: first}, func(s *session, sel selection) ([]int64, error) { return s.send(ctx, sel) })
			if err != nil {
				return err
			}
		} else {
			last = nil
		}
		if !large && isClosed(changed) { // more came meanwhile
			if err := pause(ctx, company); err != nil {
				return err
			}
			continue
		}
		wait, err := f.a.nextDue(ctx, large)
		if err != nil {
			return err
		}
		if len(links) == 0 {
			wait = longestWait
		}
		wait = max(wait, company) // what is due still was taken, which is about to be written
		if large || len(links) == 0 {
			err = until(ctx, wait, changed, others)
		} else {
			err = f.sendFresh(ctx, links, wait, changed, others)
		}
		if err != nil {
			return err
		}
	}
}

// sendFresh is until, and meanwhile hands over what enters the outbox. None of that is looked
// for, and it is not looked when it is due again, which is not before freshFor.
func (f *follower) sendFresh(ctx context.Context, links []*link, wait time.Duration, changed, others <-chan struct{}) error {
	until := time.Now().Add(min(wait, longestWait))
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		came := f.a.change(changedFresh)
		list, more := f.a.fresh.take()
		if more {
			return nil
		}
		if len(list) > 0 {
			err := f.through(links, selection{fresh: list}, func(s *session, sel selection) ([]int64, error) { return s.send(ctx, sel) })
			if err != nil {
				return err
			}
			if again := time.Now().Add(freshFor); again.Before(until) {
				until = again
				timer.Reset(freshFor)
			}
			if isClosed(came) { // more came meanwhile
				if err := pause(ctx, company); err != nil {
					return err
				}
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-came:
		case <-changed:
			return nil
		case <-others:
			return nil
		case <-timer.C:
			return nil
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// keepAnswering sends the receipts that are due.
func (f *follower) keepAnswering(ctx context.Context) error {
	for {
		changed := f.a.change(changedReceipts | changedPeers)
		links, others := f.links()
		due, err := f.a.receiptsDue(ctx)
		if err != nil {
			return err
		}
		if due && len(links) > 0 {
			if err := pause(ctx, f.a.receiptWait()); err != nil {
				return err
			}
			err := f.through(links, selection{}, func(s *session, sel selection) ([]int64, error) { return s.sendReceipts(ctx, sel) })
			if err != nil {
				return err
			}
		}
		wait, err := f.a.nextReceipt(ctx)
		if err != nil {
			return err
		}
		if len(links) == 0 {
			wait = longestWait
		}
		if err := until(ctx, wait, changed, others); err != nil {
			return err
		}
	}
}

// keepAging ends what is over and gives notices, once it is known what the nodes have: a
// receipt may have been waiting there.
func (f *follower) keepAging(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.heard:
	}
	for cleaned := (time.Time{}); ; {
		changed := f.a.change(changedLater)
		if err := f.a.age(ctx, true); err != nil {
			return err
		}
		if time.Since(cleaned) > longestWait {
			if err := f.a.forgetOld(ctx); err != nil {
				return err
			}
			cleaned = time.Now()
		}
		wait, err := f.a.nextAge(ctx)
		if err != nil {
			return err
		}
		if err := until(ctx, wait, changed, nil); err != nil {
			return err
		}
	}
}

// until waits for a time, a change, or the end of ctx, which is an error.
func until(ctx context.Context, d time.Duration, changed, others <-chan struct{}) error {
	timer := time.NewTimer(min(d, longestWait))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-others:
	case <-timer.C:
	}
	return nil
}

// keepWatching watches custody and begins anew when other mail is on its way.
func (s *session) keepWatching(ctx context.Context) error {
	for began := (time.Time{}); ; {
		busy := time.Since(began) < 2*busyWatchPause
		began = time.Now()
		version, err := getMeta(ctx, s.a.db, metaWatched)
		if err != nil {
			return err
		}
		w, ids, err := s.a.watchList(ctx, s.node.Key)
		if err != nil {
			return err
		}
		wait := watchPause + time.Duration(len(ids))*watchPauseEach
		if busy {
			wait = max(wait, busyWatchPause)
		}
		if err := s.watchUntilChanged(ctx, version, w, ids, min(wait, longestWatchPause)); err != nil {
			return err
		}
	}
}

func (s *session) watchUntilChanged(ctx context.Context, version []byte, w *watched, ids []envelope.ID, wait time.Duration) error {
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
			changed := s.a.change(changedOutbox | changedReceipts)
			now, err := getMeta(gctx, s.a.db, metaWatched)
			if gctx.Err() != nil {
				return nil
			}
			if err != nil || !bytes.Equal(version, now) {
				return err
			}
			select {
			case <-gctx.Done():
				return nil
			case <-changed:
			}
			if pause(gctx, wait) != nil { // many changes come together
				return nil
			}
		}
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// keepRegistered registers tag keys again when contacts or passports changed, and once
// an hour for the next epoch.
func (s *session) keepRegistered(ctx context.Context) error {
	var known string
	for {
		changed := s.a.change(changedPeers)
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

// watchOthers wakes all soon when another process changed the database, and after a while
// when this one did, since most who wait for what it changes were told.
func (a *Account) watchOthers(ctx context.Context) error {
	conn, err := a.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer a.watching.Store(false)
	ticker := time.NewTicker(otherProcesses)
	defer ticker.Stop()
	// To a connection a commit of its own is no change.
	byOthers, byAny := int64(-1), int64(-1)
	for i := 0; ; i++ {
		changed, err := isNewVersion(ctx, a.db.writer, &byOthers)
		if err == nil && (changed || i%ownChanges == 0) {
			var any bool
			any, err = isNewVersion(ctx, conn, &byAny)
			changed = changed || any
		}
		if err != nil {
			return err
		}
		if changed {
			a.notify(changedAll)
		}
		a.watching.Store(true)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// isNewVersion reports whether the database was changed since known, as a connection sees it.
func isNewVersion(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, known *int64) (bool, error) {
	var version int64
	if err := q.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		return false, err
	}
	changed := version != *known
	*known = version
	return changed, nil
}
