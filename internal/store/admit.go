package store

import (
	"context"
	"fmt"
	"time"

	"github.com/asmtp/asmtp/passport"
)

// Admission is what a token is used up for.
type Admission struct {
	User       string    // a name as for PutUser; empty: none
	Added      time.Time // of the user
	Statements [][]byte  // as for PutStatements; they fit into one write
}

// Admit uses a token of this kind once and stores what it is used for, both or neither: a
// guest that is not told the answer, since the node fails between the two, has lost
// nothing. ok is false, and nothing is stored, if there is no such token, it has ended, or
// it is used up.
func (s *Store) Admit(ctx context.Context, kind byte, hash [32]byte, a Admission) (ok bool, err error) {
	now := s.clock()
	if n := statementPiece(a.Statements); n != len(a.Statements) || len(a.User) > 64 {
		return false, fmt.Errorf("admit by a token: %w", ErrTooLarge)
	}
	err = s.update(ctx, func(t *tx) error {
		if ok, err = t.useToken(kind, hash, now); !ok || err != nil {
			return err
		}
		t.putStatements(a.Statements)
		if a.User == "" {
			return nil
		}
		k := key(kindUser, []byte(a.User))
		if known, err := t.has(k); known || err != nil {
			return err
		}
		t.set(k, be32(uint32(passport.TimeOf(a.Added))))
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("admit by a token: %w", err)
	}
	return ok, nil
}

// useToken takes one use off a token; ok is false if there is none left.
func (t *tx) useToken(kind byte, hash [32]byte, now passport.Time) (ok bool, err error) {
	k := key(kindToken, hash[:])
	b, err := t.get(k)
	if b == nil || err != nil {
		return false, err
	}
	tk, err := parseToken(k, b)
	if err != nil || tk.kind != kind || tk.uses == 0 || tk.end < now {
		return false, err
	}
	tk.uses--
	t.set(k, tk.bytes())
	return true, nil
}
