package envelope

import (
	"errors"
	"fmt"
	"math"

	"github.com/asmtp/asmtp/passport"
)

// ErrTooLarge is wrapped by the errors for a body that is too large.
var ErrTooLarge = errors.New("too large")

// MaxBody is the length in bytes of the largest body that parts can carry, about
// 4 GB. Charters set a much smaller limit for mail.
const MaxBody = math.MaxUint16 * (61440 - 96 - PartHeaderSize)

// PartCount returns how many parts Split makes of a body of n bytes.
func PartCount(n int64) int64 {
	full := int64(Capacity(len(Sizes) - 1))
	return max(1, (n+full-1)/full)
}

// Split cuts a body into parts: as many full ones of the largest size class as there
// are, and a last one, which [Sealer.Seal] puts into the smallest class that holds
// it. An empty body is one empty part. The parts' bodies are slices of body.
func Split(kind Kind, flags uint8, id MailID, body []byte, senderTip, recipientTip passport.Hash) ([]*Part, error) {
	if int64(len(body)) > MaxBody {
		return nil, fmt.Errorf("split a body of %d bytes, at most %d: %w", len(body), int64(MaxBody), ErrTooLarge)
	}
	count := int(PartCount(int64(len(body))))
	full := Capacity(len(Sizes) - 1)
	hash := HashBody(body)
	parts := make([]*Part, count)
	for i := range parts {
		end := min((i+1)*full, len(body))
		parts[i] = &Part{
			Kind: kind, Flags: flags, MailID: id, BodyHash: hash,
			Total: uint32(len(body)), Index: uint16(i), Count: uint16(count),
			SenderTip: senderTip, RecipientTip: recipientTip,
			Body: body[i*full : end : end],
		}
		if err := parts[i].check(); err != nil {
			return nil, fmt.Errorf("split: %w", err)
		}
	}
	return parts, nil
}
