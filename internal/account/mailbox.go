package account

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/asmtp/asmtp/passport"
)

// Place is a mail in a folder. The same mail may be in several, with flags of its own in
// each.
type Place struct {
	UID      uint32 // never given again in its folder
	Mail     MailID
	Flags    Flag
	Keywords []string  // sorted
	Date     time.Time // of arrival or filing: INTERNALDATE
	Size     int64     // bytes of the message as it is presented
}

const placeColumns = "p.uid, p.id, p.flags, p.keywords, p.date, p.size"

// placeRow is a Place as it is scanned.
type placeRow struct {
	p        Place
	keywords string
	date     int64
}

func (r *placeRow) fields() []any {
	return []any{&r.p.UID, into{r.p.Mail[:]}, &r.p.Flags, &r.keywords, &r.date, &r.p.Size}
}

func (r *placeRow) place() Place {
	r.p.Keywords, r.p.Date = splitKeywords(r.keywords), fromMillis(r.date)
	return r.p
}

// placed is a place as changing it needs it.
type placed struct {
	uid      uint32
	mail     int64
	id       MailID
	flags    Flag
	keywords []string
	date     int64
	size     int64
}

// jumpAfter is how long after the last UID of a folder the next one is at least as high
// as the age of the folder in seconds. So the UIDs that a database from a backup gives
// were not given before by the database that it replaced, as long as no folder got more
// than a message a second all its life.
const jumpAfter = time.Minute

// putPlace puts a mail into a folder, as the newest there, and returns its UID.
func (a *Account) putPlace(ctx context.Context, tx *sql.Tx, folder int64, p placed) (uint32, error) {
	uids, err := a.putPlaces(ctx, tx, folder, []placed{p})
	if err != nil {
		return 0, err
	}
	return uids[0], nil
}

