package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// clockSlack is how far the clocks of two nodes may differ.
const clockSlack = 2 * time.Hour

// MaxStatements bounds a set: a mesh of a thousand nodes needs a few per node and year.
const MaxStatements = 16384

var (
	// ErrNotMember is wrapped by the errors for a node without a certificate that counts.
	ErrNotMember = errors.New("not a member of the mesh")
	// ErrForeign is wrapped by the errors for a statement of another mesh, or by a key
	// that may not state it.
	ErrForeign = errors.New("statement does not count in this mesh")
	// ErrFull is the error for a set that holds MaxStatements.
	ErrFull = errors.New("the mesh has too many statements")
	// ErrUnknownInvitation is the error for a token that no invitation of the mesh names.
	ErrUnknownInvitation = errors.New("no such invitation")
	// ErrEnded is wrapped by the errors for an invitation or a line whose end has passed.
	ErrEnded = errors.New("the invitation has ended")
)

// Set is the union of the statements of one mesh. It only grows. What follows from it
// depends on its content alone, not on the order of Add. It is safe for concurrent use.
type Set struct {
	id      ID
	founder noise.PublicKey

	mu      sync.RWMutex
	byHash  map[[IDSize]byte]*Statement
	charter *Statement                       // nil: the default is in force
	certs   map[noise.PublicKey][]*Statement // by node
	invites map[[32]byte]*Statement          // by the hash of the token; of several the one that ends last
}

// NewSet returns the set that holds the founding statement alone.
func NewSet(founding *Statement) (*Set, error) {
	if founding.Kind() != KindFounding {
		return nil, fmt.Errorf("%w: a mesh begins with a founding statement, not with %v", ErrForeign, founding.Kind())
	}
	return &Set{
		id: founding.Mesh(), founder: founding.Issuer(),
		byHash:  map[[IDSize]byte]*Statement{founding.Hash(): founding},
		certs:   map[noise.PublicKey][]*Statement{},
		invites: map[[32]byte]*Statement{},
	}, nil
}

