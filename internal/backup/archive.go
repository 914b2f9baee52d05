package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/asmtp/asmtp/mesh"
	"github.com/asmtp/asmtp/noise"
)

// Format is the number of the format that this package writes and reads.
const Format = 1

// The files in a backup, in their order. They are the names in a restored folder, too.
const (
	manifestName = "manifest.json"
	ConfigName   = "config.yaml"
	EntropyName  = "entropy.txt"
	PasswordName = "password.txt"
	JoinName     = "join"
	storePrefix  = "store/"
)

var fileNames = []string{ConfigName, EntropyName, PasswordName, JoinName}

const (
	maxFile  = 1 << 20 // of one file
	piece    = 1 << 20 // of the store's stream
	maxPiece = 1 << 20 // that is read
)

// Errors of reading a backup.
var (
	// ErrNotBackup is for a file that is no backup of a node.
	ErrNotBackup = errors.New("not a backup of a node")
	// ErrNewer is for a backup that a later program made.
	ErrNewer = errors.New("backup was made by a newer asmtpd")
	// ErrDamaged is for a backup that was altered or is not whole.
	ErrDamaged = errors.New("backup is damaged or not whole")
	// ErrPassword is for a password that does not open the backup.
	ErrPassword = errors.New("the password does not open this backup")
	// ErrIdentity is for identities none of which opens the backup.
	ErrIdentity = errors.New("no identity opens this backup")
	// ErrNeedPassword and ErrNeedIdentity are for a key of the other kind.
	ErrNeedPassword = errors.New("the backup is sealed with a password, not to recipients")
	ErrNeedIdentity = errors.New("the backup is sealed to recipients, not with a password")
	// ErrNotEmpty is for a folder in which something is already.
	ErrNotEmpty = errors.New("the folder is not empty")
	// ErrUnfinished is for a folder in which a restore was cut short.
	ErrUnfinished = errors.New("a restore into this folder was cut short")
)

// Manifest says what a backup is of.
type Manifest struct {
	Format  int             `json:"format"` // set by Write
	Node    noise.PublicKey `json:"node"`
	Mesh    mesh.ID         `json:"mesh"`
	Made    time.Time       `json:"made"`
	Program string          `json:"program"` // version of the asmtpd that made it
}

func parseManifest(b []byte) (m Manifest, err error) {
	// The number first: a newer manifest may be unreadable otherwise.
	var n struct{ Format int }
	if err := json.Unmarshal(b, &n); err != nil {
		return m, fmt.Errorf("%w: manifest: %w", ErrNotBackup, err)
	}
	if n.Format > Format {
		return m, fmt.Errorf("%w: it has format %d, this program knows %d", ErrNewer, n.Format, Format)
	}
	if err := json.Unmarshal(b, &m); err != nil || m.Format != Format {
		return m, fmt.Errorf("%w: manifest of format %d: %v", ErrNotBackup, m.Format, err)
	}
	return m, nil
}
