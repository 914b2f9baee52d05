package topic

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// EpochSeconds is how long one tag key is in use: 14 days.
const EpochSeconds = 14 * 24 * 60 * 60

// tagSalt separates tag keys from all else that is derived from a pair secret.
const tagSalt = "asmtp/2 tag"

// Epoch returns the number of the fortnight that an envelope which ends at expires
// (seconds since 2020-01-01 UTC) belongs to.
func Epoch(expires uint32) uint32 { return expires / EpochSeconds }

// TagSize is the length in bytes of a [Tag].
const TagSize = aes.BlockSize

// Tag stands on an envelope in the clear. It looks random to all who do not hold
// the [TagKey] it was made with.
type Tag [TagSize]byte

// String returns the text form, 32 lower-case hex digits.
func (t Tag) String() string { return hex.EncodeToString(t[:]) }

// TagKey makes and recognises the tags of one direction of a pair in one epoch.
// Its fmt and slog forms hide it.
type TagKey [SecretSize]byte

// TagKey returns the share of s for an epoch. Neither s nor the key of another
// epoch can be computed from it.
func (s PairSecret) TagKey(epoch uint32) (k TagKey) {
	derive(k[:], s.b[:], []byte(tagSalt), string(binary.BigEndian.AppendUint32(nil, epoch)))
	return k
}

// Tag returns the tag of the sealed part with the given seal hash: the first 16
// bytes of the hash, encrypted as one block of AES-256.
func (k TagKey) Tag(sealHash [32]byte) (t Tag) {
	k.expand().Encrypt(t[:], sealHash[:TagSize])
	return t
}

// Fits reports whether t is k's tag of sealHash, in constant time.
func (k TagKey) Fits(sealHash [32]byte, t Tag) bool {
	want := k.Tag(sealHash)
	return subtle.ConstantTimeCompare(want[:], t[:]) == 1
}

// expand returns the round keys of k.
func (k TagKey) expand() cipher.Block {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // only for a wrong length
	}
	return block
}

// Format prints a fixed word, whatever the verb, so that no key is printed by accident.
func (k TagKey) Format(f fmt.State, _ rune) { io.WriteString(f, "tag key") }

// LogValue is what slog records of k.
func (k TagKey) LogValue() slog.Value { return slog.StringValue("tag key") }
