package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/passport"
)

// schema is the number of the format this package writes.
const schema = 2

// Errors of Open, and of reading one thing by its name.
var (
	// ErrNewer is wrapped when the store was written by a later program.
	ErrNewer = errors.New("store was written by a newer asmtpd")
	// ErrLocked is wrapped when another process has the store open.
	ErrLocked = errors.New("another asmtpd is running")
	// ErrNotFound is returned when there is no such thing.
	ErrNotFound = errors.New("not found")
	// ErrDiskFull is wrapped by a write that was refused since the disk is full. It was not
	// begun, and the next one is taken when there is room again.
	ErrDiskFull = errors.New("the disk is full")
	// ErrDamaged is wrapped when a record cannot be read.
	ErrDamaged = errors.New("damaged record")
)

// Options of a store; the zero value is ready for use.
type Options struct {
	Log    *slog.Logger     // nil: none
	Now    func() time.Time // nil: time.Now
	Random io.Reader        // nil: crypto/rand; for the generation of the mailboxes
	// HandleLimit is how many bytes that no device has acknowledged yet one handle
	// may bring into a mailbox; 0 means DefaultHandleLimit.
	HandleLimit int64
	// Quotas bound what is stored; 0 means DefaultSmallQuota and DefaultLargeQuota.
	Quotas Quotas
	// Members returns how many members the mesh has: the share of a neighbour in the
	// quotas depends on it. It is called by PutEnvelopes. nil: 1.
	Members func() int
	// DiskReserve is how many bytes the store leaves free on its disk: with less, no new
	// envelope is taken. 0 means an eighth of the disk, at least 16 MiB and at most 256.
	DiskReserve int64
	// Free returns how many bytes are free on the disk of the store. nil: the file system
	// is asked.
	Free func() (int64, error)
}

// DefaultHandleLimit is 256 MiB: what one contact can fill of a mailbox that nobody reads.
const DefaultHandleLimit = 256 << 20

// Store is a node's store. Its methods may be called concurrently.
type Store struct {
	dir         string
	db          *badger.DB
	log         *slog.Logger
	badgerLog   *badgerLog
	now         func() time.Time
	handleLimit int64
	quotas      Quotas
	members     func() int
	disk        disk
	generation  uint64

	// The committer's.
	ledger    ledger
	changes   changes // of the write that is being applied
	came      int     // writes that waited when the last batch was answered
	vlog, wal logFiles
	batchSize int64 // what the last transaction added to the tree of keys
	memtable  int64 // and about what the memtable got so far

	writes    chan *write
	committed chan struct{} // closed when the committer has ended
	failed    atomic.Pointer[error]

	mu     sync.Mutex // guards closed and users
	idle   *sync.Cond // signalled when users falls to 0
	users  int        // calls that use db or writes at this moment
	closed bool

	lastChange atomic.Uint64 // of a passport
	removed    atomic.Int64  // bytes of envelopes removed that Compact has not dealt with
	stamps     stampSource
	passports  passportCache
}

// Open opens the store in dir and makes it if it is not there.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		dir: dir, log: o.Log, badgerLog: &badgerLog{log: o.Log}, now: o.Now, handleLimit: o.HandleLimit,
		quotas: o.Quotas, members: o.Members,
		writes: make(chan *write, maxBatchWrites), committed: make(chan struct{}),
	}
	s.idle = sync.NewCond(&s.mu)
	err := s.disk.init(dir, o)
	if err == nil {
		err = s.disk.toOpen()
	}
	if err == nil {
		s.db, err = openUnlocked(badgerOptions(dir, s.badgerLog))
	}
	if errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("open store: %w on %s", err, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	go s.commitWrites()
	if err := s.start(o.Random); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

// openUnlocked opens a database; if another process has it, it gives that one a second to
// end. It returns ErrLocked if it does not.
//
// Even who closed it finds it locked for a moment if it was starting a program meanwhile: the
// new process has a copy of the lock until the program runs.
func openUnlocked(o badger.Options) (*badger.DB, error) {
	for end := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		db, err := badger.Open(o)
		// Badger keeps no error to compare with, only its text (dir_unix.go).
		if err == nil || !strings.Contains(err.Error(), "Cannot acquire directory lock") {
			return db, err
		}
		if time.Now().After(end) {
			return nil, ErrLocked
		}
	}
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.HandleLimit == 0 {
		o.HandleLimit = DefaultHandleLimit
	}
	o.Quotas = o.Quotas.withDefaults()
	if o.Members == nil {
		o.Members = func() int { return 1 }
	}
	return o
}

// start checks the schema of a store that is there, or sets up a new one, and reads
// what is kept in memory.
func (s *Store) start(random io.Reader) error {
	if err := s.followLogs(); err != nil {
		return err
	}
	s.measureTree()
	old := uint32(schema)
	err := s.update(context.Background(), func(t *tx) error {
		v, err := t.get(keySchema)
		if err != nil {
			return err
		}
		if v == nil {
			return s.create(t, random)
		}
		if len(v) != 4 {
			return fmt.Errorf("schema: %w", ErrDamaged)
		}
		if old = binary.BigEndian.Uint32(v); old < 1 || old > schema {
			return fmt.Errorf("%w: it has format %d, this program knows %d", ErrNewer, old, schema)
		}
		return nil
	})
	if err == nil && old == 1 {
		err = s.migrateFrom1()
	}
	if err != nil {
		return err
	}
	if err := s.estimateRemoved(); err != nil {
		return err
	}
	return s.view(func(txn *badger.Txn) error {
		if s.generation, err = getUint64(txn, keyGeneration); err != nil {
			return err
		}
		change, err := getUint64(txn, keyLastChange)
		if err != nil {
			return err
		}
		s.lastChange.Store(change)
		s.stamps.last, err = getUint64(txn, keyStamp)
		s.stamps.reserved = s.stamps.last
		if err != nil {
			return err
		}
		return s.ledger.load(txn)
	})
}

func (s *Store) create(t *tx, random io.Reader) error {
	generation, err := drawGeneration(random, 0)
	if err != nil {
		return err
	}
	t.set(keySchema, binary.BigEndian.AppendUint32(nil, schema))
	t.set(keyGeneration, be64(generation))
	return nil
}

// Close ends all writes that wait, and closes the store. Calls that come later, or
// from a callback that is still running, get ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	for s.users > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
	close(s.writes)
	<-s.committed
	s.vlog.close()
	s.wal.close()
	if !s.disk.toFlush() {
		// Badger would write its memtable out. Left as it is, the next Open reads its log.
		return fmt.Errorf("close store: %w: it is left as by a crash", ErrDiskFull)
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// enter keeps the store open until leave. Badger panics when it is read after Close.
func (s *Store) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.users++
	return true
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.idle.Broadcast()
	}
}

// view calls fn with one consistent state of the store.
func (s *Store) view(fn func(*badger.Txn) error) error {
	if !s.enter() {
		return ErrClosed
	}
	defer s.leave()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	return fn(txn)
}

// Generation names this life of the mailboxes. It is drawn when the store is made; the
// numbers of another generation mean nothing in this one.
func (s *Store) Generation() uint64 { return s.generation }

func (s *Store) clock() passport.Time { return passport.TimeOf(s.now()) }
