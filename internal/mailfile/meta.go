package mailfile

import (
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Flags are what both formats know of a message's state.
type Flags uint8

// The flags, with their letters in Maildir and in mbox.
const (
	Seen     Flags = 1 << iota // S; Status: R
	Answered                   // R; X-Status: A
	Flagged                    // F; X-Status: F
	Deleted                    // T; X-Status: D
	Draft                      // D; X-Status: T
)

// Forwarded is the keyword for Maildir's flag P.
const Forwarded = "$Forwarded"

// Meta is what is kept of a message besides its bytes.
type Meta struct {
	ID       ID // zero if another program wrote it
	Flags    Flags
	Keywords []string
	Date     time.Time // when it arrived; zero if unknown
}

// Source opens a message from its beginning; it is called once or twice.
type Source func() (io.ReadCloser, error)

// ID says which message of which account something was written from. Zero is none.
type ID struct {
	Account  [4]byte
	Validity uint32 // the folder's UIDVALIDITY
	UID      uint32
}

// IsZero reports whether there is no id.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the id as it stands in names of files.
func (id ID) String() string {
	return fmt.Sprintf("V%dU%d.%x", id.Validity, id.UID, id.Account)
}

// form is how the bytes of a message were written.
type form struct {
	exact bool // lines end as they did
	noEnd bool // mbox only: the last line had no end
}

// mark returns the id with the form, as both formats write it.
func mark(id ID, f form) string {
	s := id.String() + "."
	if f.exact {
		s += "x"
	}
	if f.noEnd {
		s += "n"
	}
	return s + "asmtp"
}

var marked = regexp.MustCompile(`^V([0-9]{1,10})U([0-9]{1,10})\.([0-9a-f]{8})\.(x?)(n?)asmtp$`)

// parseMark reads what mark wrote.
func parseMark(s string) (id ID, f form, ok bool) {
	m := marked.FindStringSubmatch(s)
	if m == nil {
		return id, f, false
	}
	validity, err1 := strconv.ParseUint(m[1], 10, 32)
	uid, err2 := strconv.ParseUint(m[2], 10, 32)
	if _, err := hex.Decode(id.Account[:], []byte(m[3])); err != nil || err1 != nil || err2 != nil {
		return ID{}, f, false
	}
	id.Validity, id.UID = uint32(validity), uint32(uid)
	f = form{exact: m[4] != "", noEnd: m[5] != ""}
	return id, f, !id.IsZero() && mark(id, f) == s
}

// maxKeywords and maxKeyword bound what is believed of files.
const (
	maxKeywords = 64
	maxKeyword  = 100
)

// addKeyword adds one, unless it is there, is none, or there are too many.
func addKeyword(list []string, k string) []string {
	if k == "" || len(k) > maxKeyword || len(list) >= maxKeywords {
		return list
	}
	for _, have := range list {
		if strings.EqualFold(have, k) {
			return list
		}
	}
	return append(list, k)
}
