package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// Badger writes its logs and tables into mapped files. If the disk is full then, the
// kernel answers not with an error but with SIGBUS, which ends the process. So the store
// looks at the free space before each transaction, and stops early enough that all that
// Badger does in the background until it comes to rest still finds room: what need says,
// which was measured.
//
// Another program may take all the rest at any moment. Against that the two logs are
// allocated ahead (prealloc_linux.go), so that what makes room can be written for a while;
// and when a memtable has to be written out for it, or garbage moved, and there is no room, a
// ballast file is given up. It is not given up earlier: the other program would take that too.
//
// What remains is a program that takes the whole reserve while tables are being rewritten,
// which lasts a second if it keeps the disk busy too. Then the process ends as by a power
// failure: nothing that was acknowledged is lost, and the ballast is there for the next
// start. With writers at full speed on 1 GB it happened in two of twenty tries.
const (
	mib = 1 << 20

	flushRoom   = 12 * mib // two memtables as tables, and what is open of logs
	maxNeed     = 80 * mib // two compactions of tables of the lower levels
	margin      = 8 * mib
	minReserve  = 16 * mib
	maxReserve  = 256 * mib
	minBallast  = 16 * mib
	maxBallast  = 64 * mib
	openRoom    = 10 * mib // what opening needs
	ballastName = "ballast"
)

// room is how much may still be written.
type room int

const (
	roomToEnd  room = iota // what makes room, and small records that nothing works without
	roomToWork             // all but new envelopes
	roomy
)

// Space says how it stands with the disk.
type Space struct {
	Free    int64 // bytes that are free
	Reserve int64 // with less, new envelopes are refused
	Floor   int64 // with less, all is refused that is not needed to make room
}

// Space returns what is free on the disk of the store, and what is kept free.
func (s *Store) Space() (Space, error) {
	d := &s.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	free, err := d.free()
	if err != nil {
		return Space{}, fmt.Errorf("free space of the store: %w", err)
	}
	return Space{Free: free, Reserve: d.reserve(), Floor: d.need()}, nil
}

// disk watches the free space.
type disk struct {
	dir  string
	log  *slog.Logger
	free func() (int64, error)
	want int64 // the reserve that the operator wants

	mu      sync.Mutex // guards the rest
	ballast int64      // size it should have
	held    int64      // size it has
	tree    int64      // bytes of Badger's tables
	written int64      // since tree was measured
	last    room       // what the last check found
}

// init measures the disk of dir, which must exist.
func (d *disk) init(dir string, o Options) error {
	d.dir, d.log, d.want, d.free, d.last = dir, o.Log, o.DiskReserve, o.Free, roomy
	_, size, err := diskSpace(dir)
	if err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	if d.want == 0 {
		d.want = min(max(size/8, minReserve), maxReserve)
	}
	if d.free == nil {
		d.free = func() (int64, error) {
			free, _, err := diskSpace(dir)
			return free, err
		}
		if !inMemory(dir) {
			d.ballast = min(max(size/8, minBallast), maxBallast)
		}
	}
	if _, err := os.Stat(d.path()); err == nil { // perhaps a copy, with a hole for it
		d.hold()
	}
	return nil
}

func (d *disk) path() string { return filepath.Join(d.dir, ballastName) }

// need is what the background work needs that the next writes may set off.
func (d *disk) need() int64 { return min(flushRoom+d.tree/2, maxNeed) }

func (d *disk) reserve() int64 { return max(d.want, d.need()+margin) }

// toOpen makes sure that there is room to open the database, which writes before it can be
// asked for anything.
func (d *disk) toOpen() error {
	free, err := d.free()
	if err != nil {
		return err
	}
	if free >= openRoom {
		return nil
	}
	if free = d.giveUp(free); free < openRoom {
		return fmt.Errorf("%w: %d MiB are free, opening the store needs %d", ErrDiskFull, free/mib, openRoom/mib)
	}
	return nil
}

// check says what may be written now if so many bytes are allocated for it first, and takes
// the ballast back when there is room for it.
func (d *disk) check(ahead int64) room {
	d.mu.Lock()
	defer d.mu.Unlock()
	free, err := d.free()
	if err != nil {
		d.log.Error("store: free space is not known", "err", err)
		return roomToEnd
	}
	free -= ahead
	if d.held == 0 && d.ballast > 0 && free >= d.reserve()+d.ballast && d.hold() {
		free -= d.held
	}
	r := roomy
	switch {
	case free < d.need():
		r = roomToEnd
	case free < d.reserve():
		r = roomToWork
	}
	if r != d.last {
		d.log.Warn("store: "+roomNames[r], "free", free+ahead, "reserve", d.reserve())
		d.last = r
	}
	return r
}

// toFlush says whether there is room to write a memtable out. If not it gives up the
// ballast.
func (d *disk) toFlush() bool { return d.toMake(flushRoom) >= flushRoom/2 }

