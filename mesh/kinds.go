package mesh

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Found makes a mesh: its founding key, the founding statement, whose hash is the
// mesh's id, and the members' secret. random nil means crypto/rand.
//
// Who has the founding key decides who is a member; it should not be the key of a node.
func Found(random io.Reader, now passport.Time) (founder *noise.PrivateKey, founding *Statement, secret Secret, err error) {
	founder, err = noise.GenerateKey(random)
	if err != nil {
		return nil, nil, Secret{}, fmt.Errorf("found a mesh: %w", err)
	}
	secret, err = NewSecret(random)
	if err != nil {
		return nil, nil, Secret{}, fmt.Errorf("found a mesh: %w", err)
	}
	return founder, newStatement(founder, KindFounding, ID{}, now, nil), secret, nil
}

// Charter holds the parameters that all nodes of a mesh obey.
type Charter struct {
	Number        uint32        // of charters, that with the highest number is in force
	Retention     time.Duration // how long envelopes of others are kept, whole seconds
	MailLimit     uint64        // greatest size in bytes of a mail
	DailyBytes    uint64        // what one node may bring in a day; 0 is no limit
	AnyoneInvites bool          // whether every member may ask for new ones; else admins only
}

// The range of a charter's retention, and its values where a mesh has no charter.
const (
	MinRetention     = time.Hour
	MaxRetention     = 90 * 24 * time.Hour
	DefaultRetention = 14 * 24 * time.Hour
	DefaultMailLimit = 50 << 20
)

const (
	charterSize   = 4 + 4 + 8 + 8 + 1
	anyoneInvites = 1 // flag bit
)

// DefaultCharter is in force in a mesh that has no charter statement.
func DefaultCharter() Charter {
	return Charter{Retention: DefaultRetention, MailLimit: DefaultMailLimit}
}

// NewCharter states c. A retention or mail limit of 0 means the default; a
// retention out of range becomes the nearest in it, cut to whole seconds.
func NewCharter(founder *noise.PrivateKey, id ID, c Charter, now passport.Time) *Statement {
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.MailLimit == 0 {
		c.MailLimit = DefaultMailLimit
	}
	c.Retention = min(max(c.Retention, MinRetention), MaxRetention)
	return newStatement(founder, KindCharter, id, now, c.payload())
}

func (c Charter) payload() []byte {
	b := binary.BigEndian.AppendUint32(nil, c.Number)
	b = binary.BigEndian.AppendUint32(b, uint32(c.Retention/time.Second))
	b = binary.BigEndian.AppendUint64(b, c.MailLimit)
	b = binary.BigEndian.AppendUint64(b, c.DailyBytes)
	if c.AnyoneInvites {
		return append(b, anyoneInvites)
	}
	return append(b, 0)
}

func (c *Charter) parse(b []byte) error {
	if len(b) != charterSize {
		return errPayload(KindCharter, len(b))
	}
	*c = Charter{
		Number:        binary.BigEndian.Uint32(b),
		Retention:     time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second,
		MailLimit:     binary.BigEndian.Uint64(b[8:]),
		DailyBytes:    binary.BigEndian.Uint64(b[16:]),
		AnyoneInvites: b[24] == anyoneInvites,
	}
	if c.Retention < MinRetention || c.Retention > MaxRetention {
		return fmt.Errorf("%w: charter with a retention of %v", ErrStatement, c.Retention)
	}
	if c.MailLimit == 0 {
		return fmt.Errorf("%w: charter that allows no mail", ErrStatement)
	}
	if b[24] > anyoneInvites {
		return fmt.Errorf("charter with unknown flags %#x: %w", b[24], ErrNewer)
	}
	return nil
}

// MaxCertificateDays is the longest time for which a node is certified at once.
const MaxCertificateDays = 90

const (
	day             = 24 * time.Hour
	certificateSize = noise.KeySize + 4 + 4
)

// Certificate says that a node is a member of a mesh for a time.
type Certificate struct {
	Node                noise.PublicKey
	NotBefore, NotAfter passport.Time
}

// Certify states that node is a member for days days from now, at least one and at
// most [MaxCertificateDays]; other values become the nearest of these. node must be
// a key that its Check accepts, as every key that a handshake gave is.
func Certify(admin *noise.PrivateKey, id ID, node noise.PublicKey, now passport.Time, days int) *Statement {
	d := time.Duration(min(max(days, 1), MaxCertificateDays)) * day
	b := append([]byte(nil), node[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(now))
	b = binary.BigEndian.AppendUint32(b, uint32(now.Add(d)))
	return newStatement(admin, KindCertify, id, now, b)
}

func (c *Certificate) parse(b []byte) error {
	if len(b) != certificateSize {
		return errPayload(KindCertify, len(b))
	}
	copy(c.Node[:], b)
	c.NotBefore = passport.Time(binary.BigEndian.Uint32(b[noise.KeySize:]))
	c.NotAfter = passport.Time(binary.BigEndian.Uint32(b[noise.KeySize+4:]))
	if d := c.NotAfter.Sub(c.NotBefore); d < 0 || d > MaxCertificateDays*day {
		return fmt.Errorf("%w: certificate from %v to %v", ErrStatement, c.NotBefore, c.NotAfter)
	}
	if err := c.Node.Check(); err != nil {
		return fmt.Errorf("%w: certified node: %w", ErrStatement, err)
	}
	return nil
}

const invitationSize = 32 + 4 + 4

// Invitation says that whoever has the token of a hash is to be let in.
type Invitation struct {
	TokenHash [32]byte
	Uses      uint32 // how many may come, at least 1
	End       passport.Time
}

// NewInvitation states that uses nodes (0 counts as 1) that have token are to be
// let in until end. The token itself is not part of the statement.
func NewInvitation(admin *noise.PrivateKey, id ID, token Token, uses uint32, end, now passport.Time) *Statement {
	h := token.Hash()
	b := binary.BigEndian.AppendUint32(h[:], max(uses, 1))
	b = binary.BigEndian.AppendUint32(b, uint32(end))
	return newStatement(admin, KindInvitation, id, now, b)
}

func (i *Invitation) parse(b []byte) error {
	if len(b) != invitationSize {
		return errPayload(KindInvitation, len(b))
	}
	copy(i.TokenHash[:], b)
	i.Uses = binary.BigEndian.Uint32(b[32:])
	i.End = passport.Time(binary.BigEndian.Uint32(b[36:]))
	if i.Uses == 0 {
		return fmt.Errorf("%w: invitation without uses", ErrStatement)
	}
	return nil
}
