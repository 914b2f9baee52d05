package account

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"mime"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/asmtp/asmtp/internal/message"
)

const (
	// maxIndexed is how many bytes of a mail's text can be searched for.
	maxIndexed = 256 << 10
	// indexBatch is how many mails are read to be indexed, and indexTime how long others
	// wait for a transaction that does it.
	indexBatch = 64
	indexTime  = 20 * time.Millisecond
	// quiet is how long nothing changes before what arrived is indexed.
	quiet = 2 * time.Second
	// maxTrigrams bounds a query; the rest of a long text is compared with what it finds.
	maxTrigrams = 64
)

// toIndex notes that a mail's text can be searched for. It is indexed later: before the
// next search, or when nothing happens for a while.
func toIndex(ctx context.Context, tx *sql.Tx, mail int64) error {
	_, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO unindexed VALUES (?)", mail)
	return err
}

// texts is what is searched in a mail, folded.
type texts struct{ header, body string }

func (t *texts) has(folded string, bodyOnly bool) bool {
	return strings.Contains(t.body, folded) || !bodyOnly && strings.Contains(t.header, folded)
}

// fold returns text without case and without accents.
func fold(text string) string {
	ascii := true
	for i := 0; i < len(text) && ascii; i++ {
		ascii = text[i] < 0x80
	}
	if ascii {
		return strings.ToLower(text)
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(strings.ToValidUTF8(text, "")))
}

// mailTexts reads what is searched in a mail.
func (a *Account) mailTexts(ctx context.Context, dir *directory, mail int64) (t texts, err error) {
	var name string
	s, err := a.summaries(ctx, dir, "FROM mails m WHERE m.n = ? AND m.id IS NOT NULL", mail)
	if err != nil || len(s) == 0 {
		return t, errors.Join(err, ErrNotFound)
	}
	name = s[0].From
	in, err := a.openMail(ctx, mail)
	if err != nil {
		return t, err
	}
	defer in.Close()
	v, err := message.Parse(in)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return t, err
	}
	header := unfold(string(in.Header()))
	if decoded, err := new(mime.WordDecoder).DecodeHeader(header); err == nil {
		header = decoded
	}
	body := v.Text
	if len(body) > maxIndexed {
		body = body[:maxIndexed]
	}
	for _, f := range v.Attachments {
		body += "\n" + f.Name
	}
	return texts{fold(v.Subject + "\n" + name + "\n" + header), fold(body)}, nil
}

func unfold(header string) string {
	return strings.NewReplacer("\r\n ", " ", "\r\n\t", " ", "\n ", " ", "\n\t", " ").Replace(header)
}

// indexPending indexes what is not indexed yet, until there is nothing or stop is closed.
func (a *Account) indexPending(ctx context.Context, stop <-chan struct{}) error {
	for !isClosed(stop) {
		var list []int64
		err := each(ctx, a.db, "SELECT mail FROM unindexed ORDER BY mail LIMIT ?", []any{indexBatch}, func(rows *sql.Rows) error {
			var n int64
			err := rows.Scan(&n)
			list = append(list, n)
			return err
		})
		if err != nil || len(list) == 0 {
			return err
		}
		dir, err := a.directory(ctx, a.db)
		if err != nil {
			return err
		}
		found := make([]texts, len(list))
		for i, n := range list {
			if found[i], err = a.mailTexts(ctx, dir, n); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				a.log.Warn("a mail cannot be searched for", "error", err)
			}
		}
		for len(list) > 0 && !isClosed(stop) {
			done := 0
			err := a.write(ctx, func(tx *sql.Tx) (err error) {
				done, err = index(ctx, tx, list, found)
				return err
			})
			if err != nil {
				return err
			}
			list, found = list[done:], found[done:]
		}
	}
	return nil
}

// index indexes mails for some time, and returns how many it did.
func index(ctx context.Context, tx *sql.Tx, list []int64, found []texts) (done int, err error) {
	for begun := time.Now(); done < len(list) && (done == 0 || time.Since(begun) < indexTime); done++ {
		n := list[done]
		r, err := tx.ExecContext(ctx, "DELETE FROM unindexed WHERE mail = ?", n)
		if err != nil {
			return 0, err
		}
		if rows, err := r.RowsAffected(); err != nil {
			return 0, err
		} else if rows == 0 {
			continue // by another process, or the mail is gone
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO search (rowid, text) VALUES (?, ?)", n, found[done].header+"\n"+found[done].body); err != nil {
			return 0, err
		}
	}
	return done, nil
}

// keepIndexing indexes what arrived when nothing changed for a while.
func (a *Account) keepIndexing(ctx context.Context) error {
	for {
		changed := a.change(changedIndex)
		timer := time.NewTimer(quiet)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
			if err := pause(ctx, quiet/4); err != nil {
				return err
			}
			continue
		case <-timer.C:
		}
		if err := a.indexPending(ctx, changed); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// trigrams returns the query of the index for a folded text; "" if it is too short. What
// it finds is read to be sure: the index does not keep where its trigrams stand.
func trigrams(folded string) string {
	runes := []rune(folded)
	seen := make(map[string]bool)
	var terms []string
	for i := 0; i+3 <= len(runes) && len(terms) < maxTrigrams; i++ {
		t := string(runes[i : i+3])
		if !seen[t] && !strings.ContainsRune(t, 0) {
			seen[t] = true
			terms = append(terms, `"`+strings.ReplaceAll(t, `"`, `""`)+`"`)
		}
	}
	return strings.Join(terms, " AND ")
}

// TextQuery is a text that is to stand somewhere in a message, whatever its case and
// accents.
type TextQuery struct {
	Text     string
	BodyOnly bool // not in the header
}

// SearchFolder returns the UIDs of the messages of a folder in which a text stands,
// ascending. Of long texts the first 256 KiB are searched.
func (a *Account) SearchFolder(ctx context.Context, folder int64, q TextQuery) ([]uint32, error) {
	found, err := a.search(ctx, folder, []string{q.Text}, q.BodyOnly)
	if err != nil {
		return nil, err
	}
	var uids []uint32
	for _, p := range found {
		uids = append(uids, p.uid)
	}
	return uids, nil
}

// search returns the places of a folder, by UID, in whose mails all of the texts stand.
func (a *Account) search(ctx context.Context, folder int64, wanted []string, bodyOnly bool) ([]placed, error) {
	if err := a.indexPending(ctx, nil); err != nil {
		return nil, err
	}
	query, args := "SELECT p.uid, p.mail FROM places p WHERE p.folder = ?", []any{folder}
	var folded []string
	for _, w := range wanted {
		if w = fold(w); w == "" {
			continue // it stands everywhere
		}
		folded = append(folded, w)
		if match := trigrams(w); match != "" {
			query, args = query+" AND p.mail IN (SELECT rowid FROM search WHERE search MATCH ?)", append(args, match)
		}
	}
	var list []placed
	err := each(ctx, a.db, query+" ORDER BY p.uid", args, func(rows *sql.Rows) error {
		var p placed
		err := rows.Scan(&p.uid, &p.mail)
		list = append(list, p)
		return err
	})
	if err != nil || len(folded) == 0 {
		return list, err
	}
	dir, err := a.directory(ctx, a.db)
	if err != nil {
		return nil, err
	}
	var found []placed
	for _, p := range list {
		t, err := a.mailTexts(ctx, dir, p.mail)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(folded, func(w string) bool { return !t.has(w, bodyOnly) }) {
			found = append(found, p)
		}
	}
	return found, nil
}
