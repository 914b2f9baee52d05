package bridge

import (
	"math"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// maxSections is how many items one FETCH may have.
const maxSections = 64

// fetchKind says what an item of FETCH is.
type fetchKind uint8

const (
	fetchUID fetchKind = iota
	fetchFlags
	fetchDate
	fetchSize
	fetchEnvelope
	fetchStructure // BODYSTRUCTURE
	fetchBody      // BODY without a section
	fetchSection   // BODY[…], RFC822 and its kin
	fetchBinary
	fetchBinarySize
)

// fetchItem is one thing that FETCH asks for.
type fetchItem struct {
	kind      fetchKind
	name      string // as the response begins: "BODY[1.2]<0>"
	path      []int
	specifier imap.PartSpecifier
	fields    []string // in lower case
	not       bool     // all fields but those
	offset    int64
	count     int64 // of bytes from offset; -1: all
	peek      bool
}

// whole reports whether the item is all of the message.
func (it *fetchItem) whole() bool {
	return it.kind == fetchSection && len(it.path) == 0 && it.specifier == imap.PartSpecifierNone
}

// header reports whether the item needs no more than the message's header.
func (it *fetchItem) header() bool {
	return it.kind == fetchEnvelope || it.kind == fetchSection && len(it.path) == 0 && it.specifier == imap.PartSpecifierHeader
}

// fetch is a FETCH command.
type fetch struct {
	set   imap.NumSet
	uid   bool
	items []fetchItem
	seen  bool // reading marks as read
	raw   bool // UTF-8 between quotes
}

// need is how much of a message the items want.
func (f *fetch) need() (header, body bool) {
	for i := range f.items {
		switch it := &f.items[i]; {
		case it.kind <= fetchSize:
		case it.header():
			header = true
		default:
			body = true
		}
	}
	return header, body
}

func (f *fetch) has(kind fetchKind) bool {
	for i := range f.items {
		if f.items[i].kind == kind {
			return true
		}
	}
	return false
}

var fetchMacros = map[string][]string{
	"ALL":  {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"},
	"FAST": {"FLAGS", "INTERNALDATE", "RFC822.SIZE"},
	"FULL": {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"},
}

var fetchSimple = map[string]fetchKind{
	"UID": fetchUID, "FLAGS": fetchFlags, "INTERNALDATE": fetchDate, "RFC822.SIZE": fetchSize,
	"ENVELOPE": fetchEnvelope, "BODYSTRUCTURE": fetchStructure,
}

// parseFetch reads the arguments of FETCH and UID FETCH.
func parseFetch(a *args, uid bool) (*fetch, error) {
	f := &fetch{uid: uid}
	if uid {
		f.items = append(f.items, fetchItem{kind: fetchUID, name: "UID"})
	}
	var err error
	if f.set, err = a.set(uid); err != nil {
		return nil, err
	}
	if !a.is(' ') {
		return nil, errSyntax
	}
	if a.peek() == '(' {
		err = a.list(func() error { return f.item(a) })
	} else if err = f.macro(a); err == nil && len(f.items) == b2i(uid) {
		err = f.item(a)
	}
	if err == nil && !a.end() {
		err = errSyntax
	}
	return f, err
}

// macro takes ALL, FAST or FULL, if that is what stands there.
func (f *fetch) macro(a *args) error {
	for _, name := range fetchMacros[strings.ToUpper(string(a.b[a.i:]))] {
		if err := f.item(&args{b: []byte(name)}); err != nil {
			return err
		}
		a.i = len(a.b)
	}
	return nil
}

func (f *fetch) item(a *args) error {
	if len(f.items) >= maxSections {
		return no(imap.ResponseCodeLimit, "too many items")
	}
	name := strings.ToUpper(a.word(func(ch byte) bool { return isAtomChar(ch) && ch != '[' && ch != '<' }))
	it := fetchItem{name: name, count: -1}
	var err error
	if kind, ok := fetchSimple[name]; ok {
		if it.kind = kind; f.has(kind) {
			return nil
		}
	} else {
		err = it.section(a)
	}
	if err != nil {
		return err
	}
	if it.kind >= fetchSection && it.kind != fetchBinarySize && !it.peek {
		f.seen = true
	}
	f.items = append(f.items, it)
	return nil
}

// section reads the items that are about contents.
func (it *fetchItem) section(a *args) error {
	switch it.kind = fetchSection; it.name {
	case "RFC822":
		return nil
	case "RFC822.PEEK": // of Outlook
		it.peek = true
		return nil
	case "RFC822.HEADER":
		it.specifier, it.peek = imap.PartSpecifierHeader, true
		return nil
	case "RFC822.TEXT":
		it.specifier = imap.PartSpecifierText
		return nil
	case "BODY", "BODY.PEEK":
		if it.name == "BODY" && a.peek() != '[' {
			it.kind = fetchBody
			return nil
		}
	case "BINARY", "BINARY.PEEK":
		it.kind = fetchBinary
	case "BINARY.SIZE":
		it.kind = fetchBinarySize
	default:
		return bad("there is nothing of that name to fetch")
	}
	base, peek := strings.CutSuffix(it.name, ".PEEK")
	it.peek = peek
	from := a.i
	if !a.is('[') {
		return errSyntax
	}
	if err := it.spec(a); err != nil {
		return err
	}
	if !a.is(']') {
		return errSyntax
	}
	it.name = base + string(a.b[from:a.i])
	if it.kind == fetchBinarySize {
		return nil
	}
	return it.partial(a)
}

// spec reads what stands between the brackets.
func (it *fetchItem) spec(a *args) error {
	for a.peek() >= '0' && a.peek() <= '9' {
		n, err := a.number()
		if err != nil || n == 0 || n > math.MaxInt32 || len(it.path) >= 2*maxPartDepth {
			return errSyntax
		}
		if it.path = append(it.path, int(n)); !a.is('.') {
			return nil
		}
	}
	if len(it.path) == 0 && a.peek() == ']' {
		return nil
	}
	if it.kind != fetchSection {
		return errSyntax
	}
	switch name := strings.ToUpper(a.word(func(ch byte) bool { return isAtomChar(ch) })); name {
	case "HEADER", "TEXT":
		it.specifier = imap.PartSpecifier(name)
	case "MIME":
		it.specifier = imap.PartSpecifierMIME
		if len(it.path) == 0 {
			return errSyntax
		}
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		it.specifier, it.not = imap.PartSpecifierHeader, name == "HEADER.FIELDS.NOT"
		if !a.is(' ') {
			return errSyntax
		}
		return a.list(func() error {
			s, err := a.astring()
			it.fields = append(it.fields, strings.ToLower(s))
			return err
		})
	default:
		return errSyntax
	}
	return nil
}

// partial reads <offset.count>. The response repeats the offset.
func (it *fetchItem) partial(a *args) error {
	if !a.is('<') {
		return nil
	}
	from := a.i
	var err error
	if it.offset, err = a.number(); err != nil || it.offset > math.MaxUint32 {
		return errSyntax
	}
	to := a.i
	if !a.is('.') {
		return errSyntax
	}
	if it.count, err = a.number(); err != nil || it.count == 0 || it.count > math.MaxUint32 || !a.is('>') {
		return errSyntax
	}
	it.name += "<" + string(a.b[from:to]) + ">"
	return nil
}
