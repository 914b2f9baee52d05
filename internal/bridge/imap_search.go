package bridge

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"golang.org/x/text/encoding/htmlindex"

	"github.com/asmtp/asmtp/internal/account"
)

const (
	// maxSearchDepth and maxSearchKeys bound what one SEARCH asks.
	maxSearchDepth = 100
	maxSearchKeys  = 5000
)

// search is a SEARCH command.
type search struct {
	extended                   bool // RETURN was there
	min, max, all, count, save bool
	key                        *searchKey
	uid                        bool
}

// searchKind says what a key compares.
type searchKind uint8

const (
	searchAll searchKind = iota
	searchNone
	searchAnd
	searchOr
	searchNot
	searchSet
	searchFlag
	searchKeyword
	searchDate // INTERNALDATE
	searchSent // the Date field
	searchSize
	searchHeader
	searchText // BODY and TEXT
)

// searchKey is a key of SEARCH and the keys in it.
type searchKey struct {
	kind     searchKind
	keys     []*searchKey
	spans    []span
	flag     account.Flag
	field    string // of searchHeader, in lower case
	text     string // of searchHeader and searchKeyword, in lower case; of searchText as it is
	bodyOnly bool
	from, to int64           // of searchSize: bytes; of dates: days; both ends are included
	found    map[uint32]bool // by searchText
}

// Search implements imapserver.Session. imapConn does SEARCH itself: go-imap's parser
// drops SMALLER before other keys.
func (s *imapSession) Search(imapserver.NumKind, *imap.SearchCriteria, *imap.SearchOptions) (*imap.SearchData, error) {
	return nil, bad("SEARCH is not done here")
}

// search does a SEARCH command.
func (c *imapConn) search(rest []byte, uid bool) error {
	return c.run(rest, uid, func(s *imapSession, a *args) error {
		p := searchParser{args: a, v: s.open}
		q, err := p.parse()
		if err != nil {
			return err
		}
		q.uid = uid
		rows, err := s.find(q.key)
		if err != nil {
			return s.fail("SEARCH", err)
		}
		return s.answerSearch(q, rows)
	})
}

// answerSearch writes SEARCH or ESEARCH, and keeps the result if that was asked for.
func (s *imapSession) answerSearch(q *search, rows []seqRow) error {
	nums := make([]uint32, len(rows))
	for i, r := range rows {
		if nums[i] = r.seq; q.uid {
			nums[i] = r.uid
		}
	}
	if q.save {
		s.keep(q, rows)
	}
	var out []byte
	switch {
	case !q.extended && !s.lib.EnabledCaps().Has(imap.CapIMAP4rev2):
		out = append(out, "* SEARCH"...)
		for _, n := range nums {
			out = strconv.AppendUint(append(out, ' '), uint64(n), 10)
		}
	case q.save && !q.min && !q.max && !q.all && !q.count:
		return nil // RFC 9051, 6.4.4.1: nothing else was asked
	default:
		out = q.appendESearch(out, s.conn.tag, nums)
	}
	_, err := s.conn.Write(append(out, "\r\n"...))
	return err
}

func (q *search) appendESearch(out []byte, tag string, nums []uint32) []byte {
	out = append(out, "* ESEARCH (TAG "...)
	out = append(appendString(out, tag, false), ')')
	if q.uid {
		out = append(out, " UID"...)
	}
	if len(nums) > 0 {
		if q.min {
			out = strconv.AppendUint(append(out, " MIN "...), uint64(nums[0]), 10)
		}
		if q.max {
			out = strconv.AppendUint(append(out, " MAX "...), uint64(nums[len(nums)-1]), 10)
		}
		if q.all {
			out = append(append(out, " ALL "...), uidSet(nums).String()...)
		}
	}
	if q.count {
		out = strconv.AppendInt(append(out, " COUNT "...), int64(len(nums)), 10)
	}
	return out
}

