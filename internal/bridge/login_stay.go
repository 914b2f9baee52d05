package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/asmtp/asmtp/internal/account"
)

// errRevoked is why a connection ends whose password is no more.
var errRevoked = errors.New(`the password was revoked: "asmtp-cli bridge password NAME" makes a new one`)

// passwordsAgain is how often the passwords are looked at without a sign that they changed:
// while an account has no node, it does not see what other processes do.
const passwordsAgain = time.Minute

// stays are the connections that are logged in to an account.
type stays struct {
	mu  sync.Mutex
	all map[*stay]struct{}
}

type stay struct {
	password account.PasswordInfo
	end      func() // ends the connection; may take a moment
}

// stay notes that a connection is logged in with this password until ctx ends. It reports
// false if the password was revoked meanwhile.
func (s *served) stay(ctx context.Context, password account.PasswordInfo, end func()) (bool, error) {
	it := &stay{password, end}
	s.stays.mu.Lock()
	if s.stays.all == nil {
		s.stays.all = make(map[*stay]struct{})
	}
	s.stays.all[it] = struct{}{}
	s.stays.mu.Unlock()
	leave := func() {
		s.stays.mu.Lock()
		defer s.stays.mu.Unlock()
		delete(s.stays.all, it)
	}
	// Once more, since watchPasswords did not know of the connection until now.
	list, err := s.acc.Passwords(ctx)
	if err != nil || !isAmong(list, password) {
		leave()
		return false, err
	}
	context.AfterFunc(ctx, leave)
	return true, nil
}

// isAmong reports whether a password is one of those: not another one of its name.
func isAmong(list []account.PasswordInfo, p account.PasswordInfo) bool {
	return slices.ContainsFunc(list, func(l account.PasswordInfo) bool { return l.Name == p.Name && l.Created.Equal(p.Created) })
}

// watchPasswords ends the connections whose password is revoked, until ctx ends.
func (b *Bridge) watchPasswords(ctx context.Context, s *served) {
	for ctx.Err() == nil {
		changed := s.acc.PasswordsChanged()
		if list, err := s.acc.Passwords(ctx); err == nil {
			s.endOthers(list)
		} else if ctx.Err() == nil {
			b.log.Error("passwords are not known", "account", s.acc.Name(), "error", err)
		}
		again := time.NewTimer(passwordsAgain)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-again.C:
		}
		again.Stop()
	}
}

// endOthers ends the connections with passwords that are not in the list.
func (s *served) endOthers(list []account.PasswordInfo) {
	var gone []*stay
	s.stays.mu.Lock()
	for it := range s.stays.all {
		if !isAmong(list, it.password) {
			gone = append(gone, it)
			delete(s.stays.all, it)
		}
	}
	s.stays.mu.Unlock()
	var all sync.WaitGroup
	for _, it := range gone {
		all.Go(it.end)
	}
	all.Wait()
}
