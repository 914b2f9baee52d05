package account

import (
	"context"
	"database/sql/driver"
	"errors"

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
	init func(*sqlite3.Conn) error // of a new connection
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
	return &keepingConn{sqliteConn: conn, kept: make(map[string]driver.Stmt)}, nil
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
	kept map[string]driver.Stmt
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *keepingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s := c.kept[query]
	if s != nil {
		delete(c.kept, query) // it may be asked for again before this one is closed
	} else {
		var err error
		if s, err = c.sqliteConn.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
	}
	return &keptStmt{sqliteStmt: s.(sqliteStmt), c: c, query: query}, nil
}

// Close implements driver.Conn.
func (c *keepingConn) Close() error {
	var err error
	for _, s := range c.kept {
		err = errors.Join(err, s.Close())
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
	c     *keepingConn
	query string
}

// Close implements driver.Stmt. The driver resets a statement and forgets its values when it
// was executed, or its rows are closed.
func (s *keptStmt) Close() error {
	if s.c.kept == nil || s.c.kept[s.query] != nil || len(s.c.kept) >= keptStatements {
		return s.sqliteStmt.Close()
	}
	s.c.kept[s.query] = s.sqliteStmt
	return nil
}
