package control

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// SocketName and LockName are the files in the data folder of a running node. The
// lock is held by the process; the file stays when it ends.
const (
	SocketName = "control.sock"
	LockName   = "control.lock"
)

// Backend is the node behind the socket. Methods are called from many goroutines;
// an error's text goes to the operator as it is, so it may name keys and addresses
// and must not hold secrets. Errors that wrap one of this package's sentinels reach
// the client's caller as that sentinel.
type Backend interface {
	// Status returns what the node is, holds and is connected with.
	Status(ctx context.Context) (*Status, error)

	// UserList lists who may connect, and who tried and may not.
	UserList(ctx context.Context) (*Users, error)
	// UserAdd admits a key or a passport for good; added is false if it was listed.
	UserAdd(ctx context.Context, name UserName) (added bool, err error)
	// UserRemove undoes UserAdd: ErrNotFound if there is no such user, ErrConflict
	// if the configuration file lists it, which alone can take it away.
	UserRemove(ctx context.Context, name UserName) error
	// UserReset forgets the stamps of a key, for a device whose clock or state went
	// back and which is refused as a replay since.
	UserReset(ctx context.Context, key noise.PublicKey) error
	// UserInvite makes a line that admits uses devices within days.
	UserInvite(ctx context.Context, o Invite) (line string, err error)

	// PeerList lists the nodes that this one knows.
	PeerList(ctx context.Context) ([]Peer, error)
	// PeerAdd makes the node dial another member now and again.
	PeerAdd(ctx context.Context, id noise.PublicKey, addresses []string) error

	// MeshInvite makes a line that lets uses nodes join the mesh within days:
	// ErrDenied if this node may not invite.
	MeshInvite(ctx context.Context, o Invite) (line string, err error)
	// MeshMembers lists the members of the mesh.
	MeshMembers(ctx context.Context) ([]Member, error)
	// Join leaves a mesh in which this node is alone and joins that of the line.
	// In the line's mesh already it does nothing; in another one it is ErrConflict.
	Join(ctx context.Context, line string) error

	// StoreVerify checks the store and reports each problem, and how far it is now and
	// then; it ends early if report fails. ErrConflict if a check is under way already.
	StoreVerify(ctx context.Context, report func(VerifyEvent) error) error
	// StoreBackup writes one consistent state of the store, as package store can
	// restore it. What was written is of no use if it fails.
	StoreBackup(ctx context.Context, w io.Writer) error
}

// Status is what "asmtpd status" shows. Ids are never empty, lists never nil.
type Status struct {
	ID         noise.PublicKey `json:"id"`
	Version    string          `json:"version"`
	Started    time.Time       `json:"started"`
	Listen     string          `json:"listen"`           // HOST:PORT as bound
	Public     []string        `json:"public_addresses"` // HOST:PORT as told to others
	Mesh       mesh.ID         `json:"mesh"`
	Members    int             `json:"members"` // this node included
	Peers      []Peer          `json:"peers"`
	Envelopes  int64           `json:"envelopes"` // stored now
	Bytes      int64           `json:"bytes"`     // of these envelopes
	Users      int             `json:"users"`
	Sessions   int             `json:"sessions"`          // connected devices of users
	TagKeys    int             `json:"tag_keys"`          // in force now
	Generation uint64          `json:"generation,string"` // of the mailboxes; a string, JSON's numbers are too small

	Config    string        `json:"config,omitempty"` // the file that the node was started with
	Retention time.Duration `json:"retention"`        // nanoseconds; how long an envelope is kept at most
	Large     Quota         `json:"large"`            // of the largest size class
	Rest      Quota         `json:"rest"`             // of all others
	// LittleData says that the rates of the quotas are of less than a day, since the
	// node has not run for longer.
	LittleData bool             `json:"little_data"`
	Disk       Disk             `json:"disk"`
	Refusing   []string         `json:"refusing"` // why new mail is refused now, in words
	Refused    map[string]int64 `json:"refused"`  // envelopes since the start, by reason
	Clock      Clock            `json:"clock"`
	Reconciled Reconciled       `json:"reconciled"`
}

// Quota is how much of a quota is in use. The limit holds for each account by itself.
type Quota struct {
	Limit   int64   `json:"limit"`   // bytes
	Own     Account `json:"own"`     // what this node's users sent, or were sent
	Relayed Account `json:"relayed"` // what is kept for others
}

// Account is what is counted to one account of a quota.
type Account struct {
	Envelopes int64 `json:"envelopes"`
	Bytes     int64 `json:"bytes"`
	In        int64 `json:"in"`  // bytes that came in the last 24 hours
	Out       int64 `json:"out"` // bytes that were removed in the last 24 hours
	// FullAt is when the limit would be reached if each day were like the last one; zero
	// if it would not.
	FullAt time.Time `json:"full_at,omitzero"`
}

// Disk is the space on the disk of the data folder.
type Disk struct {
	Free    int64 `json:"free"`    // bytes that the node could use
	Reserve int64 `json:"reserve"` // with less free, no new mail is taken
}

// Clock compares the node's clock with those of its peers.
type Clock struct {
	Known  bool    `json:"known"`          // false without a connected peer
	Offset float64 `json:"offset_seconds"` // by how much most peers' clocks are ahead of this one
	Wrong  bool    `json:"wrong"`          // most peers are more than five minutes off
}

