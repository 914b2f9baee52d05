package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// writeCall is a call of write that waits for its turn.
type writeCall struct {
	ctx      context.Context
	fn       func(*sql.Tx) error
	done     bool
	err      error
	panicked any           // what fn panicked with, for the caller it belongs to
	made     chan struct{} // closed when done is set; nil if nobody waits for that
}

// run calls fn. A panic in it is an error here: this may be the goroutine of another
// caller, and those who share the transaction would never learn that it was not made.
func (c *writeCall) run(tx *sql.Tx) (err error) {
	c.panicked = nil
	defer func() {
		if v := recover(); v != nil {
			c.panicked = fmt.Sprintf("%v\n\n%s", v, debug.Stack())
			err = errPanicked
		}
	}()
	return c.fn(tx)
}

var (
	errPanicked = errors.New("a write panicked")
	errNotMade  = errors.New("the write was not made")
)

// write runs fn in a transaction that is on disk when write returns, and tells those
// who wait that something changed. fn must use tx only: the process writes one
// transaction at a time. Calls that wait while another one commits share the next commit,
// which is what a write costs; fn may run twice, and only the last run counts.
func (a *Account) write(ctx context.Context, fn func(*sql.Tx) error) error {
	c := &writeCall{ctx: ctx, fn: fn, err: errNotMade}
	a.writeWithNext(c)
	a.writeInTurn(c)
	return c.outcome()
}

// writeSoon is write for what nobody waits for: it shares the commit of the next write, and
// has one of its own only if there is none within the time that mail waits for company.
func (a *Account) writeSoon(ctx context.Context, fn func(*sql.Tx) error) error {
	c := &writeCall{ctx: ctx, fn: fn, err: errNotMade, made: make(chan struct{})}
	a.writeWithNext(c)
	until(ctx, company, c.made, nil)
	a.writeInTurn(c)
	return c.outcome()
}

func (c *writeCall) outcome() error {
	if c.panicked != nil {
		panic(c.panicked)
	}
	return c.err
}

// writeWithNext has c made with whatever is written next.
func (a *Account) writeWithNext(c *writeCall) {
	a.waiting.Lock()
	defer a.waiting.Unlock()
	a.waiting.list = append(a.waiting.list, c)
	if a.waiting.more != nil {
		close(a.waiting.more)
		a.waiting.more = nil
	}
}

// gathered is how many writes somebody waited for in the last transaction, how many waited
// when it ended, and when that was.
type gathered struct {
	last, came   int
	began, ended time.Time
}

// expected is how many writes are worth waiting for, and for how long.
func (g gathered) expected() (writes int, wait time.Duration) {
	if time.Since(g.ended) > maxGather {
		return 0, 0 // whoever comes now comes for another reason
	}
	return g.last + g.came, min(g.ended.Sub(g.began), maxGather)
}

// maxGather bounds for how long writes are waited for, whatever the disk.
const maxGather = 5 * time.Millisecond

// gather takes the writes that wait. Callers that were just answered come back with their
// next write, but not at once: they are waited for beside those who came meanwhile, at most
// as long as the last transaction took. Without that they fall into groups of two or
// three of which each waits for the commit of the others. Who writes alone never waits.
func (a *Account) gather() []*writeCall {
	all, wait := a.together.expected()
	var late <-chan time.Time
	for {
		a.waiting.Lock()
		if waitedFor(a.waiting.list) >= all {
			break
		}
		if late == nil {
			late = time.After(wait)
		}
		more := make(chan struct{})
		a.waiting.more = more
		a.waiting.Unlock()
		select {
		case <-more:
			continue
		case <-late:
		}
		a.waiting.Lock()
		break
	}
	defer a.waiting.Unlock()
	batch := a.waiting.list
	a.waiting.list, a.waiting.more = nil, nil
	return batch
}

// waitedFor counts the calls that somebody waits for.
func waitedFor(list []*writeCall) (n int) {
	for _, c := range list {
		if c.made == nil {
			n++
		}
	}
	return n
}

// writeInTurn waits until c was made, by this goroutine or another.
func (a *Account) writeInTurn(c *writeCall) {
	a.writing.Lock()
	defer a.writing.Unlock()
	if c.done {
		return
	}
	batch := a.gather()
	began := time.Now()
	a.touched.Store(0)
	if len(batch) == 1 || !a.writeTogether(batch) {
		for _, c := range batch {
			if !c.done {
				c.err, c.done = a.commit(c.ctx, c.run), true
			}
		}
	}
	a.waiting.Lock()
	a.together = gathered{waitedFor(batch), waitedFor(a.waiting.list), began, time.Now()}
	a.waiting.Unlock()
	for _, c := range batch {
		if c.made != nil {
			close(c.made)
		}
	}
	for _, c := range batch {
		if c.err == nil {
			a.notify(changes(a.touched.Load()))
			break
		}
	}
}

// commit is inTx, and then what onCommit was given; a.writing is held.
func (a *Account) commit(ctx context.Context, fn func(*sql.Tx) error) error {
	a.committed, a.stamped = nil, 0
	if err := inTx(ctx, a.db.writer, fn); err != nil {
		return err
	}
	for _, f := range a.committed {
		f()
	}
	return nil
}

// onCommit has f called once the transaction is on disk that is being written, before anybody
// is told what it changed. Call it from within a write.
func (a *Account) onCommit(f func()) { a.committed = append(a.committed, f) }

// writeTogether runs the calls in one transaction. If one of them fails nothing of any is
// kept, and false is returned. A savepoint for each would cost more than to run them again.
func (a *Account) writeTogether(batch []*writeCall) bool {
	failed := false
	ctx := context.Background() // a caller that gives up must not take the others with it
	err := a.commit(ctx, func(tx *sql.Tx) error {
		for _, c := range batch {
			err := c.ctx.Err()
			if err == nil {
				err = c.run(tx)
			}
			if err != nil {
				failed = true
				return err
			}
		}
		return nil
	})
	if failed {
		return false
	}
	for _, c := range batch {
		c.err, c.done = err, true
	}
	return true
}
