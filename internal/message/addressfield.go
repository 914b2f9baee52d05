package message

import "bytes"

// foldAt is how long a line may get before a changed address begins a new one. RFC 5322
// section 2.1.1 allows 998.
const foldAt = 800

// appendChanged appends the address field f with its addresses as change says. Only those
// that it changes are written anew; all around them, and the name of one of which only the
// address changes, stay byte for byte. What cannot be read as an address is an error if
// strict is set, else it stays.
func (f field) appendChanged(out []byte, strict bool, change func(Address) (Address, error)) ([]byte, error) {
	colon := bytes.IndexByte(f, ':') + 1
	s := mailboxScanner{v: f[colon:]}
	odd := bytes.ContainsFunc(f, func(r rune) bool { return control(r) && r != '\t' && r != '\n' && r != '\r' }) || f.bareCR(0) >= 0
	line := bytes.LastIndexByte(out, '\n') + 1
	out = append(out, f[:colon]...)
	done := 0
	for m, ok := s.next(); ok; m, ok = s.next() {
		if !m.ok {
			if strict {
				return nil, &HeaderError{Field: f.name(), Reason: "no address: " + shorten(CleanLine(string(s.v[m.start:m.end])), 200)}
			}
			continue
		}
		now, err := change(m.Address)
		if err != nil {
			return nil, err
		}
		if now == m.Address {
			continue
		}
		before := s.v[done:m.start]
		out = append(out, before...)
		if i := bytes.LastIndexByte(out, '\n') + 1; i > line {
			line = i
		}
		if len(out)-line+m.end-m.start > foldAt && done > 0 {
			out = append(out, "\r\n "...)
			line = len(out) - 1
		}
		out, done = m.append(out, s.v, now, odd), m.end
	}
	return append(out, s.v[done:]...), nil
}

// append appends the mailbox of the value v with another address.
func (m *mailbox) append(out, v []byte, now Address, odd bool) []byte {
	if odd || m.comments || now.Name != m.Name || m.addr == m.start && now.Name != "" {
		return appendAddress(out, now)
	}
	if m.addr == m.start && v[m.addr] != '<' { // the address alone
		return append(out, bytes.Trim(appendAddress(nil, Address{Addr: now.Addr}), "<>")...)
	}
	out = append(out, v[m.start:m.addr]...)
	out = appendAddress(out, Address{Addr: now.Addr})
	return append(out, v[m.addrEnd:m.end]...)
}

// name returns the name as it stands.
func (f field) name() string { return string(fieldName(f)) }

// list appends the addresses of the field to list. What cannot be read is an error.
func (f field) list(list []Address) ([]Address, error) {
	s := mailboxScanner{v: f.value()}
	for m, ok := s.next(); ok; m, ok = s.next() {
		if !m.ok {
			return nil, &HeaderError{Field: f.name(), Reason: "no address: " + shorten(CleanLine(string(s.v[m.start:m.end])), 200)}
		}
		list = append(list, m.Address)
	}
	return list, nil
}
