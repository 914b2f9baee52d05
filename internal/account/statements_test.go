package account

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

func statementsDB(t *testing.T) *sql.Conn {
	t.Helper()
	db, err := openDBFile(filepath.Join(t.TempDir(), databaseFile), "rwc", [32]byte{1}, func(changes) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func execute(t *testing.T, c *sql.Conn, query string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, c *sql.Conn, query string, args ...any) (n int) {
	t.Helper()
	if err := c.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A statement is kept when nobody uses it, also one that failed or was not read to its end,
// and there is one of each text.
func TestStatementsAreKept(t *testing.T) {
	c := statementsDB(t)
	execute(t, c, "CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
	for i := range 5 {
		execute(t, c, "INSERT INTO t VALUES (?, ?)", i, i*i)
		if _, err := c.ExecContext(t.Context(), "INSERT INTO t VALUES (?, ?)", i, 0); err == nil {
			t.Fatal("two rows have one key")
		}
		if n := number(t, c, "SELECT b FROM t WHERE a >= ? ORDER BY a", i); n != i*i {
			t.Errorf("row %d has %d", i, n)
		}
		var v sql.NullInt64
		if err := c.QueryRowContext(t.Context(), "SELECT ?1 + ?2", i, nil).Scan(&v); err != nil || v.Valid {
			t.Errorf("a value of an earlier use: %v, %v", v, err)
		}
	}
	err := c.Raw(func(conn any) error {
		if kept := conn.(*keepingConn).kept; len(kept) != 4 {
			t.Errorf("%d statements are kept, want 4", len(kept))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A statement that is being read may be used once more meanwhile.
func TestStatementIsUsedTwiceAtATime(t *testing.T) {
	c := statementsDB(t)
	execute(t, c, "CREATE TABLE t (a)")
	const query = "SELECT a FROM t WHERE a > ? ORDER BY a"
	for i := range 4 {
		execute(t, c, "INSERT INTO t VALUES (?)", i+1)
	}
	for range 2 {
		rows, err := c.QueryContext(t.Context(), query, 0)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for rows.Next() {
			var a int
			if err := rows.Scan(&a); err != nil {
				t.Fatal(err)
			}
			sum += a
			if a < 4 {
				if next := number(t, c, query, a); next != a+1 {
					t.Errorf("after %d comes %d", a, next)
				}
			}
		}
		if err := rows.Err(); err != nil || sum != 10 {
			t.Errorf("sum %d, %v", sum, err)
		}
		rows.Close()
	}
}

// No transaction, whether it reads or writes, makes SQLite plan a kept statement anew.
func TestKeptStatementsArePlannedOnce(t *testing.T) {
	c := statementsDB(t)
	execute(t, c, "CREATE TABLE t (a)")
	const query = "SELECT count(*) FROM t WHERE a = ?"
	for i := range 6 {
		tx, err := c.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: i%2 == 0})
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := tx.QueryRowContext(t.Context(), query, i).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if i < 3 {
			err = tx.Rollback()
		} else {
			err = tx.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err := c.Raw(func(conn any) error {
		s := conn.(*keepingConn).kept[query].sqliteStmt.(interface {
			Status(sqlite3.StmtStatus, bool) int
		})
		if n := s.Status(sqlite3.STMTSTATUS_REPREPARE, false); n != 0 {
			t.Errorf("planned anew %d times", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A kept statement sees a schema that has changed.
func TestKeptStatementsFollowTheSchema(t *testing.T) {
	c := statementsDB(t)
	execute(t, c, "CREATE TABLE t (a)")
	execute(t, c, "INSERT INTO t VALUES (?)", 1)
	const query = "SELECT a FROM t WHERE a = ?"
	if n := number(t, c, query, 1); n != 1 {
		t.Error(n)
	}
	execute(t, c, "ALTER TABLE t ADD COLUMN b")
	execute(t, c, "CREATE INDEX i ON t (a)")
	if n := number(t, c, query, 1); n != 1 {
		t.Error(n)
	}
	execute(t, c, "DROP TABLE t")
	var n int
	if err := c.QueryRowContext(t.Context(), query, 1).Scan(&n); err == nil {
		t.Error("the table is gone")
	}
}

// Not more statements are kept than there is room for, and closing a connection frees all.
func TestStatementsAreBounded(t *testing.T) {
	c := statementsDB(t)
	for i := range keptStatements + 10 {
		if n := number(t, c, fmt.Sprintf("SELECT ? + %d", i), 1); n != i+1 {
			t.Fatal(n)
		}
	}
	err := c.Raw(func(conn any) error {
		k := conn.(*keepingConn)
		if len(k.kept) != keptStatements {
			t.Errorf("%d are kept", len(k.kept))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Raw(func(any) error { return driver.ErrBadConn }) // the pool closes it
	if err := c.PingContext(context.Background()); err == nil {
		t.Error("the connection is still there")
	}
}
