package account

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/asmtp/asmtp/internal/message"
	"github.com/asmtp/asmtp/passport"
)

// domain is what stands behind the @ of every address. It is no domain of the DNS.
const domain = "asmtp"

// maxPetname is how many bytes a name may have.
const maxPetname = 64

// checkName reports whether name can be a petname: the part of an address before the
// @, without quotes, and not what reads as a passport id.
func checkName(name string) error {
	switch {
	case name == "":
		return &ContactError{Name: name, Reason: "a name is needed"}
	case len(name) > maxPetname || !utf8.ValidString(name):
		return &ContactError{Name: message.CleanLine(name), Reason: fmt.Sprintf("a name has at most %d bytes of UTF-8", maxPetname)}
	case isID(name):
		return &ContactError{Name: name, Reason: "the name reads as a passport id"}
	}
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !strings.ContainsRune("._-+'", r) {
			return &ContactError{Name: message.CleanLine(name), Reason: "a name consists of letters, digits and . _ - + '"}
		}
	}
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") || strings.HasPrefix(name, "-") {
		return &ContactError{Name: name, Reason: "a name neither begins with . or - nor ends with ."}
	}
	return nil
}

func isID(text string) bool {
	_, err := passport.ParseID(text)
	return err == nil
}

// idAddress is the address of a passport on the wire.
func idAddress(id passport.ID) string { return id.String() + "@" + domain }

// localPart returns what an address names: a petname or, if it is one, an id.
func localPart(addr string) (name string, id passport.ID, ok bool) {
	name = addr
	if local, d, found := strings.Cut(addr, "@"); found {
		if !strings.EqualFold(d, domain) {
			return addr, id, false
		}
		name = local
	}
	id, err := passport.ParseID(strings.ToLower(name))
	return name, id, err == nil || name != ""
}

// directory maps what people and headers call somebody.
type directory struct {
	own    passport.ID
	name   string // one's own
	byName map[string]*peer
	byID   map[passport.ID]*peer
}

func newDirectory(own passport.ID, name string, peers map[passport.ID]*peer) *directory {
	d := &directory{own: own, name: name, byName: make(map[string]*peer), byID: peers}
	for _, p := range peers {
		d.byName[strings.ToLower(p.name)] = p
	}
	return d
}

// find returns the contact, or oneself, that an address names.
func (d *directory) find(addr string) (*peer, error) {
	name, id, ok := localPart(addr)
	if ok && !id.IsZero() {
		if p := d.byID[id]; p != nil {
			return p, nil
		}
	} else if p := d.byName[strings.ToLower(name)]; ok && p != nil {
		return p, nil
	}
	return nil, &NoContactError{Name: addr, ID: id}
}

// show returns an address of a received header for the reader: the petname of who is
// known, else what the sender wrote.
func (d *directory) show(a message.Address) string {
	if _, id, ok := localPart(a.Addr); ok && !id.IsZero() {
		if p := d.byID[id]; p != nil {
			return p.name
		}
	}
	return a.String()
}

// who returns the name of a passport for the reader.
func (d *directory) who(id passport.ID) string {
	if p := d.byID[id]; p != nil {
		return p.name
	}
	return idAddress(id)
}
