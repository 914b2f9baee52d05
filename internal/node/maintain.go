package node

import (
	"context"
	"fmt"
	"io"

	"github.com/asmtp/asmtp/internal/control"
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

// verifier is a store that can be checked.
type verifier interface {
	Verify(ctx context.Context, problem func(string)) error
}

// verify turns the problems of a store into events. It ends early if report fails.
func verify(ctx context.Context, s verifier, report func(control.VerifyEvent) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := s.Verify(ctx, func(problem string) {
		if ctx.Err() != nil {
			return
		}
		if err := report(control.VerifyEvent{Problem: problem}); err != nil {
			cancel(err)
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// StoreBackup writes one consistent state of the store.
func (o operator) StoreBackup(ctx context.Context, w io.Writer) error {
	return o.n.store.Backup(ctx, w)
}
