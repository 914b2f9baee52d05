package bridge

import (
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"github.com/asmtp/asmtp/internal/account"
)

const (
	// maxSmall is the largest message that is read with others in one query; larger ones
	// are streamed.
	maxSmall = 256 << 10
	// batchBytes and batchCount bound what one query reads.
	batchBytes = 512 << 10
	batchCount = 1000
	// maxRecent is the largest message that is kept for a program that asks again.
	maxRecent = 64 << 10
)

// errGone is the end of a FETCH of which some messages were removed meanwhile.
var errGone = no("EXPUNGEISSUED", "some of the messages are gone")

var batchPool = sync.Pool{New: func() any { b := make([]byte, 0, batchBytes+128<<10); return &b }}

// fetchRun is a FETCH on its way.
type fetchRun struct {
	*fetch
	s    *imapSession
	v    *view
	out  []byte
	told map[uint32]bool // messages that were just marked as read: their flags are shown
	sets [][]string
	gone bool
	err  error // the first that did not end the run
}

// Fetch implements imapserver.Session. imapConn does not give FETCH to go-imap, which
// flushes every response, has envelopes only in a form of its own, and no streams.
func (s *imapSession) Fetch(*imapserver.FetchWriter, imap.NumSet, *imap.FetchOptions) error {
	return bad("FETCH is not done here")
}

// fetch does a FETCH command.
func (c *imapConn) fetch(rest []byte, uid bool) error {
	return c.run(rest, uid, func(s *imapSession, a *args) error {
		f, err := parseFetch(a, uid)
		if err != nil {
			return err
		}
		f.raw = s.takesUTF8()
		c.setVerbatim(true)
		defer c.setVerbatim(false)
		return s.fetch(f)
	})
}

// run does a command of the bridge's own: it parses, acts, tells what changed, and
// answers.
func (c *imapConn) run(rest []byte, uid bool, do func(*imapSession, *args) error) error {
	a, err := c.collect(rest)
	if err == nil {
		if err = c.session.open.refresh(c.ctx); err == nil {
			err = do(c.session, a)
		} else {
			err = c.session.fail(c.name, err)
		}
	}
	if err == nil || errors.Is(err, errGone) {
		if e := c.session.Poll(nil, uid); err == nil { // RFC 9051, 7.5.1: no EXPUNGE in FETCH, STORE, SEARCH
			err = e
		}
	}
	if err == nil {
		return c.refuse("OK " + c.name + " completed")
	}
	if errors.Is(err, errSyntax) {
		return c.refuse("BAD syntax error in " + c.name)
	}
	if e, ok := errors.AsType[*imap.Error](err); ok {
		text := string(e.Type) + " "
		if e.Code != "" {
			text += "[" + string(e.Code) + "] "
		}
		return c.refuse(text + e.Text)
	}
	return err
}

func (s *imapSession) takesUTF8() bool {
	caps := s.lib.EnabledCaps()
	return caps.Has(imap.CapIMAP4rev2) || caps.Has(imap.CapUTF8Accept)
}

func (s *imapSession) fetch(f *fetch) error {
	v := s.open
	spans := v.resolve(f.set)
	rows := v.get(spans)
	r := &fetchRun{fetch: f, s: s, v: v}
	if f.seen && !v.readOnly {
		var err error
		if rows, err = r.markSeen(spans, rows); err != nil {
			return s.fail("FETCH", err)
		}
	}
	if !f.uid {
		asked := 0
		for _, s := range spans {
			asked += s.to - s.from
		}
		r.gone = asked > len(rows)
	}
	v.mu.Lock()
	r.sets = v.sets
	v.mu.Unlock()
	buf := batchPool.Get().(*[]byte)
	r.out = (*buf)[:0]
	err := r.all(rows)
	if err == nil {
		err = r.write()
	}
	*buf = r.out
	batchPool.Put(buf)
	switch {
	case err != nil:
		return s.fail("FETCH", err)
	case r.err != nil:
		return r.err
	case r.gone:
		return errGone
	}
	return nil
}

// markSeen marks what is read as read, in one transaction, and returns the rows anew.
func (r *fetchRun) markSeen(spans []span, rows []seqRow) ([]seqRow, error) {
	var uids []uint32
	for _, row := range rows {
		if row.flags&account.FlagSeen == 0 {
			uids = append(uids, row.uid)
		}
	}
	if len(uids) == 0 {
		return rows, nil
	}
	if err := r.s.acc.ChangeFlags(r.s.ctx(), r.v.id, uids, account.AddFlags, account.FlagSeen, nil); err != nil {
		return nil, err
	}
	if err := r.v.refresh(r.s.ctx()); err != nil {
		return nil, err
	}
	rows = r.v.get(spans)
	r.told = make(map[uint32]bool, len(uids))
	for _, uid := range uids {
		r.told[uid] = true
	}
	var told []seqRow
	for _, row := range rows {
		if r.told[row.uid] || r.has(fetchFlags) {
			told = append(told, row)
		}
	}
	r.v.toldFlags(told)
	return rows, nil
}

// write sends what was gathered. No query is open meanwhile.
func (r *fetchRun) write() error {
	_, err := r.s.conn.Write(r.out)
	r.out = r.out[:0]
	return err
}

