package account

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/internal/clientapi"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// node returns the node to use; [ErrNoNode] if none is known.
func (a *Account) node(ctx context.Context) (Node, error) {
	if a.o.Node.Address != "" {
		return a.o.Node, nil
	}
	var n Node
	key, err := getMeta(ctx, a.db, metaNode)
	if err != nil {
		return n, err
	}
	if len(key) != len(n.Key) {
		return n, ErrNoNode
	}
	n.Key = noise.PublicKey(key)
	err = a.db.QueryRowContext(ctx, "SELECT address FROM nodes WHERE key = ?", key).Scan(&n.Address)
	if errors.Is(err, sql.ErrNoRows) {
		return n, ErrNoNode
	}
	return n, err
}

// dial connects with a node and asks for its status.
func (a *Account) dial(ctx context.Context, n Node, o SyncOptions) (*session, error) {
	s := &session{a: a, node: n, o: o}
	s.progress(Progress{Step: "connecting"})
	c, err := clientapi.Dial(ctx, n.Address, n.Key, a.secrets.master, a)
	if err != nil {
		return nil, fmt.Errorf("connect to the node at %s: %w", n.Address, err)
	}
	s.c = c
	if err := s.greet(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("node at %s: %w", n.Address, err)
	}
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
	var known string
	err = s.a.db.QueryRowContext(ctx, "SELECT address FROM nodes WHERE key = ?", s.node.Key[:]).Scan(&known)
	mail, retention := s.a.limits(ctx)
	if err == nil && known == s.node.Address && mail == int64(status.MailLimit) && retention == status.Retention {
		return nil
	}
	return s.a.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "INSERT INTO nodes (key, address) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET address = excluded.address", s.node.Key[:], s.node.Address); err != nil {
			return err
		}
		return saveLimits(ctx, tx, int64(status.MailLimit), status.Retention)
	})
}

func (s *session) nodeStatus() NodeStatus {
	return NodeStatus{Node: s.node, Version: s.status.Version, Peers: s.status.Peers, Members: s.status.Members,
		Retention: s.status.Retention, MailLimit: int64(s.status.MailLimit), Clock: s.status.Time, Mesh: s.status.Mesh}
}

// Connect tries the node, publishes the passport and the tag keys there, takes the
// passports that it knows, and keeps it as the account's node.
func (a *Account) Connect(ctx context.Context, n Node) (NodeStatus, error) {
	s, err := a.dial(ctx, n, SyncOptions{})
	if err != nil {
		return NodeStatus{}, err
	}
	defer s.c.Close()
	if err := s.prepare(ctx); err != nil {
		return NodeStatus{}, fmt.Errorf("node at %s: %w", n.Address, err)
	}
	err = a.write(ctx, func(tx *sql.Tx) error { return setMeta(ctx, tx, metaNode, n.Key[:]) })
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

// NodeStatus asks the node how it is.
func (a *Account) NodeStatus(ctx context.Context) (NodeStatus, error) {
	n, err := a.node(ctx)
	if err != nil {
		return NodeStatus{}, err
	}
	s, err := a.dial(ctx, n, SyncOptions{})
	if err != nil {
		return NodeStatus{Node: n}, err
	}
	defer s.c.Close()
	return s.nodeStatus(), nil
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
	if err := s.c.PutPassport(ctx, own); err != nil {
		return err
	}
	s.status.Passport = s.a.ID()
	return s.a.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE nodes SET published = ? WHERE key = ?", mark, s.node.Key[:])
		return err
	})
}

// putOwn gives the node the own passport again: somebody has an older chain.
func (s *session) putOwn(ctx context.Context) error {
	own, err := s.a.self(ctx, s.a.db)
	if err != nil {
		return err
	}
	return s.c.PutPassport(ctx, own)
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

// mergeForeign is mergePassport for what the node says: a fork is kept out and logged.
func (a *Account) mergeForeign(ctx context.Context, tx *sql.Tx, c clientapi.PassportChange) error {
	err := a.mergePassport(ctx, tx, c.Passport)
	if fork, ok := errors.AsType[*passport.ForkError](err); ok {
		a.log.Warn("two chains of one passport; the one seen first stays", "id", c.ID, "error", fork)
		return nil
	}
	return err
}
