package bridge

import (
	"context"
	"io"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/asmtp/asmtp/internal/account"
)

var storeOps = map[imap.StoreFlagsOp]account.FlagChange{
	imap.StoreFlagsSet: account.SetFlags, imap.StoreFlagsAdd: account.AddFlags, imap.StoreFlagsDel: account.RemoveFlags,
}

// Store implements imapserver.Session.
func (s *imapSession) Store(_ *imapserver.FetchWriter, set imap.NumSet, f *imap.StoreFlags, _ *imap.StoreOptions) error {
	v := s.open
	if v.readOnly {
		return errReadOnly
	}
	flags, words, err := splitFlags(f.Flags)
	if err != nil {
		return err
	}
	spans := v.resolve(set)
	if err := v.refresh(s.ctx()); err != nil {
		return s.fail("STORE", err)
	}
	before := v.get(spans)
	uids := uidsOf(before)
	if len(uids) == 0 {
		return nil
	}
	if err := s.acc.ChangeFlags(s.ctx(), v.id, uids, storeOps[f.Op], flags, words); err != nil {
		return s.fail("STORE", err)
	}
	if err := v.refresh(s.ctx()); err != nil {
		return s.fail("STORE", err)
	}
	after := v.get(spans)
	if f.Silent {
		// The program takes its own change for granted, not what another did meanwhile.
		v.toldFlags(expected(v.current(before), after, storeOps[f.Op], flags))
		return nil
	}
	v.toldFlags(after)
	v.mu.Lock()
	var out []byte
	for _, r := range after {
		out = v.appendFlagsFetch(out, r)
	}
	v.mu.Unlock()
	_, err = s.conn.Write(out)
	return err
}

// expected returns those of after whose flags are what the change makes of before.
// Keywords are compared only where they cannot have changed.
func expected(before, after []seqRow, how account.FlagChange, flags account.Flag) []seqRow {
	var l []seqRow
	for _, r := range after {
		for len(before) > 0 && before[0].uid < r.uid {
			before = before[1:]
		}
		if len(before) == 0 || before[0].uid != r.uid {
			continue
		}
		want := flags
		switch how {
		case account.AddFlags:
			want = before[0].flags | flags
		case account.RemoveFlags:
			want = before[0].flags &^ flags
		}
		if r.flags == want {
			l = append(l, r)
		}
	}
	return l
}

// Copy implements imapserver.Session.
func (s *imapSession) Copy(set imap.NumSet, dest string) (*imap.CopyData, error) {
	return s.transfer("COPY", set, dest, s.acc.CopyPlaces)
}

// Move implements imapserver.SessionMove. The EXPUNGE responses come from the Poll that
// follows.
func (s *imapSession) Move(w *imapserver.MoveWriter, set imap.NumSet, dest string) error {
	if s.open.readOnly {
		return errReadOnly
	}
	d, err := s.transfer("MOVE", set, dest, s.acc.MovePlaces)
	if err == nil && d != nil {
		err = w.WriteCopyData(d)
	}
	return err
}

// transfer copies or moves messages; it returns nil if there were none. UIDs that are gone
// are passed over (RFC 9051, 6.4.9); a sequence number stands for a message that the program
// still sees, so OK would be wrong if it is gone (RFC 2180, 4.4.1; RFC 5530).
func (s *imapSession) transfer(doing string, set imap.NumSet, dest string, do transferFunc) (*imap.CopyData, error) {
	to, err := s.acc.FolderNamed(s.ctx(), dest)
	if err != nil {
		return nil, s.tryCreate(doing, err)
	}
	if err := s.open.refresh(s.ctx()); err != nil {
		return nil, s.fail(doing, err)
	}
	spans := s.open.resolve(set)
	uids := uidsOf(s.open.get(spans))
	if _, named := set.(imap.SeqSet); named && len(uids) < count(spans) {
		return nil, no("EXPUNGEISSUED", "some of the messages are gone, so nothing was done")
	}
	if len(uids) == 0 {
		return nil, nil
	}
	src, dst, err := do(s.ctx(), s.open.id, to.ID, uids)
	if err != nil || len(src) == 0 {
		return nil, s.fail(doing, err)
	}
	return &imap.CopyData{UIDValidity: to.UIDValidity, SourceUIDs: uidSet(src), DestUIDs: uidSet(dst)}, nil
}

type transferFunc = func(ctx context.Context, from, to int64, uids []uint32) (src, dst []uint32, err error)

// uidSet returns ascending uids as a set.
func uidSet(uids []uint32) imap.UIDSet {
	var set imap.UIDSet
	for _, u := range uids {
		uid := imap.UID(u)
		if n := len(set); n > 0 && set[n-1].Stop+1 == uid {
			set[n-1].Stop = uid
			continue
		}
		set = append(set, imap.UIDRange{Start: uid, Stop: uid})
	}
	return set
}

// Expunge implements imapserver.Session, for EXPUNGE, UID EXPUNGE and CLOSE. The
// responses come from the Poll that follows; CLOSE has none.
func (s *imapSession) Expunge(_ *imapserver.ExpungeWriter, set *imap.UIDSet) error {
	v := s.open
	if v.readOnly {
		if s.conn.name == "CLOSE" {
			return nil // RFC 9051, 6.4.1: it just closes
		}
		return errReadOnly
	}
	if err := v.refresh(s.ctx()); err != nil {
		return s.fail("EXPUNGE", err)
	}
	uids := v.deleted()
	if set != nil {
		uids = uidsOf(v.get(v.resolve(*set)))
	}
	if len(uids) == 0 {
		return nil
	}
	_, err := s.acc.Expunge(s.ctx(), v.id, uids)
	return s.fail("EXPUNGE", err)
}

func uidsOf(rows []seqRow) []uint32 {
	uids := make([]uint32, len(rows))
	for i, r := range rows {
		uids[i] = r.uid
	}
	return uids
}

// deleted returns the messages with \Deleted that the session knows of: one that it was
// not told of goes when it was.
func (v *view) deleted() []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var uids []uint32
	for _, r := range v.rows {
		if r.flags&account.FlagDeleted != 0 && r.uid <= v.last {
			uids = append(uids, r.uid)
		}
	}
	return uids
}

// Append implements imapserver.Session. The message goes from the network to the disk
// piece by piece.
func (s *imapSession) Append(name string, r imap.LiteralReader, o *imap.AppendOptions) (*imap.AppendData, error) {
	flags, words, err := splitFlags(o.Flags)
	if err != nil {
		return nil, err
	}
	f, err := s.acc.FolderNamed(s.ctx(), name)
	if err != nil {
		return nil, s.tryCreate("APPEND", err)
	}
	in := &literalReader{LiteralReader: r}
	uid, err := s.acc.Append(s.ctx(), account.Filing{Folder: f.ID, Flags: flags, Keywords: words, Date: o.Time, Size: r.Size()}, in)
	if in.err != nil {
		return nil, in.err // the connection broke: nothing was filed
	}
	if err != nil {
		return nil, s.tryCreate("APPEND", err)
	}
	return &imap.AppendData{UID: imap.UID(uid), UIDValidity: f.UIDValidity}, nil
}

// literalReader makes a literal that ends too early an error: what came of a message
// before the connection broke is no message.
type literalReader struct {
	imap.LiteralReader
	n   int64
	err error
}

func (l *literalReader) Read(p []byte) (int, error) {
	n, err := l.LiteralReader.Read(p)
	l.n += int64(n)
	if err == io.EOF && l.n < l.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}
