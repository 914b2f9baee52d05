package account

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Account is an open account. It is safe for use by several goroutines.
type Account struct {
	dir     string
	o       Options
	log     *slog.Logger
	now     func() time.Time
	secrets *secrets
	macKey  [32]byte
	name    string
	db      *database

	writing   sync.Mutex // held by the one transaction that writes
	committed []func()   // see onCommit
	stamped   int64      // see stamp; 0: not asked for yet
	waiting   struct {   // writes for the next one
		sync.Mutex
		list []*writeCall
		more chan struct{} // closed at the next one, if somebody waits for more
	}
	together              gathered      // how the last writes came; guarded by writing
	sending, sendingLarge chan struct{} // hold one element while the outbox is locked

	touched atomic.Uint32 // changes of the transaction that is being written
	changed struct {
		sync.Mutex
		waiting map[changes]chan struct{} // each closed at the next of its changes
	}

	watching     atomic.Bool   // a Sync that follows looks for what other processes change
	peersChanged atomic.Uint64 // how often peers changed that this process knows of

	bumped *sql.Tx // the last transaction that changed metaWatched; guarded by writing

	links   atomic.Int32 // sessions of a Sync that follows
	handed  sync.Map     // rows of mail that a node took, which is about to be written
	untried untried
	fresh   fresh

	mailFloor  int64         // mail up to that size is always taken in
	completing chan struct{} // holds one element while a large mail is completed
	completed  atomic.Int64  // how many mails were complete since the account was opened

	cache cache
}

// The keys of the table meta.
const (
	metaName     = "name"
	metaStamp    = "stamp"
	metaLastSync = "last sync"
	metaPeers    = "peers"   // changes with every change of contacts, passports and tag keys
	metaWatched  = "watched" // changes with the envelopes of which custody is watched
)

// Create makes an account in dir, which may exist and be empty: a master key for this
// device, a passport, and the files for both. name is how others see the user.
func Create(ctx context.Context, dir, name string, o Options) (*Account, error) {
	if err := checkName(name); err != nil {
		if e, ok := errors.AsType[*ContactError](err); ok {
			return nil, &NameError{Name: e.Name, Reason: e.Reason}
		}
		return nil, err
	}
	if o.Passphrase == "" && !o.NoPassphrase {
		return nil, ErrNeedPassphrase
	}
	if Exists(dir) {
		return nil, ErrExists
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the account's directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the account's directory: %w", err)
	}
	a := newAccount(dir, o)
	master, err := noise.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	own, _, err := passport.Create(nil, master, passport.TimeOf(a.now()))
	if err != nil {
		return nil, fmt.Errorf("make the passport: %w", err)
	}
	a.setSecrets(newSecrets(master, own.ID()))
	if err := a.createFiles(ctx, name, own, o); err != nil {
		return nil, err
	}
	return a, nil
}

// createFiles makes the database and then the key file: an account exists once its
// key file does.
func (a *Account) createFiles(ctx context.Context, name string, own *passport.Passport, o Options) (err error) {
	a.db, err = openDB(ctx, a.dir, a.secrets.database, true, a.touch)
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s holds a database without its key file: %w", filepath.Join(a.dir, databaseFile), ErrExists)
		}
		return err
	}
	defer func() {
		if err != nil {
			a.db.Close()
			for _, end := range []string{"", "-wal", "-shm"} {
				os.Remove(filepath.Join(a.dir, databaseFile+end))
			}
		}
	}()
	err = a.write(ctx, func(tx *sql.Tx) error {
		if err := setMeta(ctx, tx, metaName, []byte(name)); err != nil {
			return err
		}
		if err := makeFirstFolders(ctx, tx, a.now()); err != nil {
			return err
		}
		return putPassport(ctx, tx, own)
	})
	if err != nil {
		return fmt.Errorf("make the account: %w", err)
	}
	a.name = name
	return writeKeyFile(a.dir, a.secrets, o.Passphrase, o.NoPassphrase, workFactor)
}