// Reconciled is what comparing stores with other nodes came to since the start.
type Reconciled struct {
	Last     time.Time `json:"last,omitzero"` // when two stores last were found to agree
	Sessions int       `json:"sessions"`      // comparisons that settled something
	Failed   int       `json:"failed"`
	Bytes    int64     `json:"bytes"`   // of the comparing, both ways, without envelopes
	Lacking  int       `json:"lacking"` // envelopes that other nodes lacked
	Missing  int       `json:"missing"` // envelopes that this node lacked
	Fetched  int       `json:"fetched"` // of these, and stored now
}

// PeerReconciled is what the last comparison with one node came to.
type PeerReconciled struct {
	Last       time.Time `json:"last,omitzero"` // when it ended well
	RoundTrips int       `json:"round_trips"`
	Bytes      int64     `json:"bytes"`
	Lacking    int       `json:"lacking"`
	Missing    int       `json:"missing"`
	Refused    int       `json:"refused"` // envelopes that it refused within the last hour
	Gone       int       `json:"gone"`    // envelopes that it said to have and had not, in all
	Error      string    `json:"error,omitempty"`
}

// Peer is another node.
type Peer struct {
	ID        noise.PublicKey `json:"id"`
	Addresses []string        `json:"addresses"`
	Connected bool            `json:"connected"`
	Since     time.Time       `json:"since,omitzero"` // connected or, if not, last seen
	Version   string          `json:"version,omitempty"`
	// Clock is by how many seconds the peer's clock is ahead of this node's; nil if it is
	// not known.
	Clock *float64 `json:"clock_offset_seconds,omitempty"`
	// Reconciled is nil if the two stores were not compared since the start.
	Reconciled *PeerReconciled `json:"reconciled,omitempty"`
}

// Member is a node with a valid certificate of the mesh.
type Member struct {
	ID        noise.PublicKey `json:"id"`
	Until     time.Time       `json:"until"` // the end of its certificate
	Self      bool            `json:"self,omitempty"`
	Connected bool            `json:"connected"`
}

// Where a user was added.
const (
	SourceFile   = "file"   // the configuration's users
	SourceAdded  = "added"  // user add
	SourceInvite = "invite" // a line of user invite
)

// User is a key or a passport that may connect.
type User struct {
	Name     UserName          `json:"name"`
	Source   string            `json:"source"`
	Added    time.Time         `json:"added,omitzero"`
	Passport passport.ID       `json:"passport,omitzero"` // once known
	Keys     []noise.PublicKey `json:"keys"`              // that may connect by this entry
}

// Knock is a key that proved itself and was not let in.
type Knock struct {
	Key     noise.PublicKey `json:"key"`
	Address string          `json:"address"`
	Time    time.Time       `json:"time"` // of the last time
	Reason  string          `json:"reason"`
}

// Users is the answer of [Backend.UserList].
type Users struct {
	Users   []User  `json:"users"`
	Knocked []Knock `json:"knocked"`
}

// Limits of an [Invite].
const (
	MaxUses = 1000
	MaxDays = 365
)

// Invite says how often and how long a line is good. Zero stands for one use and
// seven days.
type Invite struct {
	Uses int `json:"uses,omitempty"`
	Days int `json:"days,omitempty"`
}

// check fills in the defaults.
func (o Invite) check() (Invite, error) {
	if o.Uses == 0 {
		o.Uses = 1
	}
	if o.Days == 0 {
		o.Days = 7
	}
	if o.Uses < 0 || o.Uses > MaxUses {
		return o, fmt.Errorf("%w: uses must be 1 to %d, not %d", ErrInvalid, MaxUses, o.Uses)
	}
	if o.Days < 0 || o.Days > MaxDays {
		return o, fmt.Errorf("%w: days must be 1 to %d, not %d", ErrInvalid, MaxDays, o.Days)
	}
	return o, nil
}

// UserName is the name of a user of a node: a device's key or a passport's id, in
// hex digits. [ParseUserName] makes one.
type UserName string

// ParseUserName reads a name. It takes upper case and gives lower case.
func ParseUserName(text string) (UserName, error) {
	if key, err := noise.ParsePublicKey(text); err == nil {
		if err := key.Check(); err != nil {
			return "", fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return UserName(key.String()), nil
	}
	if id, err := passport.ParseID(text); err == nil && !id.IsZero() {
		return UserName(id.String()), nil
	}
	return "", fmt.Errorf("%w: a user is a key of 64 or a passport id of 32 hex digits", ErrInvalid)
}

// KeyName returns the name of the user with a key.
func KeyName(key noise.PublicKey) UserName { return UserName(key.String()) }

// PassportName returns the name of the user with a passport.
func PassportName(id passport.ID) UserName { return UserName(id.String()) }

// Key returns the key, if n is one.
func (n UserName) Key() (noise.PublicKey, bool) {
	key, err := noise.ParsePublicKey(string(n))
	return key, err == nil
}

// Passport returns the passport id, if n is one.
func (n UserName) Passport() (passport.ID, bool) {
	id, err := passport.ParseID(string(n))
	return id, err == nil
}