// putPlaces puts mails into a folder, in their order, and returns their UIDs.
func (a *Account) putPlaces(ctx context.Context, tx *sql.Tx, folder int64, list []placed) ([]uint32, error) {
	var next, validity, last int64
	err := tx.QueryRowContext(ctx, "SELECT uid_next, uid_validity, last_given FROM folders WHERE n = ?", folder).Scan(&next, &validity, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, folderGone(folder)
	}
	if err != nil || len(list) == 0 {
		return nil, err
	}
	now := a.now().Unix()
	if last > 0 && now-last > int64(jumpAfter/time.Second) {
		next = max(next, min(now-validity, 1<<31))
	}
	if next+int64(len(list)) > 1<<32-1 {
		return nil, &FolderError{Name: fmt.Sprint(folder), Reason: "it had so many messages that no UID is left; move them to a new folder"}
	}
	change, err := a.stamp(ctx, tx)
	if err != nil {
		return nil, err
	}
	uids := make([]uint32, len(list))
	for i, p := range list {
		_, err = tx.ExecContext(ctx, "INSERT INTO places (folder, uid, mail, id, flags, keywords, date, size, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			folder, next, p.mail, p.id[:], p.flags, joinKeywords(p.keywords), p.date, p.size, change)
		if err != nil {
			return nil, err
		}
		uids[i], next = uint32(next), next+1
	}
	_, err = tx.ExecContext(ctx, "UPDATE folders SET uid_next = ?, last_given = ? WHERE n = ?", next, max(now, 1), folder)
	return uids, err
}

// specialFolder returns the folder with a use; INBOX for none.
func specialFolder(ctx context.Context, q querier, special string) (n int64, err error) {
	if special == "" {
		err = q.QueryRowContext(ctx, "SELECT n FROM folders WHERE name = ?", folderInbox).Scan(&n)
	} else {
		err = q.QueryRowContext(ctx, "SELECT n FROM folders WHERE special = ?", special).Scan(&n)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("folder %q: %w", special, ErrTampered)
	}
	return n, err
}

// placeArrived puts a mail that arrived, or a notice, into INBOX.
func (a *Account) placeArrived(ctx context.Context, tx *sql.Tx, mail int64, id MailID, size int64) error {
	folder, err := specialFolder(ctx, tx, "")
	if err != nil {
		return err
	}
	_, err = a.putPlace(ctx, tx, folder, placed{mail: mail, id: id, date: millis(a.now()), size: size})
	return err
}

// placeSent puts a mail that was sent into the folder for that, unless the program that
// sent it has filed a copy there already.
func (a *Account) placeSent(ctx context.Context, tx *sql.Tx, mail int64, id MailID, size int64, messageID string) error {
	folder, err := specialFolder(ctx, tx, SpecialSent)
	if err != nil {
		return err
	}
	if messageID != "" {
		var n int
		err := tx.QueryRowContext(ctx, `SELECT count(*) FROM mails m JOIN places p ON p.mail = m.n
			WHERE m.message_id = ? AND m.message_id <> '' AND m.folder = ? AND m.folder > 0 AND p.folder = ?`, messageID, filed, folder).Scan(&n)
		if err != nil {
			return err
		}
		if n > 0 {
			_, err := tx.ExecContext(ctx, "UPDATE mails SET deleted = 1 WHERE n = ?", mail)
			return err
		}
	}
	_, err = a.putPlace(ctx, tx, folder, placed{mail: mail, id: id, flags: FlagSeen, date: millis(a.now()), size: size})
	return err
}

// uidList is a list of UIDs as an argument for json_each.
func uidList(uids []uint32) string {
	b, err := json.Marshal(uids)
	if err != nil {
		return "[]" // not reached
	}
	return string(b)
}

// selectPlaces returns those places of a folder that are there, by UID; nil: all. A folder
// that is gone is [ErrNotFound].
func (a *Account) selectPlaces(ctx context.Context, q querier, folder int64, uids []uint32) ([]placed, error) {
	query, args := "SELECT p.uid, p.mail, p.id, p.flags, p.keywords, p.date, p.size FROM places p WHERE p.folder = ?", []any{folder}
	if uids != nil {
		query, args = query+" AND p.uid IN (SELECT value FROM json_each(?))", append(args, uidList(uids))
	}
	var list []placed
	err := each(ctx, q, query+" ORDER BY p.uid", args, func(rows *sql.Rows) error {
		var p placed
		var keywords string
		err := rows.Scan(&p.uid, &p.mail, into{p.id[:]}, &p.flags, &keywords, &p.date, &p.size)
		p.keywords = splitKeywords(keywords)
		list = append(list, p)
		return err
	})
	if err != nil || len(list) > 0 {
		return list, err
	}
	var n int64
	if err = q.QueryRowContext(ctx, "SELECT n FROM folders WHERE n = ?", folder).Scan(&n); errors.Is(err, sql.ErrNoRows) {
		err = folderGone(folder)
	}
	return nil, err
}

// removePlaces removes places. Mails that are in no folder any more go with them.
func (a *Account) removePlaces(ctx context.Context, tx *sql.Tx, folder int64, list []placed) error {
	if len(list) == 0 {
		return nil
	}
	change, err := a.stamp(ctx, tx)
	if err != nil {
		return err
	}
	for _, p := range list {
		if _, err := tx.ExecContext(ctx, "DELETE FROM places WHERE folder = ? AND uid = ?", folder, p.uid); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO expunged (folder, changed, uid) VALUES (?, ?, ?)", folder, change, p.uid); err != nil {
			return err
		}
	}
	if err := forgetExpunged(ctx, tx, folder); err != nil {
		return err
	}
	for _, p := range list {
		if err := dropMail(ctx, tx, p.mail); err != nil {
			return err
		}
	}
	return dropBodies(ctx, tx)
}

// dropMail removes a mail that is in no folder. One that is on its way goes on, and what
// is known of its delivery stays.
func dropMail(ctx context.Context, tx *sql.Tx, mail int64) error {
	var needed int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM places WHERE mail = ?", mail).Scan(&needed); err != nil || needed > 0 {
		return err
	}
	for _, query := range []string{"DELETE FROM search WHERE rowid = ?", "DELETE FROM unindexed WHERE mail = ?", "DELETE FROM shown WHERE mail = ?"} {
		if _, err := tx.ExecContext(ctx, query, mail); err != nil {
			return err
		}
	}
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM outgoing WHERE mail = ?", mail).Scan(&needed); err != nil {
		return err
	}
	query := "DELETE FROM mails WHERE n = ?"
	if needed > 0 {
		query = "UPDATE mails SET deleted = 1 WHERE n = ?"
	}
	_, err := tx.ExecContext(ctx, query, mail)
	return err
}

