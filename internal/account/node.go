package account

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/mesh"
)

// dial connects with a node and asks for its status.
func (x *exchange) dial(ctx context.Context, n Node) (*session, error) {
	s := &session{a: x.a, node: n, x: x}
	s.progress(Progress{Step: "connecting"})
	began := time.Now()
	c, err := clientapi.Dial(ctx, n.Address, n.Key, x.a.secrets.master, x.a)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.Key.Short(), err)
	}
	s.c = c
	if err := s.greet(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("node %s: %w", n.Key.Short(), err)
	}
	s.took = time.Since(began)
	s.progress(Progress{Step: "connected"})
	return s, nil
}

// greet asks for the status and keeps what it says.
func (s *session) greet(ctx context.Context) error {
	status, err := s.c.Status(ctx)
	if err != nil {
		return err
	}
	s.status, s.generation = *status, status.Generation
	s.off = status.Time.Sub(s.a.now()).Round(time.Second)
	var known string
	var mail, retention int64
	err = s.a.db.QueryRowContext(ctx, "SELECT address, mail_limit, retention FROM nodes WHERE key = ?", s.node.Key[:]).Scan(&known, &mail, &retention)
	if err == nil && known == s.node.Address && mail == int64(status.MailLimit) && retention == int64(status.Retention/time.Second) {
		return nil
	}
	return s.a.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO nodes (key, address) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET address = excluded.address", s.node.Key[:], s.node.Address); err != nil {
			return err
		}
		return s.a.saveLimits(ctx, tx, s.node.Key, int64(status.MailLimit), status.Retention)
	})
}

func (s *session) nodeStatus() NodeStatus {
	return NodeStatus{Node: s.node, Took: s.took, Off: s.off, Version: s.status.Version, Peers: s.status.Peers, Members: s.status.Members,
		Retention: s.status.Retention, MailLimit: int64(s.status.MailLimit), Clock: s.status.Time, Mesh: s.status.Mesh}
}

// Connect tries the node, publishes the passport and the tag keys there, takes the
// passports that it knows, and keeps it as the last of the account's nodes, or in its
// place if it is one already.
func (a *Account) Connect(ctx context.Context, n Node) (NodeStatus, error) {
	s, err := newExchange(a, SyncOptions{}).dial(ctx, n)
	if err != nil {
		return NodeStatus{}, err
	}
	defer s.c.Close()
	if err := s.prepare(ctx); err != nil {
		return NodeStatus{}, fmt.Errorf("node %s: %w", n.Key.Short(), err)
	}
	err = a.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE nodes SET problem = '', position = coalesce(position, (SELECT coalesce(max(position), 0) + 1 FROM nodes)) WHERE key = ?`, n.Key[:])
		return err
	})
	return s.nodeStatus(), err
}

// Redeem uses a line of `asmtpd user invite`: the node admits this device. It returns
// the node for [Account.Connect].
func (a *Account) Redeem(ctx context.Context, line *mesh.Line) (Node, error) {
	address, err := clientapi.Redeem(ctx, line, a.secrets.master, a)
	if err != nil {
		return Node{}, fmt.Errorf("use the invitation: %w", err)
	}
	return Node{Address: address, Key: line.Node}, nil
}

// publish gives the node the own passport, unless it has its newest block.
func (s *session) publish(ctx context.Context) error {
	own, err := s.a.self(ctx, s.a.db)
	if err != nil {
		return err
	}
	tip := own.Tip()
	mark := append(binary.BigEndian.AppendUint64(nil, s.generation), tip[:]...)
	var published []byte
	if err := s.a.db.QueryRowContext(ctx, "SELECT published FROM nodes WHERE key = ?", s.node.Key[:]).Scan(&published); err != nil {
		return err
	}
	if bytes.Equal(published, mark) && s.status.Passport == s.a.ID() {
		return nil
	}
	if err := s.putOwn(ctx); err != nil {
		return err
	}
	s.status.Passport = s.a.ID()
	return s.a.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE nodes SET published = ? WHERE key = ?", mark, s.node.Key[:])
		return err
	})
}

// putOwn gives the node the own passport. That the node has another chain of it is no
// reason not to use it: the user learns of the fork when that chain comes from there.
func (s *session) putOwn(ctx context.Context) error {
	own, err := s.a.self(ctx, s.a.db)
	if err != nil {
		return err
	}
	err = s.c.PutPassport(ctx, own)
	if errors.Is(err, clientapi.ErrFork) {
		s.a.log.Warn("the node has another chain of the own passport", "node", s.node.Key.Short(), "error", err)
		return nil
	}
	return err
}

// passportBatch is how many passports are stored in one transaction.
const passportBatch = 64

// fetchPassports takes the passports that changed since the last time, with follow
// those that change from then on too. A chain that does not fit is logged and left out.
func (s *session) fetchPassports(ctx context.Context, follow bool) error {
	var gen []byte
	var after int64
	if err := s.a.db.QueryRowContext(ctx, "SELECT passport_generation, passport_number FROM nodes WHERE key = ?", s.node.Key[:]).Scan(&gen, &after); err != nil {
		return err
	}
	var generation uint64
	if len(gen) == 8 {
		generation = binary.BigEndian.Uint64(gen)
	}
	caughtUp := false
	var batch []clientapi.PassportChange
	return s.c.PassportsChanged(ctx, generation, uint64(after), follow, func(c clientapi.PassportChange) error {
		if batch = append(batch, c); !c.CaughtUp && !caughtUp && len(batch) < passportBatch {
			return nil
		}
		caughtUp = caughtUp || c.CaughtUp
		err := s.takePassports(ctx, batch)
		batch = nil
		return err
	})
}

func (s *session) takePassports(ctx context.Context, batch []clientapi.PassportChange) error {
	last := batch[len(batch)-1]
	gen := binary.BigEndian.AppendUint64(nil, last.Generation)
	if len(batch) == 1 && last.CaughtUp {
		var unchanged int
		err := s.a.db.QueryRowContext(ctx, "SELECT count(*) FROM nodes WHERE key = ? AND passport_generation = ? AND passport_number = ?", s.node.Key[:], gen, int64(last.Number)).Scan(&unchanged)
		if err != nil || unchanged == 1 {
			return err
		}
	}
	return s.a.write(ctx, func(tx *sql.Tx) error {
		for _, c := range batch {
			switch {
			case c.CaughtUp:
			case c.Err != nil:
				s.a.log.Warn("passport of the node is not usable", "id", c.ID, "error", c.Err)
			default:
				if err := s.a.mergeForeign(ctx, tx, c); err != nil {
					return err
				}
			}
		}
		_, err := tx.ExecContext(ctx, "UPDATE nodes SET passport_generation = ?, passport_number = ? WHERE key = ?", gen, int64(last.Number), s.node.Key[:])
		return err
	})
}
