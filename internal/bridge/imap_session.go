package bridge

import (
	"context"
	"errors"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// imapSession is what go-imap calls for the commands of one connection. It does one after
// the other; only watch runs beside the goroutine that reads, which waits for its end.
type imapSession struct {
	server *imapServer
	conn   *imapConn
	lib    *imapserver.Conn
	acc    *imapAccount // nil before the login
	open   *view        // nil while no folder is selected
	reader openReader
}

var (
	_ imapserver.SessionIMAP4rev2   = (*imapSession)(nil)
	_ imapserver.SessionAppendLimit = (*imapSession)(nil)
)

func (s *imapSession) ctx() context.Context { return s.conn.ctx }

func (s *imapSession) isSelected() bool { return s.open != nil }

func (s *imapSession) accountName() string {
	if s.acc == nil {
		return ""
	}
	return s.acc.Name()
}

// Close implements imapserver.Session.
func (s *imapSession) Close() error {
	s.conn.cancel()
	s.Unselect()
	if s.acc != nil {
		s.server.leave(s.acc)
		s.acc = nil
	}
	s.server.remove(s.conn)
	return nil
}

// Login implements imapserver.Session, for LOGIN and AUTHENTICATE PLAIN.
func (s *imapSession) Login(user, password string) error {
	a, err := s.server.o.Login(s.ctx(), s.conn.RemoteAddr(), user, password, func() { s.conn.bye(errRevoked.Error()) })
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return no(imap.ResponseCodeUnavailable, "the bridge is closing")
		}
		return imapserver.ErrAuthFailed
	}
	if s.acc = s.server.enter(a); s.acc == nil {
		return no(imap.ResponseCodeLimit, "this account has too many connections")
	}
	s.conn.loggedIn = true
	return nil
}

// Select implements imapserver.Session.
func (s *imapSession) Select(name string, o *imap.SelectOptions) (*imap.SelectData, error) {
	f, err := s.acc.FolderNamed(s.ctx(), name)
	if err != nil {
		return nil, s.fail("opening a folder", err)
	}
	m, err := s.acc.openFolder(s.ctx(), f)
	if err != nil {
		return nil, s.fail("opening a folder", err)
	}
	s.open = newView(m, f, o.ReadOnly)
	d := &imap.SelectData{UIDValidity: f.UIDValidity, NumMessages: uint32(len(s.open.seq))}
	m.mu.Lock()
	defer m.mu.Unlock()
	d.UIDNext = imap.UID(max(m.uidNext, s.open.last+1))
	d.Flags = flagNames(m.sets)
	d.PermanentFlags = []imap.Flag{}
	if !o.ReadOnly {
		d.PermanentFlags = append(flagNames(m.sets), imap.FlagWildcard)
	}
	d.FirstUnseenSeqNum = s.open.firstUnseen
	if s.lib.EnabledCaps().Has(imap.CapIMAP4rev2) {
		d.List = &imap.ListData{Mailbox: f.Name, Delim: separator, Attrs: specialUse(f)}
	}
	return d, nil
}

// Unselect implements imapserver.Session.
func (s *imapSession) Unselect() error {
	s.reader.close()
	if s.open != nil {
		s.acc.closeFolder(s.open.mailbox)
		s.open = nil
	}
	return nil
}

// Poll implements imapserver.Session: it writes what changed. Without a change it asks
// the database nothing.
func (s *imapSession) Poll(_ *imapserver.UpdateWriter, expunge bool) error {
	if s.open == nil {
		return nil
	}
	if err := s.open.refresh(s.ctx()); err != nil {
		return s.fail("looking for changes", err)
	}
	return s.tell(expunge)
}

// tell writes what the mailbox knows and the session does not. It is gathered before
// anything is written, so that a program that does not read holds no lock.
func (s *imapSession) tell(expunge bool) error {
	if out := s.open.update(nil, expunge); len(out) > 0 {
		_, err := s.conn.Write(out)
		return err
	}
	return nil
}

// Idle implements imapserver.Session. imapConn does IDLE itself.
func (s *imapSession) Idle(*imapserver.UpdateWriter, <-chan struct{}) error {
	return bad("IDLE is not done here")
}

// watch writes what changes until stop is closed.
func (s *imapSession) watch(stop <-chan struct{}) error {
	for s.open != nil {
		if err := s.open.refresh(s.ctx()); err != nil {
			return err
		}
		if err := s.tell(true); err != nil {
			return err
		}
		select {
		case <-s.open.waker(s.open.known):
		case <-stop:
			return nil
		case <-s.ctx().Done():
			return nil
		}
	}
	return nil
}

// AppendLimit implements imapserver.SessionAppendLimit.
func (s *imapSession) AppendLimit() uint32 { return uint32(min(s.server.o.Limit, 1<<32-1)) }
