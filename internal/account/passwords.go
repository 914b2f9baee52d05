package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/asmtp/asmtp/noise"
)

const (
	// passwordBytes is how much of a password is random: enough that a fast hash of it
	// tells nobody what it is.
	passwordBytes = 20
	// maxPasswords and maxPasswordName bound the list.
	maxPasswords    = 100
	maxPasswordName = 64
	// usedAgain is how exactly it is kept when a password was used.
	usedAgain = time.Hour
)

// PasswordInfo is a password of a mail program.
type PasswordInfo struct {
	Name          string
	Created, Used time.Time // Used: to the hour; zero for never
}

// PasswordError is the error for a password that cannot be made.
type PasswordError struct{ Name, Reason string }

func (e *PasswordError) Error() string { return fmt.Sprintf("password %q: %s", e.Name, e.Reason) }

var passwordLetters = base32.StdEncoding.WithPadding(base32.NoPadding)

// MakePassword makes the password of a mail program. It is returned this once, and kept
// as a hash. An old one of that name is replaced.
func (a *Account) MakePassword(ctx context.Context, name string) (string, error) {
	if name == "" || len(name) > maxPasswordName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", &PasswordError{name, fmt.Sprintf("a name has 1 to %d bytes, on one line", maxPasswordName)}
	}
	var secret [passwordBytes]byte
	var salt [16]byte
	rand.Read(secret[:])
	rand.Read(salt[:])
	text := strings.ToLower(passwordLetters.EncodeToString(secret[:]))
	hash := passwordHash(salt[:], text)
	err := a.write(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM passwords WHERE name <> ?", name).Scan(&n); err != nil {
			return err
		}
		if n >= maxPasswords {
			return &PasswordError{name, fmt.Sprintf("there are %d passwords; revoke some", n)}
		}
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO passwords (name, salt, hash, created) VALUES (?, ?, ?, ?)", name, salt[:], hash[:], millis(a.now()))
		return err
	})
	if err != nil {
		return "", err
	}
	var groups []string
	for ; len(text) > 0; text = text[4:] {
		groups = append(groups, text[:4])
	}
	return strings.Join(groups, "-"), nil
}

func passwordHash(salt []byte, text string) [32]byte {
	return noise.H32([]byte("asmtp/2 bridge password"), salt, []byte(text))
}

// Passwords lists the passwords of mail programs, by name.
func (a *Account) Passwords(ctx context.Context) ([]PasswordInfo, error) {
	var list []PasswordInfo
	return list, each(ctx, a.db, "SELECT name, created, used FROM passwords ORDER BY name", nil, func(rows *sql.Rows) error {
		p, err := scanPassword(rows)
		list = append(list, p)
		return err
	})
}

// scanPassword reads name, created and used, and what else is in the row.
func scanPassword(rows *sql.Rows, more ...any) (p PasswordInfo, err error) {
	var created, used int64
	err = rows.Scan(append([]any{&p.Name, &created, &used}, more...)...)
	if p.Created = fromMillis(created); used > 0 {
		p.Used = fromMillis(used)
	}
	return p, err
}

// RevokePassword makes a password worthless.
func (a *Account) RevokePassword(ctx context.Context, name string) error {
	return a.write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, "DELETE FROM passwords WHERE name = ?", name)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("password %q: %w", name, ErrNotFound))
		}
		return nil
	})
}

// CheckPassword reports whether a password is one of the account's, and which. Case,
// blanks and hyphens in it do not matter. All are compared, each in constant time.
func (a *Account) CheckPassword(ctx context.Context, password string) (p PasswordInfo, ok bool, err error) {
	if len(password) > 200 {
		return p, false, nil
	}
	text := strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(password))
	now, stale := a.now(), false
	err = each(ctx, a.db, "SELECT name, created, used, salt, hash FROM passwords", nil, func(rows *sql.Rows) error {
		var salt, hash []byte
		info, err := scanPassword(rows, &salt, &hash)
		if err != nil {
			return err
		}
		if got := passwordHash(salt, text); subtle.ConstantTimeCompare(got[:], hash) == 1 {
			p, ok, stale = info, true, now.Sub(info.Used).Abs() > usedAgain
		}
		return nil
	})
	if err == nil && stale {
		err = a.write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE passwords SET used = ? WHERE name = ?", millis(now), p.Name)
			return err
		})
	}
	return p, ok, err
}
