package message

import (
	"strings"

	"github.com/emersion/go-message/mail"
)

// ParseAddress reads what a user types as a recipient: NAME, NAME@DOMAIN or
// `Somebody <NAME@DOMAIN>`. A name alone comes back as it is, without a domain.
func ParseAddress(text string) (Address, error) {
	text = strings.TrimSpace(text)
	if !strings.ContainsAny(text, "@<>\"") {
		return Address{Addr: oneLine(text)}, nil
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return Address{}, err
	}
	return Address{Name: a.Name, Addr: a.Address}, nil
}

// String returns a for people: the name and the address in angle brackets, or the
// one of both that there is. It is not the form of a header field.
func (a Address) String() string {
	switch {
	case a.Name == "":
		return a.Addr
	case a.Addr == "":
		return a.Name
	}
	return a.Name + " <" + a.Addr + ">"
}
