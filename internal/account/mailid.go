package account

import "github.com/asmtp/asmtp/envelope"

// MailID names a mail: the 16 bytes that its parts carry. Sender and recipient see
// the same one, unless two senders chose the same; then the second gets another here.
type MailID = envelope.MailID

// ParseMailID reads the text form of an id, 32 hex digits.
func ParseMailID(text string) (MailID, error) { return envelope.ParseMailID(text) }
