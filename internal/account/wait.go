package account

import (
	"context"
	"errors"
	"maps"
	"slices"
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
	down := make(map[Node]error) // why a node cannot be reached; nil for one that is
	told := o.OnProgress
	o.Follow, o.OnProgress = true, func(p Progress) {
		mu.Lock()
		switch p.Step {
		case "disconnected":
			down[p.Node] = p.Err
		case "connected":
			down[p.Node] = nil
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
	<-ended // nothing of the Sync is left behind
	if err == nil {
		return list, nil
	}
	if fresh, err := a.Status(context.WithoutCancel(ctx), id); err == nil {
		list = fresh
	}
	if ctx.Err() == nil {
		return list, err
	}
	mu.Lock()
	defer mu.Unlock()
	why := errors.Join(slices.Collect(maps.Values(down))...)
	for _, err := range down {
		if err == nil { // one node was there
			why = ctx.Err()
		}
	}
	if why == nil {
		why = ctx.Err()
	}
	return list, &WaitError{Want: want, Mails: list, Err: why}
}

// waitFor looks at the mail after every change until it is settled. If the Sync that
// brings the changes ends, so does waitFor, with its error.
func (a *Account) waitFor(ctx context.Context, id MailID, want State, ended chan error) ([]Outgoing, error) {
	for {
		changed := a.change(changedOutbox)
		list, err := a.Status(ctx, id)
		if err != nil || settledFor(list, want) {
			return list, err
		}
		select {
		case <-ctx.Done():
			return list, ctx.Err()
		case err := <-ended:
			ended <- err // for the caller, who waits for it in any case
			return list, err
		case <-changed:
		}
	}
}

// settledFor reports whether every recipient reached want or never will.
func settledFor(list []Outgoing, want State) bool {
	for _, o := range list {
		if !o.State.Reached(want) && (!o.State.Final() || o.State == Delivered) {
			return false
		}
	}
	return true
}
