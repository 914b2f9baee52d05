package mesh

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/asmtp/asmtp/noise"
	"github.com/asmtp/asmtp/passport"
)

// LineKind says what a line is for.
type LineKind string

// The kinds of lines.
const (
	LineMesh    LineKind = "mesh"    // a node may join a mesh
	LineUser    LineKind = "user"    // a device may use a node
	LineDevice  LineKind = "device"  // a device may join a passport
	LineContact LineKind = "contact" // somebody may become a contact
)

// command returns what a user types with a line of kind k.
func (k LineKind) command() string {
	switch k {
	case LineMesh:
		return "asmtpd up --join 'LINE'"
	case LineUser:
		return "asmtp-cli init --name NAME --invitation 'LINE'"
	}
	return "a newer asmtp-cli"
}

// Limits of a line.
const (
	MaxAddresses  = 8
	maxAddress    = 255
	lineVersion   = 1
	lineHead      = 2 + 3
	lineCheck     = 5
	minLineBody   = 1 + IDSize + noise.KeySize + SecretSize + 4 + 1
	maxLineBody   = minLineBody + MaxAddresses*(1+maxAddress)
	maxLineText   = 2 * (maxLineBody + lineHead + lineCheck + 32)
	linePrefix    = "asmtp-"
	lineSeparator = "1"
)

var (
	// ErrMistyped is wrapped by the errors for a line with a wrong character in it.
	ErrMistyped = errors.New("the line is mistyped")
	// ErrCut is wrapped by the errors for a line whose end is missing.
	ErrCut = errors.New("the line is cut off")
	// ErrNoLine is wrapped by the errors for text that is no such line at all.
	ErrNoLine = errors.New("not a line of ASMTP")
)

// WrongKindError is the error for a line that belongs to another command.
type WrongKindError struct {
	Got, Want LineKind
	Command   string // what the line is for
}

// Error names both kinds.
func (e *WrongKindError) Error() string {
	return fmt.Sprintf("this is a line of kind %q, want one of kind %q", e.Got, e.Want)
}

// Line is an invitation that people hand to each other. It grants what its token does,
// so its text is a secret until it is used.
type Line struct {
	Kind      LineKind
	Mesh      ID
	Node      noise.PublicKey // of the node that answers
	Addresses []string        // HOST:PORT, one to MaxAddresses
	Token     Token
	End       passport.Time
}

var lineEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Text returns the line. It fails for addresses that no line has room for.
func (l *Line) Text() (string, error) {
	if len(l.Addresses) == 0 || len(l.Addresses) > MaxAddresses {
		return "", fmt.Errorf("line with %d addresses, want 1 to %d", len(l.Addresses), MaxAddresses)
	}
	b := append([]byte{lineVersion}, l.Mesh[:]...)
	b = append(b, l.Node[:]...)
	b = append(b, l.Token[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(l.End))
	b = append(b, byte(len(l.Addresses)))
	for _, a := range l.Addresses {
		if err := checkAddress(a); err != nil {
			return "", err
		}
		b = append(append(b, byte(len(a))), a...)
	}
	head := lineHeadOf(l.Kind, len(b)+lineCheck)
	check := noise.H16([]byte("asmtp/2 line"), []byte(l.Kind), head, b)
	all := append(append(head, b...), check[:lineCheck]...)
	return linePrefix + string(l.Kind) + lineSeparator + lineEncoding.EncodeToString(all), nil
}

// lineHeadOf returns the length of what follows, and a check of it.
func lineHeadOf(k LineKind, n int) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(n))
	sum := noise.H16([]byte("asmtp/2 line head"), []byte(k), b)
	return append(b, sum[:lineHead-2]...)
}

// ParseLine reads a line that must be of kind want. Case, white space and quotation
// marks around it mean nothing.
// Errors: a [WrongKindError], or one that wraps [ErrMistyped], [ErrCut], [ErrNoLine] or
// [ErrNewer]. Whether the line has ended is for [Line.CheckEnd].
func ParseLine(text string, want LineKind) (*Line, error) {
	if len(text) > maxLineText {
		return nil, fmt.Errorf("%w: %d characters", ErrNoLine, len(text))
	}
	kind, data, err := splitLine(tidyLine(text))
	if err != nil {
		return nil, err
	}
	if kind != want {
		return nil, &WrongKindError{Got: kind, Want: want, Command: kind.command()}
	}
	body, err := openLine(kind, data)
	if err != nil {
		return nil, err
	}
	return parseLineBody(kind, body)
}

