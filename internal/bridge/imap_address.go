package bridge

import "strings"

// address is one of a list in a header, or the beginning (mailbox is its name) or the
// end (nothing) of a group.
type address struct {
	name, mailbox, host string
	group               bool
}

// parseAddresses reads a list of addresses as people and programs write it. What is no
// address is shown as well as possible, never dropped; encoded words stay as they are.
func parseAddresses(s string) []address {
	p := addressParser{s: s}
	for p.i < len(p.s) {
		p.next()
	}
	p.end()
	if p.grouped {
		p.list = append(p.list, address{group: true})
	}
	return p.list
}

type addressParser struct {
	s       string
	i       int
	list    []address
	grouped bool

	words   []string // what was read of the current address
	gap     bool     // a blank came after the last word
	comment string
	angle   *string // what stood in < >
}

// next takes one token.
func (p *addressParser) next() {
	switch ch := p.s[p.i]; ch {
	case ',':
		p.end()
		p.i++
	case ';':
		p.end()
		if p.grouped {
			p.list, p.grouped = append(p.list, address{group: true}), false
		}
		p.i++
	case ':':
		if p.angle == nil && !p.grouped {
			p.list = append(p.list, address{mailbox: strings.Join(p.words, " "), group: true})
			p.grouped = true
			p.clear()
		}
		p.i++
	case ' ', '\t':
		p.gap = true
		p.i++
	case '"':
		p.word(p.quoted())
	case '(':
		p.comment = p.parens()
	case '<':
		v, rest, found := strings.Cut(p.s[p.i+1:], ">")
		p.i = len(p.s)
		if found {
			p.i -= len(rest)
		}
		if p.angle == nil {
			p.angle = &v
		}
	default:
		n := strings.IndexAny(p.s[p.i:], ",;:\t \"(<")
		if n < 0 {
			n = len(p.s) - p.i
		}
		p.word(p.s[p.i : p.i+n])
		p.i += n
	}
}

// word adds to the last word, or begins one after a blank.
func (p *addressParser) word(w string) {
	if len(p.words) == 0 || p.gap {
		p.words = append(p.words, w)
	} else {
		p.words[len(p.words)-1] += w
	}
	p.gap = false
}

func (p *addressParser) quoted() string {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '"':
			p.i++
			return b.String()
		case '\\':
			if p.i+1 < len(p.s) {
				p.i++
			}
		}
		b.WriteByte(p.s[p.i])
	}
	return b.String()
}

func (p *addressParser) parens() string {
	depth, from := 0, p.i+1
	for ; p.i < len(p.s); p.i++ {
		switch p.s[p.i] {
		case '\\':
			p.i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.i++
				return p.s[from : p.i-1]
			}
		}
	}
	p.i = len(p.s)
	return p.s[min(from, len(p.s)):]
}

// end takes what was read as an address, if it is something.
func (p *addressParser) end() {
	defer p.clear()
	if p.angle == nil && len(p.words) == 0 {
		return
	}
	a := address{name: strings.Join(p.words, " ")}
	spec := ""
	if p.angle != nil {
		spec = strings.TrimSpace(*p.angle)
		if i := strings.LastIndexByte(spec, ':'); i >= 0 && strings.HasPrefix(spec, "@") {
			spec = spec[i+1:] // a route (RFC 5322, 4.4)
		}
	} else {
		spec, a.name = strings.Join(p.words, " "), p.comment
	}
	a.mailbox = spec
	if i := strings.LastIndexByte(spec, '@'); i >= 0 {
		a.mailbox, a.host = strings.TrimSpace(spec[:i]), strings.TrimSpace(spec[i+1:])
	}
	if n := len(a.mailbox); n >= 2 && a.mailbox[0] == '"' && a.mailbox[n-1] == '"' {
		a.mailbox = a.mailbox[1 : n-1]
	}
	if a.mailbox == "" && a.host != "" {
		a.mailbox, a.host = "@"+a.host, ""
	}
	if a.mailbox == "" && a.name == "" {
		return
	}
	p.list = append(p.list, a)
}

func (p *addressParser) clear() {
	p.words, p.gap, p.comment, p.angle = nil, false, "", nil
}