// all writes the responses for all messages.
func (r *fetchRun) all(rows []seqRow) error {
	header, body := r.need()
	for len(rows) > 0 {
		n, err := 0, error(nil)
		switch {
		case !header && !body:
			n, err = r.plain(rows)
		case body && int64(rows[0].size) > maxSmall:
			n, err = 1, r.large(rows[0])
		default:
			n, err = r.batch(rows, body)
		}
		if err == nil {
			err = r.write()
		}
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// plain writes responses that need nothing but the shared view.
func (r *fetchRun) plain(rows []seqRow) (int, error) {
	n := min(len(rows), batchCount)
	for _, row := range rows[:n] {
		m := message{seqRow: row}
		if err := r.response(&m); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// batch reads small messages by one query.
func (r *fetchRun) batch(rows []seqRow, body bool) (int, error) {
	n, size := 0, 0
	uids := make([]uint32, 0, min(len(rows), batchCount))
	for n < len(rows) && n < batchCount && size < batchBytes && !(body && rows[n].size > maxSmall) {
		uids = append(uids, rows[n].uid)
		if body {
			size += int(rows[n].size)
		} else {
			size += 1 << 10
		}
		n++
	}
	if n == 1 && body {
		if m, ok := r.v.recall(rows[0]); ok {
			return 1, r.response(m)
		}
	}
	at := 0
	err := r.s.acc.ReadPlaces(r.s.ctx(), r.v.id, uids, body, func(p account.Place, header, whole []byte) error {
		for at < n && rows[at].uid < p.UID {
			at++
			r.gone = true
		}
		if at == n || rows[at].uid != p.UID {
			return nil
		}
		m := message{seqRow: rows[at], header: header, whole: whole}
		if at++; at == n && whole != nil {
			r.v.remember(&m)
		}
		return r.response(&m)
	})
	if at < n {
		r.gone = true
	}
	return n, err
}

// large streams one message.
func (r *fetchRun) large(row seqRow) error {
	in, err := r.s.reader.get(r.s, r.v.id, row.uid)
	if errors.Is(err, account.ErrNotFound) {
		r.gone = true
		return nil
	}
	if err != nil {
		return err
	}
	return r.response(&message{seqRow: row, header: in.Header(), stream: in})
}

// message is a message whose response is being written.
type message struct {
	seqRow
	header []byte
	whole  []byte                 // nil: it is not small, or its contents are not needed
	stream *account.MessageReader // in place of whole
	tree   *part
}

// response writes one FETCH response.
func (r *fetchRun) response(m *message) error {
	r.out = append(r.out, "* "...)
	r.out = strconv.AppendUint(r.out, uint64(m.seq), 10)
	r.out = append(r.out, " FETCH ("...)
	for i := range r.items {
		if i > 0 {
			r.out = append(r.out, ' ')
		}
		if err := r.item(m, &r.items[i]); err != nil {
			return err
		}
	}
	if r.told[m.uid] && !r.has(fetchFlags) {
		if len(r.items) > 0 {
			r.out = append(r.out, ' ')
		}
		r.flags(m)
	}
	r.out = append(r.out, ")\r\n"...)
	return nil
}

func (r *fetchRun) flags(m *message) {
	r.out = append(r.out, "FLAGS ("...)
	r.out = append(appendFlags(r.out, m.flags, r.sets[m.words]), ')')
}

func (r *fetchRun) item(m *message, it *fetchItem) error {
	switch it.kind {
	case fetchFlags:
		r.flags(m)
		return nil
	case fetchSection, fetchBinary, fetchBinarySize:
		r.out = append(append(r.out, it.name...), ' ')
		return r.section(m, it)
	}
	r.out = append(append(r.out, it.name...), ' ')
	switch it.kind {
	case fetchUID:
		r.out = strconv.AppendUint(r.out, uint64(m.uid), 10)
	case fetchDate:
		r.out = time.Unix(m.date, 0).UTC().AppendFormat(r.out, `"02-Jan-2006 15:04:05 -0700"`)
	case fetchSize:
		r.out = strconv.AppendUint(r.out, uint64(m.size), 10)
	case fetchEnvelope:
		r.out = appendEnvelope(r.out, m.header, r.raw)
	case fetchStructure, fetchBody:
		tree, err := r.treeOf(m)
		if err != nil {
			return err
		}
		r.out = appendStructure(r.out, tree, it.kind == fetchStructure, r.raw)
	}
	return nil
}

// openReader keeps the message that a program reads in pieces open.
type openReader struct {
	folder int64
	uid    uint32
	r      *account.MessageReader
}

func (o *openReader) get(s *imapSession, folder int64, uid uint32) (*account.MessageReader, error) {
	if o.r != nil && o.folder == folder && o.uid == uid {
		return o.r, nil
	}
	o.close()
	r, err := s.acc.OpenPlace(s.ctx(), folder, uid)
	if err != nil {
		return nil, err
	}
	*o = openReader{folder, uid, r}
	return r, nil
}

func (o *openReader) close() {
	if o.r != nil {
		o.r.Close()
	}
	*o = openReader{}
}

// recent is the message of a mailbox that was read last. Some programs ask for the newest
// again and again: UID FETCH n:* means it whatever n is.
type recent struct {
	uid           uint32
	header, whole []byte
}

func (m *mailbox) recall(row seqRow) (*message, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.recent.whole == nil || m.recent.uid != row.uid {
		return nil, false
	}
	return &message{seqRow: row, header: m.recent.header, whole: m.recent.whole}, true
}

func (m *mailbox) remember(msg *message) {
	if len(msg.whole) > maxRecent {
		return
	}
	whole := append([]byte(nil), msg.whole...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent = recent{uid: msg.uid, header: append([]byte(nil), msg.header...), whole: whole}
}

var _ io.Reader = (*account.MessageReader)(nil)