// toCollect says whether there is room to collect a file of the value log of which so much
// may have to be moved, while memtables are written out. If not it gives up the ballast.
func (d *disk) toCollect(moved int64) bool {
	want := moved + batchAhead + aheadStep + flushRoom/2
	return d.toMake(want) >= want
}

// toMake returns what is free for making room, after giving up the ballast if that is less
// than is wanted.
func (d *disk) toMake(want int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	free, err := d.free()
	if err != nil {
		return 0
	}
	if free < want {
		free = d.giveUp(free)
	}
	return free
}

// giveUp gives up the ballast and returns what is free then.
func (d *disk) giveUp(free int64) int64 {
	if d.held == 0 {
		return free
	}
	d.log.Warn("store: gives up its ballast to make room", "free", free, "ballast", d.held)
	d.release()
	if now, err := d.free(); err == nil {
		return now
	}
	return free
}

var roomNames = [...]string{
	roomToEnd:  "the disk is full, all is refused that makes no room",
	roomToWork: "the disk is nearly full, new envelopes are refused",
	roomy:      "the disk has room again",
}

// release gives the ballast to the file system.
func (d *disk) release() {
	if err := os.Remove(d.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("store: cannot give up the ballast", "err", err)
		return
	}
	d.held = 0
}

// hold makes the ballast. Where files cannot be allocated there is none.
func (d *disk) hold() bool {
	f, err := os.OpenFile(d.path(), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(allocate(f, 0, d.ballast), f.Close())
	}
	if err != nil {
		os.Remove(d.path())
		d.ballast = 0
		d.log.Debug("store: no ballast", "err", err)
		return false
	}
	d.held = d.ballast
	return true
}

// remeasure is after how much writing to Badger's tree its size is looked up again.
const remeasure = 1 * mib

// room prepares for the next transaction and says what it may write.
func (s *Store) room() room {
	if s.disk.written += s.batchSize; s.disk.written >= remeasure {
		s.disk.written = 0
		s.measureTree()
	}
	s.memtable += s.batchSize
	s.batchSize = 0
	var ahead int64
	for _, l := range []*logFiles{&s.vlog, &s.wal} {
		missing, err := s.missing(l, batchAhead)
		if err != nil {
			s.log.Error("store: its logs cannot be looked at", "err", err)
			return roomToEnd
		}
		ahead += missing
	}
	r := s.disk.check(ahead)
	if r == roomToEnd {
		return r
	}
	for _, l := range []*logFiles{&s.vlog, &s.wal} {
		if err := l.ahead(batchAhead); err != nil {
			s.log.Warn("store: no room for the next transaction", "err", err)
			return roomToEnd
		}
	}
	return r
}

// missing returns how much of a log is to be allocated, and notes when it is that of another
// memtable.
func (s *Store) missing(l *logFiles, bytes int64) (int64, error) {
	missing, turned, err := l.missing(bytes)
	if turned && l == &s.wal {
		s.memtable = 0
	}
	return missing, err
}

// roomToEnd says whether what makes room can be written: while the memtable and its log,
// which is allocated, are not full, no more blocks are needed. Nothing is written where
// nothing is allocated, for what is free now may be taken by a memtable that is being
// written out.
func (s *Store) roomToEnd() bool {
	if s.walAhead() && !s.wal.off && s.memtable < memTableSize*5/8 {
		return true
	}
	return s.disk.toFlush() && s.walAhead()
}

// walAhead allocates what small records need of the memtable's log, if that can be done.
func (s *Store) walAhead() bool {
	_, err := s.missing(&s.wal, mib)
	return err == nil && s.wal.ahead(mib) == nil
}

func (s *Store) measureTree() { s.disk.measure(s.db) }

// measure looks up how large Badger's tables are.
func (d *disk) measure(db *badger.DB) {
	var tree int64
	for _, l := range db.Levels() {
		tree += l.Size
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tree = tree
}

func (d *disk) treeSize() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tree
}

// followLogs finds the logs of an opened database.
func (s *Store) followLogs() error {
	for _, l := range []struct {
		files   *logFiles
		pattern string
	}{{&s.vlog, "*.vlog"}, {&s.wal, "*.mem"}} {
		names, err := filepath.Glob(filepath.Join(s.dir, l.pattern))
		if err != nil || len(names) == 0 {
			return err
		}
		if _, err := fmt.Sscanf(filepath.Base(slices.Max(names)), "%d", &l.files.next); err != nil {
			return fmt.Errorf("number of %s: %w", slices.Max(names), err)
		}
	}
	s.vlog.dir, s.vlog.name = s.dir, "%06d.vlog"
	s.wal.dir, s.wal.name = s.dir, "%05d.mem"
	s.vlog.off = s.disk.ballast == 0
	s.wal.off = s.vlog.off
	return nil
}
