package topic

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/hex"

	"github.com/asmtp/asmtp/noise"
)

// Size is the length in bytes of a [Topic].
const Size = 32

// rounds is the number of PBKDF2 rounds of a topic, as the reference has it.
const rounds = 10240

// Topic names the conversation of two shared keys.
type Topic [Size]byte

// String returns the text form, 64 lower-case hex digits.
func (t Topic) String() string { return hex.EncodeToString(t[:]) }

// Derive returns the topic of the conversation between the holders of a and b.
// Both sides compute it on their own, so Derive(a, b) equals Derive(b, a). The keys
// may be equal: that is the conversation among the devices of one user.
//
// It is PBKDF2-HMAC-SHA512 with 10,240 rounds; the password is the key that is
// smaller in byte order, the salt the larger one (FORMAT.md section 3).
//
// One call takes some milliseconds. That slows an observer who tries pairs from a
// list of known keys and does not stop them. Keep the result: it changes only when
// one of the keys does. The keys are not checked; [CheckContact] does that.
func Derive(a, b noise.SharedPublic) (t Topic) {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	key, err := pbkdf2.Key(sha512.New, string(a[:]), b[:], rounds, Size)
	if err != nil {
		panic(err) // only for a length that SHA-512 cannot give
	}
	copy(t[:], key)
	return t
}
