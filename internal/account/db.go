package account

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/ext/fts5"
)

// maxReaders is how many connections read at a time.
const maxReaders = 5

// database is an account's database: connections to read, and one that writes. Of the pages
// that it knows it keeps those that it changed itself, while every commit makes the others
// read all anew.
type database struct {
	*sql.DB
	writer *sql.DB
}

// Close closes all connections.
func (d *database) Close() error { return errors.Join(d.writer.Close(), d.DB.Close()) }

// openDB opens the database, and makes it if create is set. Transactions begin with
// BEGIN IMMEDIATE, so that two writers wait for each other at the beginning and never
// fail in the middle; synchronous=full makes a commit durable in WAL mode.
func openDB(ctx context.Context, dir string, key [32]byte, create bool, touch func(changes)) (*database, error) {
	path, err := filepath.Abs(filepath.Join(dir, databaseFile)) // in a URI there are no relative paths
	if err != nil {
		return nil, err
	}
	mode := "rw"
	if create {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("make the database: %w", err)
		}
		f.Close()
	}
	db := new(database)
	if db.DB, err = openDBFile(path, mode, key, touch); err != nil {
		return nil, err
	}
	if db.writer, err = openDBFile(path, mode, key, touch); err != nil {
		db.DB.Close()
		return nil, err
	}
	db.SetMaxOpenConns(maxReaders)
	db.SetMaxIdleConns(maxReaders) // to open one costs as much as many uses of it
	db.writer.SetMaxOpenConns(1)
	if err := prepareSchema(ctx, db.DB, path, create); err != nil {
		db.Close()
		return nil, err
	}
	// The VFS makes these with the mode that the umask leaves.
	for _, end := range []string{"-wal", "-shm"} {
		if err := os.Chmod(path+end, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
			db.Close()
			return nil, fmt.Errorf("open the database: %w", err)
		}
	}
	return db, nil
}

// openDBFile opens a database without looking at what is in it. touch is told what its
// statements change.
func openDBFile(path, mode string, key [32]byte, touch func(changes)) (*sql.DB, error) {
	pragmas := "PRAGMA hexkey='" + hex.EncodeToString(key[:]) + `';
		PRAGMA busy_timeout=60000; PRAGMA temp_store=memory; PRAGMA journal_mode=wal;
		PRAGMA synchronous=` + synchronous + `; PRAGMA foreign_keys=on; PRAGMA secure_delete=fast`
	connector, err := new(driver.SQLite).OpenConnector(fileURI(path) + "?vfs=" + vfsName + "&mode=" + mode)
	if err != nil {
		return nil, hideKey(err)
	}
	return sql.OpenDB(statements{connector, touch, func(c *sqlite3.Conn) error {
		if err := c.Exec(pragmas); err != nil {
			return hideKey(err)
		}
		return fts5.Register(c)
	}}), nil
}

// fileURI returns the URI of a path, with what has a meaning in URIs escaped.
func fileURI(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a Windows drive
	}
	return "file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}

// hideKey takes the statement, which holds the key, out of an error.
func hideKey(err error) error {
	if errors.Is(err, sqlite3.CANTOPEN) {
		return errors.New("open the database: it cannot be opened; if an earlier build was killed, its -wal file is to be settled by running any command of that build")
	}
	if e, ok := errors.AsType[*sqlite3.Error](err); ok {
		if e.Code() == sqlite3.NOTADB {
			return fmt.Errorf("open the database: it is broken or of another account")
		}
		return fmt.Errorf("open the database: %w", e.ExtendedCode())
	}
	if strings.Contains(err.Error(), "hexkey") {
		return errors.New("open the database: failed")
	}
	return fmt.Errorf("open the database: %w", err)
}

func prepareSchema(ctx context.Context, db *sql.DB, path string, create bool) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return hideKey(err)
	}
	switch {
	case version == schemaVersion:
		return nil
	case version > schemaVersion:
		return fmt.Errorf("%w (database version %d, this program knows %d)", ErrNewerAccount, version, schemaVersion)
	case version > 0 && !create:
		return migrate(ctx, db, path)
	case !create:
		return fmt.Errorf("open the database: it is incomplete (version %d)", version)
	}
	return inTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return fmt.Errorf("make the database: %w", err)
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version=%d", schemaVersion))
		return err
	})
}

func inTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer tx.Rollback() // does nothing after Commit
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("database: commit: %w", err)
	}
	return nil
}

// querier is a database or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// each calls fn for every row; fn scans what it wants.
func each(ctx context.Context, q querier, query string, args []any, fn func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// into scans a blob of exactly the length of dst; NULL is all zeros.
type into struct{ dst []byte }

// Scan implements sql.Scanner.
func (i into) Scan(v any) error {
	clear(i.dst)
	switch b := v.(type) {
	case nil:
		return nil
	case []byte:
		if len(b) != len(i.dst) {
			return fmt.Errorf("want %d bytes, got %d: %w", len(i.dst), len(b), ErrTampered)
		}
		copy(i.dst, b)
		return nil
	}
	return fmt.Errorf("want bytes: %w", ErrTampered)
}

func getMeta(ctx context.Context, q querier, key string) ([]byte, error) {
	var v []byte
	err := q.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = ?", key).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return v, err
}

func setMeta(ctx context.Context, q querier, key string, value []byte) error {
	_, err := q.ExecContext(ctx, "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
	return err
}

func millis(t time.Time) int64      { return t.UnixMilli() }
func fromMillis(ms int64) time.Time { return time.UnixMilli(ms) }
