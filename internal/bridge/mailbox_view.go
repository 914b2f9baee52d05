package bridge

import (
	"slices"
	"sort"
	"strconv"

	"github.com/emersion/go-imap/v2"

	"github.com/asmtp/asmtp/internal/account"
)

// view is a mailbox as one session knows it: RFC 9051 lets its sequence numbers change
// only when the session is told. It is used by one goroutine at a time.
type view struct {
	*mailbox
	folder   account.Folder
	readOnly bool

	seq    []uint32          // the uids in the order of sequence numbers; do not change it in place
	own    bool              // seq is not a part of mailbox.uids
	last   uint32            // the highest uid that the session was told of
	known  uint64            // the version up to which flags were told
	goneAt uint64            // the version up to which messages were told to be gone
	skip   map[uint32]uint64 // of a uid: the version of its flags that the session knows already
	saved  []uint32          // what SEARCH RETURN (SAVE) kept, ascending
	words  int               // how many sets of keywords were told

	firstUnseen uint32 // when it began; 0 for none
}

// newView begins with the mailbox as it is.
func newView(m *mailbox, f account.Folder, readOnly bool) *view {
	v := &view{mailbox: m, folder: f, readOnly: readOnly}
	m.mu.Lock()
	defer m.mu.Unlock()
	v.adopt()
	v.known, v.words = m.version, len(m.sets)
	for i, r := range m.rows {
		if r.flags&account.FlagSeen == 0 {
			v.firstUnseen = uint32(i + 1)
			break
		}
	}
	return v
}

// adopt makes the mailbox's uids the session's; mu is held.
func (v *view) adopt() {
	v.seq, v.own, v.goneAt = slices.Clip(v.uids), false, v.version
	if n := len(v.seq); n > 0 {
		v.last = v.seq[n-1]
	}
}

// span is a range of indices of view.seq, without its end.
type span struct{ from, to int }

// resolve returns which messages a set means, ascending and each once. Numbers without
// a message mean nothing.
func (v *view) resolve(set imap.NumSet) []span {
	var spans []span
	add := func(from, to int) {
		if from < to {
			spans = append(spans, span{from, to})
		}
	}
	n := uint32(len(v.seq))
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			first, last := ends(r.Start, r.Stop, n)
			add(int(max(first, 1))-1, int(min(last, n)))
		}
	case imap.UIDSet:
		if imap.IsSearchRes(set) {
			return v.resolveUIDs(v.saved)
		}
		top := uint32(0)
		if n > 0 {
			top = v.seq[n-1]
		}
		for _, r := range set {
			first, last := ends(uint32(r.Start), uint32(r.Stop), top)
			add(v.index(first), v.indexAfter(last))
		}
	}
	return join(spans)
}

// ends resolves "*", which is 0, and puts the ends in order.
func ends(start, stop, top uint32) (first, last uint32) {
	if start == 0 {
		start = top
	}
	if stop == 0 {
		stop = top
	}
	return min(start, stop), max(start, stop)
}

// index returns where the first message with at least that uid is.
func (v *view) index(uid uint32) int {
	return sort.Search(len(v.seq), func(i int) bool { return v.seq[i] >= uid })
}

func (v *view) indexAfter(uid uint32) int {
	return sort.Search(len(v.seq), func(i int) bool { return v.seq[i] > uid })
}

func (v *view) resolveUIDs(uids []uint32) []span {
	var spans []span
	for _, uid := range uids {
		if i := v.index(uid); i < len(v.seq) && v.seq[i] == uid {
			spans = append(spans, span{i, i + 1})
		}
	}
	return join(spans)
}

// join sorts spans and joins those that touch.
func join(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return a.from - b.from })
	var l []span
	for _, s := range spans {
		if n := len(l); n > 0 && s.from <= l[n-1].to {
			l[n-1].to = max(l[n-1].to, s.to)
			continue
		}
		l = append(l, s)
	}
	return l
}

// count returns how many messages are in the spans.
func count(spans []span) (n int) {
	for _, s := range spans {
		n += s.to - s.from
	}
	return n
}

// get returns the rows of messages that are still there, each with its sequence number.
func (v *view) get(spans []span) []seqRow {
	l := make([]seqRow, 0, count(spans))
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range spans {
		at, _ := v.find(v.seq[s.from])
		for i := s.from; i < s.to; i++ {
			for at < len(v.rows) && v.rows[at].uid < v.seq[i] {
				at++
			}
			if at < len(v.rows) && v.rows[at].uid == v.seq[i] {
				l = append(l, seqRow{uint32(i + 1), v.rows[at]})
			}
		}
	}
	return l
}

