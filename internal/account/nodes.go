package account

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/noise"
)

// Nodes returns the account's nodes in the order of connecting; or, if Options name
// one, that one.
func (a *Account) Nodes(ctx context.Context) ([]NodeInfo, error) {
	if a.o.Node.Address != "" {
		return []NodeInfo{{Node: a.o.Node, Primary: true}}, nil
	}
	var list []NodeInfo
	return list, each(ctx, a.db, "SELECT key, address, last_sync, problem FROM nodes WHERE position IS NOT NULL ORDER BY position", nil, func(rows *sql.Rows) error {
		n := NodeInfo{Primary: len(list) == 0}
		var last int64
		if err := rows.Scan(into{n.Node.Key[:]}, &n.Node.Address, &last, &n.Problem); err != nil {
			return err
		}
		if last > 0 {
			n.LastSync = fromMillis(last)
		}
		list = append(list, n)
		return nil
	})
}

// nodes returns the nodes to use; [ErrNoNode] if there is none.
func (a *Account) nodes(ctx context.Context) ([]Node, error) {
	list, err := a.Nodes(ctx)
	if err == nil && len(list) == 0 {
		err = ErrNoNode
	}
	var nodes []Node
	for _, n := range list {
		nodes = append(nodes, n.Node)
	}
	return nodes, err
}

// FindNode returns the node whose id begins with who, or whose address it is.
func (a *Account) FindNode(ctx context.Context, who string) (NodeInfo, error) {
	list, err := a.Nodes(ctx)
	if err != nil {
		return NodeInfo{}, err
	}
	var found []NodeInfo
	for _, n := range list {
		if n.Node.Address == who || len(who) >= minPrefix && strings.HasPrefix(n.Node.Key.String(), strings.ToLower(who)) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return NodeInfo{}, fmt.Errorf("node %s: %w", who, ErrNotFound)
	case 1:
		return found[0], nil
	}
	return NodeInfo{}, fmt.Errorf("node %s: %d nodes fit: %w", who, len(found), ErrNotFound)
}

// forgetTimeout bounds how long RemoveNode tries to reach the node.
const forgetTimeout = 5 * time.Second

// RemoveNode takes in what a node has, forgets it, and tells it to recognise this user's
// mail no more. told is false if it could not be reached: then it goes on for as long as
// its keys are good.
func (a *Account) RemoveNode(ctx context.Context, key noise.PublicKey) (told bool, err error) {
	var n Node
	err = a.db.QueryRowContext(ctx, "SELECT key, address FROM nodes WHERE key = ? AND position IS NOT NULL", key[:]).Scan(into{n.Key[:]}, &n.Address)
	if errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("node %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return false, err
	}
	if err := a.sayGoodbye(ctx, n); err != nil {
		a.log.Info("the node to be removed was not told", "node", key.Short(), "error", err)
	} else {
		told = true
	}
	return told, a.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM nodes WHERE key = ?", key[:]); err != nil {
			return err
		}
		for _, table := range []string{"tagkeys", "acks"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE node = ?", key[:]); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM meta WHERE key = ?", heldKey(key)); err != nil {
			return err
		}
		if err := a.forgetHolders(ctx, tx, key); err != nil {
			return err
		}
		// Perhaps nobody else has what it took.
		if _, err := tx.ExecContext(ctx, "UPDATE outgoing SET next = 0 WHERE state IN (?, ?, ?)", Queued, Accepted, Held); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE batches SET next = 0"); err != nil {
			return err
		}
		return a.bumpPeers(ctx, tx)
	})
}

// forgetHolders drops what a node said about custody.
func (a *Account) forgetHolders(ctx context.Context, tx *sql.Tx, node noise.PublicKey) error {
	var list []int64
	err := each(ctx, tx, "SELECT outgoing FROM custody WHERE node = ? AND held > 0", []any{node[:]}, func(rows *sql.Rows) error {
		var n int64
		err := rows.Scan(&n)
		list = append(list, n)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM custody WHERE node = ?", node[:]); err != nil {
		return err
	}
	for _, n := range list {
		if err := a.recount(ctx, tx, n, "the node that said so was removed"); err != nil {
			return err
		}
	}
	return nil
}

// sayGoodbye takes in the mail that a node has, and this device's tag keys from it.
func (a *Account) sayGoodbye(ctx context.Context, n Node) error {
	reaching, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	s, err := newExchange(a, SyncOptions{}).dial(reaching, n)
	if err != nil {
		return err
	}
	defer s.c.Close()
	if err := s.receive(ctx, false, func() {}); err != nil {
		return err
	}
	var handles []envelope.Handle
	err = each(ctx, a.db, "SELECT handle FROM tagkeys WHERE node = ?", []any{n.Key[:]}, func(rows *sql.Rows) error {
		var h envelope.Handle
		err := rows.Scan(into{h[:]})
		handles = append(handles, h)
		return err
	})
	if err != nil {
		return err
	}
	return s.c.DeregisterTagKeys(ctx, handles)
}

// noteNode keeps whether a node could be used.
func (a *Account) noteNode(ctx context.Context, key noise.PublicKey, problem error) {
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	var was string
	err := a.db.QueryRowContext(ctx, "SELECT problem FROM nodes WHERE key = ?", key[:]).Scan(&was)
	if err == nil && was != text {
		err = a.write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE nodes SET problem = ? WHERE key = ?", text, key[:])
			return err
		})
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) && ctx.Err() == nil {
		a.log.Warn("the state of a node was not noted", "error", err)
	}
}
