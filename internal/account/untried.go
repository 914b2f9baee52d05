package account

import "sync"

// untriedBytes bounds what untried holds.
const untriedBytes = 4 << 20

// untried are the rows of mail that counts as offered from the beginning, see enqueueFor, and
// was not, with the envelopes that go to the node next: they need not be read again.
type untried struct {
	mu    sync.Mutex
	rows  map[int64]untriedMail
	bytes int
}

type untriedMail struct {
	id     MailID
	sealed *sealedMail // nil: only the database has it
}

// put adds a row. If it is not written after all, it may become the row of another mail.
func (u *untried) put(n int64, id MailID, m *sealedMail) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop(n)
	if u.rows == nil {
		u.rows = make(map[int64]untriedMail)
	}
	if u.bytes+m.size() > untriedBytes {
		m = nil
	}
	u.rows[n] = untriedMail{id, m}
	u.bytes += m.size()
}

// take removes a row and reports whether it was there.
func (u *untried) take(n int64, id MailID) (*sealedMail, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	m, ok := u.drop(n)
	if !ok || m.id != id {
		return nil, false
	}
	return m.sealed, true
}

// forget drops the envelopes of a row that is sealed anew.
func (u *untried) forget(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if m, ok := u.drop(n); ok {
		u.rows[n] = untriedMail{id: m.id}
	}
}

func (u *untried) drop(n int64) (m untriedMail, ok bool) {
	m, ok = u.rows[n]
	delete(u.rows, n)
	u.bytes -= m.sealed.size()
	return m, ok
}

// size returns how many bytes the envelopes have.
func (s *sealedMail) size() (n int) {
	if s == nil {
		return 0
	}
	for _, e := range s.envelopes {
		n += len(e)
	}
	return n
}
