package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/asmtp/asmtp/internal/account"
)

// maxUser bounds the name of a login: a petname and the domain are shorter.
const maxUser = 256

// errLogin is the error for a wrong password or an unknown user; which of both is not told.
// Its text goes to the mail program.
var errLogin = errors.New(`wrong user or password: "asmtp-cli bridge password NAME" makes one for a mail program`)

// errManyLogins is the same where so many wrong passwords are waiting for their answer
// that the connection is to be closed.
var errManyLogins = fmt.Errorf("too many logins failed: %w", errLogin)

// served is an account that the bridge serves.
type served struct {
	acc   *account.Account
	home  string // the folder as the user gave it, for texts; may be empty
	stays stays
}

// calls reports whether a login names the account: by petname, passport id, or either as
// an address. Case does not matter, as in addresses.
func (s *served) calls(user string) bool {
	if strings.EqualFold(user, s.acc.Name()) || strings.EqualFold(user, s.acc.ID().String()) {
		return true
	}
	for _, a := range s.acc.Addresses() {
		if strings.EqualFold(user, a) {
			return true
		}
	}
	return false
}

// login finds the account that user and password open. A wrong password is answered
// after a while; login then waits, until ctx ends. The error is errLogin, errManyLogins,
// that of ctx, or one of reading the database. end is called if the password is revoked
// before ctx ends, which is the connection's.
//
// Passwords are compared by the account, by their hash. If several accounts have the same
// name the password decides.
func (b *Bridge) login(ctx context.Context, remote net.Addr, user, password string, end func()) (*served, error) {
	if len(user) > maxUser {
		user = user[:maxUser]
	}
	from := sourceOf(remote, strings.ToLower(user))
	known := false
	for _, s := range b.accounts {
		if !s.calls(user) {
			continue
		}
		known = true
		p, ok, err := s.acc.CheckPassword(ctx, password)
		if ok && err == nil {
			ok, err = s.stay(ctx, p, end)
		}
		if err != nil {
			return nil, fmt.Errorf("check a password: %w", err)
		}
		if ok {
			b.throttle.succeed(from)
			b.log.Debug("login", "account", s.acc.Name(), "password", p.Name)
			return s, nil
		}
	}
	if !known && len(b.accounts) > 0 {
		// As much work as for a user that exists.
		if _, _, err := b.accounts[0].acc.CheckPassword(ctx, password); err != nil {
			return nil, fmt.Errorf("check a password: %w", err)
		}
	}
	b.log.Warn("login refused", "from", from.host)
	if !b.throttle.fail(ctx, from) {
		return nil, errManyLogins
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return nil, errLogin
}

// limit is the largest mail that the account's mesh takes.
func (s *served) limit(ctx context.Context) int64 { return s.acc.MailLimit(ctx) }
