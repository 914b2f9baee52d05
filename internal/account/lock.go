package account

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lockOutbox waits until no other process of the account hands mail to the node, so
// that no two send the same mail at once; it would arrive once all the same, but cost
// its bytes twice. Small mail and large have a lock each: that large mail is under way
// for an hour does not keep small mail, of this process or another, waiting. The lock ends
// with the process, whatever happens to it.
func (a *Account) lockOutbox(ctx context.Context, large bool) (unlock func(), err error) {
	sending, name := a.sending, lockFile
	if large {
		sending, name = a.sendingLarge, lockFileLarge
	}
	select {
	case sending <- struct{}{}: // among the goroutines of this process
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f, err := os.OpenFile(filepath.Join(a.dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		<-sending
		return nil, fmt.Errorf("lock the outbox: %w", err)
	}
	unlock = func() {
		f.Close()
		<-sending
	}
	for {
		ok, err := tryLock(f)
		if ok {
			return unlock, nil
		}
		if err == nil {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		unlock()
		return nil, fmt.Errorf("lock the outbox: %w", err)
	}
}
