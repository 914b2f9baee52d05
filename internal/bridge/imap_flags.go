package bridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/asmtp/asmtp/internal/account"
)

// systemFlags are the flags with a bit, as RFC 9051 writes them: mbsync compares the case.
var systemFlags = []struct {
	bit  account.Flag
	name imap.Flag
}{
	{account.FlagAnswered, imap.FlagAnswered},
	{account.FlagFlagged, imap.FlagFlagged},
	{account.FlagDeleted, imap.FlagDeleted},
	{account.FlagSeen, imap.FlagSeen},
	{account.FlagDraft, imap.FlagDraft},
}

// usualKeywords are offered before any message has them.
var usualKeywords = []string{"$Forwarded", "$MDNSent", "$Junk", "$NotJunk", "$Phishing", "$Important"}

// appendFlags writes flags and keywords with spaces between them.
func appendFlags(out []byte, flags account.Flag, words []string) []byte {
	n := len(out)
	for _, f := range systemFlags {
		if flags&f.bit != 0 {
			out = append(append(out, f.name...), ' ')
		}
	}
	for _, w := range words {
		out = append(append(out, w...), ' ')
	}
	if len(out) > n {
		out = out[:len(out)-1]
	}
	return out
}

// flagNames returns what can stand in FLAGS.
func flagNames(sets [][]string) []imap.Flag {
	var l []imap.Flag
	for _, f := range systemFlags {
		l = append(l, f.name)
	}
	words := slices.Clone(usualKeywords)
	for _, set := range sets {
		words = append(words, set...)
	}
	slices.Sort(words)
	for _, w := range slices.Compact(words) {
		l = append(l, imap.Flag(w))
	}
	return l
}

func appendFlagNames(out []byte, sets [][]string) []byte {
	for i, f := range flagNames(sets) {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, f...)
	}
	return out
}

// splitFlags sorts what a program gave into bits and keywords. \Recent cannot be set
// (RFC 9051 does not know it), and unknown system flags are none. The account checks the
// keywords.
func splitFlags(list []imap.Flag) (flags account.Flag, words []string, err error) {
next:
	for _, f := range list {
		for _, s := range systemFlags {
			if strings.EqualFold(string(f), string(s.name)) {
				flags |= s.bit
				continue next
			}
		}
		switch {
		case strings.EqualFold(string(f), `\Recent`):
		case strings.HasPrefix(string(f), `\`):
			return 0, nil, no(imap.ResponseCodeCannot, fmt.Sprintf("there is no flag %s", f))
		default:
			words = append(words, string(f))
		}
	}
	return flags, words, nil
}
