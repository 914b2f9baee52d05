package account

import (
	"context"
	"errors"
	"sync"
)

// Wait syncs until every recipient of the mail is in state want or beyond, and returns
// them. It ends early, without error, when a recipient can no longer get there (refused,
// cancelled, unconfirmed); see [State.Reached]. When ctx ends first the error is a
// [WaitError], with the mail as it is then.
func (a *Account) Wait(ctx context.Context, id MailID, want State, o SyncOptions) ([]Outgoing, error) {
	if list, err := a.Status(ctx, id); err != nil || settledFor(list, want) {
		return list, err
	}
	following, stop := context.WithCancel(ctx)
	var mu sync.Mutex
	var last error // why the node could not be reached
	told := o.OnProgress
	o.Follow, o.OnProgress = true, func(p Progress) {
		mu.Lock()
		switch p.Step {
		case "disconnected":
			last = p.Err
		case "connected":
			last = nil
		}
		mu.Unlock()
		if told != nil {
			told(p)
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := a.Sync(following, o)
		ended <- err
	}()
	list, err := a.waitFor(ctx, id, want, ended)
	stop()
	if !errors.Is(err, errSyncEnded) {
		<-ended
	}
	if err == nil {
		return list, nil
	}
	if fresh, err := a.Status(context.WithoutCancel(ctx), id); err == nil {
		list = fresh
	}
	if ctx.Err() == nil {
		return list, errors.Unwrap(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if last == nil {
		last = ctx.Err()
	}
	return list, &WaitError{Want: want, Mails: list, Err: last}
}

var errSyncEnded = errors.New("sync ended")

// syncEnded is the error of a Sync that ended by itself.
type syncEnded struct{ err error }

func (e *syncEnded) Error() string        { return e.err.Error() }
func (e *syncEnded) Unwrap() error        { return e.err }
func (e *syncEnded) Is(target error) bool { return target == errSyncEnded }

func (a *Account) waitFor(ctx context.Context, id MailID, want State, ended <-chan error) ([]Outgoing, error) {
	for {
		changed := a.change()
		list, err := a.Status(ctx, id)
		if err != nil && ctx.Err() == nil {
			return list, &plainError{err}
		}
		if err == nil && settledFor(list, want) {
			return list, nil
		}
		select {
		case <-ctx.Done():
			return list, ctx.Err()
		case err := <-ended:
			return list, &syncEnded{err}
		case <-changed:
		}
	}
}

// plainError is wrapped once so that Wait unwraps it as it does a syncEnded.
type plainError struct{ err error }

func (e *plainError) Error() string { return e.err.Error() }
func (e *plainError) Unwrap() error { return e.err }

// settledFor reports whether every recipient reached want or never will.
func settledFor(list []Outgoing, want State) bool {
	for _, o := range list {
		if !o.State.Reached(want) && !(o.State.Final() && o.State != Delivered) {
			return false
		}
	}
	return true
}