// Open opens the account in dir.
func Open(ctx context.Context, dir string, o Options) (*Account, error) {
	s, err := readKeyFile(dir, o.Passphrase)
	if err != nil {
		return nil, err
	}
	a := newAccount(dir, o)
	a.setSecrets(s)
	a.db, err = openDB(ctx, dir, s.database, false, a.touch)
	if err != nil {
		return nil, err
	}
	name, err := getMeta(ctx, a.db, metaName)
	if err != nil {
		a.db.Close()
		return nil, fmt.Errorf("open the account: %w", err)
	}
	a.name = string(name)
	return a, nil
}

func newAccount(dir string, o Options) *Account {
	o.Passphrase = "" // needed for the key file only
	a := &Account{dir: dir, o: o, log: o.Log, now: o.Now, sending: make(chan struct{}, 1), sendingLarge: make(chan struct{}, 1), completing: make(chan struct{}, 1), mailFloor: defaultMailLimit}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.changed.waiting = make(map[changes]chan struct{})
	return a
}

func (a *Account) setSecrets(s *secrets) {
	a.secrets = s
	a.macKey = noise.H32([]byte("asmtp/2 account mac"), s.database[:])
}

// Close closes the account. No call may run or come after it.
func (a *Account) Close() error {
	if err := a.db.Close(); err != nil {
		return fmt.Errorf("close the account: %w", err)
	}
	return nil
}

// Name returns the user's own name.
func (a *Account) Name() string { return a.name }

// ID returns the id of the user's passport.
func (a *Account) ID() passport.ID { return a.secrets.passport }

// Key returns the public key of this device.
func (a *Account) Key() noise.PublicKey { return a.secrets.master.Public() }

// Overview returns what the account knows by itself; it asks nobody.
func (a *Account) Overview(ctx context.Context) (Overview, error) {
	o := Overview{Name: a.name, Passport: a.ID(), Key: a.Key()}
	var err error
	if o.Nodes, err = a.Nodes(ctx); err != nil {
		return o, err
	}
	if len(o.Nodes) > 0 {
		o.Node = o.Nodes[0].Node
	}
	if o.Forked, err = a.forked(ctx); err != nil {
		return o, err
	}
	if b, err := getMeta(ctx, a.db, metaLastSync); err != nil {
		return o, err
	} else if len(b) == 8 {
		o.LastSync = fromMillis(int64(binary.BigEndian.Uint64(b)))
	}
	err = a.db.QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM places p JOIN folders f ON f.n = p.folder WHERE f.name = 'INBOX' AND p.flags & 1 = 0),
		(SELECT count(*) FROM outgoing WHERE state = ?), (SELECT count(*) FROM outgoing WHERE state IN (?, ?)),
		(SELECT count(*) FROM kept)`, Queued, Accepted, Held).Scan(&o.Unread, &o.Queued, &o.OnTheWay, &o.Newer)
	return o, err
}

// NextStamp returns a stamp above every one before, durably: the node refuses one that
// it saw. It makes Account a source of stamps for the handshake.
func (a *Account) NextStamp() (uint64, error) {
	var stamp uint64
	ctx := context.Background()
	err := a.write(ctx, func(tx *sql.Tx) error {
		stamp = uint64(a.now().UnixNano())
		last, err := getMeta(ctx, tx, metaStamp)
		if err != nil {
			return err
		}
		if len(last) == 8 {
			stamp = max(stamp, binary.BigEndian.Uint64(last)+1)
		}
		return setMeta(ctx, tx, metaStamp, binary.BigEndian.AppendUint64(nil, stamp))
	})
	return stamp, err
}

// bumpPeers notes that contacts, passports or tag keys changed: whoever opens mail, in
// whatever process, then loads them anew.
func (a *Account) bumpPeers(ctx context.Context, tx *sql.Tx) error {
	a.touch(changedPeers)
	id := randomID()
	return setMeta(ctx, tx, metaPeers, id[:])
}

// bumpWatched notes that other envelopes are on their way: whoever watches custody, in
// whatever process, then lists them anew.
func (a *Account) bumpWatched(ctx context.Context, tx *sql.Tx) error {
	if a.bumped == tx { // of what is written together all is listed anew once
		return nil
	}
	a.bumped = tx
	id := randomID()
	return setMeta(ctx, tx, metaWatched, id[:])
}

func randomID() (id MailID) {
	rand.Read(id[:])
	return id
}
