package account

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/ncruces/go-sqlite3"
	sqlitedriver "github.com/ncruces/go-sqlite3/driver"
)

// keptStatements is how many statements a connection keeps that nobody uses: more than this
// package has.
const keptStatements = 256

// statements is a driver whose connections prepare a statement once, and keep it for whoever
// asks for the same text again. Preparing took a quarter of the processor time of sending a
// mail. SQLite prepares a kept statement anew by itself if the schema has changed; one that
// reads all columns by "*" would fail once, and there is none.
type statements struct {
	driver.Connector
	touch func(changes)             // told what a statement changes that is executed
	init  func(*sqlite3.Conn) error // of a new connection
}

// Connect implements driver.Connector.
func (s statements) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := c.(sqliteConn)
	if err := s.init(conn.Raw()); err != nil {
		conn.Close()
		return nil, err
	}
	return &keepingConn{sqliteConn: conn, touch: s.touch, kept: make(map[string]*keptStmt)}, nil
}

// sqliteConn is what the driver's connections can do.
type sqliteConn interface {
	sqlitedriver.Conn
	driver.ExecerContext
	driver.NamedValueChecker
}

// keepingConn is a connection with its kept statements, none of which is being used.
type keepingConn struct {
	sqliteConn
	touch func(changes)
	kept  map[string]*keptStmt
}

// ExecContext implements driver.ExecerContext, for several statements in one text. One alone
// is prepared and kept.
func (c *keepingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) > 0 || !strings.Contains(query, ";") {
		return nil, driver.ErrSkip
	}
	c.touch(changesOf(query))
	return c.sqliteConn.ExecContext(ctx, query, args)
}

// BeginTx implements driver.ConnBeginTx. Who only reads is trusted to: the pragma that the
// driver would set makes SQLite forget how it runs every statement of the connection.
func (c *keepingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	query := "BEGIN IMMEDIATE"
	if opts.ReadOnly {
		query = "BEGIN"
	}
	if err := c.run(ctx, query); err != nil {
		return nil, err
	}
	return keptTx{c}, nil
}

// run executes a statement that is kept.
func (c *keepingConn) run(ctx context.Context, query string) error {
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return err
	}
	_, err = s.(*keptStmt).sqliteStmt.ExecContext(ctx, nil) // it changes no table
	return errors.Join(err, s.Close())
}

// keptTx is a transaction of a connection.
type keptTx struct{ c *keepingConn }

// Commit implements driver.Tx.
func (t keptTx) Commit() error {
	err := t.c.run(context.Background(), "COMMIT")
	if err != nil && !t.c.Raw().GetAutocommit() {
		t.Rollback()
	}
	return err
}

// Rollback implements driver.Tx.
func (t keptTx) Rollback() error { return t.c.run(context.Background(), "ROLLBACK") }

// PrepareContext implements driver.ConnPrepareContext.
func (c *keepingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if s := c.kept[query]; s != nil {
		delete(c.kept, query) // it may be asked for again before this one is closed
		return s, nil
	}
	s, err := c.sqliteConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &keptStmt{sqliteStmt: s.(sqliteStmt), c: c, query: query, changes: changesOf(query)}, nil
}

// Close implements driver.Conn.
func (c *keepingConn) Close() error {
	var err error
	for _, s := range c.kept {
		err = errors.Join(err, s.sqliteStmt.Close())
	}
	c.kept = nil
	return errors.Join(err, c.sqliteConn.Close())
}

// sqliteStmt is what the driver's statements can do.
type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
}

type keptStmt struct {
	sqliteStmt
	c       *keepingConn
	query   string
	changes changes
}

// ExecContext implements driver.StmtExecContext.
func (s *keptStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.c.touch(s.changes)
	return s.sqliteStmt.ExecContext(ctx, args)
}

// Close implements driver.Stmt. The driver resets a statement and forgets its values when it
// was executed, or its rows are closed.
func (s *keptStmt) Close() error {
	if s.c.kept == nil || s.c.kept[s.query] != nil || len(s.c.kept) >= keptStatements {
		return s.sqliteStmt.Close()
	}
	s.c.kept[s.query] = s
	return nil
}
