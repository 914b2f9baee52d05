package account

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/vfs"
	"lukechampine.com/adiantum"
)

// logFile is a file in memory that notes what is written.
type logFile struct {
	vfs.File
	b      []byte
	writes [][2]int64 // from, to
}

func (f *logFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func (f *logFile) WriteAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if end > int64(len(f.b)) {
		f.b = append(f.b, make([]byte, end-int64(len(f.b)))...)
	}
	f.writes = append(f.writes, [2]int64{off, end})
	return copy(f.b[off:], p), nil
}

func (f *logFile) Sync(vfs.SyncFlag) error { return nil }

func (f *logFile) Size() (int64, error) { return int64(len(f.b)), nil }

func (f *logFile) Truncate(size int64) error {
	f.b = f.b[:size]
	return nil
}

// logWriter writes a log as SQLite does, and knows what must be in it.
type logWriter struct {
	t      *testing.T
	random *rand.Rand
	w      *walFile
	want   []byte
	frames int64 // that are committed
}

func (l *logWriter) write(p []byte, off int64) {
	l.t.Helper()
	if n, err := l.w.WriteAt(p, off); n != len(p) || err != nil {
		l.t.Fatal(n, err)
	}
	if end := off + int64(len(p)); end > int64(len(l.want)) {
		l.want = append(l.want, make([]byte, end-int64(len(l.want)))...)
	}
	copy(l.want[off:], p)
}

func (l *logWriter) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(l.random.Uint32())
	}
	return p
}

// transaction writes frames; the last says that it is, if commit is set.
func (l *logWriter) transaction(frames int64, commit bool) {
	l.t.Helper()
	for i := range frames {
		h := l.bytes(walFrameHeader)
		binary.BigEndian.PutUint32(h[4:], 0)
		if commit && i == frames-1 {
			binary.BigEndian.PutUint32(h[4:], 7)
		}
		at := walHeader + (l.frames+i)*walFrame
		l.write(h, at)
		l.write(l.bytes(walPage), at+walFrameHeader)
	}
	if commit {
		l.frames += frames
	}
}

// others checks what another connection sees of what was committed.
func (l *logWriter) others(f *logFile) {
	l.t.Helper()
	end := walHeader + l.frames*walFrame
	got := make([]byte, end)
	other := &walFile{File: f, cipher: adiantum.New(make([]byte, 32))}
	if n, err := other.ReadAt(got, 0); n != len(got) || err != nil {
		l.t.Fatal(n, err)
	}
	if !bytes.Equal(got, l.want[:end]) {
		l.t.Fatal("another connection sees what was not written")
	}
}

func newLogWriter(t *testing.T, f *logFile) *logWriter {
	l := &logWriter{t: t, random: rand.New(rand.NewPCG(1, 2)), w: &walFile{File: f, cipher: adiantum.New(make([]byte, 32))}}
	l.write(l.bytes(walHeader), 0)
	return l
}

// A frame is one write, which is in the file before anybody is told of it, and none that was
// committed is written again.
func TestLogWritesFramesWhole(t *testing.T) {
	f := &logFile{}
	l := newLogWriter(t, f)
	for range 20 {
		f.writes = nil
		end := walHeader + l.frames*walFrame
		l.transaction(1+l.random.Int64N(30), true)
		for _, w := range f.writes {
			if w != [2]int64{end, end + walFrame} {
				t.Fatalf("wrote %d, want the frame at %d", w, end)
			}
			end += walFrame
		}
		if end != walHeader+l.frames*walFrame {
			t.Fatalf("frames are written up to %d of %d", end, walHeader+l.frames*walFrame)
		}
		l.others(f)
	}
	if bytes.Contains(f.b, l.want[walHeader+walFrameHeader:][:32]) {
		t.Error("a page is in the log in clear")
	}
}