// ParseSet builds the set of mesh id from encoded statements in any order; one of them
// must be the founding statement. What does not count is an error.
func ParseSet(id ID, encoded [][]byte) (*Set, error) {
	var set *Set
	statements := make([]*Statement, len(encoded))
	for i, b := range encoded {
		s, err := ParseStatement(b)
		if err != nil {
			return nil, err
		}
		statements[i] = s
		if s.Kind() == KindFounding && s.Mesh() == id {
			if set, err = NewSet(s); err != nil {
				return nil, err
			}
		}
	}
	if set == nil {
		return nil, fmt.Errorf("%w: no founding statement of %v", ErrForeign, id)
	}
	for _, s := range statements {
		if _, err := set.Add(s); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// ID returns the mesh's id.
func (s *Set) ID() ID { return s.id }

// Founder returns the founding key.
func (s *Set) Founder() noise.PublicKey { return s.founder }

// Add takes a statement in. added is false for one that is there already. The error
// wraps [ErrForeign] for one that does not count here, such as of a key that is no admin.
func (s *Set) Add(st *Statement) (added bool, err error) {
	if st.Mesh() != s.id {
		return false, fmt.Errorf("%w: it is of mesh %v", ErrForeign, st.Mesh())
	}
	if st.Issuer() != s.founder {
		return false, fmt.Errorf("%w: %s is no admin", ErrForeign, st.Issuer().Short())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.byHash[st.Hash()]; ok {
		return false, nil
	}
	if len(s.byHash) >= MaxStatements {
		return false, ErrFull
	}
	s.byHash[st.Hash()] = st
	switch st.Kind() {
	case KindCharter:
		if s.charter == nil || charterBeats(st, s.charter) {
			s.charter = st
		}
	case KindCertify:
		s.certs[st.certificate.Node] = append(s.certs[st.certificate.Node], st)
	case KindInvitation:
		if old := s.invites[st.invitation.TokenHash]; old == nil || invitationBeats(st, old) {
			s.invites[st.invitation.TokenHash] = st
		}
	}
	return true, nil
}

func charterBeats(a, b *Statement) bool {
	if a.charter.Number != b.charter.Number {
		return a.charter.Number > b.charter.Number
	}
	return smallerHash(a, b)
}

func invitationBeats(a, b *Statement) bool {
	if a.invitation.End != b.invitation.End {
		return a.invitation.End > b.invitation.End
	}
	return smallerHash(a, b)
}

func smallerHash(a, b *Statement) bool { return bytes.Compare(a.hash[:], b.hash[:]) < 0 }

// Statements returns all statements, the founding one first, the others by their hashes.
func (s *Set) Statements() []*Statement {
	s.mu.RLock()
	list := make([]*Statement, 0, len(s.byHash))
	for _, st := range s.byHash {
		list = append(list, st)
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b *Statement) int {
		switch {
		case a.kind == KindFounding:
			return -1
		case b.kind == KindFounding:
			return 1
		}
		return bytes.Compare(a.hash[:], b.hash[:])
	})
	return list
}

// Hashes returns the hashes of all statements in the order of Statements.
func (s *Set) Hashes() [][IDSize]byte {
	list := s.Statements()
	hashes := make([][IDSize]byte, len(list))
	for i, st := range list {
		hashes[i] = st.Hash()
	}
	return hashes
}

// Missing returns the statements that somebody who has the given ones lacks.
func (s *Set) Missing(have [][IDSize]byte) []*Statement {
	known := make(map[[IDSize]byte]bool, len(have))
	for _, h := range have {
		known[h] = true
	}
	return slices.DeleteFunc(s.Statements(), func(st *Statement) bool { return known[st.Hash()] })
}

// Charter returns the parameters in force.
func (s *Set) Charter() Charter {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.charter == nil {
		return DefaultCharter()
	}
	return s.charter.charter
}

// CheckCertificate reports why cert does not make node a member at now; nil if it does.
// Clocks may differ by two hours. The certificate need not be in the set: a new member
// shows one that others have not heard of.
func (s *Set) CheckCertificate(cert *Statement, node noise.PublicKey, now passport.Time) error {
	c, ok := cert.Certificate()
	switch {
	case !ok:
		return fmt.Errorf("%w: a %v statement is no certificate", ErrNotMember, cert.Kind())
	case cert.Mesh() != s.id:
		return fmt.Errorf("%w: certificate of mesh %v", ErrNotMember, cert.Mesh())
	case cert.Issuer() != s.founder:
		return fmt.Errorf("%w: certificate by %s, who is no admin", ErrNotMember, cert.Issuer().Short())
	case c.Node != node:
		return fmt.Errorf("%w: certificate of another node", ErrNotMember)
	case now.Add(clockSlack) < c.NotBefore:
		return fmt.Errorf("%w: certificate begins %v", ErrNotMember, c.NotBefore.Time())
	case now > c.NotAfter.Add(clockSlack):
		return fmt.Errorf("%w: certificate ended %v", ErrNotMember, c.NotAfter.Time())
	}
	return nil
}

// Certificate returns the certificate of node that lasts longest, if one counts at now.
func (s *Set) Certificate(node noise.PublicKey, now passport.Time) (*Statement, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	best := s.certificateLocked(node, now)
	return best, best != nil
}

func (s *Set) certificateLocked(node noise.PublicKey, now passport.Time) (best *Statement) {
	for _, c := range s.certs[node] {
		if s.CheckCertificate(c, node, now) != nil {
			continue
		}
		if best == nil || c.certificate.NotAfter > best.certificate.NotAfter ||
			c.certificate.NotAfter == best.certificate.NotAfter && smallerHash(c, best) {
			best = c
		}
	}
	return best
}

// Members returns the nodes with a certificate that counts at now, by their keys.
func (s *Set) Members(now passport.Time) []noise.PublicKey {
	s.mu.RLock()
	var list []noise.PublicKey
	for node := range s.certs {
		if s.certificateLocked(node, now) != nil {
			list = append(list, node)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(list, func(a, b noise.PublicKey) int { return bytes.Compare(a[:], b[:]) })
	return list
}

// Invitation returns the invitation that names token. The error is
// [ErrUnknownInvitation], or wraps [ErrEnded].
func (s *Set) Invitation(token Token, now passport.Time) (*Statement, error) {
	s.mu.RLock()
	st := s.invites[token.Hash()]
	s.mu.RUnlock()
	if st == nil {
		return nil, ErrUnknownInvitation
	}
	if now > st.invitation.End {
		return nil, fmt.Errorf("%w on %v", ErrEnded, st.invitation.End.Time())
	}
	return st, nil
}
