package store

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// valueThreshold is the length from which Badger keeps a value in its value log rather
// than in the tree: every envelope. With envelopes in the tree the store was half as
// fast, and compacting them took several hundred MiB of memory while 400 MiB came in
// at once; with the log that took 13 MiB. The price is that garbage has to be collected,
// see Compact.
const valueThreshold = 1 << 10

// memTableSize also bounds a transaction: 15 % of it, not counting what goes to the value
// log. Two memtables are allocated as soon as they are used.
const memTableSize = 4 << 20

// vlogSize is the length of a file of the value log: only whole files give room back, and
// a small disk must not be taken up by a few of them.
func vlogSize(dir string) int64 {
	const large, small, smallDisk = 64 << 20, 16 << 20, 2 << 30
	if _, size, err := diskSpace(dir); err == nil && size < smallDisk {
		return small
	}
	return large
}

// badgerOptions are sized for a node that must idle in a few MiB on a small board.
//
// SyncWrites, and not db.Sync after each batch, for two reasons found in the source of
// v4.9.6. db.Sync syncs the newest value log file and the newest memtable alone: what
// went to a file that was completed meanwhile, by our own batch or by the collection of
// garbage, would be acknowledged without being synced (value.go, toDisk; db.go,
// ensureRoomForWrite). And with SyncWrites the value log is synced before the pointers
// to it are written. It costs a second sync per batch.
//
// Without compression Badger reads blocks and indices from the mapped files, so both
// caches can be off; their memory is the page cache's to take back.
// DetectConflicts is off since there is a single writer, the committer.
func badgerOptions(dir string, log *badgerLog) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(syncWrites).
		WithDetectConflicts(false).
		WithLogger(log).
		WithMetricsEnabled(false).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMemTableSize(memTableSize).
		WithNumMemtables(2).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(vlogSize(dir)).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(4).
		WithBaseTableSize(2 << 20).
		WithBaseLevelSize(8 << 20).
		WithNumCompactors(2)
}

// badgerLog hands Badger's log on, and remembers the one failure that Badger reports
// nowhere else: valueLog.write only logs it when syncing the value log fails, and
// would let us acknowledge what is not on the disk.
type badgerLog struct {
	log        *slog.Logger
	syncFailed atomic.Bool
}

func (l *badgerLog) Errorf(format string, args ...any) {
	if strings.Contains(format, "curlf sync") {
		l.syncFailed.Store(true)
	}
	l.log.Error("badger: " + line(format, args))
}

func (l *badgerLog) Warningf(format string, args ...any) { l.log.Warn("badger: " + line(format, args)) }

// Infof is for debugging: opening alone says ten lines.
func (l *badgerLog) Infof(format string, args ...any)  { l.log.Debug("badger: " + line(format, args)) }
func (l *badgerLog) Debugf(format string, args ...any) {}

func line(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}