// tidyLine undoes what people and mail programs do to a line: they wrap it, put
// invisible characters where it may be broken, quote it.
func tidyLine(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), r == '\u200b', r == '\ufeff', r == '\u00ad':
			return -1
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, text)
	return strings.Trim(text, "'\"`<>“”‘’„«»")
}

func splitLine(text string) (LineKind, string, error) {
	rest, ok := strings.CutPrefix(text, linePrefix)
	if !ok {
		return "", "", fmt.Errorf("%w: it does not begin with %s", ErrNoLine, linePrefix)
	}
	kind, data, ok := strings.Cut(rest, lineSeparator)
	for _, k := range []LineKind{LineMesh, LineUser, LineDevice, LineContact} {
		if kind == string(k) && ok {
			return k, data, nil
		}
	}
	if !ok {
		return "", "", fmt.Errorf("%w after its first word", ErrCut)
	}
	return "", "", fmt.Errorf("%w: no kind of line is called %.20q", ErrMistyped, kind)
}

// openLine returns the body of a line whose both checks are right.
func openLine(kind LineKind, data string) ([]byte, error) {
	if i := strings.IndexFunc(data, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz234567", r) }); i >= 0 {
		return nil, fmt.Errorf("%w: character %d of its second word", ErrMistyped, i+1)
	}
	// A cut line may end inside a group of characters: decode the whole bytes of it.
	whole := len(data) * 5 / 8
	b, err := lineEncoding.DecodeString(data[:(whole*8+4)/5])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMistyped, err)
	}
	if len(b) < lineHead {
		return nil, fmt.Errorf("%w after %d characters", ErrCut, len(data))
	}
	n := int(binary.BigEndian.Uint16(b))
	if string(lineHeadOf(kind, n)) != string(b[:lineHead]) {
		return nil, fmt.Errorf("%w at its beginning", ErrMistyped)
	}
	end := lineHead + n
	switch {
	case len(b) < end:
		return nil, fmt.Errorf("%w: %d characters are missing", ErrCut, (end*8+4)/5-len(data))
	case n < minLineBody+lineCheck:
		return nil, fmt.Errorf("%w: too short", ErrMistyped)
	case len(b) > end || lineEncoding.EncodeToString(b) != data:
		return nil, fmt.Errorf("%w: something follows its end", ErrMistyped)
	}
	check := noise.H16([]byte("asmtp/2 line"), []byte(kind), b[:end-lineCheck])
	if string(check[:lineCheck]) != string(b[end-lineCheck:]) {
		return nil, ErrMistyped
	}
	return b[lineHead : end-lineCheck], nil
}

func parseLineBody(kind LineKind, b []byte) (*Line, error) {
	if b[0] != lineVersion {
		return nil, fmt.Errorf("line of version %d: %w", b[0], ErrNewer)
	}
	l := &Line{Kind: kind}
	b = b[1:]
	b = b[copy(l.Mesh[:], b):]
	b = b[copy(l.Node[:], b):]
	b = b[copy(l.Token[:], b):]
	l.End = passport.Time(binary.BigEndian.Uint32(b))
	n := int(b[4])
	b = b[5:]
	if n == 0 || n > MaxAddresses {
		return nil, fmt.Errorf("%w: %d addresses", ErrNoLine, n)
	}
	for range n {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return nil, fmt.Errorf("%w: an address is cut off", ErrNoLine)
		}
		a := string(b[1 : 1+b[0]])
		if err := checkAddress(a); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoLine, err)
		}
		l.Addresses = append(l.Addresses, a)
		b = b[1+b[0]:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last address", ErrNoLine, len(b))
	}
	if err := l.Node.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoLine, err)
	}
	if l.Token.IsZero() {
		return nil, fmt.Errorf("%w: no token", ErrNoLine)
	}
	return l, nil
}

// CheckEnd returns an error that wraps [ErrEnded] if the line has ended at now.
func (l *Line) CheckEnd(now time.Time) error {
	if passport.TimeOf(now) > l.End {
		return fmt.Errorf("%w on %s", ErrEnded, l.End.Time().Format(time.DateOnly))
	}
	return nil
}
