package message

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/textproto"
	"strings"
	"time"

	"github.com/emersion/go-message/mail"
	gotextproto "github.com/emersion/go-message/textproto"
)

// Changes are what [Rewrite] does to a header.
type Changes struct {
	From      Address
	Date      time.Time // used if the message has none
	MessageID string    // used if the message has none
	// Address returns how an address is written on the wire. An error ends the rewriting.
	Address func(Address) (Address, error)
}

// dropped are the fields that never leave the device or that only a recipient's own
// program may set.
var dropped = []string{"Bcc", "Resent-Bcc", "Return-Path", "Sender", "Authentication-Results", "X-Mozilla-Status", "X-Mozilla-Status2", "X-Unsent"}

// addressFields hold addresses.
var addressFields = []string{"To", "Cc", "Reply-To"}

// Header is what [ReadHeader] finds.
type Header struct {
	To, Cc, Bcc []Address
}

// ReadHeader returns the recipients that the header of a message names.
func ReadHeader(r io.Reader) (Header, error) {
	h, err := readHeader(bufio.NewReader(r))
	if err != nil {
		return Header{}, err
	}
	var out Header
	for field, to := range map[string]*[]Address{"To": &out.To, "Cc": &out.Cc, "Bcc": &out.Bcc} {
		list, err := fieldAddresses(h, field)
		if err != nil {
			return Header{}, err
		}
		*to = list
	}
	return out, nil
}

// Rewrite copies a message from r to w and changes its header for the way: addresses
// as c says, no Bcc, the sender's From, and Date and Message-ID if they are missing.
// All other fields and the whole body stay as they are, byte for byte.
func Rewrite(w io.Writer, r io.Reader, c Changes) error {
	br := bufio.NewReader(r)
	h, err := readHeader(br)
	if err != nil {
		return err
	}
	for _, field := range dropped {
		h.Del(field)
	}
	for _, field := range addressFields {
		list, err := fieldAddresses(h, field)
		if err != nil {
			return err
		}
		if list == nil {
			continue
		}
		for i, a := range list {
			if list[i], err = c.Address(a); err != nil {
				return err
			}
		}
		setAddresses(h, field, list)
	}
	setAddresses(h, "From", []Address{c.From})
	mh := mail.Header{}
	mh.Header.Header = *h
	if !h.Has("Date") {
		mh.SetDate(c.Date)
	}
	if !h.Has("Message-Id") {
		mh.SetMessageID(c.MessageID)
	}
	if err := gotextproto.WriteHeader(w, mh.Header.Header); err != nil {
		return fmt.Errorf("rewrite header: %w", err)
	}
	if _, err := io.Copy(w, br); err != nil {
		return fmt.Errorf("rewrite: %w", err)
	}
	return nil
}

// readHeader reads a header and the empty line after it. A message without one, even
// of no bytes, has an empty header.
func readHeader(br *bufio.Reader) (*gotextproto.Header, error) {
	raw, err := rawHeader(br)
	if err != nil {
		return nil, err
	}
	h, err := gotextproto.ReadHeader(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, fmt.Errorf("the message has no header that can be read: %w", err)
	}
	return &h, nil
}

// rawHeader takes the bytes of the header, its empty line included, from br.
func rawHeader(br *bufio.Reader) ([]byte, error) {
	var raw []byte
	for {
		line, err := br.ReadSlice('\n')
		raw = append(raw, line...)
		if len(raw) > maxHeader {
			return nil, fmt.Errorf("the header has more than %d bytes", maxHeader)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF:
			return append(raw, "\r\n\r\n"...), nil
		case err != nil:
			return nil, err
		}
		if s := string(line); (s == "\n" || s == "\r\n") && (len(raw) == len(line) || raw[len(raw)-len(line)-1] == '\n') {
			return raw, nil
		}
	}
}

func fieldAddresses(h *gotextproto.Header, field string) ([]Address, error) {
	var out []Address
	for _, value := range h.Values(textproto.CanonicalMIMEHeaderKey(field)) {
		if strings.TrimSpace(value) == "" {
			continue
		}
		list, err := mail.ParseAddressList(value)
		if err != nil {
			return nil, fmt.Errorf("header field %s: %w", field, err)
		}
		for _, a := range list {
			out = append(out, Address{Name: a.Name, Addr: a.Address})
		}
	}
	if len(out) > 10*maxAddresses {
		return nil, fmt.Errorf("header field %s: more than %d addresses", field, 10*maxAddresses)
	}
	return out, nil
}

func setAddresses(h *gotextproto.Header, field string, list []Address) {
	h.Del(field)
	h.Add(field, formatAddresses(list))
}
