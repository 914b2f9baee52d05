package account

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/asmtp/asmtp/internal/message"
)

// folderInbox is where mail arrives.
const folderInbox = "INBOX"

// The special uses of folders (RFC 6154), and the names of the folders that have them at first.
const (
	SpecialSent    = "Sent"
	SpecialDrafts  = "Drafts"
	SpecialArchive = "Archive"
	SpecialJunk    = "Junk"
	SpecialTrash   = "Trash"
)

// firstFolders are made with the account, in this order. A folder that is made later
// under one of these names gets the use back if no other folder has it.
var firstFolders = []struct{ name, special string }{
	{folderInbox, ""}, {SpecialSent, SpecialSent}, {SpecialDrafts, SpecialDrafts},
	{SpecialArchive, SpecialArchive}, {SpecialJunk, SpecialJunk}, {SpecialTrash, SpecialTrash},
}

const (
	// separator stands between the levels of a folder's name.
	separator = "/"
	// maxLevel and maxFolderName bound names, in bytes.
	maxLevel      = 255
	maxFolderName = 1000
	// maxFolders bounds how many folders there are.
	maxFolders = 1000
	// metaValidity is the key of the highest uid_validity that was given.
	metaValidity = "uid validity"
)

// Folder is a mailbox. Its name is UTF-8 in form NFC, with "/" between levels; INBOX is
// spelled so.
type Folder struct {
	ID          int64 // never given again, also after the folder was deleted
	Name        string
	Special     string // "", or its use: "Sent", "Drafts", "Archive", "Junk", "Trash"
	UIDValidity uint32
	UIDNext     uint32
	Subscribed  bool
}

// FolderStatus is a folder and what is in it.
type FolderStatus struct {
	Folder
	Messages, Unseen, Deleted uint32
	Size                      int64 // of all messages as they are presented
}

// FolderError is the error for what cannot be done to a folder.
type FolderError struct {
	Name, Reason string
	Err          error // ErrExists, or nil
}

func (e *FolderError) Error() string {
	return fmt.Sprintf("folder %q: %s", message.CleanLine(e.Name), e.Reason)
}

func (e *FolderError) Unwrap() error { return e.Err }

func folderExists(name string) error {
	return &FolderError{Name: name, Reason: "there is a folder of that name", Err: ErrExists}
}

// folderName returns the name of a folder as it is kept, or a [FolderError].
func folderName(name string) (string, error) {
	if !utf8.ValidString(name) {
		return "", &FolderError{Name: name, Reason: "a name is UTF-8"}
	}
	name = norm.NFC.String(name)
	if len(name) > maxFolderName {
		return "", &FolderError{Name: name[:maxLevel], Reason: fmt.Sprintf("a name has at most %d bytes", maxFolderName)}
	}
	levels := strings.Split(name, separator)
	for _, level := range levels {
		switch {
		case level == "":
			return "", &FolderError{Name: name, Reason: "a name has no empty levels"}
		case level == "." || level == "..":
			return "", &FolderError{Name: name, Reason: "no level of a name is . or .."}
		case len(level) > maxLevel:
			return "", &FolderError{Name: name, Reason: fmt.Sprintf("a level of a name has at most %d bytes", maxLevel)}
		}
	}
	// * and % could not be told from patterns in LIST; U+2028 and U+2029 end lines.
	for _, r := range name {
		if unicode.IsControl(r) || r == '*' || r == '%' || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
			return "", &FolderError{Name: name, Reason: "a name has no control characters and none of * and %"}
		}
	}
	if strings.EqualFold(levels[0], folderInbox) {
		name = folderInbox + name[len(folderInbox):]
	}
	return name, nil
}

const folderColumns = "f.n, f.name, f.special, f.uid_validity, f.uid_next, EXISTS (SELECT 1 FROM subscriptions s WHERE s.name = f.name)"

func (f *Folder) fields() []any {
	return []any{&f.ID, &f.Name, &f.Special, &f.UIDValidity, &f.UIDNext, &f.Subscribed}
}

// Folders lists all folders: INBOX first, the others by name.
func (a *Account) Folders(ctx context.Context) ([]Folder, error) {
	var list []Folder
	return list, each(ctx, a.db, "SELECT "+folderColumns+" FROM folders f ORDER BY f.name <> 'INBOX', f.name", nil, func(rows *sql.Rows) error {
		var f Folder
		err := rows.Scan(f.fields()...)
		list = append(list, f)
		return err
	})
}