// Whatever SQLite does between commits: transactions that are taken back, changed before
// they are committed, read while they are written, or written after another process wrote
// its own.
func TestLogHoldsWhatWasWritten(t *testing.T) {
	f := &logFile{}
	l := newLogWriter(t, f)
	for range 300 {
		switch l.random.IntN(8) {
		case 0:
			l.transaction(100+l.random.Int64N(100), true)
		case 1:
			l.transaction(1+l.random.Int64N(100), false) // is taken back
		case 2:
			frames := 2 + l.random.Int64N(90)
			l.transaction(frames, false)
			for range 5 { // pages that changed again, and the checksums behind them
				at := walHeader + (l.frames+l.random.Int64N(frames))*walFrame
				l.write(l.bytes(walPage), at+walFrameHeader)
				l.write(l.bytes(walFrameHeader), at)
			}
			last := walHeader + (l.frames+frames-1)*walFrame
			l.write(l.bytes(walFrameHeader), last)
			l.frames += frames
		case 3: // another process
			mine := l.w
			l.w = &walFile{File: f, cipher: adiantum.New(make([]byte, 32))}
			l.transaction(1+l.random.Int64N(5), true)
			l.w = mine
		case 4: // the log begins anew
			l.frames = 0
			l.write(l.bytes(walHeader), 0)
		case 5:
			off := l.random.IntN(len(l.want) + 100)
			p := make([]byte, 1+l.random.IntN(3*walFrame))
			n, err := l.w.ReadAt(p, int64(off))
			rest := l.want[min(off, len(l.want)):]
			if wantN := min(len(p), len(rest)); n != wantN || !bytes.Equal(p[:n], rest[:n]) || (n < len(p)) != (err == io.EOF) {
				t.Fatalf("read %d at %d: %d, %v", len(p), off, n, err)
			}
		default:
			l.transaction(1+l.random.Int64N(5), true)
		}
		l.others(f)
	}
}

// What cannot be written is not there later either.
func TestLogThatCannotBeWritten(t *testing.T) {
	f := &fullFile{}
	l := newLogWriter(t, &f.logFile)
	l.transaction(3, true)
	l.w.File, f.full = f, true
	if _, err := l.w.WriteAt(make([]byte, walFrame), walHeader+3*walFrame); !errors.Is(err, errFull) {
		t.Fatalf("write: %v", err)
	}
	if err := l.w.Sync(vfs.SYNC_FULL); err != nil {
		t.Fatalf("sync: %v", err)
	}
	f.full = false
	l.transaction(2, true) // where the failed one was
	l.others(&f.logFile)
}

var errFull = errors.New("full")

type fullFile struct {
	logFile
	full bool
}

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	if f.full {
		return 0, errFull
	}
	return f.logFile.WriteAt(p, off)
}

// Who reads while others write sees what was committed. With frames across the blocks of
// the encryption one read in some thousands finds noise: no row, or a broken database.
func TestReadersSeeNoHalfWrittenBlock(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), databaseFile)
	writer := walDB(t, path, vfsName)
	if _, err := writer.ExecContext(ctx, "CREATE TABLE t (k INTEGER PRIMARY KEY, v BLOB); INSERT INTO t VALUES (1, zeroblob(3000)), (2, zeroblob(3000))"); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	var done atomic.Bool
	for range 3 {
		db := walDB(t, path, vfsName)
		readers.Go(func() {
			for !done.Load() {
				length := 0
				if err := db.QueryRowContext(ctx, "SELECT length(v) FROM t WHERE k = 2").Scan(&length); err != nil || length < 3000 {
					t.Errorf("read %d bytes: %v", length, err)
					return
				}
			}
		})
	}
	value := make([]byte, 3001)
	for i := range 20000 {
		if _, err := writer.ExecContext(ctx, "UPDATE t SET v = ? WHERE k = 2", value[:3000+i%2]); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
	}
	done.Store(true)
	readers.Wait()
	result := ""
	if err := writer.QueryRowContext(ctx, "PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		t.Error(result, err)
	}
}

func walDB(t *testing.T, path, name string) querier {
	t.Helper()
	db, err := driver.Open(fileURI(path) + "?vfs=" + name + "&_pragma=hexkey('" + testHexKey + "')" +
		"&_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

const testHexKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// The log of a build that had frames across blocks is not taken for an empty one.
func TestLogOfOtherLayoutIsRefused(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), databaseFile)
	old := walDB(t, path, "adiantum")
	if _, err := old.ExecContext(ctx, "CREATE TABLE t (v); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	left := t.TempDir() // as after a kill: the log was not copied into the database
	for _, end := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + end)
		if err == nil {
			err = os.WriteFile(filepath.Join(left, databaseFile+end), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := driver.Open(fileURI(filepath.Join(left, databaseFile)) + "?vfs=" + vfsName + "&_pragma=hexkey('" + testHexKey + "')")
	if err == nil {
		defer db.Close()
		var n int
		err = db.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&n)
	}
	if err == nil || !strings.Contains(hideKey(err).Error(), "earlier build") {
		t.Fatalf("opened with %v", err)
	}
}

// A log whose header never came to the disk when the power failed, though its length did, is
// an empty one: nothing that was in it was promised.
func TestLogOfZeroesIsEmpty(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), databaseFile)
	first := walDB(t, path, vfsName)
	if _, err := first.ExecContext(ctx, "CREATE TABLE t (v); INSERT INTO t VALUES (1); PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		t.Fatal(err)
	}
	first.(io.Closer).Close()
	if err := os.WriteFile(path+"-wal", make([]byte, 3*4096), 0o600); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := walDB(t, path, vfsName).QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d rows, %v", n, err)
	}
}
