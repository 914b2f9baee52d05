package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
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
}

// writeInTurn waits until c was made, by this goroutine or another.
func (a *Account) writeInTurn(c *writeCall) {
	a.writing.Lock()
	defer a.writing.Unlock()
	if c.done {
		return
	}
	a.waiting.Lock()
	batch := a.waiting.list
	a.waiting.list = nil
	a.waiting.Unlock()
	a.touched.Store(0)
	if len(batch) == 1 || !a.writeTogether(batch) {
		for _, c := range batch {
			if !c.done {
				c.err, c.done = inTx(c.ctx, a.db.writer, c.run), true
			}
		}
	}
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

// writeTogether runs the calls in one transaction. If one of them fails nothing of any is
// kept, and false is returned. A savepoint for each would cost more than to run them again.
func (a *Account) writeTogether(batch []*writeCall) bool {
	failed := false
	ctx := context.Background() // a caller that gives up must not take the others with it
	err := inTx(ctx, a.db.writer, func(tx *sql.Tx) error {
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