// ChangeFlags changes the flags of messages; those that are gone are left out.
func (a *Account) ChangeFlags(ctx context.Context, folder int64, uids []uint32, how FlagChange, flags Flag, keywords []string) error {
	keywords, err := checkKeywords(keywords)
	if err != nil {
		return err
	}
	return a.write(ctx, func(tx *sql.Tx) error {
		list, err := a.selectPlaces(ctx, tx, folder, uids)
		if err != nil {
			return err
		}
		return a.changeFlags(ctx, tx, folder, list, how, flags, keywords)
	})
}

func (a *Account) changeFlags(ctx context.Context, tx *sql.Tx, folder int64, list []placed, how FlagChange, flags Flag, keywords []string) error {
	var change int64
	for _, p := range list {
		f, k, err := how.apply(p.flags, p.keywords, flags, keywords)
		if err != nil {
			return err
		}
		if f == p.flags && joinKeywords(k) == joinKeywords(p.keywords) {
			continue
		}
		if change == 0 {
			if change, err = a.stamp(ctx, tx); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, "UPDATE places SET flags = ?, keywords = ?, changed = ? WHERE folder = ? AND uid = ?", f, joinKeywords(k), change, folder, p.uid)
		if err != nil {
			return err
		}
		if f&FlagSeen != 0 && p.flags&FlagSeen == 0 {
			if err := a.noteRead(ctx, tx, p.mail); err != nil {
				return err
			}
		}
	}
	return nil
}

// noteRead tells the sender, if the account does that, when a mail is read first.
func (a *Account) noteRead(ctx context.Context, tx *sql.Tx, mail int64) error {
	if !a.o.ReadReceipts {
		return nil
	}
	if err := a.queueReadReceipt(ctx, tx, mail); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE mails SET read = 1 WHERE n = ?", mail)
	return err
}

// CopyPlaces copies messages into another folder, or the same one. It returns the UIDs of
// those that were there, and in the same order those of the copies.
func (a *Account) CopyPlaces(ctx context.Context, from, to int64, uids []uint32) (src, dst []uint32, err error) {
	err = a.write(ctx, func(tx *sql.Tx) error {
		src, dst, err = a.transfer(ctx, tx, from, to, uids, false)
		return err
	})
	return src, dst, err
}

// MovePlaces is CopyPlaces and the removal of what was copied, at once.
func (a *Account) MovePlaces(ctx context.Context, from, to int64, uids []uint32) (src, dst []uint32, err error) {
	err = a.write(ctx, func(tx *sql.Tx) error {
		src, dst, err = a.transfer(ctx, tx, from, to, uids, true)
		return err
	})
	return src, dst, err
}

func (a *Account) transfer(ctx context.Context, tx *sql.Tx, from, to int64, uids []uint32, move bool) (src, dst []uint32, err error) {
	list, err := a.selectPlaces(ctx, tx, from, uids)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range list {
		src = append(src, p.uid)
	}
	if dst, err = a.putPlaces(ctx, tx, to, list); err == nil && move {
		err = a.removePlaces(ctx, tx, from, list)
	}
	return src, dst, err
}

// Expunge removes those of the messages (nil: of all) that are marked as deleted, and
// returns which those were.
func (a *Account) Expunge(ctx context.Context, folder int64, uids []uint32) (gone []uint32, err error) {
	err = a.write(ctx, func(tx *sql.Tx) error {
		gone = nil
		list, err := a.selectPlaces(ctx, tx, folder, uids)
		if err != nil {
			return err
		}
		var marked []placed
		for _, p := range list {
			if p.flags&FlagDeleted != 0 {
				marked, gone = append(marked, p), append(gone, p.uid)
			}
		}
		return a.removePlaces(ctx, tx, folder, marked)
	})
	return gone, err
}

// CheckRecipient reports whether mail can be sent to an address, as Send would.
func (a *Account) CheckRecipient(ctx context.Context, address string) error {
	if r := a.knownRoster(); r != nil {
		if _, err := r.dir.find(address); err == nil {
			return nil
		}
	}
	dir, err := a.directory(ctx, a.db)
	if err == nil {
		_, err = dir.find(address)
	}
	return err
}

// Addresses returns what the user's own address may be written as.
func (a *Account) Addresses() []string {
	return []string{a.name + "@" + domain, idAddress(a.ID())}
}

// CheckSender reports whether an address is the user's own, by a [NoContactError].
func (a *Account) CheckSender(_ context.Context, address string) error {
	d := newDirectory(a.ID(), a.name, map[passport.ID]*peer{a.ID(): {id: a.ID(), name: a.name, self: true}})
	_, err := d.find(address)
	return err
}
