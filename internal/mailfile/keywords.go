package mailfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// keywordsFile names the keywords of the letters from a on in the names of files, one
// "number name" in a line, as Dovecot keeps it.
const keywordsFile = "dovecot-keywords"

const letters = 26

// KeywordsError is the error for keywords that a Maildir has no letters for any more.
type KeywordsError struct{ Keyword string }

func (e *KeywordsError) Error() string {
	return fmt.Sprintf("a Maildir folder has room for %d keywords, and none is left for %q", letters, e.Keyword)
}

func (m *Maildir) readKeywords() error {
	f, err := m.root.Open(keywordsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	m.letters = make([]string, letters)
	lines := bufio.NewScanner(io.LimitReader(f, 64<<10))
	for lines.Scan() {
		number, name, ok := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if ok && err == nil && n >= 0 && n < letters && len(name) <= maxKeyword {
			m.letters[n] = name
		}
	}
	return lines.Err()
}

// letter returns the letter of a keyword, which is given one if it has none.
func (m *Maildir) letter(keyword string) (byte, error) {
	if m.letters == nil {
		m.letters = make([]string, letters)
	}
	at := slices.IndexFunc(m.letters, func(k string) bool { return strings.EqualFold(k, keyword) })
	if at < 0 {
		if at = slices.Index(m.letters, ""); at < 0 {
			return 0, &KeywordsError{keyword}
		}
		m.letters[at] = keyword
		if err := m.writeKeywords(); err != nil {
			m.letters[at] = ""
			return 0, err
		}
	}
	return 'a' + byte(at), nil
}

func (m *Maildir) writeKeywords() error {
	const tmp = keywordsFile + ".new"
	var b strings.Builder
	for i, k := range m.letters {
		if k != "" {
			fmt.Fprintf(&b, "%d %s\n", i, k)
		}
	}
	f, err := m.root.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.String())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return m.root.Rename(tmp, keywordsFile)
}

// ofLetter are the flags by their letters in the names of files, in the order they stand.
var ofLetter = []struct {
	letter byte
	flag   Flags
}{{'D', Draft}, {'F', Flagged}, {'R', Answered}, {'S', Seen}, {'T', Deleted}}

// info returns the end of a name.
func (m *Maildir) info(meta Meta) (string, error) {
	var upper, lower []byte
	for _, l := range ofLetter {
		if meta.Flags&l.flag != 0 {
			upper = append(upper, l.letter)
		}
	}
	for _, k := range meta.Keywords {
		if strings.EqualFold(k, Forwarded) {
			upper = append(upper, 'P')
			continue
		}
		l, err := m.letter(k)
		if err != nil {
			return "", err
		}
		lower = append(lower, l)
	}
	slices.Sort(upper)
	slices.Sort(lower)
	return ":2," + string(upper) + string(lower), nil
}

// parseInfo reads what info wrote, and what others did.
func (m *Maildir) parseInfo(info string) (f Flags, keywords []string) {
	info, _, _ = strings.Cut(info, ",") // some servers add the size behind a comma
	for _, c := range []byte(info) {
		for _, l := range ofLetter {
			if c == l.letter {
				f |= l.flag
			}
		}
		switch {
		case c == 'P':
			keywords = addKeyword(keywords, Forwarded)
		case c >= 'a' && c <= 'z' && int(c-'a') < len(m.letters):
			keywords = addKeyword(keywords, m.letters[c-'a'])
		}
	}
	return f, keywords
}