// seqRow is a message with its sequence number in a session.
type seqRow struct {
	seq uint32
	row
}

// update appends to out what the session does not know yet: messages that are gone, if
// expunge is set, then how many there are, then flags.
func (v *view) update(out []byte, expunge bool) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.words != len(v.sets) { // new keywords exist: RFC 9051, 7.3.5
		v.words = len(v.sets)
		out = append(out, "* FLAGS ("...)
		out = append(appendFlagNames(out, v.sets), ")\r\n"...)
	}
	if expunge && v.expunged > v.goneAt {
		out = v.updateGone(out)
	}
	told := v.last
	out = v.updateCount(out)
	if v.flagged > v.known {
		out = v.updateFlags(out, told)
	}
	v.known, v.skip = v.version, nil
	return out
}

// updateGone writes EXPUNGE for what is gone. What is new stays for updateCount.
func (v *view) updateGone(out []byte) []byte {
	gone, at := 0, 0
	for i, uid := range v.seq {
		for at < len(v.uids) && v.uids[at] < uid {
			at++
		}
		if at < len(v.uids) && v.uids[at] == uid {
			continue
		}
		out = append(out, "* "...)
		out = strconv.AppendInt(out, int64(i+1-gone), 10)
		out = append(out, " EXPUNGE\r\n"...)
		gone++
	}
	n, last := sort.Search(len(v.uids), func(i int) bool { return v.uids[i] > v.last }), v.last
	v.seq, v.own, v.goneAt, v.last = v.uids[:n:n], false, v.version, last
	return out
}

// updateCount writes EXISTS if there are new messages.
func (v *view) updateCount(out []byte) []byte {
	n := len(v.uids)
	if n == 0 || v.uids[n-1] <= v.last {
		return out
	}
	from := sort.Search(n, func(i int) bool { return v.uids[i] > v.last })
	if v.expunged > v.goneAt { // the session still counts what is gone
		if !v.own {
			v.seq, v.own = slices.Clone(v.seq), true
		}
		v.seq = append(v.seq, v.uids[from:]...)
	} else {
		v.seq, v.own = v.uids[:n:n], false
	}
	v.last = v.uids[n-1]
	out = append(out, "* "...)
	out = strconv.AppendInt(out, int64(len(v.seq)), 10)
	return append(out, " EXISTS\r\n"...)
}

// updateFlags writes FETCH for messages whose flags changed, of those that the session knew
// before: of others it has to ask anyway. mbsync (1.4.4) takes a FETCH for what it has not
// asked about as an answer to what it has, and then never asks for the new messages between.
func (v *view) updateFlags(out []byte, told uint32) []byte {
	at := 0
	for _, r := range v.rows {
		if r.uid > told {
			break
		}
		if r.changed <= v.known || v.skip[r.uid] == r.changed {
			continue
		}
		for at < len(v.seq) && v.seq[at] < r.uid {
			at++
		}
		if at == len(v.seq) {
			break
		}
		if v.seq[at] == r.uid {
			out = v.appendFlagsFetch(out, seqRow{uint32(at + 1), r})
		}
	}
	return out
}

// appendFlagsFetch writes the flags of a message; mu is held.
func (v *view) appendFlagsFetch(out []byte, r seqRow) []byte {
	out = append(out, "* "...)
	out = strconv.AppendUint(out, uint64(r.seq), 10)
	out = append(out, " FETCH (UID "...)
	out = strconv.AppendUint(out, uint64(r.uid), 10)
	out = append(out, " FLAGS ("...)
	out = appendFlags(out, r.flags, v.sets[r.words])
	return append(out, "))\r\n"...)
}

// toldFlags notes that the session knows the flags of these messages as they are.
func (v *view) toldFlags(rows []seqRow) {
	for _, r := range rows {
		if r.changed > v.known {
			if v.skip == nil {
				v.skip = make(map[uint32]uint64)
			}
			v.skip[r.uid] = r.changed
		}
	}
}

// current returns those rows whose flags the session knows.
func (v *view) current(rows []seqRow) []seqRow {
	var l []seqRow
	for _, r := range rows {
		if r.changed <= v.known || v.skip[r.uid] == r.changed {
			l = append(l, r)
		}
	}
	return l
}