// Subscriptions lists the names that are subscribed, also those of folders that are
// there no more: RFC 9051 section 6.3.7 forbids to drop them.
func (a *Account) Subscriptions(ctx context.Context) ([]string, error) {
	var list []string
	return list, each(ctx, a.db, "SELECT name FROM subscriptions ORDER BY name", nil, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		list = append(list, name)
		return err
	})
}

// FolderStatus returns a folder and what is in it.
func (a *Account) FolderStatus(ctx context.Context, folder int64) (FolderStatus, error) {
	var s FolderStatus
	err := a.db.QueryRowContext(ctx, "SELECT "+folderColumns+`, count(p.uid), coalesce(sum(p.flags & ?1 = 0), 0), coalesce(sum(p.flags & ?2 <> 0), 0), coalesce(sum(p.size), 0)
		FROM folders f LEFT JOIN places p ON p.folder = f.n WHERE f.n = ?3 GROUP BY f.n`, FlagSeen, FlagDeleted, folder).
		Scan(append(s.Folder.fields(), &s.Messages, &s.Unseen, &s.Deleted, &s.Size)...)
	if errors.Is(err, sql.ErrNoRows) {
		return s, folderGone(folder)
	}
	return s, err
}

func folderGone(folder int64) error { return fmt.Errorf("folder %d: %w", folder, ErrNotFound) }

