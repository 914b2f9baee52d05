package mailfile

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var base64IMAP = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// encodeLevel returns a level of a folder's name in IMAP's modified UTF-7 (RFC 3501, section
// 5.1.3), as names of folders stand in Maildir++. A dot would part levels, a slash
// folders of the file system: they are encoded too.
func encodeLevel(s string) string {
	var b strings.Builder
	var run []rune
	flush := func() {
		if len(run) == 0 {
			return
		}
		var raw []byte
		for _, u := range utf16.Encode(run) {
			raw = append(raw, byte(u>>8), byte(u))
		}
		b.WriteString("&" + base64IMAP.EncodeToString(raw) + "-")
		run = run[:0]
	}
	for _, r := range s {
		if r < 0x20 || r > 0x7e || r == '.' || r == '/' {
			run = append(run, r)
			continue
		}
		flush()
		if b.WriteRune(r); r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}

var errUTF7 = errors.New("it is no modified UTF-7")

// decodeLevel undoes encodeLevel. 8-bit names that are UTF-8 are taken as they are, as some
// servers write them.
func decodeLevel(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errUTF7
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "&")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		code, rest, ended := strings.Cut(after, "-")
		if !ended {
			return "", errUTF7
		}
		s = rest
		if code == "" {
			b.WriteByte('&')
			continue
		}
		raw, err := base64IMAP.DecodeString(code)
		if err != nil || len(raw)%2 != 0 {
			return "", errUTF7
		}
		units := make([]uint16, len(raw)/2)
		for i := range units {
			units[i] = uint16(raw[2*i])<<8 | uint16(raw[2*i+1])
		}
		b.WriteString(string(utf16.Decode(units)))
	}
}
