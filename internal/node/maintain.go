package node

import (
	"context"
	"fmt"
	"io"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/store"
)

// StoreVerify checks the store while the node goes on. One check at a time: each reads
// all that is stored.
func (o operator) StoreVerify(ctx context.Context, report func(control.VerifyEvent) error) error {
	n := o.n
	if !n.verifying.TryLock() {
		return fmt.Errorf("%w: a check of the store is under way", control.ErrConflict)
	}
	defer n.verifying.Unlock()
	return verify(ctx, n.store, report)
}

// verify turns what a check of the store finds into events. It ends early if report fails.
func verify(ctx context.Context, s *store.Store, report func(control.VerifyEvent) error) error {
	usage, err := s.Usage()
	if err != nil {
		return err
	}
	total := usage.Total().Sum().Count
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	send := func(e control.VerifyEvent) {
		if ctx.Err() != nil {
			return
		}
		if err := report(e); err != nil {
			cancel(err)
		}
	}
	err = s.VerifyProgress(ctx,
		func(problem string) { send(control.VerifyEvent{Problem: problem}) },
		func(done int64) { send(control.VerifyEvent{Done: done, Total: total}) })
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// StoreBackup writes one consistent state of the store.
func (o operator) StoreBackup(ctx context.Context, w io.Writer) error {
	return o.n.store.Backup(ctx, w)
}
