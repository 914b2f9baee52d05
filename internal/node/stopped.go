package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/asmtp/asmtp/internal/control"
	"github.com/asmtp/asmtp/internal/store"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// ErrNoStore is wrapped by the error for a folder in which no node ever ran.
var ErrNoStore = errors.New("no node has its store here")

// Stopped is the store of a node that does not run, and cannot start before Close.
type Stopped struct {
	lock  io.Closer
	store *store.Store
}

// OpenStopped takes the data folder of o and opens the store in it. If a node runs there,
// the error wraps [control.ErrRunning]. A store of an older program is migrated.
func OpenStopped(o Options) (*Stopped, error) {
	dir := filepath.Join(o.Data, storeName)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoStore, o.Data)
	} else if err != nil {
		return nil, err
	}
	lock, err := control.Lock(o.Data)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(dir, o.store())
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Stopped{lock: lock, store: s}, nil
}

// Close lets a node start again.
func (s *Stopped) Close() error { return errors.Join(s.store.Close(), s.lock.Close()) }

// Verify is StoreVerify of a running node.
func (s *Stopped) Verify(ctx context.Context, report func(control.VerifyEvent) error) error {
	return verify(ctx, s.store, report)
}

// Backup is StoreBackup of a running node.
func (s *Stopped) Backup(ctx context.Context, w io.Writer) error { return s.store.Backup(ctx, w) }

// Mesh returns the mesh of the node, and whether the mesh ever certified key: that is how
// one knows that a key is the node's.
func (s *Stopped) Mesh(key noise.PublicKey) (id mesh.ID, certified bool, err error) {
	id, _, _, ok, err := s.store.Mesh()
	if err != nil {
		return id, false, err
	}
	if !ok {
		return id, false, fmt.Errorf("%w: it belongs to no mesh yet", ErrNoStore)
	}
	encoded, err := s.store.Statements()
	if err != nil {
		return id, false, err
	}
	for _, b := range encoded {
		statement, err := mesh.ParseStatement(b)
		if err != nil {
			return id, false, fmt.Errorf("statements of the mesh in the store: %w", err)
		}
		if c, ok := statement.Certificate(); ok && c.Node == key {
			certified = true
		}
	}
	return id, certified, nil
}

// RestoreStore makes a store in dir, which must not be there, from what a backup holds.
func RestoreStore(ctx context.Context, dir string, r io.Reader, log *slog.Logger, now func() time.Time) error {
	return store.Restore(ctx, dir, r, store.Options{Log: log, Now: now})
}
