package p2p

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/asmtp/asmtp/envelope"
	"github.com/asmtp/asmtp/internal/port"
	"github.com/asmtp/asmtp/internal/version"
	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// Stored says what became of one envelope.
type Stored struct {
	Fresh bool  // it was not there before
	Err   error // why it was not taken; nil: it is on disk
}

// Spool is the way in for envelopes, and what it leads to.
type Spool interface {
	// Put checks and stores envelopes that a neighbour brought; the answer has one
	// element for each. It returns after they are on disk.
	Put(ctx context.Context, from noise.PublicKey, envelopes []*envelope.Envelope) ([]Stored, error)
	// Missing returns those of ids that are not stored.
	Missing(ids []envelope.ID) []envelope.ID
	// Ends returns when those of ids end that are stored.
	Ends(ids []envelope.ID) (map[envelope.ID]passport.Time, error)
	// Envelope returns the bytes of a stored envelope.
	Envelope(id envelope.ID) ([]byte, error)
	// Envelopes calls fn with what is stored in the order of ids, beginning behind
	// after, until it returns false.
	Envelopes(after envelope.ID, fn func(envelope.Meta) bool) error
	// Window calls fn with what is stored and has from <= end < to, in the order of end
	// and id, until it returns false.
	Window(from, to passport.Time, fn func(expires passport.Time, id envelope.ID) bool) error
}

// Passports is where the passports of the mesh are kept.
type Passports interface {
	// PassportTips calls fn with every passport and its last block until it returns false.
	PassportTips(fn func(passport.ID, passport.Hash) bool) error
	// Passport returns the newest state of a passport.
	Passport(id passport.ID) (*passport.Passport, error)
	// PutPassport keeps p if it is new or continues what is there. A fork is a
	// *passport.ForkError and kept as proof.
	PutPassport(ctx context.Context, p *passport.Passport) (changed bool, err error)
}

// Statements is where the mesh's statements are kept.
type Statements interface {
	// PutStatements keeps statements; it returns after they are on disk.
	PutStatements(ctx context.Context, statements [][]byte) error
}

// PeerBook remembers where other nodes are.
type PeerBook interface {
	PutPeer(ctx context.Context, key noise.PublicKey, addresses []string, seen passport.Time) error
	// Peers calls fn with every peer until it returns false.
	Peers(fn func(key noise.PublicKey, addresses []string, seen passport.Time) bool) error
}

// Custody counts who stores what.
type Custody interface {
	// PutCustody notes that member said that it stores ids.
	PutCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error
	// DropCustody takes that back, for a member that turned out not to store ids.
	DropCustody(ctx context.Context, member noise.PublicKey, ids []envelope.ID) error
	// OwnEnvelopes calls fn with the envelopes that users of this node brought until it
	// returns false.
	OwnEnvelopes(fn func(id envelope.ID, expires passport.Time) bool) error
	// Holders returns the members of which PutCustody notes that they store id.
	Holders(id envelope.ID) ([]noise.PublicKey, error)
}

// Options of a host. All are needed but those that say otherwise.
type Options struct {
	Key       *noise.PrivateKey
	MeshID    mesh.ID
	Secret    mesh.Secret
	Set       *mesh.Set        // shared with the node, which may add to it and then calls StatementsChanged
	Listener  net.Listener     // of internal/port for port.Mesh: its connections are *noise.Conn; nil: none are taken
	Addresses []string         // where others can reach this node, HOST:PORT; told to members
	Stamps    port.StampSource // durable

	Spool      Spool
	Passports  Passports
	Statements Statements
	Peers      PeerBook
	Custody    Custody

	// ReconcileEvery is the mean pause between two rounds of reconciliation, and
	// ChallengeEvery that between two questions whether neighbours keep what they said to
	// store. 0 means 5 and 10 minutes.
	ReconcileEvery, ChallengeEvery time.Duration

	Version string           // told to members; empty: that of internal/version
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
}

func (o Options) withDefaults() (Options, error) {
	if o.Key == nil || o.Set == nil || o.Stamps == nil || o.Spool == nil || o.Passports == nil ||
		o.Statements == nil || o.Peers == nil || o.Custody == nil {
		return o, errors.New("p2p: an option is missing")
	}
	if o.Version == "" {
		o.Version = version.Version
	}
	o.Version = cleanVersion(o.Version)
	if o.ReconcileEvery <= 0 {
		o.ReconcileEvery = defaultReconcileEvery
	}
	if o.ChallengeEvery <= 0 {
		o.ChallengeEvery = defaultChallengeEvery
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