// FolderNamed returns the folder of a name.
func (a *Account) FolderNamed(ctx context.Context, name string) (Folder, error) {
	kept, err := folderName(name)
	if err != nil {
		return Folder{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return findFolder(ctx, a.db, kept)
}

func findFolder(ctx context.Context, q querier, name string) (f Folder, err error) {
	err = q.QueryRowContext(ctx, "SELECT "+folderColumns+" FROM folders f WHERE f.name = ?", name).Scan(f.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return f, fmt.Errorf("folder %q: %w", name, ErrNotFound)
	}
	return f, err
}

// CreateFolder makes a folder, and those above it that are missing.
func (a *Account) CreateFolder(ctx context.Context, name string) (f Folder, err error) {
	name, err = folderName(name)
	if err != nil {
		return Folder{}, err
	}
	err = a.write(ctx, func(tx *sql.Tx) error {
		f, err = a.createFolder(ctx, tx, name)
		return err
	})
	return f, err
}

func (a *Account) createFolder(ctx context.Context, tx *sql.Tx, name string) (Folder, error) {
	if _, err := findFolder(ctx, tx, name); err == nil {
		return Folder{}, folderExists(name)
	} else if !errors.Is(err, ErrNotFound) {
		return Folder{}, err
	}
	if err := a.createParents(ctx, tx, name); err != nil {
		return Folder{}, err
	}
	if err := insertFolder(ctx, tx, name, a.now()); err != nil {
		return Folder{}, err
	}
	return findFolder(ctx, tx, name)
}

// createParents makes the folders above a name that are missing.
func (a *Account) createParents(ctx context.Context, tx *sql.Tx, name string) error {
	for i := 1; i < len(name); i++ {
		if name[i:i+1] != separator {
			continue
		}
		if _, err := findFolder(ctx, tx, name[:i]); err == nil {
			continue
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		if err := insertFolder(ctx, tx, name[:i], a.now()); err != nil {
			return err
		}
	}
	return nil
}

func insertFolder(ctx context.Context, tx *sql.Tx, name string, now time.Time) error {
	var count int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM folders").Scan(&count); err != nil {
		return err
	}
	if count >= maxFolders {
		return &FolderError{Name: name, Reason: fmt.Sprintf("there are %d folders already", maxFolders)}
	}
	validity, err := newValidity(ctx, tx, now)
	if err != nil {
		return err
	}
	special := ""
	for _, f := range firstFolders {
		if f.name == name {
			special = f.special
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO folders (name, special, uid_validity)
		VALUES (?1, CASE WHEN EXISTS (SELECT 1 FROM folders WHERE special = ?2) THEN '' ELSE ?2 END, ?3)`, name, special, validity)
	return err
}

// newValidity returns a uid_validity: the time in seconds, or more if that was given
// already. So it is another one than any folder of the account ever had, and also than
// those that were given after the state that was put back from a backup.
func newValidity(ctx context.Context, tx *sql.Tx, now time.Time) (int64, error) {
	was, err := getMeta(ctx, tx, metaValidity)
	if err != nil {
		return 0, err
	}
	v := max(1, min(now.Unix(), 1<<32-1))
	if len(was) == 8 {
		v = max(v, int64(binary.BigEndian.Uint64(was))+1)
	}
	if v > 1<<32-1 {
		return 0, errors.New("no uid validity is left: the clock was far ahead once")
	}
	return v, setMeta(ctx, tx, metaValidity, binary.BigEndian.AppendUint64(nil, uint64(v)))
}

// makeFirstFolders makes the folders that every account has.
func makeFirstFolders(ctx context.Context, tx *sql.Tx, now time.Time) error {
	for _, f := range firstFolders {
		if err := insertFolder(ctx, tx, f.name, now); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO subscriptions VALUES (?)", f.name); err != nil {
			return err
		}
	}
	return nil
}

// RenameFolder gives a folder, and all below it, another name. A special use stays with
// it. Renaming INBOX moves its messages into a new folder (RFC 9051 section 6.3.6).
func (a *Account) RenameFolder(ctx context.Context, from, to string) error {
	from, err := folderName(from)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if to, err = folderName(to); err != nil {
		return err
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		f, err := findFolder(ctx, tx, from)
		if err != nil {
			return err
		}
		if from == folderInbox {
			into, err := a.createFolder(ctx, tx, to)
			if err != nil {
				return err
			}
			_, _, err = a.transfer(ctx, tx, f.ID, into.ID, nil, true)
			return err
		}
		if strings.HasPrefix(to, from+separator) {
			return &FolderError{Name: to, Reason: "a folder cannot be moved below itself"}
		}
		if err := a.createParents(ctx, tx, to); err != nil {
			return err
		}
		return a.renameTree(ctx, tx, from, to)
	})
}

// renameTree renames a folder and all below it. A subscription counts for the new names
// too; the old ones stay subscribed, as RFC 9051 has it.
func (a *Account) renameTree(ctx context.Context, tx *sql.Tx, from, to string) error {
	var names []string
	err := each(ctx, tx, "SELECT name FROM folders WHERE name = ?1 OR substr(name, 1, length(?1) + 1) = ?1 || '/' ORDER BY name", []any{from}, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		renamed := to + name[len(from):]
		if len(renamed) > maxFolderName {
			return &FolderError{Name: to, Reason: "the name of a folder below it would be too long"}
		}
		if _, err := findFolder(ctx, tx, renamed); err == nil {
			return folderExists(renamed)
		} else if !errors.Is(err, ErrNotFound) {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE folders SET name = ? WHERE name = ?", renamed, name); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO subscriptions SELECT ? FROM subscriptions WHERE name = ?", renamed, name); err != nil {
			return err
		}
	}
	return nil
}

// DeleteFolder removes a folder and what is in it; those below it stay. INBOX and the
// folder of sent mail cannot be removed.
func (a *Account) DeleteFolder(ctx context.Context, name string) error {
	name, err := folderName(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		f, err := findFolder(ctx, tx, name)
		switch {
		case err != nil:
			return err
		case name == folderInbox:
			return &FolderError{Name: name, Reason: "INBOX cannot be deleted"}
		case f.Special == SpecialSent:
			return &FolderError{Name: name, Reason: "sent mail is filed here, it cannot be deleted"}
		}
		gone, err := a.selectPlaces(ctx, tx, f.ID, nil)
		if err != nil {
			return err
		}
		if err := a.removePlaces(ctx, tx, f.ID, gone); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM folders WHERE n = ?", f.ID)
		return err
	})
}

// SubscribeFolder keeps whether programs list a folder among those that are used. Only a
// folder that exists can be subscribed; the subscription outlives it.
func (a *Account) SubscribeFolder(ctx context.Context, name string, on bool) error {
	name, err := folderName(name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		if !on {
			_, err := tx.ExecContext(ctx, "DELETE FROM subscriptions WHERE name = ?", name)
			return err
		}
		if _, err := findFolder(ctx, tx, name); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO subscriptions VALUES (?)", name)
		return err
	})
}
