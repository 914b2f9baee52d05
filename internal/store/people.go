package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// PutUser admits a user, named by a passport id or a master key in hex. A user who is
// there keeps the first time.
func (s *Store) PutUser(ctx context.Context, name string, added time.Time) error {
	if len(name) == 0 || len(name) > 64 {
		return fmt.Errorf("put user: name of %d bytes", len(name))
	}
	return s.update(ctx, func(t *tx) error {
		k := key(kindUser, []byte(name))
		if known, err := t.has(k); known || err != nil {
			return err
		}
		t.set(k, be32(uint32(passport.TimeOf(added))))
		return nil
	})
}

// DeleteUser takes a user off the list, or returns ErrNotFound. Its mailbox stays.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.updateAlways(ctx, func(t *tx) error {
		k := key(kindUser, []byte(name))
		known, err := t.has(k)
		if err != nil {
			return err
		}
		if !known {
			return fmt.Errorf("user %s: %w", name, ErrNotFound)
		}
		t.delete(k)
		return nil
	})
}

// HasUser reports whether exactly this name is on the list.
func (s *Store) HasUser(name string) (ok bool, err error) {
	err = s.view(func(txn *badger.Txn) error {
		ok, err = has(txn, key(kindUser, []byte(name)))
		return err
	})
	return ok, err
}

// Users calls fn with every user until it returns false.
func (s *Store) Users(fn func(name string, added time.Time) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindUser}, nil, true, func(k, v []byte) (bool, error) {
			if len(v) != 4 {
				return false, damaged(k)
			}
			return fn(string(k[1:]), passport.Time(binary.BigEndian.Uint32(v)).Time()), nil
		})
	})
}

// maxAddresses bounds what is kept of a peer; more say nothing new.
const maxAddresses = 16

// PutPeer remembers where a node of the mesh is reached, instead of what was there.
func (s *Store) PutPeer(ctx context.Context, peer noise.PublicKey, addresses []string, seen passport.Time) error {
	v := be32(uint32(seen))
	for _, a := range addresses[:min(len(addresses), maxAddresses)] {
		if len(a) == 0 || len(a) > 255 {
			return fmt.Errorf("put peer %s: address of %d bytes", peer.Short(), len(a))
		}
		v = append(append(v, byte(len(a))), a...)
	}
	return s.update(ctx, func(t *tx) error {
		t.set(key(kindPeer, peer[:]), v)
		return nil
	})
}

// DeletePeer forgets a peer.
func (s *Store) DeletePeer(ctx context.Context, peer noise.PublicKey) error {
	return s.updateAlways(ctx, func(t *tx) error {
		t.delete(key(kindPeer, peer[:]))
		return nil
	})
}

// Peers calls fn with every peer until it returns false.
func (s *Store) Peers(fn func(peer noise.PublicKey, addresses []string, seen passport.Time) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindPeer}, nil, true, func(k, v []byte) (bool, error) {
			if len(v) < 4 {
				return false, damaged(k)
			}
			seen, rest := passport.Time(binary.BigEndian.Uint32(v)), v[4:]
			var addresses []string
			for len(rest) > 0 {
				n := int(rest[0])
				if len(rest) < 1+n {
					return false, damaged(k)
				}
				addresses = append(addresses, string(rest[1:1+n]))
				rest = rest[1+n:]
			}
			return fn(noise.PublicKey(k[1:]), addresses, seen), nil
		})
	})
}

// token is an invitation that this node gave out:
//
//	kind u8 | uses u32 | end u32 | token 32
//
// The token itself is kept, since the handshake with who comes by it needs its key.
type token struct {
	kind  byte
	uses  uint32 // left
	end   passport.Time
	token mesh.Token
}

func (k *token) bytes() []byte {
	b := append([]byte{k.kind}, be32(k.uses)...)
	b = append(b, be32(uint32(k.end))...)
	return append(b, k.token[:]...)
}

func parseToken(key, b []byte) (*token, error) {
	if len(b) != 1+4+4+mesh.SecretSize {
		return nil, damaged(key)
	}
	k := &token{kind: b[0], uses: binary.BigEndian.Uint32(b[1:]), end: passport.Time(binary.BigEndian.Uint32(b[5:]))}
	copy(k.token[:], b[9:])
	return k, nil
}

// keepToken is how long a token is known after its end, so that the log can say why
// who comes too late is refused.
const keepToken = 30 * 24 * time.Hour

// PutToken stores a token that may be used so many times until its end. Those that
// ended 30 days ago are removed.
func (s *Store) PutToken(ctx context.Context, kind byte, t mesh.Token, uses uint32, end passport.Time) error {
	now := s.clock()
	hash := t.Hash()
	err := s.update(ctx, func(tx *tx) error {
		err := tx.scan([]byte{kindToken}, nil, true, func(k, v []byte) (bool, error) {
			old, err := parseToken(k, v)
			if err == nil && old.end.Add(keepToken) < now {
				tx.delete(append([]byte(nil), k...))
			}
			return true, err
		})
		tx.set(key(kindToken, hash[:]), (&token{kind, uses, end, t}).bytes())
		return err
	})
	if err != nil {
		return fmt.Errorf("store token: %w", err)
	}
	return nil
}

// TakeToken uses a token of this kind once; ok is false if there is none, it has ended,
// or it is used up. A use that was answered with true is never given back.
func (s *Store) TakeToken(ctx context.Context, kind byte, hash [32]byte) (ok bool, err error) {
	now := s.clock()
	err = s.updateAlways(ctx, func(t *tx) error {
		ok, err = t.useToken(kind, hash, now)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("take token: %w", err)
	}
	return ok, nil
}

// Tokens calls fn with every token, also those that ended or are used up, until it
// returns false.
func (s *Store) Tokens(fn func(kind byte, t mesh.Token, uses uint32, end passport.Time) bool) error {
	return s.view(func(txn *badger.Txn) error {
		return scan(txn, []byte{kindToken}, nil, true, func(k, v []byte) (bool, error) {
			t, err := parseToken(k, v)
			if err != nil {
				return false, err
			}
			return fn(t.kind, t.token, t.uses, t.end), nil
		})
	})
}
