package account

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"mime"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/asmtp/asmtp/internal/message"
)

const (
	// maxIndexed is how many bytes of a mail's text can be searched for.
	maxIndexed = 256 << 10
	// indexBatch is how many mails are indexed in one transaction.
	indexBatch = 64
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

// indexPending indexes what is not indexed yet.
func (a *Account) indexPending(ctx context.Context) error {
	for {
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
		dir, err := a.directory(ctx)
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
		if err := a.write(ctx, func(tx *sql.Tx) error { return index(ctx, tx, list, found) }); err != nil {
			return err
		}
	}
}

func index(ctx context.Context, tx *sql.Tx, list []int64, found []texts) error {
	for i, n := range list {
		r, err := tx.ExecContext(ctx, "DELETE FROM unindexed WHERE mail = ?", n)
		if err != nil {
			return err
		}
		if done, err := r.RowsAffected(); err != nil || done == 0 {
			if err != nil {
				return err
			}
			continue // by another process, or the mail is gone
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO search (rowid, text) VALUES (?, ?)", n, found[i].header+"\n"+found[i].body); err != nil {
			return err
		}
	}
	return nil
}

// keepIndexing indexes what arrived when nothing changed for a while.
func (a *Account) keepIndexing(ctx context.Context) error {
	for {
		changed := a.change()
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
		if err := a.indexPending(ctx); err != nil {
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
	if err := a.indexPending(ctx); err != nil {
		return nil, err
	}
	folded := fold(q.Text)
	query, args := "SELECT p.uid, p.mail FROM places p WHERE p.folder = ?", []any{folder}
	if match := trigrams(folded); match != "" {
		query, args = query+" AND p.mail IN (SELECT rowid FROM search WHERE search MATCH ?)", append(args, match)
	}
	var list []placed
	err := each(ctx, a.db, query+" ORDER BY p.uid", args, func(rows *sql.Rows) error {
		var p placed
		err := rows.Scan(&p.uid, &p.mail)
		list = append(list, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	dir, err := a.directory(ctx)
	if err != nil {
		return nil, err
	}
	var uids []uint32
	for _, p := range list {
		if folded != "" {
			t, err := a.mailTexts(ctx, dir, p.mail)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if !t.has(folded, q.BodyOnly) {
				continue
			}
		}
		uids = append(uids, p.uid)
	}
	return uids, nil
}

// searchWords returns the mails of a list in which all words stand.
func (a *Account) searchWords(ctx context.Context, dir *directory, folder int64, words []string) (map[int64]bool, error) {
	if err := a.indexPending(ctx); err != nil {
		return nil, err
	}
	query, args := "SELECT p.mail FROM places p WHERE p.folder = ?", []any{folder}
	for i, w := range words {
		words[i] = fold(w)
		if match := trigrams(words[i]); match != "" {
			query, args = query+" AND p.mail IN (SELECT rowid FROM search WHERE search MATCH ?)", append(args, match)
		}
	}
	var list []int64
	err := each(ctx, a.db, query, args, func(rows *sql.Rows) error {
		var n int64
		err := rows.Scan(&n)
		list = append(list, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	found := make(map[int64]bool)
	for _, n := range list {
		t, err := a.mailTexts(ctx, dir, n)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all := true
		for _, w := range words {
			all = all && t.has(w, false)
		}
		if all {
			found[n] = true
		}
	}
	return found, nil
}
