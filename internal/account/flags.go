package account

import (
	"fmt"
	"slices"
	"strings"

	"github.com/asmtp/asmtp/internal/message"
)

// Flag is a set of the system flags of a message in a folder. Their bits are stored.
type Flag uint16

// The system flags of RFC 9051.
const (
	FlagSeen Flag = 1 << iota
	FlagAnswered
	FlagFlagged
	FlagDeleted
	FlagDraft

	allFlags = FlagSeen | FlagAnswered | FlagFlagged | FlagDeleted | FlagDraft
)

// FlagChange says what to do with flags.
type FlagChange uint8

// What [Account.ChangeFlags] can do.
const (
	SetFlags FlagChange = iota // these and no others
	AddFlags
	RemoveFlags
)

const (
	// maxKeyword and maxKeywords bound the keywords of a message in a folder.
	maxKeyword  = 100
	maxKeywords = 64
)

// knownKeywords are spelled so, whatever case a program used: keywords do not differ by case.
var knownKeywords = []string{"$Forwarded", "$MDNSent", "$Junk", "$NotJunk", "$Phishing", "$Important", "$SubmitPending", "$Submitted", "NonJunk", "Junk"}

// KeywordError is the error for a keyword that cannot be kept.
type KeywordError struct{ Keyword, Reason string }

func (e *KeywordError) Error() string {
	return fmt.Sprintf("keyword %q: %s", message.CleanLine(e.Keyword), e.Reason)
}

// CheckKeyword returns a [KeywordError] for what cannot be a keyword.
func CheckKeyword(keyword string) error {
	_, err := checkKeywords([]string{keyword})
	return err
}

// checkKeywords returns keywords each once, sorted without regard to case.
func checkKeywords(list []string) ([]string, error) {
	var out []string
	for _, k := range list {
		if k == "" || len(k) > maxKeyword {
			return nil, &KeywordError{Keyword: k[:min(len(k), maxKeyword)], Reason: fmt.Sprintf("a keyword has 1 to %d bytes", maxKeyword)}
		}
		// What an atom of RFC 9051 consists of.
		if strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\]`, r) }) {
			return nil, &KeywordError{Keyword: k, Reason: `a keyword consists of ASCII letters, digits and marks, without blanks and ( ) { % * " \ ]`}
		}
		if i := slices.IndexFunc(knownKeywords, func(known string) bool { return strings.EqualFold(known, k) }); i >= 0 {
			k = knownKeywords[i]
		}
		out = append(out, k)
	}
	return mergeKeywords(nil, out)
}

// mergeKeywords returns the keywords of both lists, sorted; the spelling of the first counts.
func mergeKeywords(have, more []string) ([]string, error) {
	out := slices.Clone(have)
	for _, k := range more {
		if !hasKeyword(out, k) {
			out = append(out, k)
		}
	}
	if len(out) > maxKeywords {
		return nil, &KeywordError{Keyword: out[maxKeywords], Reason: fmt.Sprintf("a message has at most %d keywords", maxKeywords)}
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return out, nil
}

func hasKeyword(list []string, k string) bool {
	return slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, k) })
}

// apply returns the flags and keywords after a change.
func (how FlagChange) apply(flags Flag, keywords []string, change Flag, list []string) (Flag, []string, error) {
	switch how {
	case SetFlags:
		return change & allFlags, list, nil
	case AddFlags:
		all, err := mergeKeywords(keywords, list)
		return flags | change&allFlags, all, err
	case RemoveFlags:
		var left []string
		for _, k := range keywords {
			if !hasKeyword(list, k) {
				left = append(left, k)
			}
		}
		return flags &^ change, left, nil
	}
	return flags, keywords, fmt.Errorf("no change of flags %d", how)
}

// joinKeywords and splitKeywords are how keywords are stored.
func joinKeywords(list []string) string { return strings.Join(list, " ") }

func splitKeywords(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Fields(text)
}
