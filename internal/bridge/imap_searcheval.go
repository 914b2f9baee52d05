package bridge

import (
	"io"
	"mime"
	"net/mail"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/asmtp/asmtp/internal/account"
)

// answer is what is known of whether a message matches.
type answer uint8

const (
	unknown answer = iota // its header has to be read
	matches
	differs
)

func answerOf(b bool) answer {
	if b {
		return matches
	}
	return differs
}

// find returns the messages that match, ascending. Headers are read of those messages
// only of which the rest does not decide.
func (s *imapSession) find(k *searchKey) ([]seqRow, error) {
	v := s.open
	if err := s.findTexts(k); err != nil {
		return nil, err
	}
	rows := v.get([]span{{0, len(v.seq)}}[:b2i(len(v.seq) > 0)])
	v.mu.Lock()
	sets := v.sets
	v.mu.Unlock()
	e := evaluator{words: make([][]string, len(sets))}
	for i, set := range sets {
		for _, w := range set {
			e.words[i] = append(e.words[i], strings.ToLower(w))
		}
	}
	found, open := rows[:0:0], []seqRow(nil)
	for _, r := range rows {
		e.row, e.header = r, nil
		switch e.eval(k) {
		case matches:
			found = append(found, r)
		case unknown:
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		return found, nil
	}
	more, err := s.findHeaders(&e, k, open)
	if err != nil {
		return nil, err
	}
	return merge(found, more), nil
}

// merge joins two ascending lists.
func merge(a, b []seqRow) []seqRow {
	out := make([]seqRow, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].uid < b[0].uid {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// findTexts runs the full-text searches of the keys.
func (s *imapSession) findTexts(k *searchKey) error {
	for _, sub := range k.keys {
		if err := s.findTexts(sub); err != nil {
			return err
		}
	}
	if k.kind != searchText || k.text == "" {
		return nil
	}
	uids, err := s.acc.SearchFolder(s.ctx(), s.open.id, account.TextQuery{Text: k.text, BodyOnly: k.bodyOnly})
	if err != nil {
		return err
	}
	k.found = make(map[uint32]bool, len(uids))
	for _, uid := range uids {
		k.found[uid] = true
	}
	return nil
}

// findHeaders reads the headers of rows and returns those that match.
func (s *imapSession) findHeaders(e *evaluator, k *searchKey, rows []seqRow) ([]seqRow, error) {
	var found []seqRow
	for len(rows) > 0 {
		n := min(len(rows), batchCount)
		batch, at := rows[:n], 0
		rows = rows[n:]
		err := s.acc.ReadPlaces(s.ctx(), s.open.id, uidsOf(batch), false, func(p account.Place, header, _ []byte) error {
			for at < n && batch[at].uid < p.UID {
				at++
			}
			if at == n || batch[at].uid != p.UID {
				return nil
			}
			e.row, e.header = batch[at], header
			if header == nil {
				e.header = []byte{}
			}
			if e.eval(k) == matches {
				found = append(found, batch[at])
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// evaluator says whether a message matches.
type evaluator struct {
	row    seqRow
	header []byte // nil: not read
	words  [][]string
}

func (e *evaluator) eval(k *searchKey) answer {
	switch k.kind {
	case searchAll:
		return matches
	case searchAnd, searchOr:
		return e.combine(k)
	case searchNot:
		switch e.eval(k.keys[0]) {
		case matches:
			return differs
		case differs:
			return matches
		}
		return unknown
	case searchSet:
		i := int(e.row.seq) - 1
		for _, s := range k.spans {
			if i >= s.from && i < s.to {
				return matches
			}
		}
		return differs
	case searchFlag:
		return answerOf(e.row.flags&k.flag != 0)
	case searchKeyword:
		for _, w := range e.words[e.row.words] {
			if w == k.text {
				return matches
			}
		}
		return differs
	case searchDate:
		day := dayOf(e.row.date)
		return answerOf(day >= k.from && day <= k.to)
	case searchSize:
		return answerOf(int64(e.row.size) >= k.from && int64(e.row.size) <= k.to)
	case searchText:
		return answerOf(k.text == "" || k.found[e.row.uid])
	case searchSent, searchHeader:
		if e.header == nil {
			return unknown
		}
		return answerOf(e.inHeader(k))
	}
	return differs
}

// combine is AND, or OR.
func (e *evaluator) combine(k *searchKey) answer {
	decides, otherwise := differs, matches
	if k.kind == searchOr {
		decides, otherwise = matches, differs
	}
	result := otherwise
	for _, sub := range k.keys {
		switch e.eval(sub) {
		case decides:
			return decides
		case unknown:
			result = unknown
		}
	}
	return result
}

// dayOf returns the number of the day of a time.
func dayOf(seconds int64) int64 {
	const day = 24 * 3600
	n := seconds / day
	if seconds%day < 0 {
		n--
	}
	return n
}

// inHeader looks at the fields of the message.
func (e *evaluator) inHeader(k *searchKey) bool {
	found := false
	name := k.field
	if k.kind == searchSent {
		name = "date"
	}
	eachField(e.header, func(f field) bool {
		if !strings.EqualFold(f.name, name) {
			return true
		}
		if k.kind == searchSent {
			t, err := mail.ParseDate(f.value())
			if err != nil {
				return false
			}
			_, zone := t.Zone()
			day := dayOf(t.Unix() + int64(zone)) // of the day that stands there
			found = day >= k.from && day <= k.to
			return false
		}
		v := f.value()
		found = k.text == "" || strings.Contains(strings.ToLower(v), k.text) || strings.Contains(strings.ToLower(decodeWords(v)), k.text)
		return !found
	})
	return found
}

var wordDecoder = mime.WordDecoder{CharsetReader: func(name string, in io.Reader) (io.Reader, error) {
	enc, err := htmlindex.Get(name)
	if err != nil {
		return nil, err
	}
	return enc.NewDecoder().Reader(in), nil
}}

// decodeWords decodes the encoded words of a value; what cannot be decoded stays.
func decodeWords(v string) string {
	if !strings.Contains(v, "=?") {
		return v
	}
	s, err := wordDecoder.DecodeHeader(v)
	if err != nil {
		return v
	}
	return s
}