// keep is RETURN (SAVE): with MIN or MAX alone only those (RFC 9051, 6.4.4.1).
func (s *imapSession) keep(q *search, rows []seqRow) {
	uids := []uint32{}
	for i, r := range rows {
		edge := q.min && i == 0 || q.max && i == len(rows)-1
		if edge || q.all || q.count || !q.min && !q.max {
			uids = append(uids, r.uid)
		}
	}
	s.open.saved = uids
}

// searchParser reads the arguments of SEARCH.
type searchParser struct {
	*args
	v      *view
	decode func(string) (string, error)
	keys   int
}

func (p *searchParser) parse() (*search, error) {
	q := &search{}
	if p.keyword("RETURN ") {
		q.extended = true
		if err := p.returns(q); err != nil {
			return nil, err
		}
	}
	if !q.min && !q.max && !q.count && !q.save {
		q.all = true
	}
	if err := p.charset(); err != nil {
		return nil, err
	}
	q.key = &searchKey{kind: searchAnd}
	for {
		k, err := p.key(0)
		if err != nil {
			return nil, err
		}
		q.key.keys = append(q.key.keys, k)
		if p.end() {
			return q, nil
		}
		if !p.is(' ') {
			return nil, errSyntax
		}
	}
}

// keyword takes that word if it stands here.
func (p *searchParser) keyword(word string) bool {
	if n := len(word); len(p.b)-p.i >= n && strings.EqualFold(string(p.b[p.i:p.i+n]), word) {
		p.i += n
		return true
	}
	return false
}

func (p *searchParser) returns(q *search) error {
	if p.keyword("()") {
		q.all = true
	} else if err := p.list(func() error {
		name, err := p.atom()
		switch strings.ToUpper(name) {
		case "MIN":
			q.min = true
		case "MAX":
			q.max = true
		case "ALL":
			q.all = true
		case "COUNT":
			q.count = true
		case "SAVE":
			q.save = true
		default:
			return errSyntax
		}
		return err
	}); err != nil {
		return err
	}
	if !p.is(' ') {
		return errSyntax
	}
	return nil
}

// charset takes CHARSET; the strings of the command are decoded by it.
func (p *searchParser) charset() error {
	if !p.keyword("CHARSET ") {
		return nil
	}
	name, err := p.astring()
	if err != nil || !p.is(' ') {
		return errSyntax
	}
	if strings.EqualFold(name, "UTF-8") || strings.EqualFold(name, "US-ASCII") {
		return nil
	}
	enc, err := htmlindex.Get(name)
	if err != nil {
		return no("BADCHARSET (UTF-8 US-ASCII ISO-8859-1)", "this charset is not known")
	}
	p.decode = enc.NewDecoder().String
	return nil
}

func (p *searchParser) text() (string, error) {
	if !p.is(' ') {
		return "", errSyntax
	}
	s, err := p.astring()
	if err == nil && p.decode != nil {
		s, err = p.decode(s)
	}
	if err != nil {
		return "", errSyntax
	}
	return s, nil
}

var searchFlags = map[string]account.Flag{
	"ANSWERED": account.FlagAnswered, "DELETED": account.FlagDeleted, "DRAFT": account.FlagDraft,
	"FLAGGED": account.FlagFlagged, "SEEN": account.FlagSeen,
}

// key reads one key.
func (p *searchParser) key(depth int) (*searchKey, error) {
	if p.keys++; depth > maxSearchDepth || p.keys > maxSearchKeys {
		return nil, no(imap.ResponseCodeLimit, "the search is too complex")
	}
	if p.peek() == '(' {
		k := &searchKey{kind: searchAnd}
		return k, p.list(func() error {
			sub, err := p.key(depth + 1)
			k.keys = append(k.keys, sub)
			return err
		})
	}
	if ch := p.peek(); ch == '*' || ch == '$' || ch >= '0' && ch <= '9' {
		set, err := p.set(false)
		if err != nil {
			return nil, err
		}
		return &searchKey{kind: searchSet, spans: p.v.resolve(set)}, nil
	}
	name, err := p.atom()
	if err != nil {
		return nil, err
	}
	name = strings.ToUpper(name)
	if flag, ok := searchFlags[name]; ok {
		return &searchKey{kind: searchFlag, flag: flag}, nil
	}
	if flag, ok := searchFlags[strings.TrimPrefix(name, "UN")]; ok {
		return negate(&searchKey{kind: searchFlag, flag: flag}), nil
	}
	return p.named(name, depth)
}

