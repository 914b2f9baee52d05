package store

import (
	"context"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// SetMesh says to which mesh this node belongs and stores statements of it, in one
// step unless they come to more than 256 KiB: then the first are in that step, so let the
// node's own certificate be among them. founder is the seed of the founding key, nil on all nodes but the founder's. If
// the node was in another mesh, the statements of that one are removed: so a node that
// founded a mesh by itself joins another.
func (s *Store) SetMesh(ctx context.Context, id mesh.ID, secret mesh.Secret, founder []byte, statements ...[]byte) error {
	if len(founder) != 0 && len(founder) != noise.SeedSize {
		return fmt.Errorf("set mesh: seed of %d bytes", len(founder))
	}
	n := statementPiece(statements)
	err := s.update(ctx, func(t *tx) error {
		old, err := t.get(keyMesh)
		if err != nil {
			return err
		}
		if old != nil && string(old[:min(len(id), len(old))]) != string(id[:]) {
			if err := t.deletePrefix([]byte{kindStatement}); err != nil {
				return err
			}
		}
		t.set(keyMesh, key(id[0], id[1:], secret[:], founder))
		t.putStatements(statements[:n])
		return nil
	})
	if err == nil {
		err = s.PutStatements(ctx, statements[n:])
	}
	if err != nil {
		return fmt.Errorf("set mesh: %w", err)
	}
	return nil
}

// Mesh returns what SetMesh said; ok is false if it was never called.
func (s *Store) Mesh() (id mesh.ID, secret mesh.Secret, founder []byte, ok bool, err error) {
	err = s.view(func(txn *badger.Txn) error {
		b, err := get(txn, keyMesh)
		if b == nil || err != nil {
			return err
		}
		n := len(id) + len(secret)
		if len(b) != n && len(b) != n+noise.SeedSize {
			return damaged(keyMesh)
		}
		copy(id[:], b)
		copy(secret[:], b[len(id):])
		if len(b) > n {
			founder = b[n:]
		}
		ok = true
		return nil
	})
	return id, secret, founder, ok, err
}

// PutStatements stores statements of the mesh; those that are there stay as they are.
// They are checked by nobody here.
func (s *Store) PutStatements(ctx context.Context, statements [][]byte) error {
	for len(statements) > 0 {
		n := statementPiece(statements)
		err := s.update(ctx, func(t *tx) error {
			t.putStatements(statements[:n])
			return nil
		})
		if err != nil {
			return fmt.Errorf("store statements: %w", err)
		}
		statements = statements[n:]
	}
	return nil
}

// statementPiece returns how many of the first statements go into one write.
func statementPiece(statements [][]byte) int {
	size := 0
	for i, b := range statements {
		if size += len(b) + 64; i > 0 && (size > 256<<10 || i >= 1000) {
			return i
		}
	}
	return len(statements)
}

func (t *tx) putStatements(statements [][]byte) {
	for _, b := range statements {
		hash := noise.H16(b)
		t.set(key(kindStatement, hash[:]), append([]byte(nil), b...))
	}
}

// Statements returns all statements, in no order that means anything.
func (s *Store) Statements() (list [][]byte, err error) {
	err = s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindStatement}, nil, true, func(_, v []byte) (bool, error) {
			list = append(list, append([]byte(nil), v...))
			return true, nil
		})
	})
	return list, err
}
