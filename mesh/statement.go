package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// MaxStatement is the greatest length in bytes of a statement: what a handshake
// payload of 512 has room for beside a stamp of 12 and a length of 2.
const MaxStatement = 498

const (
	statementVersion = 1
	headerSize       = 1 + 1 + IDSize + noise.KeySize + 4
	minStatement     = headerSize + noise.SignatureSize
)

// statementContext begins what is signed, so that no statement can be read as a
// signature of anything else.
const statementContext = "asmtp/2 statement\x00"

var (
	// ErrStatement is wrapped by the errors for bytes that are no statement.
	ErrStatement = errors.New("not a statement")
	// ErrNewer is wrapped by the errors for a statement or line of a version or
	// kind that this program does not know.
	ErrNewer = errors.New("made by a newer program")
)

// Kind says what a statement states.
type Kind uint8

// The kinds of statements. The last three are reserved: [ParseStatement] refuses
// them with [ErrNewer].
const (
	KindFounding    Kind = 1
	KindCharter     Kind = 2
	KindCertify     Kind = 3
	KindInvitation  Kind = 4
	KindAdmitAdmin  Kind = 5
	KindRemoveAdmin Kind = 6
	KindRevoke      Kind = 7
)

var kindNames = [...]string{
	KindFounding: "founding", KindCharter: "charter", KindCertify: "certify", KindInvitation: "invitation",
	KindAdmitAdmin: "admit-admin", KindRemoveAdmin: "remove-admin", KindRevoke: "revoke",
}

// String returns the kind's name.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Statement is one well-formed, correctly signed statement. It never changes.
type Statement struct {
	raw    []byte
	hash   [IDSize]byte
	kind   Kind
	mesh   ID
	issuer noise.PublicKey
	made   passport.Time

	// The payload; which one is valid is up to kind.
	charter     Charter
	certificate Certificate
	invitation  Invitation
}

// ParseStatement reads one statement, checks its form and its signature, and keeps
// a copy of b. Whether its issuer may state that is for a [Set] to say.
func ParseStatement(b []byte) (*Statement, error) {
	if len(b) > MaxStatement {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrStatement, len(b), MaxStatement)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: no bytes", ErrStatement)
	}
	if b[0] != statementVersion {
		return nil, fmt.Errorf("statement of version %d: %w", b[0], ErrNewer)
	}
	if len(b) < minStatement {
		return nil, fmt.Errorf("%w: cut off after %d bytes", ErrStatement, len(b))
	}
	s := &Statement{raw: append([]byte(nil), b...), hash: noise.H16(b)}
	if err := s.parse(); err != nil {
		return nil, err
	}
	signed := len(b) - noise.SignatureSize
	if !s.issuer.Verify(signedBytes(b[:signed]), b[signed:]) {
		return nil, fmt.Errorf("%w: %v statement with a wrong signature", ErrStatement, s.kind)
	}
	return s, nil
}

// parse reads the fields from s.raw, whose length is between the limits.
func (s *Statement) parse() error {
	b := s.raw
	s.kind = Kind(b[1])
	copy(s.mesh[:], b[2:])
	copy(s.issuer[:], b[2+IDSize:])
	s.made = passport.Time(binary.BigEndian.Uint32(b[headerSize-4:]))
	payload := b[headerSize : len(b)-noise.SignatureSize]
	if (s.kind == KindFounding) != s.mesh.IsZero() {
		return fmt.Errorf("%w: %v statement with the mesh id %v", ErrStatement, s.kind, s.mesh)
	}
	switch s.kind {
	case KindFounding:
		if len(payload) != 0 {
			return errPayload(s.kind, len(payload))
		}
		if err := s.issuer.Check(); err != nil {
			return fmt.Errorf("%w: founding key: %w", ErrStatement, err)
		}
		return nil
	case KindCharter:
		return s.charter.parse(payload)
	case KindCertify:
		return s.certificate.parse(payload)
	case KindInvitation:
		return s.invitation.parse(payload)
	}
	return fmt.Errorf("%v statement: %w", s.kind, ErrNewer)
}

func errPayload(k Kind, n int) error {
	return fmt.Errorf("%w: %v statement with a payload of %d bytes", ErrStatement, k, n)
}

// newStatement signs what parse would read. Callers pass only payloads that parse
// accepts, so the result is built by the same code that reads foreign ones.
func newStatement(issuer *noise.PrivateKey, kind Kind, id ID, made passport.Time, payload []byte) *Statement {
	b := make([]byte, 0, minStatement+len(payload))
	b = append(b, statementVersion, byte(kind))
	b = append(b, id[:]...)
	key := issuer.Public()
	b = append(b, key[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(made))
	b = append(b, payload...)
	b = append(b, issuer.Sign(signedBytes(b))...)
	s := &Statement{raw: b, hash: noise.H16(b)}
	if err := s.parse(); err != nil {
		panic(err) // a zero mesh id, or a constructor here that its own parser refuses
	}
	return s
}

func signedBytes(b []byte) []byte {
	return append([]byte(statementContext), b...)
}

// Bytes returns a copy of the encoding.
func (s *Statement) Bytes() []byte { return append([]byte(nil), s.raw...) }

// Hash returns the name of the statement, H16 of its bytes.
func (s *Statement) Hash() [IDSize]byte { return s.hash }

// Kind returns what the statement states.
func (s *Statement) Kind() Kind { return s.kind }

// Mesh returns the mesh that the statement is about; of a founding statement that
// is its own hash.
func (s *Statement) Mesh() ID {
	if s.kind == KindFounding {
		return s.hash
	}
	return s.mesh
}

// Issuer returns the key that signed the statement.
func (s *Statement) Issuer() noise.PublicKey { return s.issuer }

// Made returns when the issuer says that the statement was made. Nothing depends on it.
func (s *Statement) Made() passport.Time { return s.made }

// Charter returns the parameters that a charter statement sets.
func (s *Statement) Charter() (Charter, bool) { return s.charter, s.kind == KindCharter }

// Certificate returns what a certify statement certifies.
func (s *Statement) Certificate() (Certificate, bool) { return s.certificate, s.kind == KindCertify }

// Invitation returns what an invitation statement promises.
func (s *Statement) Invitation() (Invitation, bool) { return s.invitation, s.kind == KindInvitation }