func negate(k *searchKey) *searchKey { return &searchKey{kind: searchNot, keys: []*searchKey{k}} }

// named reads what follows the name of a key.
func (p *searchParser) named(name string, depth int) (*searchKey, error) {
	switch name {
	case "ALL", "OLD":
		return &searchKey{kind: searchAll}, nil
	case "NEW", "RECENT": // no message is \Recent
		return &searchKey{kind: searchNone}, nil
	case "NOT", "OR":
		k := &searchKey{kind: searchNot}
		if name == "OR" {
			k.kind = searchOr
		}
		for range 1 + b2i(name == "OR") {
			if !p.is(' ') {
				return nil, errSyntax
			}
			sub, err := p.key(depth + 1)
			if err != nil {
				return nil, err
			}
			k.keys = append(k.keys, sub)
		}
		return k, nil
	case "UID":
		if !p.is(' ') {
			return nil, errSyntax
		}
		set, err := p.set(true)
		if err != nil {
			return nil, err
		}
		return &searchKey{kind: searchSet, spans: p.v.resolve(set)}, nil
	case "KEYWORD", "UNKEYWORD":
		s, err := p.text()
		k := &searchKey{kind: searchKeyword, text: strings.ToLower(s)}
		if name == "UNKEYWORD" {
			k = negate(k)
		}
		return k, err
	case "BODY", "TEXT":
		s, err := p.text()
		return &searchKey{kind: searchText, text: s, bodyOnly: name == "BODY"}, err
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		s, err := p.text()
		return &searchKey{kind: searchHeader, field: strings.ToLower(name), text: strings.ToLower(s)}, err
	case "HEADER":
		field, err := p.text()
		if err != nil {
			return nil, err
		}
		s, err := p.text()
		return &searchKey{kind: searchHeader, field: strings.ToLower(field), text: strings.ToLower(s)}, err
	case "LARGER", "SMALLER":
		return p.size(name)
	}
	return p.date(name)
}

func (p *searchParser) size(name string) (*searchKey, error) {
	if !p.is(' ') {
		return nil, errSyntax
	}
	n, err := p.number()
	if name == "LARGER" {
		return &searchKey{kind: searchSize, from: n + b2i64(n < math.MaxInt64), to: math.MaxInt64}, err
	}
	return &searchKey{kind: searchSize, from: 0, to: n - 1}, err
}

func b2i64(b bool) int64 { return int64(b2i(b)) }

// date reads the keys with a date: of a day only the day counts (RFC 9051, 6.4.4).
func (p *searchParser) date(name string) (*searchKey, error) {
	k := &searchKey{kind: searchDate}
	word, sent := strings.CutPrefix(name, "SENT")
	if sent {
		k.kind = searchSent
	}
	if !slices.Contains([]string{"BEFORE", "ON", "SINCE"}, word) {
		return nil, bad("there is no such search key")
	}
	s, err := p.text()
	if err != nil {
		return nil, err
	}
	t, err := time.Parse("2-Jan-2006", s)
	if err != nil {
		return nil, bad("a date is written 1-Feb-2006")
	}
	day := dayOf(t.Unix())
	switch word {
	case "BEFORE":
		k.from, k.to = math.MinInt64, day-1
	case "ON":
		k.from, k.to = day, day
	default:
		k.from, k.to = day, math.MaxInt64
	}
	return k, nil
}
