package account

import (
	"bytes"
	"context"
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
)

// blocks is a file that counts how often each block was written.
type blocks struct {
	vfs.File
	b       []byte
	written map[int64]int
}

func (f *blocks) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func (f *blocks) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(f.b) {
		f.b = append(f.b, make([]byte, (end+walBlock-1)/walBlock*walBlock-len(f.b))...)
	}
	if off/walBlock != (off+int64(len(p))-1)/walBlock {
		return 0, errors.New("write across blocks")
	}
	f.written[off/walBlock]++
	return copy(f.b[off:], p), nil
}

func (f *blocks) Size() (int64, error) { return int64(len(f.b)), nil }

func (f *blocks) Truncate(size int64) error {
	f.b = f.b[:size]
	return nil
}

// Bytes are where they were written, and appending writes no block of a frame again.
func TestWALFileKeepsItsBlocksApart(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	f := &blocks{written: map[int64]int{}}
	w := &walFile{f}
	var want []byte
	put := func(n int) {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(random.Uint32())
		}
		if n, err := w.WriteAt(p, int64(len(want))); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		want = append(want, p...)
	}
	put(walHeader)
	for range 20 { // as SQLite writes frames
		put(walFrameHeader)
		if size, _ := w.Size(); size != int64(len(want)) {
			t.Fatalf("size %d, want %d", size, len(want))
		}
		put(walBlock)
	}
	if size, _ := w.Size(); size != int64(len(want)) {
		t.Fatalf("size %d, want %d", size, len(want))
	}
	for block, n := range f.written {
		if n > 1 {
			t.Errorf("block %d was written %d times", block, n)
		}
	}
	for range 1000 {
		off := random.IntN(len(want) + 100)
		p := make([]byte, 1+random.IntN(3*walFrame))
		n, err := w.ReadAt(p, int64(off))
		rest := want[min(off, len(want)):]
		if wantN := min(len(p), len(rest)); n != wantN || !bytes.Equal(p[:n], rest[:n]) || (n < len(p)) != (err == io.EOF) {
			t.Fatalf("read %d at %d: %d, %v", len(p), off, n, err)
		}
	}
	for _, frames := range []int64{7, 3, 0} {
		size := walHeader + frames*walFrame
		if err := w.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if got, _ := w.Size(); got != size {
			t.Fatalf("size %d after truncating to %d", got, size)
		}
	}
	if err := w.Truncate(0); err != nil || len(f.b) != 0 {
		t.Fatal(len(f.b), err)
	}
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
	db, err := driver.Open(fileURI(path) + "?vfs=" + name + "&hexkey=" + testHexKey +
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
	db, err := driver.Open(fileURI(filepath.Join(left, databaseFile)) + "?vfs=" + vfsName + "&hexkey=" + testHexKey)
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
	if err := os.WriteFile(path+"-wal", make([]byte, 3*walBlock), 0o600); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := walDB(t, path, vfsName).QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d rows, %v", n, err)
	}
}
