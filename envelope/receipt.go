package envelope

import (
	"fmt"
)

// ReceiptCode says what became of a mail.
type ReceiptCode = uint8

// The codes of a receipt.
const (
	ReceiptStored  ReceiptCode = 1 // complete, checked and on the recipient's disk
	ReceiptRead    ReceiptCode = 2 // opened by the recipient, who lets it be known
	ReceiptRefused ReceiptCode = 3 // dropped: it is beyond a limit
)

// ReceiptSize is the length in bytes of one receipt.
const ReceiptSize = 16 + 16 + 1

// Receipt is the answer of one of the recipient's devices to one mail.
type Receipt struct {
	MailID   MailID
	BodyHash BodyHash
	Code     ReceiptCode
}

// EncodeReceipts returns the body of a mail of [KindReceipt]:
// n × (mail id 16 | body hash 16 | code u8).
func EncodeReceipts(list []Receipt) []byte {
	b := make([]byte, 0, len(list)*ReceiptSize)
	for _, r := range list {
		b = append(b, r.MailID[:]...)
		b = append(b, r.BodyHash[:]...)
		b = append(b, r.Code)
	}
	return b
}

// ParseReceipts reads the body of a mail of [KindReceipt]. A code that this program
// does not know gives an error that wraps [ErrNewer], anything else that is wrong
// one that wraps [ErrPart].
func ParseReceipts(b []byte) ([]Receipt, error) {
	if len(b) == 0 || len(b)%ReceiptSize != 0 {
		return nil, fmt.Errorf("%w: receipts of %d bytes, want a multiple of %d", ErrPart, len(b), ReceiptSize)
	}
	list := make([]Receipt, 0, len(b)/ReceiptSize)
	for ; len(b) > 0; b = b[ReceiptSize:] {
		r := Receipt{MailID: MailID(b[:16]), BodyHash: BodyHash(b[16:32]), Code: b[32]}
		if r.Code == 0 {
			return nil, fmt.Errorf("%w: receipt without a code", ErrPart)
		}
		if r.Code > ReceiptRefused {
			return nil, fmt.Errorf("%w: receipt with code %d", ErrNewer, r.Code)
		}
		list = append(list, r)
	}
	return list, nil
}
